"""Commands to an owner, and who is notified of its replies."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest

from tests.support.fakes import FakeProcess
from wsadapter.contract.errors import NotConnected
from wsadapter.contract.ipc.commands import ANNOUNCE, BEGUN, IDENTIFY, LEFT, PROBED, REFUSED, TAKEN, WITHDRAW, Command
from wsadapter.endpoint.owner_commands import OwnerCommands, Reply, parse_reply


class Leaving(FakeProcess):
    """An owner that accepts no command any more."""

    def send(self, kind: int, ref: int, body: bytes | dict[str, Any]) -> None:
        raise NotConnected("the owner is leaving")


class Sender:
    """It keeps the replies to its commands."""

    def __init__(self) -> None:
        self.replies: list[tuple[Reply, str]] = []

    def __call__(self, reply: Reply, text: str) -> None:
        self.replies.append((reply, text))


def to(owner: FakeProcess) -> OwnerCommands:
    commands = OwnerCommands()
    commands.send_to(cast("Any", owner))
    return commands


def replied(commands: OwnerCommands, kind: int, ref: int, body: Any = b"") -> None:
    commands.on_command(Command(kind, ref, body if isinstance(body, bytes) else orjson.dumps(body)))


@pytest.mark.parametrize(
    ("kind", "body", "reply"),
    [
        (TAKEN, b"", (Reply.TAKEN, "")),
        (BEGUN, b"", (Reply.BEGUN, "")),
        (ANNOUNCE, b"any", (Reply.BEGUN, "")),
        (REFUSED, b'{"fate":"not_sent","text":"too late"}', (Reply.NOT_SENT, "too late")),
        (REFUSED, b'{"fate":"unknown","text":"half of it"}', (Reply.UNKNOWN, "half of it")),
        (REFUSED, b"{}", (Reply.UNKNOWN, "refused")),
        (PROBED, b"{}", None),
        (LEFT, b"", None),
    ],
)
def test_each_command_of_an_owner_is_parsed_as_the_right_reply(kind: int, body: bytes, reply: tuple[Reply, str] | None) -> None:
    assert parse_reply(Command(kind, 1, body)) == reply


def test_each_sender_gets_the_replies_to_its_own_commands() -> None:
    owner, one, other = FakeProcess(), Sender(), Sender()
    commands = to(owner)
    refs = [commands.send(IDENTIFY, {"streams": []}, one), commands.send(IDENTIFY, {"streams": []}, other)]
    assert [(kind, ref) for kind, ref, _ in owner.sent] == [(IDENTIFY, ref) for ref in refs]
    replied(commands, BEGUN, refs[1])
    replied(commands, TAKEN, refs[1])
    replied(commands, REFUSED, refs[0], {"fate": "not_sent", "text": "full"})
    assert one.replies == [(Reply.NOT_SENT, "full")]
    assert other.replies == [(Reply.BEGUN, ""), (Reply.TAKEN, "")]


def test_nothing_follows_the_reply_that_ends_a_command() -> None:
    sender = Sender()
    commands = to(FakeProcess())
    ref = commands.send(IDENTIFY, {}, sender)
    for _ in range(2):
        replied(commands, TAKEN, ref)
    replied(commands, REFUSED, ref, {})
    assert sender.replies == [(Reply.TAKEN, "")]


def test_replies_to_unknown_and_to_forgotten_commands_are_ignored() -> None:
    sender = Sender()
    commands = to(FakeProcess())
    ref = commands.send(IDENTIFY, {}, sender)
    commands.forget(ref)
    for unknown in (0, ref, ref + 1, 2**64 - 1):
        replied(commands, TAKEN, unknown)
    assert sender.replies == []


def test_no_owner_replies_for_a_dead_one_unless_that_is_expected() -> None:
    dead, continued = Sender(), Sender()
    commands = to(FakeProcess())
    refs = [commands.send(IDENTIFY, {}, dead), commands.send(IDENTIFY, {}, dead)]
    commands.owner_gone()
    commands.expect(refs[1], continued)
    commands.send_to(cast("Any", FakeProcess()))
    assert commands.send(IDENTIFY, {}, dead) not in refs
    for ref in refs:
        replied(commands, TAKEN, ref)
    assert (dead.replies, continued.replies) == ([], [(Reply.TAKEN, "")])


@pytest.mark.parametrize("owner", [None, Leaving()])
def test_without_an_owner_that_accepts_commands_nothing_is_sent(owner: FakeProcess | None) -> None:
    commands, sender = OwnerCommands() if owner is None else to(owner), Sender()
    with pytest.raises(NotConnected):
        commands.send(IDENTIFY, {}, sender)
    one, other = commands.next_ref(), commands.next_ref()
    assert one != other
    commands.notify(WITHDRAW, one, {})
    replied(commands, TAKEN, one)
    assert sender.replies == []


def test_a_takeover_that_froze_the_owner_can_be_seen() -> None:
    owner = FakeProcess()
    commands = to(owner)
    assert not commands.is_frozen
    owner.is_frozen = True
    assert commands.is_frozen
    commands.owner_gone()
    assert not commands.is_frozen
