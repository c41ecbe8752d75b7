"""The connection's state machine: no socket, the clock in the test's hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fakes import RESUME
from tests.support.rawserver import server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import ConnectionOpening, ConnectionUp, HeartbeatSent, SubscriptionsRestored
from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Deliver, Disconnect, Notify, Send
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.frames import CLOSE, PING, PONG, TEXT, apply_mask
from wsadapter.worker.websocket.reader import Reader


def started(
    *,
    wanted: tuple[Any, ...] = (),
    dialect: dict[str, Any] | None = None,
    paces: dict[str, float] | None = None,
    **settings: Any,
) -> Session:
    endpoint = Endpoint("feed", url="ws://feed.example/", **settings)
    assignment = Assignment(endpoint=endpoint, epoch=1, url="ws://x/", wanted=wanted, dialect=dialect, paces=paces or {})
    session = Session(assignment, salt=1)
    session.start(ConnectionUp({}, None), 0.0)
    return session


def received(session: Session, stream: bytes, now: float = 1.0) -> list[Action]:
    return session.received(Reader(1 << 20).feed(stream), now)


def frame(action: Action) -> tuple[int, bytes]:
    """Opcode and payload of what is to be sent; short frames only."""
    assert isinstance(action, Send)
    return action.frame[0] & 0x0F, apply_mask(action.frame[6:], action.frame[2:6])


def left(action: Action) -> Reason:
    assert isinstance(action, Disconnect)
    return action.reason


def taken_over(at: float, heartbeat_at: float | None, *, custody: bool = True) -> Session:
    """Of an owner that goes on with a connection; heartbeats every 20 s."""
    endpoint = Endpoint("feed", url="ws://feed.example/")
    assignment = Assignment(
        endpoint=endpoint, epoch=2, url="ws://x/", resume=RESUME, heartbeat_at=heartbeat_at, custody=custody
    )
    session = Session(assignment, salt=1)
    session.start(ConnectionUp({}, None), at)
    return session


def test_the_next_owner_goes_on_with_the_clock_of_the_heartbeats() -> None:
    session = taken_over(100.0, 85.0)
    assert session.deadline() == 105.0
    assert session.tick(104.9) == []
    assert frame(session.tick(105.0)[0])[0] == PING


def test_a_heartbeat_is_reported_behind_its_frame_for_who_may_have_to_go_on_with_the_connection() -> None:
    beat, said = taken_over(100.0, None).tick(100.0)
    assert frame(beat)[0] == PING
    assert said == Notify(HeartbeatSent(100.0))
    assert len(taken_over(100.0, None, custody=False).tick(100.0)) == 1


OPENS = {"ready": [{"match": {"type": "welcome"}}], "connection": {"settle": 1.0}, "subscribe": {"frame": '["$stream"]'}}
WELCOME = server_frame(TEXT, b'{"type":"welcome"}')


def opening(
    state: tuple[float, bool] | None = None, *, wanted: tuple[str, ...] = ("a",), custody: bool = True, **settings: Any
) -> tuple[Session, list[Action]]:
    """A connection whose frames wait for the peer's word and for a second, and what its owner does first; with a `state` a
    predecessor waited before."""
    endpoint = Endpoint("feed", url="ws://feed.example/", heartbeat={"kind": "none"}, **settings)
    resume = None if state is None else RESUME
    assignment = Assignment(
        endpoint=endpoint, epoch=1, url="ws://x/", wanted=wanted, dialect=OPENS, custody=custody, resume=resume, opening=state
    )
    session = Session(assignment, salt=1)
    return session, session.start(ConnectionUp({}, None), 100.0)


def test_how_far_the_opening_is_is_reported_for_who_may_have_to_go_on_with_the_connection() -> None:
    session, first = opening()
    assert first[1:] == [Notify(ConnectionOpening(100.0, listens=True, over=False))]
    assert Notify(ConnectionOpening(100.0, listens=False, over=False)) in received(session, WELCOME, 100.5)
    over, asks = session.tick(101.0)[:2]
    assert over == Notify(ConnectionOpening(100.0, listens=False, over=True))
    assert frame(asks) == (TEXT, b'["a"]')
    session, first = opening(custody=False)
    assert len(first) == 1
    assert not any(isinstance(action, Notify) for action in received(session, WELCOME, 100.5))


def test_the_next_owner_of_an_opening_connection_waits_for_what_is_missing_and_then_asks() -> None:
    session, first = opening((99.0, True))
    assert (first[1:], session.subscribing.not_ready) == ([], True)
    frames = [action for action in received(session, WELCOME, 100.5) if isinstance(action, Send)]
    assert [frame(action) for action in frames] == [(TEXT, b'["a"]')]
    session, first = opening((99.5, False))
    assert (first[1:], session.deadline()) == ([], 100.5)
    assert [frame(action) for action in session.tick(100.5) if isinstance(action, Send)] == [(TEXT, b'["a"]')]


def test_the_next_owner_of_an_opening_connection_that_wants_nothing_has_restored_it() -> None:
    session, _ = opening((99.5, False), wanted=())
    assert Notify(SubscriptionsRestored(0, ())) in session.tick(100.5)


def test_an_opening_connection_can_be_left_unless_frames_follow_of_which_nobody_else_would_know() -> None:
    assert opening()[0].subscribing.can_hand_off
    assert not opening(send_on_up=["hello"])[0].subscribing.can_hand_off


def test_a_peer_whose_ready_does_not_come_in_time_is_left() -> None:
    session, _ = opening(timeouts={"handshake": 5.0})
    assert not any(isinstance(action, Disconnect) for action in session.tick(104.9))
    reason = left(session.tick(105.0)[-1])
    assert (reason.kind, reason.text) == ("not_ready", "the dialect's [[ready]] did not come within 5 s")


def test_a_stop_before_the_ready_sends_the_close_frame_although_only_urgent_frames_are_sent_yet() -> None:
    session, _ = opening()
    assert session.subscribing.not_ready
    [close] = session.stop(1001, "recycled", 100.5, within=1.0)
    assert isinstance(close, Send)
    assert (close.urgent, frame(close)[0]) == (True, CLOSE)


def test_a_ping_of_the_peer_is_one_of_its_heartbeats() -> None:
    beats = {"kind": "none", "server_interval": 10.0, "server_missed": 2}
    session, mute = started(heartbeat=beats), started(heartbeat=beats)
    received(session, server_frame(PING, b""), 15.0)
    assert session.tick(34.9) == []
    for late, at in ((session, 35.0), (mute, 20.0)):
        assert left(late.tick(at)[-1]).kind == "heartbeat_missed"


def test_a_pong_comes_before_the_messages_of_the_same_read() -> None:
    actions = received(started(), server_frame(TEXT, b"a") + server_frame(PING, b"p"))
    assert frame(actions[0]) == (PONG, b"p")
    assert isinstance(actions[1], Deliver)


def test_messages_before_a_close_are_delivered_and_the_close_is_answered_with_its_code() -> None:
    deliver, reply, leave = received(started(), server_frame(TEXT, b"a") + server_frame(CLOSE, b"\x0f\xa1why"))
    assert isinstance(deliver, Deliver)
    assert frame(reply) == (CLOSE, b"\x0f\xa1")
    assert left(leave) == Reason(kind="closed_by_peer", code=4001, text="why")


def test_a_violation_is_answered_with_its_code_and_the_peer_gets_time_to_read_it() -> None:
    close, leave = received(started(), b"\xf1\x00")
    assert frame(close)[1][:2] == (1002).to_bytes(2, "big")
    assert isinstance(leave, Disconnect)
    assert leave.linger
    assert leave.flush


def test_a_stop_waits_for_the_peers_close_and_its_reason_wins() -> None:
    session = started()
    (close,) = session.stop(1000, "recycled", 5.0, within=2.0)
    assert frame(close) == (CLOSE, (1000).to_bytes(2, "big"))
    assert not session.ending.open
    assert session.deadline() == 7.0
    assert isinstance(received(session, server_frame(TEXT, b"a"))[0], Deliver)
    assert received(session, server_frame(PING, b"")) == []  # nothing may follow our close frame
    assert left(received(session, server_frame(CLOSE, b"\x03\xe9"))[0]) == Reason(kind="recycled", code=1000)
    assert session.ending.ended


def test_a_stop_ends_at_its_deadline_or_with_the_connection() -> None:
    session = started()
    session.stop(1000, "stopped", 5.0, within=2.0)
    assert session.tick(6.9) == []
    assert left(session.tick(7.0)[0]).kind == "stopped"
    session = started()
    session.stop(1000, "stopped", 5.0, within=2.0)
    assert left(session.lost("reset", 6.0)[0]).kind == "stopped"


def test_after_the_end_there_are_no_actions_any_more() -> None:
    session = started()
    assert left(session.lost("reset", 6.0)[0]) == Reason(kind="closed_by_peer", code=1006, text="reset")
    assert session.lost("again", 6.0) == []
    assert session.tick(1000.0) == []
    assert session.stop(1000, "stopped", 0.0, within=1.0) == []
    assert session.deadline() is None


def test_silence_counts_from_the_last_read_and_not_while_reading_is_paused() -> None:
    session = started(watchdog={"silence": 10}, heartbeat={"kind": "none"})
    received(session, server_frame(TEXT, b"a"), now=5.0)
    assert session.tick(14.9) == []
    session.pause(0.0)
    assert session.tick(100.0) == []
    session.resume(100.0)
    assert session.tick(109.9) == []
    assert left(session.tick(110.0)[0]).kind == "silence"


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"kind": "ping"}, lambda beat: server_frame(PONG, frame(beat)[1])),
        ({"kind": "text", "payload": "ping", "reply": "pong"}, lambda _: server_frame(TEXT, b"pong")),
    ],
)
def test_a_peer_that_only_answers_heartbeats_is_silent(settings: dict[str, Any], answer: Callable[[Action], bytes]) -> None:
    session = started(watchdog={"silence": 10}, heartbeat={"interval": 4, "timeout": 2, **settings})
    received(session, server_frame(TEXT, b"a"), now=1.0)
    for now in (4.0, 8.0):
        (beat,) = session.tick(now)
        received(session, answer(beat), now=now + 0.5)
    assert session.deadline() == 11.0
    assert left(session.tick(11.0)[0]).kind == "silence"


def test_a_part_of_a_large_message_is_no_silence() -> None:
    session = started(watchdog={"silence": 10}, heartbeat={"kind": "none"})
    received(session, server_frame(TEXT, b"a" * 5000)[:3000], now=8.0)
    assert session.tick(17.9) == []
    assert left(session.tick(18.0)[0]).kind == "silence"


def test_a_heartbeat_is_sent_before_what_waits_and_its_lack_ends_the_connection() -> None:
    session = started(heartbeat={"interval": 10, "timeout": 4})
    (beat,) = session.tick(10.0)
    assert isinstance(beat, Send)
    assert beat.urgent
    assert frame(beat)[0] == PING
    assert session.deadline() == 14.0
    assert left(session.tick(14.0)[0]).kind == "heartbeat_missed"


def test_where_any_frame_is_an_answer_a_binary_one_is_too() -> None:
    session = started(heartbeat={"kind": "text", "payload": "ping", "interval": 10, "timeout": 4})
    session.tick(10.0)
    (deliver,) = received(session, server_frame(2, b"\x00"), now=11.0)
    assert isinstance(deliver, Deliver)
    assert session.tick(14.0) == []


def test_reports_stand_between_the_messages_where_their_answers_stood() -> None:
    dialect = {"subscribe": {"frame": '["$streams","$id"]'}, "ack": [{"match": {"id": "*"}, "id": "id"}]}
    session = started(wanted=("s",), dialect=dialect)
    stream = server_frame(TEXT, b"1") + server_frame(TEXT, b'{"id":1}') + server_frame(TEXT, b"2")
    before, subscribed, restored, after = received(session, stream)
    assert isinstance(before, Deliver)
    assert (before.first, before.last, before.skipped) == (0, 2, {1})
    assert isinstance(subscribed, Notify)
    assert (subscribed.report.event, subscribed.report.fields) == ("subscribed", {"stream": "s"})
    assert isinstance(restored, Notify)
    assert isinstance(after, Deliver)
    assert (after.first, after.last) == (2, 3)


def test_what_the_peer_waits_for_does_not_wait_for_the_messages_before_it() -> None:
    rules = [{"contains": "ping", "match": {"ping": "*"}, "frame": '{"pong":"$.ping"}'}]
    session = started(dialect={"subscribe": {"frame": '["$streams"]'}, "answer": rules})
    stream = server_frame(TEXT, b"1") + server_frame(TEXT, b'{"ping":1}') + server_frame(TEXT, b"2")
    pong, deliver = received(session, stream)
    assert frame(pong) == (TEXT, b'{"pong":1}')
    assert isinstance(deliver, Deliver)
    assert (deliver.first, deliver.last, deliver.skipped) == (0, 3, {1})


WATCHED: dict[str, Any] = {
    "subscribe": {"frame": '{"sub":"$streams"}', "unsubscribe": '{"unsub":"$streams"}', "per_frame": 9},
    "ack": [{"match": {"ok": "*"}, "stream": "ok"}],
    "stream": {"path": "s"},
    "housekeeping": [{"contains": "beat", "match": {"type": "beat"}, "heartbeat": True}],
}


def steady(**settings: Any) -> Session:
    """Of two streams, "a" and "b", one message each second for ten minutes."""
    session = started(wanted=("a", "b"), dialect=WATCHED, heartbeat={"kind": "none"}, **settings)
    for stream in ("a", "b"):
        received(session, server_frame(TEXT, b'{"ok":"%b"}' % stream.encode()), 0.0)
    for second in range(601):
        received(session, server_frame(TEXT, b'{"s":"a"}') + server_frame(TEXT, b'{"s":"b"}'), float(second))
    return session


def said(actions: list[Action], event: str) -> list[dict[str, Any]]:
    return [action.report.fields for action in actions if isinstance(action, Notify) and action.report.event == event]


def test_a_stream_that_stalls_is_told_and_subscribed_anew() -> None:
    session = steady()
    for second in range(601, 680):
        received(session, server_frame(TEXT, b'{"s":"b"}'), float(second))
    deadline = session.deadline()
    assert deadline is not None
    assert deadline <= 680.0
    actions = session.tick(680.0)
    assert said(actions, "stalled") == [{"stream": "a", "silence": 80.0, "hopeless": False}]
    assert said(actions, "requested") == [{"stream": "a"}]
    assert [frame(action)[1] for action in actions if isinstance(action, Send)] == [b'{"unsub":["a"]}']
    answered = received(session, server_frame(TEXT, b'{"ok":"a"}'), 680.1)
    assert [frame(action)[1] for action in answered if isinstance(action, Send)] == [b'{"sub":["a"]}']


def test_a_pace_that_was_learned_is_reported_and_holds_on_the_next_connection() -> None:
    (learned,) = said(steady().tick(601.0), "pace")
    assert learned == {"streams": {"a": 1.0, "b": 1.0}}
    later = started(wanted=("a", "b"), dialect=WATCHED, heartbeat={"kind": "none"}, paces=learned["streams"])
    for stream in ("a", "b"):
        received(later, server_frame(TEXT, b'{"ok":"%b"}' % stream.encode()), 1.0)
    for second in range(1, 70):
        received(later, server_frame(TEXT, b'{"s":"b"}'), float(second))
    assert said(later.tick(59.0), "stalled") == []
    assert said(later.tick(76.0), "stalled") == [{"stream": "a", "silence": 75.0, "hopeless": False}]


def test_a_heartbeat_of_a_streams_channel_is_a_sign_of_its_life() -> None:
    session = steady()
    for second in range(601, 700, 30):
        received(session, server_frame(TEXT, b'{"type":"beat","s":"a"}') + server_frame(TEXT, b'{"s":"b"}'), float(second))
    assert said(session.tick(700.0), "stalled") == []


def test_a_fresh_snapshot_is_asked_for_by_unsubscribing_and_subscribing() -> None:
    session = steady()
    requested, unsubscribe = session.subscribing.resubscribe(["a"], 602.0)
    assert said([requested], "requested") == [{"stream": "a"}]
    assert frame(unsubscribe)[1] == b'{"unsub":["a"]}'
    answered = received(session, server_frame(TEXT, b'{"ok":"a"}'), 602.5)
    assert [frame(action)[1] for action in answered if isinstance(action, Send)] == [b'{"sub":["a"]}']
    session.stop(1000, "stopped", 603.0, within=2.0)
    assert session.subscribing.resubscribe(["a"], 604.0) == []


def test_a_stream_that_is_unsubscribed_may_be_silent() -> None:
    session = steady()
    session.subscribing.unsubscribe(["a", "b"], 601.0)
    assert said(session.tick(700.0), "stalled") == []


def test_a_stream_is_not_silent_while_nothing_is_read() -> None:
    session = steady()
    session.pause(0.0)
    assert said(session.tick(900.0), "stalled") == []
    session.resume(900.0)
    assert said(session.tick(955.0), "stalled") == []
    assert len(said(session.tick(975.0), "stalled")) == 2


def test_streams_are_not_watched_where_nobody_wants_it() -> None:
    assert said(steady(watchdog={"stalled": 0}).tick(10_000.0), "stalled") == []


def test_a_pong_is_the_answer_to_a_ping_and_its_absence_ends_the_connection() -> None:
    for answered in (True, False):
        session = started(heartbeat={"interval": 10.0, "timeout": 5.0})
        opcode, token = frame(session.tick(10.0)[0])
        assert opcode == PING
        if answered:
            assert received(session, server_frame(PONG, token), 11.0) == []
        ended = [action.reason.kind for action in session.tick(15.0) if isinstance(action, Disconnect)]
        assert ended == ([] if answered else ["heartbeat_missed"])


def test_the_login_has_no_deadline_while_nothing_is_read() -> None:
    rules = {"needs": ["key"], "frame": '{"login":"$key"}', "ack": [{"match": {"in": True}}], "timeout": 5.0}
    session = started(dialect={"login": rules}, login={"key": "K"}, heartbeat={"kind": "none"})
    assert session.deadline() == 5.0
    session.pause(1.0)
    assert session.deadline() is None
    session.resume(3.0)
    assert session.deadline() == 7.0
