"""The heartbeat, with the clock in the test's hand."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wsadapter.contract.endpoint import Heartbeat as Settings
from wsadapter.worker.session.heartbeat import Heartbeat
from wsadapter.worker.websocket.frames import PING, apply_mask


def started(**settings: object) -> Heartbeat:
    heartbeat = Heartbeat(Settings(**{"interval": 10, "timeout": 5, **settings}), salt=1)  # type: ignore[arg-type]
    heartbeat.start(0.0)
    return heartbeat


def sent(heartbeat: Heartbeat, now: float) -> bytes:
    """The payload of the heartbeat that is due now."""
    frame = heartbeat.due(now)
    assert frame is not None
    return apply_mask(frame[6:], frame[2:6])


def test_one_of_several_answers_is_enough() -> None:
    settings = Settings(kind="json", payload='{"op":"ping"}', reply='[{"ret_msg":"pong"},{"op":"pong"}]')
    answers = {b'{"op":"pong","args":[]}': True, b'{"op":"ping","ret_msg":"pong"}': True, b'{"op":"ping"}': False}
    for answer, expected in answers.items():
        heartbeat = Heartbeat(settings, salt=1)
        heartbeat.start(0.0)
        assert heartbeat.due(settings.interval) is not None
        assert heartbeat.answer(answer, settings.interval) is expected


def test_a_ping_is_sent_every_interval_and_not_before() -> None:
    heartbeat = started()
    assert heartbeat.due(9.9) is None
    frame = heartbeat.due(10.0)
    assert frame is not None
    assert frame[0] == 0x80 | PING
    assert heartbeat.due(19.9) is None


def test_its_pong_measures_the_round_trip() -> None:
    heartbeat = started()
    assert heartbeat.rtt is None
    heartbeat.pong(sent(heartbeat, 10.0), 10.25)
    assert heartbeat.rtt == 0.25
    assert not heartbeat.missed(1000.0)


def test_without_its_pong_it_is_missed_at_the_timeout() -> None:
    heartbeat = started()
    sent(heartbeat, 10.0)
    assert heartbeat.deadline() == 15.0
    assert not heartbeat.missed(14.9)
    assert heartbeat.missed(15.0)


@pytest.mark.parametrize("payload", [b"", b"unasked"])
def test_a_pong_nobody_asked_for_is_no_answer(payload: bytes) -> None:
    heartbeat = started()
    sent(heartbeat, 10.0)
    heartbeat.pong(payload, 11.0)
    assert heartbeat.missed(15.0)


def test_an_old_pong_does_not_answer_a_newer_ping_but_a_newer_answers_the_older() -> None:
    heartbeat = started(timeout=25)
    first, second = sent(heartbeat, 10.0), sent(heartbeat, 20.0)
    heartbeat.pong(first, 21.0)
    assert heartbeat.missed(45.0)
    heartbeat.pong(first, 22.0)
    assert heartbeat.missed(45.0)
    third = sent(heartbeat, 30.0)
    assert third != second
    heartbeat.pong(third, 31.0)
    assert not heartbeat.missed(1000.0)


def test_nothing_is_missed_while_nothing_is_read_and_it_gets_its_full_time_afterwards() -> None:
    heartbeat = started()
    sent(heartbeat, 10.0)
    heartbeat.pause()
    assert not heartbeat.missed(100.0)
    assert heartbeat.due(100.0) is not None
    heartbeat.resume(100.0)
    assert not heartbeat.missed(104.9)
    assert heartbeat.missed(105.0)


def test_a_text_heartbeat_is_answered_by_exactly_its_reply() -> None:
    heartbeat = started(kind="text", payload="ping", reply="pong")
    assert not heartbeat.awaits_reply
    assert sent(heartbeat, 10.0) == b"ping"
    assert heartbeat.awaits_reply
    assert not heartbeat.answer(b"pong!", 11.0)
    assert heartbeat.answer(b"pong", 11.0)
    assert not heartbeat.awaits_reply


def test_a_json_heartbeat_is_answered_by_an_object_with_the_replys_fields() -> None:
    heartbeat = started(kind="json", payload='{"op":"ping"}', reply='{"op":"pong"}')
    sent(heartbeat, 10.0)
    assert not heartbeat.answer(b"not json", 11.0)
    assert not heartbeat.answer(b'{"op":"ping"}', 11.0)
    assert heartbeat.answer(b' {"op": "pong", "at": 1}', 11.0)


def test_where_there_is_no_reply_any_message_is_the_answer_and_stays_a_message() -> None:
    heartbeat = started(kind="text", payload="ping")
    sent(heartbeat, 10.0)
    assert not heartbeat.awaits_reply
    heartbeat.any_message(11.0)
    assert heartbeat.rtt == 1.0
    assert not heartbeat.missed(1000.0)


def test_none_means_none() -> None:
    heartbeat = started(kind="none")
    assert heartbeat.deadline() is None
    assert heartbeat.due(1000.0) is None


def test_where_it_is_for_idle_connections_it_waits_for_an_interval_of_silence() -> None:
    heartbeat = started(kind="text", payload="ping", reply="pong", when="idle")
    heartbeat.last_received = 8.0
    assert heartbeat.deadline() == 18.0
    assert heartbeat.due(17.9) is None
    assert sent(heartbeat, 18.0) == b"ping"
    assert heartbeat.deadline() == 23.0  # for its answer
    heartbeat.last_received = 19.0
    assert heartbeat.answer(b"pong", 19.0)
    assert heartbeat.deadline() == 29.0


def test_data_are_no_answer_to_an_idle_one() -> None:
    heartbeat = started(kind="text", payload="ping", reply="pong", when="idle")
    sent(heartbeat, 10.0)
    heartbeat.last_received = 11.0
    heartbeat.any_message(11.0)
    assert heartbeat.missed(15.0)


def test_the_peers_own_heartbeats_are_missed_when_so_many_did_not_come() -> None:
    heartbeat = started(kind="none", server_interval=5.0, server_missed=3)
    heartbeat.last_received = 14.0  # data are no heartbeat
    assert heartbeat.deadline() == 15.0
    assert heartbeat.missed(15.0) == "the peer missed 3 of its own heartbeats, which are due every 5 s"
    heartbeat.peer_beat(14.0)
    assert not heartbeat.missed(28.9)
    assert heartbeat.missed(29.0)


def test_the_peers_heartbeats_are_not_missed_while_nothing_is_read() -> None:
    heartbeat = started(kind="none", server_interval=5.0, server_missed=2)
    heartbeat.pause()
    assert not heartbeat.missed(1000.0)
    assert heartbeat.deadline() is None
    heartbeat.resume(1000.0)
    assert heartbeat.deadline() == 1010.0


def test_a_peer_that_answers_no_pings_is_judged_by_its_own_heartbeats() -> None:
    heartbeat = started(server_interval=30.0, server_missed=2)
    for now in (10.0, 20.0, 30.0, 40.0, 50.0):
        assert sent(heartbeat, now)
        assert not heartbeat.missed(now + 9.9)
    heartbeat.peer_beat(59.0)
    assert sent(heartbeat, 60.0)
    assert not heartbeat.missed(118.9)
    assert heartbeat.missed(119.0) == "the peer missed 2 of its own heartbeats, which are due every 30 s"


def test_a_peer_that_has_answered_a_ping_must_answer_the_next_ones_too() -> None:
    heartbeat = started(server_interval=30.0, server_missed=2)
    heartbeat.pong(sent(heartbeat, 10.0), 10.5)
    assert heartbeat.rtt == 0.5
    sent(heartbeat, 20.0)
    heartbeat.peer_beat(21.0)
    assert heartbeat.deadline() == 25.0
    assert heartbeat.missed(25.0) == "no answer to a heartbeat within 5 s"


def test_a_pong_that_comes_behind_the_peers_own_heartbeat_shows_that_it_answers_pings() -> None:
    heartbeat = started(server_interval=30.0)
    token = sent(heartbeat, 10.0)
    heartbeat.peer_beat(10.1)
    heartbeat.pong(token, 10.2)
    sent(heartbeat, 20.0)
    assert heartbeat.missed(25.0)


def test_a_foreign_pong_shows_nothing() -> None:
    heartbeat = started(server_interval=30.0)
    sent(heartbeat, 10.0)
    for payload in (b"", b"x" * 12, b"\0" * 12):
        heartbeat.pong(payload, 10.2)
    assert not heartbeat.missed(15.0)


def test_without_a_server_interval_a_heartbeat_of_the_peers_stands_for_the_pong_that_it_never_sent() -> None:
    heartbeat = started()
    sent(heartbeat, 10.0)
    heartbeat.peer_beat(14.0)
    assert not heartbeat.missed(15.0)
    sent(heartbeat, 20.0)
    heartbeat.last_received = 24.0  # data do not
    assert heartbeat.missed(25.0)


def test_the_peers_own_heartbeats_are_no_answer_to_a_text() -> None:
    heartbeat = started(kind="text", payload="ping", reply="pong", server_interval=30.0)
    sent(heartbeat, 10.0)
    heartbeat.peer_beat(11.0)
    assert heartbeat.missed(15.0)


KINDS: list[dict[str, object]] = [
    {"kind": "ping"},
    {"kind": "text", "payload": "ping", "reply": "pong"},
    {"kind": "text", "payload": "ping"},
    {"kind": "json", "payload": '{"op":"ping"}', "reply": '{"op":"pong"}'},
    {"kind": "text", "payload": "ping", "reply": "pong", "when": "idle"},
]


def inherited(sent_at: float | None, **settings: object) -> Heartbeat:
    """Of an owner that goes on at 100 with the connection of another one."""
    heartbeat = Heartbeat(Settings(**{"interval": 10, "timeout": 5, **settings}), salt=1)  # type: ignore[arg-type]
    heartbeat.start(100.0)
    heartbeat.inherit(100.0, sent_at)
    return heartbeat


@pytest.mark.parametrize("settings", KINDS)
def test_an_owner_that_takes_over_a_connection_keeps_the_interval_of_its_predecessor(settings: dict[str, object]) -> None:
    heartbeat = inherited(93.0, **settings)
    assert heartbeat.due(102.9) is None
    assert heartbeat.due(103.0) is not None
    assert heartbeat.due(112.9) is None


@pytest.mark.parametrize("settings", KINDS)
def test_it_sends_one_at_once_where_the_last_one_is_long_ago_or_not_known(settings: dict[str, object]) -> None:
    for sent_at in (90.0, 10.0, None):
        heartbeat = inherited(sent_at, **settings)
        assert heartbeat.deadline() <= 100.0  # type: ignore[operator]
        assert heartbeat.due(100.0) is not None
        assert heartbeat.due(109.9) is None


def test_a_clock_that_was_handed_over_wrong_delays_no_heartbeat_by_more_than_an_interval() -> None:
    assert inherited(1e9).deadline() == 110.0


def test_an_idle_one_waits_again_for_silence_once_the_next_owner_has_heard_something() -> None:
    heartbeat = inherited(93.0, kind="text", payload="ping", reply="pong", when="idle")
    heartbeat.last_received = 101.0
    assert heartbeat.due(110.9) is None
    assert heartbeat.due(111.0) is not None


def test_none_means_none_for_the_next_owner_too() -> None:
    assert inherited(None, kind="none").deadline() is None


def test_the_peers_own_heartbeats_have_their_full_time_for_the_next_owner() -> None:
    heartbeat = inherited(93.0, kind="none", server_interval=5.0, server_missed=3)
    assert not heartbeat.missed(114.9)
    assert heartbeat.missed(115.0)


def test_neither_the_answer_to_a_predecessors_text_nor_the_one_to_ours_is_a_message() -> None:
    heartbeat = inherited(92.0, kind="text", payload="ping", reply="pong")
    assert sent(heartbeat, 102.0) == b"ping"  # the answer to the one before may still come
    assert heartbeat.answer(b"pong", 103.0)
    assert heartbeat.rtt is None  # of which one it is the answer is not known
    assert heartbeat.answer(b"pong", 106.9)
    assert not heartbeat.answer(b"pong", 106.9)
    assert not heartbeat.missed(1000.0)


def test_ours_is_missed_where_no_answer_comes_at_all() -> None:
    heartbeat = inherited(None, kind="text", payload="ping", reply="pong")
    sent(heartbeat, 100.0)
    assert not heartbeat.missed(104.9)
    assert heartbeat.missed(105.0)


def test_the_answer_to_a_predecessors_text_is_not_waited_for_longer_than_it_may_take() -> None:
    heartbeat = inherited(99.0, kind="text", payload="ping", reply="pong")
    assert heartbeat.awaits_reply
    assert heartbeat.due(105.0) is None
    assert not heartbeat.awaits_reply


class Life(RuleBasedStateMachine):
    """A peer that answers each ping in order, after a while, or never, against what a heartbeat says of it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.heartbeat = started(interval=2, timeout=9)
        self.unanswered: list[tuple[bytes, float]] = []
        self.answered: list[bytes] = []

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            frame = self.heartbeat.due(self.now)
            if frame is not None:
                token = apply_mask(frame[6:], frame[2:6])
                assert token not in self.answered
                self.unanswered.append((token, self.now))

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data())
    def one_is_answered(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.unanswered) - 1))
        token, sent_at = self.unanswered[at]
        self.heartbeat.pong(token, self.now)
        assert self.heartbeat.rtt == self.now - sent_at
        self.answered += [token for token, _ in self.unanswered[: at + 1]]
        del self.unanswered[: at + 1]

    @precondition(lambda self: self.answered)
    @rule(data=st.data())
    def an_old_one_comes_again(self, data: st.DataObject) -> None:
        self.heartbeat.pong(data.draw(st.sampled_from(self.answered)), self.now)

    @invariant()
    def it_is_missed_when_the_oldest_is_overdue_and_only_then(self) -> None:
        overdue = bool(self.unanswered) and self.now >= self.unanswered[0][1] + 9
        assert bool(self.heartbeat.missed(self.now)) is overdue


TestLife = Life.TestCase
