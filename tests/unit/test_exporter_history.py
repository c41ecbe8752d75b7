"""What the page shows of the past comes from the differences of two readings."""

from __future__ import annotations

import json
from typing import Any

from tests.support.statuses import JOURNAL, SINKS, endpoint, reading, supervisor
from wsadapter.exporter.history import History
from wsadapter.exporter.view import start_event, tick_event
from wsadapter.status import EndpointStatus


def after(*readings: dict[str, EndpointStatus]) -> History:
    """One reading a second."""
    history = History()
    for second, endpoints in enumerate(readings):
        history.add(reading(supervisor(endpoints), at=100.0 + second))
    return history


def data_of(event: bytes) -> dict[str, Any]:
    """What a browser parses of it."""
    name, data, end = event.decode().split("\n", 2)
    assert name in ("event: start", "event: tick")
    assert end == "\n"
    parsed: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return parsed


def test_a_rate_is_what_came_between_two_readings() -> None:
    history = after({"a": endpoint(messages=10)}, {"a": endpoint(messages=35)}, {"a": endpoint(messages=35)})
    assert list(history.rates["a"]) == [None, 25.0, 0.0]


def test_a_count_that_begins_anew_gives_no_rate() -> None:
    history = after({"a": endpoint(messages=10)}, {"a": endpoint(messages=3)}, {"b": endpoint(), "a": endpoint(messages=4)})
    assert list(history.rates["a"]) == [None, None, 1.0]
    assert list(history.rates["b"]) == [None]


def test_the_same_status_again_is_no_second_reading() -> None:
    history, found = History(), reading(supervisor({"a": endpoint()}))
    history.add(found)
    history.add(found)
    assert len(history.rates["a"]) == 1


def test_what_happened_is_what_was_counted_since() -> None:
    before = endpoint(counts={"downs": {"hung": 1}, "gaps": {}, "dropped": {"overflow": 1}, "stalled": 0})
    counts = {"downs": {"hung": 1, "crashed": 2}, "gaps": {"reconnected": 1}, "dropped": {"overflow": 4}, "stalled": 1}
    now = endpoint(state="backoff", last_exit={"kind": "crashed", "signal": "SIGKILL"}, counts=counts)
    marks = after({"a": before}, {"a": now}, {"a": {**now, "state": "up"}}).marks()
    assert [(mark.kind, mark.text) for mark in marks] == [
        ("down", "crashed, SIGKILL (2 times)"),
        ("gap", "reconnected"),
        ("dropped", "3 messages: overflow"),
        ("stalled", "a stream is silent"),
        ("up", "up"),
    ]
    assert [mark.number for mark in marks] == [1, 2, 3, 4, 5]
    assert {mark.endpoint for mark in marks} == {"a"}
    assert marks[0].at == 1_700_000_101_000


def test_what_was_counted_before_the_first_reading_is_no_news() -> None:
    assert after({"a": endpoint()}, {"a": endpoint(), "b": endpoint()}).marks() == []


def test_a_browser_gets_the_past_first_and_then_each_mark_once() -> None:
    down = endpoint(state="backoff", counts={"downs": {"hung": 9}})
    history = after({"a": endpoint(messages=1)}, {"a": down})
    found = reading(supervisor({"a": down}), at=101.0)
    start = data_of(start_event(found, history, 101.0))
    assert start["rates"] == {"a": [None, 999.0]}
    assert [mark[3] for mark in start["marks"]] == ["down"]
    assert start["endpoints"][0]["last"] == "closed by peer, code 1006"
    assert start["endpoints"][0]["memory"] == 20_000_000
    assert start["endpoints"][0]["streams"] == [3, 2, 1, 1]
    tick = data_of(tick_event(found, history, 101.0, after=1))
    assert tick["marks"] == []
    assert tick["stale"] is False
    assert data_of(tick_event(found, history, 101.0, after=0))["marks"] == start["marks"]


def test_who_reads_the_journal_is_shown_sinks_first_and_then_those_that_are_there() -> None:
    found = reading(supervisor({"a": endpoint()}, journal=JOURNAL, sinks=SINKS))
    shown = data_of(tick_event(found, History(), 100.0, 0))["consumers"]
    assert [(each["name"], each["kind"], each["state"]) for each in shown] == [
        ("nats", "nats", "backoff"), ("lines", "jsonl", "running"), ("strategy", "consumer", "attached"),
        ("risk", "consumer", "away"),
    ]  # fmt: skip
    assert shown[0]["last"] == "unavailable, NATS 127.0.0.1:4222: connection refused"
    assert shown[3]["lag"]["messages"] == 90_000
    assert data_of(tick_event(reading(supervisor({"a": endpoint()})), History(), 100.0, 0))["consumers"] == []


def test_what_is_too_old_is_called_stale_with_the_problem() -> None:
    found = reading(supervisor({"a": endpoint()}), at=100.0, problem="no answer")
    tick = data_of(tick_event(found, History(), 120.0, 0))
    assert tick["stale"] is True
    assert tick["problem"] == "no answer"
    nothing = data_of(tick_event(reading(None, problem="nothing runs"), History(), 120.0, 0))
    assert (nothing["stale"], nothing["supervisor"], nothing["endpoints"]) == (True, None, [])
