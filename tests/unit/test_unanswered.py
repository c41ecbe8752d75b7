"""Frames that are not answered in time, and streams that are confirmed and deliver nothing."""

from __future__ import annotations

from typing import Any

import orjson

from wsadapter.contract.dialect.text import Text
from wsadapter.contract.ipc.reports import Report
from wsadapter.worker.subscription.asking import Asked
from wsadapter.worker.subscription.subscriptions import Subscriptions

ACKS: dict[str, Any] = {
    "stream": {"path": "s"},
    "subscribe": {
        "frame": '{"sub":"$streams","id":"$id"}', "unsubscribe": '{"un":"$streams","id":"$id"}', "per_frame": 10,
        "ack_timeout": 10.0,
    },
    "ack": [{"match": {"ok": "*"}, "id": "ok"}],
    "error": [{"match": {"no": "*"}, "id": "no", "text": "why"}],
}  # fmt: skip
SILENT = {key: value for key, value in ACKS.items() if key != "ack"}
SET: dict[str, Any] = {
    "stream": {"path": "s"},
    "subscribe": {"frame": '{"set":"$streams"}', "replaces": True, "ack_timeout": 10.0},
    "error": [{"match": {"no": "*"}, "text": "why"}],
}


def begun(dialect: dict[str, Any] = ACKS, *streams: str, live_timeout: float = 0.0) -> Subscriptions:
    subscriptions = Subscriptions(dialect, live_timeout=live_timeout)
    list(subscriptions.restore(streams or ("a",), 0.0))
    return subscriptions


def shown(steps: Any) -> list[Any]:
    """Frames as JSON, reports as tuples."""
    found: list[Any] = []
    for step in steps:
        if isinstance(step, Report):
            found.append((step.event, *step.fields.values()))
        else:
            found.append(orjson.loads(step.text if isinstance(step, Asked) else step))
    return found


def answered(subscriptions: Subscriptions, payload: bytes, now: float) -> list[Any]:
    found = subscriptions.recognise(Text(payload), now)
    assert found is not None
    return shown(found[0])


def test_a_frame_that_is_not_answered_is_sent_again_and_then_its_streams_are_rejected() -> None:
    subscriptions = begun()
    assert subscriptions.deadline() == 10.0
    assert shown(subscriptions.tick(9.9)) == []
    assert shown(subscriptions.tick(10.0)) == [{"sub": ["a"], "id": 2}]
    assert shown(subscriptions.tick(20.0)) == [
        ("rejected", "a", "not answered within 10 s, asked 2 times"), ("restored", 0, ("a",)),
    ]  # fmt: skip
    assert subscriptions.deadline() == 80.0
    assert shown(subscriptions.tick(80.0)) == [{"sub": ["a"], "id": 3}]  # the first retry


def test_an_exchange_that_answers_other_frames_is_asked_in_halves() -> None:
    subscriptions = begun(ACKS, "a", "b")
    list(subscriptions.subscribe(["c"], 1.0))
    assert answered(subscriptions, b'{"ok":2}', 1.5) == [("subscribed", "c")]
    assert shown(subscriptions.tick(10.0)) == [{"sub": ["a", "b"], "id": 3}]
    assert shown(subscriptions.tick(20.0)) == [{"sub": ["a"], "id": 4}, {"sub": ["b"], "id": 5}]


def test_an_exchange_that_answers_nothing_is_not_asked_in_halves() -> None:
    subscriptions = begun(ACKS, "a", "b")
    list(subscriptions.tick(10.0))
    assert [step[0] for step in shown(subscriptions.tick(20.0))] == ["rejected", "rejected", "restored"]


def test_a_stream_that_delivers_needs_no_answer() -> None:
    subscriptions = begun()
    assert shown(subscriptions.on_data("a", 1.0)) == [("subscribed", "a")]
    assert shown(subscriptions.tick(10.0)) == [("restored", 1, ())]
    assert not subscriptions.waiting


def test_a_stream_that_was_only_requested_again_stays_as_it_was() -> None:
    subscriptions = begun({**ACKS, "subscribe": {**ACKS["subscribe"], "unsubscribe": ""}})
    answered(subscriptions, b'{"ok":1}', 1.0)
    assert shown(subscriptions.resubscribe(["a"], 2.0)) == [{"sub": ["a"], "id": 2}]
    assert shown(subscriptions.tick(12.0)) == []
    assert not subscriptions.waiting


def test_an_exchange_that_confirms_nothing_has_confirmed_what_it_does_not_refuse() -> None:
    subscriptions = begun(SILENT, "a", "b")
    assert shown(subscriptions.tick(10.0)) == [("restored", 2, ())]
    assert not subscriptions.waiting


