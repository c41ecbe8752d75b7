"""An owner parses the internet and may have been taken over by it: nothing it says may end the supervisor's loop."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import FakeOffice, connected, die, say, up
from tests.support.reports import owner_reports
from wsadapter.contract.errors import SendFailed
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.commands import Command
from wsadapter.contract.ipc.record import RecordReader
from wsadapter.contract.ipc.reports import ConnectionUp, OwnerReport, StreamNamed
from wsadapter.contract.items import Down
from wsadapter.contract.reasons import Reason
from wsadapter.delivery.inbox import Inbox
from wsadapter.endpoint.link_state import LinkEvent
from wsadapter.endpoint.restart_policy import ConnectBudget
from wsadapter.process.lifecycle import State
from wsadapter.process.owner_process import OwnerChild


@pytest.fixture(scope="module")
def office() -> Iterator[FakeOffice]:
    office = FakeOffice()
    yield office
    office.reactor.close()


def downs(office: FakeOffice) -> list[Down]:
    found = []
    while office.inbox.take(whole=False):
        found += [item for item in office.inbox.in_hand if isinstance(item, Down)]
    return found


@settings(deadline=None)
@given(st.lists(owner_reports(), max_size=5))
def test_no_report_of_an_owner_ends_the_loop(office: FakeOffice, said: list[OwnerReport]) -> None:
    """Reports that parse, in any order and with any values; what does not parse is test_reports.py's."""
    managed = connected(office)
    for report in said:
        say(office, managed, report.encode())
    for item in list(_items(office.inbox)):
        orjson.dumps(item.to_json())
    die(managed)
    orjson.dumps(managed.status())
    managed.stop()


@pytest.mark.parametrize("body", [b"nonsense", b'{"event":"up","fields":{}}', StreamNamed(2, "a").encode()])
def test_a_report_that_is_invalid_or_contradicts_an_earlier_one_ends_its_owner(office: FakeOffice, body: bytes) -> None:
    managed = connected(office)
    say(office, managed, body)
    assert [aborted.kind for aborted in office.child.aborted] == ["corrupt"]
    die(managed)
    managed.stop()


def _items(inbox: Inbox) -> Iterator[Any]:
    while inbox.take(whole=False):
        yield from inbox.in_hand


@pytest.mark.parametrize(
    "reason",
    [
        [], "", 1, {"kind": []}, {"kind": "crashed", "retry_after": "soon"}, {"kind": "crashed", "status": "4"},
        {"kind": "crashed", "text": 5}, {"kind": "crashed", "signal": 9},
    ],
)  # fmt: skip
def test_last_words_that_are_no_reason_are_corrupt_and_their_epoch_has_one_down(office: FakeOffice, reason: Any) -> None:
    managed = connected(office)
    say(office, managed, orjson.dumps({"event": "down", "fields": {"reason": reason}}))
    assert [aborted.kind for aborted in office.child.aborted] == ["corrupt"]
    die(managed)
    assert len(downs(office)) == 1
    managed.stop()


@pytest.mark.parametrize("kind", [commands.TAKEN, commands.REFUSED, commands.PROBED, 0, 255])
@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff", b'{"fate":[],"text":{}}', b'{"rtt":"x"}'])
@pytest.mark.parametrize("ref", [0, 1, 2**64 - 1])
def test_no_answer_of_an_owner_ends_the_loop_or_leaves_a_send_waiting(
    office: FakeOffice, kind: int, body: bytes, ref: int
) -> None:
    managed = connected(office)
    up(office, managed)
    sent = managed.send(b"x", binary=False)
    managed.on_command(cast("OwnerChild", office.child), Command(kind, ref, body))
    die(managed)
    assert sent.done()
    orjson.dumps(managed.status())
    managed.stop()


def test_a_send_that_its_caller_gave_up_is_still_answered_without_harm(office: FakeOffice) -> None:
    managed = connected(office)
    up(office, managed)
    taken, refused, lost = (managed.send(b"x", binary=False) for _ in range(3))
    restarted = managed.restart()
    for future in (taken, refused, lost, restarted):
        future.cancel()
    child = cast("OwnerChild", office.child)
    managed.on_command(child, Command(commands.TAKEN, 1, b""))
    managed.on_command(child, Command(commands.REFUSED, 2, b"{}"))
    die(managed)
    up(office, managed)
    managed.stop()


def test_a_send_that_was_refused_in_nonsense_has_an_unknown_fate(office: FakeOffice) -> None:
    managed = connected(office)
    up(office, managed)
    sent: Future[None] = managed.send(b"x", binary=False)
    managed.on_command(cast("OwnerChild", office.child), Command(commands.REFUSED, 1, b"[]"))
    assert office.child.aborted
    die(managed)
    with pytest.raises(SendFailed):
        sent.result(0)
    managed.stop()


def test_a_restart_while_it_waits_for_the_connect_budget_skips_no_epoch(office: FakeOffice) -> None:
    office.budget = ConnectBudget()
    managed = connected(office, limits={"connects": 1, "connects_period": 3600.0})
    die(managed)
    managed._cancel_waits()
    managed.step(LinkEvent.START)  # the backoff is over
    assert managed.state == "backoff"
    managed.restart()
    managed._cancel_waits()
    managed.step(LinkEvent.DUE)
    assert managed.epoch == 2
    managed.stop()


class Deaf:
    """A listener without an opinion."""

    def on_ready(self, child: OwnerChild) -> None: ...
    def on_record(self, child: OwnerChild, received: object) -> None: ...
    def on_command(self, child: OwnerChild, command: object) -> None: ...
    def on_log(self, child: OwnerChild, line: str) -> None: ...
    def on_dead(self, child: OwnerChild, reason: Reason) -> None: ...


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_no_bytes_on_the_control_socket_end_the_loop(office: FakeOffice, garbage: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    child = OwnerChild.__new__(OwnerChild)
    child.state, child.listener, child._commands = State.KILLED, Deaf(), commands.CommandReader()
    child._reactor, child._control, child._outgoing, child._verdict = office.reactor, ours, bytearray(), None
    child._deadline = child._started = child._probe_sent = None
    with ours, theirs:
        office.reactor.register(ours.fileno(), child._on_control)
        theirs.sendall(garbage)
        child._on_control(1)
        office.reactor.unregister(ours.fileno())


@pytest.mark.parametrize("handed", [True, False])
def test_an_owner_that_goes_on_with_another_connection_than_its_own_is_not_believed(office: FakeOffice, handed: bool) -> None:
    managed = connected(office)
    managed._epoch.resuming = handed
    say(office, managed, ConnectionUp({}, None, resumed=not handed).encode())
    assert [reason.kind for reason in office.child.aborted] == ["corrupt"]


def test_a_message_that_there_is_no_memory_for_ends_its_owner_alone(
    office: FakeOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(size: int) -> None:
        raise MemoryError

    ours, theirs = os.pipe()
    child = OwnerChild.__new__(OwnerChild)
    child.state, child.listener, child._reactor, child._data_fd = State.KILLED, Deaf(), office.reactor, ours
    child._records = records = RecordReader()
    monkeypatch.setattr(records, "lone", fail)
    office.reactor.register(ours, child._read_data)
    try:
        os.write(theirs, b"x" * 100)
        child._read_data()
        assert not office.reactor.is_registered(ours)
    finally:
        os.close(ours)
        os.close(theirs)
    assert child._verdict is not None
    assert child._verdict.kind == "overflow"
    assert "no memory" in child._verdict.text
    assert child._records is not records  # what it had of the message is free
