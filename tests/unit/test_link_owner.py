"""One owner of a link: what it sends, and what the link makes of that (endpoint/link_owner.py)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.fakes import FakeProcess, FakeSupervisor, connected, die, say, up
from tests.support.records import consume, message, read
from wsadapter.contract import items
from wsadapter.contract.ipc.commands import PROBED, REFUSED, SUBSCRIBE, Command
from wsadapter.contract.ipc.record import BATCH, Record, SingleMessage, field
from wsadapter.contract.ipc.reports import ConnectionDown, ConnectionUp
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.link import Link
from wsadapter.endpoint.link_owner import LinkOwner
from wsadapter.process.lifecycle import ProcessState


@pytest.fixture
def link(supervisor: FakeSupervisor) -> Link:
    link = connected(supervisor)
    up(supervisor.process)
    return link


@pytest.fixture
def owner(link: Link) -> LinkOwner:
    assert link.owner is not None
    return link.owner


def batch(count: int = 1, *, position: int = 0, filtered: int = 0, streams: list[int] | None = None) -> Record:
    return read(
        b"x" * count, kind=BATCH, received_at=1, layout=field(0, 1) * count, count=count, position=position, filtered=filtered,
        streams=streams,
    )  # fmt: skip


def single(supervisor: FakeSupervisor, data: str, position: int) -> None:
    process = supervisor.process
    process.listener.on_single(process, SingleMessage(data, 1, 5, position, 0))


def messages(supervisor: FakeSupervisor) -> list[Any]:
    return [item for item in consume(supervisor.inbox) if isinstance(item, items.Message)]


def test_bytes_are_counted_by_the_position_in_the_stream_and_never_twice(
    link: Link, owner: LinkOwner, supervisor: FakeSupervisor
) -> None:
    for received in (batch(2, position=10, filtered=3), batch(1, position=25), batch(1, position=25)):
        owner.on_record(owner.process, received)
    counters = link.output.counters
    assert (counters.messages, counters.bytes, counters.filtered) == (4, 25, 3)
    assert [item.number for item in messages(supervisor)] == [1, 2, 3, 4]


def test_a_single_message_is_numbered_and_counted_as_any_other(
    link: Link, owner: LinkOwner, supervisor: FakeSupervisor
) -> None:
    owner.on_record(owner.process, batch(1, position=10))
    single(supervisor, "lonely", 18)
    found = messages(supervisor)
    assert [(item.number, item.epoch) for item in found] == [(1, 1), (2, 1)]
    assert found[1].data == "lonely"
    assert (link.output.counters.messages, link.output.counters.bytes, owner.epoch.position) == (2, 18, 18)


def test_a_backlog_above_the_limit_is_reported_to_the_group(
    link: Link, supervisor: FakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflowed: list[object] = []
    monkeypatch.setattr(link.output.group, "overflowed", lambda queue=None: overflowed.append(queue))
    monkeypatch.setattr(link.output.backlog, "waiting", link.output.backlog.buffer.max_bytes + 1)
    single(supervisor, "x", 1)
    process = supervisor.process
    process.listener.on_record(process, message(None, 1))
    assert overflowed == [None, None]


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        orjson.dumps({"event": "stream", "fields": {"index": 7, "name": "a"}}),
        ConnectionUp({}, None, resumed=True).encode(),
    ],
)
def test_an_owner_that_sends_an_invalid_report_is_killed(owner: LinkOwner, supervisor: FakeSupervisor, body: bytes) -> None:
    say(supervisor.process, body)
    assert [(reason.kind, "makes no sense" in reason.text) for reason in supervisor.process.aborted] == [("corrupt", True)]


def test_a_message_of_a_stream_that_was_not_announced_kills_the_owner(owner: LinkOwner, supervisor: FakeSupervisor) -> None:
    owner.on_record(owner.process, batch(streams=[3]))
    assert [reason.kind for reason in supervisor.process.aborted] == ["corrupt"]
    assert messages(supervisor) == []


def test_a_probe_that_was_answered_brings_the_round_trip_time(owner: LinkOwner, supervisor: FakeSupervisor) -> None:
    for rtt in (0.5, None, "soon"):
        owner.on_command(owner.process, Command(PROBED, 0, orjson.dumps({"rtt": rtt})))
        assert owner.epoch.rtt == (rtt if rtt == 0.5 else None)


def test_a_reply_that_can_not_be_read_kills_the_owner(link: Link, owner: LinkOwner, supervisor: FakeSupervisor) -> None:
    ref = link.connection.commands.send(SUBSCRIBE, {"streams": []}, lambda _reply, _text: None)
    owner.on_command(owner.process, Command(REFUSED, ref, b"no json"))
    assert [reason.kind for reason in supervisor.process.aborted] == ["corrupt"]


def test_a_record_that_its_owner_did_not_finish_is_counted_when_the_owner_is_dead(
    link: Link, supervisor: FakeSupervisor
) -> None:
    supervisor.process.data.torn = 9
    die(supervisor.process)
    assert (link.output.counters.torn, link.owner) == (1, None)
    link.stop()


def test_the_reason_that_an_owner_reports_is_the_reason_of_its_end(
    link: Link, owner: LinkOwner, supervisor: FakeSupervisor
) -> None:
    reason = Reason(kind="closed_by_peer", code=1001, text="going away")
    say(supervisor.process, ConnectionDown(reason).encode())
    assert (owner.epoch.last_words, supervisor.process.state) == (reason, ProcessState.ASKED)
    die(supervisor.process)
    assert link.last_exit == reason
    link.stop()


def test_the_first_connection_has_no_gap_and_each_later_one_has(link: Link, supervisor: FakeSupervisor) -> None:
    assert not [item for item in consume(supervisor.inbox) if isinstance(item, items.Gap)]
    die(supervisor.process)
    link.restart()
    up(supervisor.process)
    events = [item for item in consume(supervisor.inbox) if isinstance(item, items.Up | items.Gap)]
    assert [type(event) for event in events] == [items.Up, items.Gap]
    assert isinstance(events[0], items.Up)
    assert not events[0].resumed
    link.stop()


def test_a_waiting_restart_ends_with_the_up_of_the_next_owner_and_not_of_the_leaving_one(
    supervisor: FakeSupervisor,
) -> None:
    link = connected(supervisor)
    leaving = supervisor.process
    future = link.restart(at_once=True)
    up(leaving)  # its connection opened after it was asked to leave
    assert not future.done()
    die(leaving)
    up(supervisor.process)
    assert future.done()
    link.stop()


@pytest.mark.parametrize(
    ("state", "paused"), [(ProcessState.SERVING, True), (ProcessState.DEAD, False), (ProcessState.KILLED, False)]
)
def test_reading_pauses_except_for_a_leaving_owner(
    owner: LinkOwner, supervisor: FakeSupervisor, state: ProcessState, paused: bool
) -> None:
    process, calls = supervisor.process, []
    process.state = state
    process.data.pause = lambda: calls.append("pause")
    owner.pause()
    assert (calls == ["pause"]) is paused


def test_output_of_user_code_is_logged_with_the_pid(
    owner: LinkOwner, supervisor: FakeSupervisor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "wsadapter"):
        owner.on_log(owner.process, "hello from a hook")
    assert "hello from a hook" in caplog.text


def test_a_new_owner_begins_a_new_epoch(link: Link, owner: LinkOwner, supervisor: FakeSupervisor) -> None:
    owner.on_record(owner.process, batch(5))
    assert owner.messages == 5
    die(supervisor.process)
    link.restart()
    assert isinstance(supervisor.process, FakeProcess)
    assert link.owner is not None
    assert (link.owner.epoch.number, link.owner.messages, link.owner.uptime) == (2, 0, None)
    link.stop()
