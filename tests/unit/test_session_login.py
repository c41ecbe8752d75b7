"""The login within a connection: answers that come with an end, too late, or while nothing is read."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.rawserver import server_frame
from wsadapter.contract.endpoint import Endpoint, Heartbeat
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import ConnectionUp
from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Deliver, Disconnect, Notify, Send, Sign
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.frames import CLOSE, TEXT, apply_mask
from wsadapter.worker.websocket.reader import Reader

DIALECT: dict[str, Any] = {
    "subscribe": {"frame": '{"sub":"$streams","n":"$id"}', "ack_timeout": 5.0},
    "ack": [{"match": {"ok": "*"}, "id": "ok"}],
    "login": {
        "frame": '{"login":"$key"}', "needs": ["key"], "timeout": 5.0, "renew_after": 60.0,
        "ack": [{"match": {"in": True}}], "error": [{"match": {"in": False}, "text": "why"}],
    },
}  # fmt: skip
SIGNED = {**DIALECT, "login": {**DIALECT["login"], "frame": '{"login":"$sign"}'}}
YES, NO = server_frame(TEXT, b'{"in":true}'), server_frame(TEXT, b'{"in":false,"why":"no"}')
DATA, BYE = server_frame(TEXT, b"data"), server_frame(CLOSE, b"\x03\xe8")


def started(dialect: dict[str, Any] = DIALECT) -> tuple[Session, list[Action]]:
    endpoint = Endpoint("x", url="ws://x/", login={"key": "K"}, heartbeat=Heartbeat(kind="none"))
    session = Session(Assignment(endpoint=endpoint, epoch=1, url="ws://x/", wanted=("a",), dialect=dialect), salt=1)
    return session, session.start(ConnectionUp({}, None), 0.0)


def logged_in(dialect: dict[str, Any] = DIALECT) -> Session:
    session, actions = started(dialect)
    if any(isinstance(action, Sign) for action in actions):
        session.subscribing.signed({"login": "S"}, 0.5)
    received(session, YES + server_frame(TEXT, b'{"ok":1}'))
    return session


def received(session: Session, stream: bytes, now: float = 1.0) -> list[Action]:
    return session.received(Reader(1 << 20).feed(stream), now)


def sent(actions: list[Action]) -> list[Any]:
    """The payloads of what is to be sent, parsed; a close frame is its code."""
    found = []
    for action in actions:
        if isinstance(action, Send):
            payload = apply_mask(action.frame[6:], action.frame[2:6])
            found.append(int.from_bytes(payload[:2], "big") if action.frame[0] & 0x0F == CLOSE else orjson.loads(payload))
    return found


def delivered(actions: list[Action]) -> list[bytes]:
    return [
        action.read.payload(at) for action in actions if isinstance(action, Deliver)
        for at in range(action.first, action.last) if at not in action.skipped
    ]  # fmt: skip


def test_an_answer_among_data_and_a_close_counts() -> None:
    session, _ = started()
    actions = received(session, DATA + YES + DATA + BYE)
    assert sent(actions) == [{"sub": ["a"], "n": 2}, 1000]
    assert delivered(actions) == [b"data", b"data"]
    assert isinstance(actions[-1], Disconnect)
    assert actions[-1].reason.kind == "closed_by_peer"


def test_a_refusal_with_a_close_behind_it_is_one_end() -> None:
    session, _ = started()
    actions = received(session, DATA + NO + DATA + BYE)
    assert sent(actions) == [1000]
    assert delivered(actions) == [b"data", b"data"]
    assert [action.reason for action in actions if isinstance(action, Disconnect)] == [Reason(kind="login_failed", text="no")]
    assert isinstance(actions[-1], Disconnect)


@pytest.mark.parametrize("answer", [YES, NO])
def test_while_it_is_being_closed_no_answer_changes_that(answer: bytes) -> None:
    session, _ = started()
    session.stop(1000, "stopped", 0.5, within=5.0)
    assert sent(received(session, answer)) == []
    (leave,) = [action for action in received(session, BYE) if isinstance(action, Disconnect)]
    assert leave.reason.kind == "stopped"


@pytest.mark.parametrize("signed", [True, False])
def test_a_renewal_that_can_not_be_signed_or_is_refused_leaves_the_connection_up(signed: bool) -> None:
    session = logged_in(SIGNED)
    assert any(isinstance(action, Sign) for action in session.tick(61.0))
    if signed:
        session.subscribing.signed({"login": "S"}, 61.5)
    actions = received(session, NO, 62.0) if signed else session.subscribing.not_signed("broken", 62.0)
    assert [action.report.event for action in actions if isinstance(action, Notify)] == ["notice"]
    assert session.ending.open


def test_a_signature_that_comes_too_late_is_not_sent() -> None:
    session = logged_in(SIGNED)
    session.tick(61.0)
    session.tick(66.0)
    assert session.subscribing.signed({"login": "late"}, 70.0) == []


def test_while_nothing_is_read_no_answer_is_missed() -> None:
    session, _ = started()
    session.pause(1.0)
    assert session.tick(100.0) == []
    session.resume(101.0)
    assert session.tick(104.9) == []
    (leave,) = [action for action in session.tick(105.0) if isinstance(action, Disconnect)]
    assert leave.reason.kind == "login_failed"


def test_while_nothing_is_read_no_subscription_is_given_up() -> None:
    session, _ = started()
    received(session, YES)
    session.pause(2.0)
    assert session.tick(50.0) == []
    session.resume(52.0)
    assert session.tick(55.9) == []
    assert sent(session.tick(56.0)) == [{"sub": ["a"], "n": 3}]


PRIVATE: dict[str, Any] = {
    "subscribe": {
        "frame": '{"sub":"$stream"}',
        "kind": [
            {
                "streams": ["mine.*"], "frame": '{"sub":"$stream","by":"$key","of":"$challenge","so":"$sign"}',
                "unsubscribe": '{"unsub":"$stream","by":"$key"}',
            },
            {"streams": ["all"], "frame": '{"listen":true,"$sign":"*"}'},
        ],
    },
    "ack": [{"match": {"ok": "*"}, "stream": "ok"}],
    "login": {
        "needs": ["key"], "challenge": '{"who":"$key"}', "answer": {"match": {"prove": "*"}, "value": "prove"},
    },
}  # fmt: skip


def test_frames_of_a_kind_carry_what_the_login_knows_and_the_others_do_not() -> None:
    session, actions = started(PRIVATE)
    session.subscribing.subscribe(["mine.1", "all"], 0.5)
    assert sent(actions) == [{"who": "K"}]
    actions = received(session, server_frame(TEXT, b'{"prove":"C"}'))
    assert sent(actions) == [{"sub": "a"}]
    unsigned = [action.frame for action in actions if isinstance(action, Sign)]
    assert unsigned == [{"sub": "mine.1", "by": "K", "of": "C", "so": "$sign"}, {"listen": True, "$sign": "*"}]
    assert sent(session.subscribing.signed({**unsigned[0], "so": "S"}, 1.5)) == [{**unsigned[0], "so": "S"}]
    assert sent(session.subscribing.signed({"listen": True, "s": "S"}, 1.5)) == [{"listen": True, "s": "S"}]
    received(session, server_frame(TEXT, b'{"ok":"mine.1"}'))
    assert sent(session.subscribing.unsubscribe(["mine.1"], 2.0)) == [{"unsub": "mine.1", "by": "K"}]


def test_what_only_a_login_can_have_is_rejected_without_one() -> None:
    endpoint = Endpoint("x", url="ws://x/", heartbeat=Heartbeat(kind="none"))
    session = Session(Assignment(endpoint=endpoint, epoch=1, url="ws://x/", wanted=("mine.1", "a"), dialect=PRIVATE), salt=1)
    actions = session.start(ConnectionUp({}, None), 0.0)
    assert sent(actions) == [{"sub": "a"}]
    (rejected,) = [
        action.report.fields for action in actions if isinstance(action, Notify) and action.report.event == "rejected"
    ]
    assert rejected == {"stream": "mine.1", "error": "needs a login, and the endpoint has no [login]"}


def test_a_stream_is_no_signature_whatever_it_is_called() -> None:
    session, _ = started(PRIVATE)
    received(session, server_frame(TEXT, b'{"prove":"C"}'))
    assert sent(session.subscribing.subscribe(["$sign"], 2.0)) == [{"sub": "$sign"}]


def test_a_frame_that_can_not_be_signed_for_the_moment_is_made_anew_after_a_pause() -> None:
    session, _ = started(PRIVATE)
    received(session, server_frame(TEXT, b'{"prove":"C"}') + server_frame(TEXT, b'{"ok":"a"}'))
    session.subscribing.subscribe(["mine.1"], 2.0)
    now, pauses = 2.0, []
    for _ in range(6):
        assert session.subscribing.not_signed("HTTP 503", now, passing=True) == []
        due = session.deadline()
        assert due is not None
        assert [action.frame["sub"] for action in session.tick(due) if isinstance(action, Sign)] == ["mine.1"]
        pauses.append(due - now)
        now = due
    assert pauses == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    actions = session.subscribing.not_signed("HTTP 503", now, passing=True)
    (said,) = [action.report for action in actions if isinstance(action, Notify)]
    assert (said.event, said.fields) == ("rejected", {"stream": "mine.1", "error": "HTTP 503"})
    assert session.ending.open


def test_a_frame_whose_keys_are_refused_ends_the_connection() -> None:
    session, _ = started(PRIVATE)
    received(session, server_frame(TEXT, b'{"prove":"C"}'))
    session.subscribing.subscribe(["mine.1"], 2.0)
    (_, leave) = session.subscribing.not_signed("no such key", 2.5)
    assert isinstance(leave, Disconnect)
    assert (leave.reason.kind, leave.reason.text) == ("login_failed", "no such key")
