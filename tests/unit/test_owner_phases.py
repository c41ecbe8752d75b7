"""The phases of an owner without a connection, with a real pipe and a real control socket."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import pytest

from tests.support.owner_ends import OwnerEnds
from wsadapter.contract.endpoint import Endpoint, Timeouts
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import (
    ASSIGN,
    HANDOFF,
    IDENTIFY,
    REFUSED,
    REQUEST,
    SEND_TEXT,
    STOP,
    SUBSCRIBE,
    TAKEN,
    RequestCommand,
)
from wsadapter.contract.ipc.reports import ConnectionDown
from wsadapter.contract.reasons import Reason
from wsadapter.worker.owner.leaving import Draining
from wsadapter.worker.owner.phase import End, Stop

ENDPOINT = Endpoint("a", url="ws://localhost", timeouts=Timeouts(close=2.0))
REASON = Reason(kind="stopped", code=1000)


@pytest.fixture
def supervisor() -> Iterator[OwnerEnds]:
    found = OwnerEnds()
    yield found
    found.close()


def test_without_a_connection_messages_and_requests_are_refused(supervisor: OwnerEnds) -> None:
    supervisor.executed(SEND_TEXT, 7, b"hello")
    supervisor.executed(REQUEST, 8, RequestCommand(id="1", payload=b"{}", until=200.0).encode())
    text = {"text": "the connection is not up", "fate": "not_sent"}
    assert supervisor.answers() == [(REFUSED, 7, text), (REFUSED, 8, text)]


def test_an_owner_without_an_endpoint_ends_at_once(supervisor: OwnerEnds) -> None:
    supervisor.executed(STOP, body=b'{"code": 1000}')
    assert supervisor.host.end.code == 0
    assert supervisor.reports() == []


def test_identities_are_acknowledged_without_a_connection(supervisor: OwnerEnds) -> None:
    supervisor.executed(IDENTIFY, 3, b'{"on": true}')
    assert supervisor.answers() == [(TAKEN, 3, {})]


def test_subscriptions_without_an_endpoint_have_no_answer(supervisor: OwnerEnds) -> None:
    supervisor.executed(SUBSCRIBE, 3, b'{"streams": ["a"]}')
    assert supervisor.answers() == []


def test_a_connection_that_did_not_arrive_is_the_reason_of_the_end(supervisor: OwnerEnds) -> None:
    assignment = Assignment(endpoint=ENDPOINT, epoch=1, url=ENDPOINT.url, held=True)
    supervisor.executed(ASSIGN, body=assignment.to_body())
    assert isinstance(supervisor.host.phase, Draining)
    supervisor.host.phase.tick(100.0)
    (report,) = supervisor.reports()
    assert isinstance(report, ConnectionDown)
    assert report.reason.kind == "connect_failed"
    assert supervisor.host.end.code == 0


def test_a_descriptor_that_did_not_arrive_is_no_connection(supervisor: OwnerEnds) -> None:
    before = supervisor.host.phase
    supervisor.executed(HANDOFF)
    assert supervisor.host.phase is before


def test_the_process_ends_when_the_reason_is_written(supervisor: OwnerEnds) -> None:
    draining = Draining(supervisor.host, REASON)
    assert supervisor.host.end.code is None
    draining.tick(100.0)
    assert supervisor.host.end.code == 0
    assert supervisor.reports() == [ConnectionDown(REASON)]


def test_a_supervisor_that_does_not_read_delays_the_end_until_the_deadline(supervisor: OwnerEnds) -> None:
    supervisor.host.end.close_timeout = 2.0
    supervisor.stop_reading()
    draining = Draining(supervisor.host, REASON)
    draining.tick(100.0)
    assert (supervisor.host.end.code, draining.deadline()) == (None, inf)
    draining.stop(Stop(1000, "stopped"), 100.0)
    assert draining.deadline() == 104.0
    draining.tick(103.9)
    assert supervisor.host.end.code is None
    draining.tick(104.0)
    assert supervisor.host.end.code == 1  # the reason is not written


def test_a_supervisor_that_is_gone_delays_no_end(supervisor: OwnerEnds) -> None:
    supervisor.stop_reading()
    draining = Draining(supervisor.host, REASON)
    supervisor.host.outbox.close()
    draining.tick(100.0)
    assert supervisor.host.end.code == 0


def test_a_stop_limits_the_end_and_a_later_one_only_shortens_it() -> None:
    end = End()
    end.close_timeout = 5.0
    assert end.closing_time(Stop(1000, "stopped"), 100.0) == 5.0
    assert end.drain_until == 110.0
    assert end.closing_time(Stop(1001, "supervisor_gone", within=1.0), 101.0) == 1.0
    assert end.drain_until == 103.0
    assert end.closing_time(Stop(1000, "stopped"), 102.0) == 5.0
    assert end.drain_until == 103.0


def test_without_a_supervisor_a_connection_is_closed_within_a_second() -> None:
    end = End()
    end.close_timeout = 5.0
    assert end.close_by(100.0) == 105.0
    end.supervisor_gone = True
    assert end.close_by(100.0) == 101.0
