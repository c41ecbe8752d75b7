"""The heartbeat, with the clock in the test's hand."""

from __future__ import annotations

import pytest

from wsadapter.contract.endpoint import Heartbeat as Settings
from wsadapter.worker.frames import PING, apply_mask
from wsadapter.worker.heartbeat import Heartbeat


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
    assert not heartbeat.listens
    assert sent(heartbeat, 10.0) == b"ping"
    assert heartbeat.listens
    assert not heartbeat.answer(b"pong!", 11.0)
    assert heartbeat.answer(b"pong", 11.0)
    assert not heartbeat.listens


def test_a_json_heartbeat_is_answered_by_an_object_with_the_replys_fields() -> None:
    heartbeat = started(kind="json", payload='{"op":"ping"}', reply='{"op":"pong"}')
    sent(heartbeat, 10.0)
    assert not heartbeat.answer(b"not json", 11.0)
    assert not heartbeat.answer(b'{"op":"ping"}', 11.0)
    assert heartbeat.answer(b' {"op": "pong", "at": 1}', 11.0)


def test_where_there_is_no_reply_any_message_is_the_answer_and_stays_a_message() -> None:
    heartbeat = started(kind="text", payload="ping")
    sent(heartbeat, 10.0)
    assert not heartbeat.listens
    heartbeat.any_message(11.0)
    assert heartbeat.rtt == 1.0
    assert not heartbeat.missed(1000.0)


def test_none_means_none() -> None:
    heartbeat = started(kind="none")
    assert heartbeat.deadline() is None
    assert heartbeat.due(1000.0) is None
