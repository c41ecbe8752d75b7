"""/live is about the supervisor's loop, /ready about the feeds."""

from __future__ import annotations

from tests.support.statuses import endpoint, reading, supervisor
from wsadapter.exporter.health import live, ready
from wsadapter.exporter.reading import STALE_AFTER

BROKEN = endpoint(state="backoff", last_exit={"kind": "connect_failed", "text": "no such host"})


def test_live_while_the_loop_answers_whatever_the_feeds_do() -> None:
    found = reading(supervisor({"a": BROKEN}), at=100.0)
    assert live(found, 100.4).ok
    assert "0.4 s ago" in live(found, 100.4).text


def test_not_live_once_the_last_answer_is_too_old() -> None:
    found = reading(supervisor({}), at=100.0, problem="no answer in time")
    assert live(found, 100.0 + STALE_AFTER).ok
    late = live(found, 100.1 + STALE_AFTER)
    assert not late.ok
    assert "10 s old" in late.text
    assert "no answer in time" in late.text


def test_not_live_before_the_first_answer() -> None:
    assert live(reading(None, problem="nothing runs"), 100.0).text == "it has not answered yet: nothing runs"
    assert not ready(reading(None), 100.0).ok


def test_ready_if_all_are_up() -> None:
    assert ready(reading(supervisor({"a": endpoint(), "b": endpoint()})), 101.0) == (True, "2 of 2 endpoints are up")


def test_not_ready_names_each_endpoint_and_its_reason() -> None:
    found = reading(supervisor({"a": BROKEN, "b": endpoint(), "c": endpoint(state="connecting", last_exit=None)}))
    answer = ready(found, 101.0)
    assert not answer.ok
    assert answer.text.splitlines() == ["a: backoff: connect failed, no such host", "c: connecting"]


def test_only_those_that_are_asked_for() -> None:
    shards = {"big": endpoint(group="big"), "big#2": endpoint(state="fatal", group="big"), "b": endpoint()}
    found = reading(supervisor(shards))
    assert ready(found, 101.0, ["b"]).ok
    assert ready(found, 101.0, ["big"]).text.startswith("big#2: fatal")
    assert ready(found, 101.0, ["nope"]).text == "nope: there is no endpoint of that name"


def test_not_ready_while_it_stops() -> None:
    assert ready(reading(supervisor({"a": endpoint()}, state="stopping")), 101.0).text == "the supervisor is stopping"


def test_a_reason_of_a_newer_version_is_shown_by_its_kind() -> None:
    found = reading(supervisor({"a": endpoint(state="backoff", last_exit={"kind": "sunspots", "new": 1})}))
    assert ready(found, 101.0).text == "a: backoff: sunspots"
