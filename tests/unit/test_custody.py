"""A connection between two owners: kept, taken, given up, and freed of a message that its owners die of."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from tests.support.fakes import RESUME
from wsadapter.contract.quarantine import Quarantine
from wsadapter.contract.reasons import Reason
from wsadapter.handoff.custody import Custody
from wsadapter.handoff.held_connection import HeldConnection, NotResumable, Resumption
from wsadapter.handoff.poison import FRUITLESS, Suspicion
from wsadapter.loop.reactor import Reactor

FRAME = b"\x81\x02hi"
CRASH = Reason(kind="crashed")


class FakeTimer:
    def __init__(self, delay: float, call: Callable[[], None]) -> None:
        self.delay, self.call, self.cancelled = delay, call, False

    def cancel(self) -> None:
        self.cancelled = True


class FakeReactor:
    def __init__(self) -> None:
        self.timers: list[FakeTimer] = []

    def call_later(self, delay: float, call: Callable[[], None]) -> FakeTimer:
        self.timers.append(FakeTimer(delay, call))
        return self.timers[-1]


class Holder:
    owners_end = None
    pid = 7

    def __init__(self) -> None:
        self.was_let_go = False

    def lost(self, owners: Reason) -> Reason | None:
        raise AssertionError

    def let_go(self) -> None:
        self.was_let_go = True


@dataclass
class Owner:
    """A dead one."""

    ours: socket.socket
    reading: int | None = None
    holder: Any = None
    position: int = 0

    def resumption(self, up: dict[str, Any]) -> Resumption:
        resume = replace(RESUME, position=self.position, up=up)
        return Resumption(HeldConnection(self.ours.dup(), resume.custody), resume, b"", b"", 0, len(FRAME))


class Setup:
    def __init__(self, ours: socket.socket, peer: socket.socket, folder: Path) -> None:
        self.ours, self.peer = ours, peer
        self.reactor = FakeReactor()
        self.expired = False
        self.custody = Custody(cast("Reactor", self.reactor), self._expire)
        self.quarantine = Quarantine(str(folder), "a")
        self.folder = folder

    def _expire(self) -> None:
        self.expired = True

    def keep(self, owner: Owner, reason: Reason = CRASH) -> str:
        return self.custody.keep(owner, reason, {"peer": "p"}, 5.0, self.quarantine)

    def take(self) -> Resumption:
        resumption, _ = self.custody.take()
        assert resumption is not None
        resumption.held.sock.close()
        return resumption


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    ours, peer = socket.socketpair()
    with ours, peer:
        yield Setup(ours, peer, tmp_path)


def test_a_kept_connection_and_the_holder_of_its_tls_go_to_the_next_owner(setup: Setup) -> None:
    owner = Owner(setup.ours, holder=Holder())
    holder = owner.holder
    assert setup.keep(owner) == ""
    assert owner.holder is None  # else the end of the owner would end it
    resumption, taken = setup.custody.take()
    assert resumption is not None
    assert (resumption.resume.up, taken) == ({"peer": "p"}, holder)
    assert setup.reactor.timers[0].cancelled
    assert setup.custody.take() == (None, None)
    resumption.held.sock.close()


def test_a_connection_that_no_owner_takes_in_time_expires(setup: Setup) -> None:
    setup.keep(Owner(setup.ours))
    (timer,) = setup.reactor.timers
    assert timer.delay == 5.0
    timer.call()
    assert setup.expired
    assert setup.custody.give_up()


def test_the_peer_sees_the_end_of_an_abandoned_connection(setup: Setup) -> None:
    owner = Owner(setup.ours, holder=Holder())
    holder = owner.holder
    setup.keep(owner)
    assert setup.custody.give_up()
    assert setup.peer.recv(1) == b""
    assert holder.was_let_go
    assert not setup.custody.give_up()


def test_the_owner_after_one_that_died_while_it_parsed_is_careful(setup: Setup) -> None:
    setup.keep(Owner(setup.ours, reading=0))
    assert setup.take().resume.careful
    setup.keep(Owner(setup.ours, reading=None, position=9))
    assert not setup.take().resume.careful


def test_a_message_that_kills_owner_after_owner_is_cut_out_and_kept(setup: Setup) -> None:
    setup.peer.sendall(FRAME)
    for _ in range(FRUITLESS - 1):
        assert setup.keep(Owner(setup.ours, reading=0)) == ""
        setup.take()
    text = setup.keep(Owner(setup.ours, reading=0))
    assert f"{FRUITLESS} owners died of it; kept in {setup.folder}" in text
    assert setup.custody.cut_out == [len(FRAME)]
    assert setup.take().resume.position == len(FRAME)


def test_a_message_that_can_not_be_cut_out_ends_the_connection(setup: Setup) -> None:
    setup.peer.sendall(FRAME[:3])
    for _ in range(FRUITLESS - 1):
        setup.keep(Owner(setup.ours, reading=0))
        setup.take()
    with pytest.raises(NotResumable, match="died at the same place"):
        setup.keep(Owner(setup.ours, reading=0))
    assert setup.custody.resumption is None
    assert setup.peer.recv(1) == b""


def test_an_owner_that_was_ended_for_another_reason_is_no_evidence(setup: Setup) -> None:
    setup.peer.sendall(FRAME)
    for _ in range(2 * FRUITLESS):
        assert setup.keep(Owner(setup.ours, reading=0), Reason(kind="recycled")) == ""
        setup.take()
    assert setup.custody.cut_out == []


def test_deaths_before_a_takeover_count_behind_it(setup: Setup) -> None:
    setup.peer.sendall(FRAME)
    for _ in range(FRUITLESS - 1):
        setup.keep(Owner(setup.ours, reading=0))
        setup.take()
    travelled = msgspec.json.decode(msgspec.json.encode(setup.custody.suspicion), type=Suspicion)
    other = Setup(setup.ours, setup.peer, setup.folder)
    other.custody.suspicion = travelled
    assert f"{FRUITLESS} owners died of it" in other.keep(Owner(setup.ours, reading=0))
    other.take()


def test_a_new_connection_resets_the_count_of_deaths(setup: Setup) -> None:
    setup.peer.sendall(FRAME)
    for _ in range(FRUITLESS - 1):
        setup.keep(Owner(setup.ours, reading=0))
        setup.take()
    setup.custody.connection_opened()
    assert setup.keep(Owner(setup.ours, reading=0)) == ""
    setup.take()
