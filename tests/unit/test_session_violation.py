"""A violation soon after messages: they may be answered before the connection is failed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.rawserver import server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import ConnectionUp
from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Deliver, Disconnect, Send, StopReading
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.frames import CLOSE, PING, TEXT, apply_mask
from wsadapter.worker.websocket.reader import Reader

BEGIN = 10.0
MOMENT = 0.2
HELLO = server_frame(TEXT, b"Hello, world!")

CASES = {
    "3.2": HELLO + b"\xa1" + HELLO[1:],
    "3.3": HELLO + b"\xb1" + HELLO[1:],
    "3.4": HELLO + b"\xc1" + HELLO[1:],
    "4.1.3": HELLO + server_frame(5, b""),
    "4.1.4": HELLO + server_frame(6, b"Hello, world!"),
    "4.1.5": HELLO + server_frame(7, b"Hello, world!"),
    "4.2.3": HELLO + server_frame(13, b""),
    "4.2.4": HELLO + server_frame(14, b"Hello, world!"),
    "4.2.5": HELLO + server_frame(15, b"Hello, world!"),
    "5.15": server_frame(TEXT, b"a", fin=False) + server_frame(0, b"b") + server_frame(0, b"c", fin=False) + HELLO,
}
"""What the cases of these names of the Autobahn suite send; each sends a ping or a message behind the violation."""


def started(**settings: Any) -> Session:
    endpoint = Endpoint("feed", url="ws://feed.example/", **settings)
    session = Session(Assignment(endpoint=endpoint, epoch=1, url="ws://x/"), salt=1)
    session.start(ConnectionUp({}, None), 0.0)
    return session


def fed(session: Session, stream: bytes, *, chop: int, at: float = BEGIN) -> list[Action]:
    """The actions of a stream that is read in pieces of `chop` bytes up to its violation, a millisecond after each other."""
    reader, actions = Reader(1 << 20), []
    for n, begin in enumerate(range(0, len(stream), chop)):
        batch, now = reader.feed(stream[begin : begin + chop]), at + n / 1000
        if not session.try_fast_path(batch, now):
            actions += session.received(batch, now)
        if batch.violation is not None:
            break
    return actions


def failed(actions: list[Action]) -> tuple[int, Reason]:
    """The code of the close frame that is sent, and the reason of the end behind it."""
    close, leave = actions
    assert isinstance(close, Send)
    assert isinstance(leave, Disconnect)
    assert close.frame[0] & 0x0F == CLOSE
    assert (close.urgent, leave.flush, leave.linger) == (True, True, True)
    return int.from_bytes(apply_mask(close.frame[6:8], close.frame[2:6]), "big"), leave.reason


@pytest.mark.parametrize("chop", [1 << 20, 1])
@pytest.mark.parametrize("stream", CASES.values(), ids=CASES)
def test_what_was_delivered_can_be_answered_before_the_close(stream: bytes, chop: int) -> None:
    session = started()
    actions = fed(session, stream + server_frame(PING, b""), chop=chop)
    assert [type(action) for action in actions if not isinstance(action, Deliver)] == [StopReading]
    assert (session.ending.answerable, session.ending.open, session.ending.ended) == (True, False, False)
    deadline = session.deadline()
    assert deadline is not None
    assert BEGIN + MOMENT <= deadline <= BEGIN + len(stream) / 1000 + MOMENT
    assert session.tick(deadline - 0.001) == []
    code, reason = failed(session.tick(deadline))
    assert (code, reason.kind, reason.code) == (1002, "protocol_error", 1002)
    assert (session.ending.answerable, session.ending.ended) == (False, True)


@pytest.mark.parametrize("stream", [b"\xf1\x00", server_frame(PING, b"") + b"\x85\x00"], ids=["alone", "behind a ping"])
def test_without_a_message_before_it_the_connection_is_failed_at_once(stream: bytes) -> None:
    session = started()
    actions = fed(session, stream, chop=1 << 20)
    assert failed(actions[-2:])[0] == 1002
    assert session.ending.ended


def test_what_was_delivered_long_ago_had_its_time() -> None:
    session = started()
    fed(session, HELLO, chop=1 << 20)
    assert failed(fed(session, b"\xf1\x00", chop=1 << 20, at=BEGIN + MOMENT))[0] == 1002


def test_the_time_counts_from_the_last_message_and_not_from_the_violation() -> None:
    session = started()
    fed(session, HELLO, chop=1 << 20)
    assert fed(session, b"\xf1\x00", chop=1 << 20, at=BEGIN + 0.75 * MOMENT) == [StopReading()]
    assert session.deadline() == BEGIN + MOMENT


def test_an_invalid_close_frame_is_answered_at_once() -> None:
    session = started()
    deliver, *end = fed(session, HELLO + server_frame(CLOSE, b"\x03"), chop=1 << 20)
    assert isinstance(deliver, Deliver)
    assert failed(end)[0] == 1002


def violated(**settings: Any) -> Session:
    session = started(**settings)
    assert fed(session, CASES["3.2"], chop=1 << 20)[-1] == StopReading()
    return session


def test_meanwhile_nothing_is_sent_but_the_users_messages_and_nothing_is_missed() -> None:
    session = violated(heartbeat={"interval": BEGIN, "timeout": 0.01}, watchdog={"silence": 0.01})
    assert session.subscribing.subscribe(["more"], BEGIN) == []
    assert session.subscribing.unsubscribe(["more"], BEGIN) == []
    assert session.tick(BEGIN + 0.1) == []
    assert session.deadline() == BEGIN + MOMENT


def test_a_stop_ends_the_wait() -> None:
    code, reason = failed(violated().stop(1000, "stopped", BEGIN, within=5.0))
    assert (code, reason.kind) == (1002, "protocol_error")


def test_the_end_of_the_connection_meanwhile_has_the_violation_as_its_reason() -> None:
    for actions in (violated().lost("reset", 1.1), violated().ending.overdue("not sent within 10 s")):
        (leave,) = actions
        assert isinstance(leave, Disconnect)
        assert leave.reason.kind == "protocol_error"


def test_while_closing_a_violation_ends_the_connection_without_another_close_frame() -> None:
    session = started()
    session.stop(1000, "stopped", BEGIN, within=5.0)
    deliver, leave = fed(session, CASES["3.2"], chop=1 << 20)
    assert isinstance(deliver, Deliver)
    assert isinstance(leave, Disconnect)
    assert leave.reason.kind == "protocol_error"