def test_an_unsubscription_is_sent_again_and_then_assumed() -> None:
    subscriptions = begun()
    answered(subscriptions, b'{"ok":1}', 1.0)
    assert shown(subscriptions.unsubscribe(["a"], 2.0)) == [{"un": ["a"], "id": 2}]
    assert shown(subscriptions.tick(12.0)) == [{"un": ["a"], "id": 3}]
    assert shown(subscriptions.tick(22.0)) == [("log", "warning", "unsubscribing was not answered within 10 s: a")]
    assert not subscriptions.waiting
    assert shown(subscriptions.subscribe(["a"], 23.0)) == [{"sub": ["a"], "id": 4}]  # it is gone


def test_an_unsubscription_before_a_fresh_subscription_is_awaited_for_a_shorter_time_and_once() -> None:
    subscriptions = begun()
    answered(subscriptions, b'{"ok":1}', 1.0)
    list(subscriptions.resubscribe(["a"], 2.0))
    assert subscriptions.deadline() == 7.0
    assert shown(subscriptions.tick(7.0)) == [
        ("log", "warning", "unsubscribing was not answered within 10 s: a"), {"sub": ["a"], "id": 3},
    ]  # fmt: skip


def test_a_confirmed_stream_that_delivers_nothing_is_requested_again_and_then_reported() -> None:
    subscriptions = begun(live_timeout=100.0)
    answered(subscriptions, b'{"ok":1}', 1.0)
    assert subscriptions.deadline() == 51.0
    assert shown(subscriptions.tick(51.0)) == [{"sub": ["a"], "id": 2}]
    answered(subscriptions, b'{"ok":2}', 52.0)
    assert shown(subscriptions.tick(101.0)) == [("stalled", "a", 100.0, False)]
    assert subscriptions.deadline() is None


def test_a_silent_stream_with_an_open_question_is_not_requested_twice() -> None:
    subscriptions = begun(live_timeout=10.0)
    answered(subscriptions, b'{"ok":1}', 1.0)
    list(subscriptions._asking.ask(subscriptions._lives.all["a"].units, 2.0, again=True))
    assert shown(subscriptions.tick(6.0)) == []


def test_of_a_frame_with_an_error_that_names_nothing_the_last_unanswered_stream_is_the_one() -> None:
    each = {**ACKS, "ack": [{"match": {"ok": True}, "stream": "arg"}], "error": [{"match": {"no": True}, "text": "why"}]}
    subscriptions = begun(each, "a", "b")
    answered(subscriptions, b'{"ok":true,"arg":"a"}', 1.0)
    assert answered(subscriptions, b'{"no":true,"why":"bad"}', 1.1) == [("rejected", "b", "bad"), ("restored", 1, ("b",))]


def test_of_a_frame_with_an_error_that_names_nothing_the_unanswered_are_asked_in_halves() -> None:
    each = {**ACKS, "ack": [{"match": {"ok": True}, "stream": "arg"}], "error": [{"match": {"no": True}, "text": "why"}]}
    subscriptions = begun(each, "a", "b", "c")
    answered(subscriptions, b'{"ok":true,"arg":"a"}', 1.0)
    assert answered(subscriptions, b'{"no":true,"why":"bad"}', 1.1) == []
    assert subscriptions.deadline() == 3.1
    assert shown(subscriptions.tick(3.1)) == [{"sub": ["b"], "id": 2}, {"sub": ["c"], "id": 3}]


def test_one_stream_with_an_error_is_rejected_when_its_time_is_over() -> None:
    each = {**ACKS, "ack": [{"match": {"ok": True}, "stream": "arg"}], "error": [{"match": {"no": True}, "text": "why"}]}
    subscriptions = begun(each, "a", "b")
    assert answered(subscriptions, b'{"no":true,"why":"bad"}', 1.0) == []
    answered(subscriptions, b'{"ok":true,"arg":"a"}', 1.1)
    assert shown(subscriptions.tick(3.0)) == [("rejected", "b", "bad"), ("restored", 1, ("b",))]


def test_a_set_that_was_not_refused_is_assumed_before_the_next_one_is_sent() -> None:
    subscriptions = begun(SET, "a", "b")
    assert answered(subscriptions, b'{"no":1,"why":"bad"}', 1.0) == [{"set": ["a"]}]
    (next_set,) = [step for step in shown(subscriptions.tick(3.0)) if isinstance(step, dict)]
    assert next_set == {"set": ["b", "a"]}
    assert not any(unit.error for unit in subscriptions._lives.all["a"].units)
    assert subscriptions._lives.all["a"].units[0].confirmed
