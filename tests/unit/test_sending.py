"""Frames to the peer: which are refused, which are confirmed, and when. Real sockets; the times are the process's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest

from tests.support.owner_ends import ServedOwner
from tests.support.rawserver import server_frame
from wsadapter.contract.ipc.commands import (
    ANNOUNCE,
    BEGUN,
    REFUSED,
    REQUEST,
    SEND_BINARY,
    SEND_TEXT,
    STOP,
    SUBSCRIBE,
    TAKEN,
    WITHDRAW,
    RequestCommand,
)
from wsadapter.contract.ipc.reports import HeartbeatSent, SubscriptionsSent
from wsadapter.worker.session.actions import Send
from wsadapter.worker.websocket.frames import BINARY, PONG, TEXT, encode_frame

Serve = Callable[..., ServedOwner]
FRAME = encode_frame(TEXT, b"frame")
LOGIN = {
    "subscribe": {"frame": '{"sub":"$streams","n":"$id"}'},
    "ack": [{"match": {"ok": "*"}, "id": "ok"}],
    "login": {"frame": '{"login":"$key"}', "needs": ["key"], "ack": [{"match": {"in": True}}]},
}


@pytest.fixture
def serve() -> Iterator[Serve]:
    served: list[ServedOwner] = []

    def make(**settings: Any) -> ServedOwner:
        served.append(ServedOwner(**settings))
        served[-1].commands()
        served[-1].items()
        return served[-1]

    yield make
    for owner in served:
        owner.close()


def request(name: str, until: float | None = None) -> bytes:
    payload = f'{{"id":"{name}"}}'.encode()
    return RequestCommand(time.monotonic() + 60.0 if until is None else until, name, payload).encode()


def refusal(ref: int, text: str, fate: str = "not_sent") -> tuple[int, int, dict[str, Any]]:
    return REFUSED, ref, {"text": text, "fate": fate}


def fill(owner: ServedOwner) -> None:
    """Sends until the kernel takes nothing more: the first of these frames is half sent."""
    owner.serving.sending.send(1, BINARY, bytes(4 << 20))
    while owner.serving._connection.sender.wants_flush:
        owner.serving._sending.flush(time.monotonic())
    assert owner.serving._connection.sender.blocked
    owner.commands()


def test_a_message_is_sent_and_confirmed(serve: Serve) -> None:
    owner = serve()
    owner.executed(SEND_TEXT, 7, b"hello")
    owner.executed(SEND_BINARY, 8, b"\x00")
    assert owner.frames() == [(TEXT, b"hello"), (BINARY, b"\x00")]
    assert owner.answers() == [(BEGUN, 7, {}), (TAKEN, 7, {}), (BEGUN, 8, {}), (TAKEN, 8, {})]


def test_a_closing_connection_refuses_messages_and_requests(serve: Serve) -> None:
    owner = serve()
    owner.executed(STOP, now=time.monotonic())
    owner.executed(SEND_TEXT, 7, b"hello")
    owner.executed(REQUEST, 8, request("8"))
    assert owner.answers() == [refusal(7, "the connection is not up"), refusal(8, "the connection is not up")]


def test_after_a_violation_messages_are_still_sent_and_requests_are_not(serve: Serve) -> None:
    owner = serve()
    owner.read(server_frame(TEXT, b"x") + b"\xf0\x00", time.monotonic())
    owner.executed(SEND_TEXT, 7, b"hello")
    owner.executed(REQUEST, 8, request("8"))
    assert owner.frames() == [(TEXT, b"hello")]
    assert owner.answers()[-1] == refusal(8, "the connection is not up")


def test_a_broken_connection_refuses_messages(serve: Serve) -> None:
    owner = serve()
    owner.serving._connection.sender.broken = "Connection reset by peer"
    owner.executed(SEND_TEXT, 7, b"hello")
    assert owner.answers() == [refusal(7, "the connection is not up")]


def test_a_request_is_sent_and_its_answer_is_recognised(serve: Serve) -> None:
    owner = serve()
    owner.executed(REQUEST, 8, request("8"))
    assert owner.frames() == [(TEXT, b'{"id":"8"}')]
    assert owner.answers() == [(BEGUN, 8, {}), (TAKEN, 8, {})]
    owner.read(server_frame(TEXT, b'{"id":"8"}'))
    assert [report.event for report in owner.reports()] == ["answer"]


def test_a_request_whose_deadline_has_passed_is_refused(serve: Serve) -> None:
    owner = serve()
    owner.executed(REQUEST, 8, request("8", until=time.monotonic()))
    assert (owner.frames(), owner.answers()) == ([], [refusal(8, "its deadline passed before it could be sent")])
    owner.read(server_frame(TEXT, b'{"id":"8"}'))
    assert owner.items() == [b'{"id":"8"}']  # it is no answer


def test_a_request_whose_deadline_passes_while_it_waits_is_refused(serve: Serve) -> None:
    owner = serve(limits={"sends": 1, "sends_period": 1000.0})
    owner.executed(SEND_TEXT, 7, b"first")
    until = time.monotonic() + 30.0
    owner.executed(REQUEST, 8, request("8", until))
    assert owner.serving._sending.deadline() == pytest.approx(time.monotonic() + 1000.0, abs=60.0)
    owner.commands()
    owner.serving._sending.flush(until + 1000.0)
    assert owner.answers() == [refusal(8, "its deadline passed before it could be sent")]


def test_a_request_with_the_id_of_an_open_frame_that_subscribes_is_refused(serve: Serve) -> None:
    owner = serve(dialect={key: value for key, value in LOGIN.items() if key != "login"}, wanted=("a",))
    owner.executed(REQUEST, 8, request("1"))
    assert owner.answers() == [refusal(8, "a frame that subscribes has the id '1' now")]


def test_what_waits_can_be_withdrawn_and_what_is_begun_can_not(serve: Serve) -> None:
    owner = serve()
    fill(owner)
    owner.executed(SEND_TEXT, 8, b"hello")
    owner.executed(WITHDRAW, 8)
    assert owner.answers() == [refusal(8, "it was withdrawn")]
    owner.executed(WITHDRAW, 1)
    assert owner.answers() == []


def test_only_urgent_frames_are_sent_before_the_login(serve: Serve) -> None:
    owner = serve(dialect=LOGIN, login={"key": "K"}, wanted=("a",))
    assert owner.frames() == [(TEXT, b'{"login":"K"}')]
    owner.executed(SEND_TEXT, 7, b"hello")
    assert (owner.frames(), owner.answers()) == ([], [])
    owner.read(server_frame(TEXT, b'{"in":true}'), time.monotonic())
    assert owner.frames() == [(TEXT, b"hello"), (TEXT, b'{"sub":["a"],"n":2}')]


def test_a_change_of_subscriptions_is_confirmed_when_its_last_frame_is_out(serve: Serve) -> None:
    owner = serve(limits={"sends": 1, "sends_period": 1000.0})
    now = time.monotonic()
    owner.executed(SEND_TEXT, 7, b"first")
    owner.serving._sending.put(Send(FRAME))
    owner.serving._sending.owe((8, SUBSCRIBE, ("a",)))
    owner.serving._sending.flush(now)
    assert (TAKEN, 8, {}) not in owner.answers()
    owner.serving._sending.flush(now + 2000.0)
    assert owner.answers() == [(TAKEN, 8, {})]
    owner.serving._sending.flush(now + 4000.0)
    assert owner.answers() == []


def test_a_change_whose_frame_is_at_the_hook_is_not_confirmed(serve: Serve) -> None:
    owner = serve()
    owner.serving._session.subscribing._unsigned.append((None, {}))
    owner.serving._sending.owe((8, SUBSCRIBE, ("a",)))
    owner.serving._sending.flush(time.monotonic())
    assert owner.answers() == []
    owner.serving._session.subscribing._unsigned.clear()
    owner.serving._sending.flush(time.monotonic())
    assert owner.answers() == [(TAKEN, 8, {})]


SENT = SubscriptionsSent(("a",), gone=False)


def test_without_a_handoff_nobody_is_told_that_a_frame_is_out(serve: Serve) -> None:
    owner = serve()
    owner.serving._sending.put(Send(FRAME, then=SENT))
    owner.serving._sending.flush(time.monotonic())
    assert (owner.frames(), owner.reports()) == ([(TEXT, b"frame")], [])


def test_where_the_connection_may_outlive_its_owner_a_frame_is_reported_once_it_is_out(serve: Serve) -> None:
    owner = serve(tcp=True, custody=True)
    owner.serving._sending.put(Send(FRAME, then=SENT))
    assert owner.reports() == []
    owner.serving._sending.flush(time.monotonic())
    assert owner.reports() == [SENT]
    assert [kind for kind, _, _ in map(tuple, owner.commands())] == [ANNOUNCE]  # a ref of ours is never confirmed


def test_the_deadline_is_that_of_a_frame_that_is_stuck(serve: Serve) -> None:
    owner = serve()
    sending, sender = owner.serving._sending, owner.serving._connection.sender
    assert sending.deadline() == inf
    assert sending.overdue(inf) == ""
    fill(owner)
    assert sender.stuck_since is not None
    assert sending.deadline() == sender.stuck_since + 5.0
    assert sending.overdue(sender.stuck_since + 4.9) == ""
    assert sending.overdue(sender.stuck_since + 5.0) == "not sent within 5 s"
    sender.broken = "Broken pipe"
    assert sending.overdue(sender.stuck_since + 5.0) == "Broken pipe"


def test_what_was_not_sent_is_refused_with_its_fate_when_the_connection_is_gone(serve: Serve) -> None:
    owner = serve()
    fill(owner)
    owner.executed(SEND_TEXT, 8, b"hello")
    owner.serving._sending.put(Send(FRAME))
    owner.serving._sending.abandon()
    assert owner.answers() == [refusal(1, "the connection is gone", "unknown"), refusal(8, "the connection is gone")]


def test_an_urgent_frame_overtakes_what_waits(serve: Serve) -> None:
    owner = serve(limits={"sends": 1, "sends_period": 1000.0})
    now = time.monotonic()
    owner.executed(SEND_TEXT, 7, b"first")
    owner.executed(SEND_TEXT, 8, b"second")
    owner.serving._sending.put(Send(encode_frame(PONG, b"p"), urgent=True))
    owner.serving._sending.flush(now)
    assert owner.frames() == [(TEXT, b"first"), (PONG, b"p")]


def test_the_last_announced_frame_is_forgotten_when_nothing_waits(serve: Serve) -> None:
    owner = serve(tcp=True, custody=True)
    owner.executed(SEND_TEXT, 7, b"hello")
    assert owner.serving._handoff._announced[1] == b""


def test_a_frame_that_the_next_owner_would_not_send_delays_the_custody(serve: Serve) -> None:
    owner = serve(limits={"sends": 1, "sends_period": 1000.0}, send_on_up=["one", "two"], tcp=True, custody=True)
    assert not owner.serving._handoff._in_custody
    owner.serving._sending.flush(time.monotonic() + 2000.0)
    owner.serving._handoff.offer_if_due()
    assert owner.serving._handoff._in_custody
    assert HeartbeatSent not in map(type, owner.reports())
