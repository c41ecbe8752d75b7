"""Rates of endpoints from samples of their counts."""

from __future__ import annotations

import pytest

from wsadapter.endpoint.rates import INTERVAL, Count, Rate, Rates

UNKNOWN = Rate(None, None)


def test_before_the_first_note_nothing_is_known() -> None:
    assert Rates().of("a", 1.0, Count(5, 50)) == UNKNOWN


def test_a_rate_is_what_came_since_the_note_before_the_last_one() -> None:
    rates = Rates()
    rates.note(100.0, {"a": Count(0, 0)})
    assert rates.of("a", 102.0, Count(10, 4000)) == Rate(5.0, 2000.0)
    rates.note(105.0, {"a": Count(100, 5000)})
    assert rates.of("a", 106.0, Count(120, 6000)) == Rate(20.0, 1000.0)
    rates.note(110.0, {"a": Count(200, 6000)})
    assert rates.of("a", 110.0, Count(200, 6000)) == Rate(20.0, 200.0)


def test_one_that_fell_silent_has_the_rate_0_soon() -> None:
    rates = Rates()
    for turn, count in enumerate((Count(0, 0), Count(50, 50), Count(50, 50))):
        rates.note(turn * INTERVAL, {"a": count})
    assert rates.of("a", 2 * INTERVAL, Count(50, 50)) == Rate(0.0, 0.0)


def test_one_that_was_added_since_is_known_from_its_first_note_on() -> None:
    rates = Rates()
    rates.note(0.0, {})
    assert rates.of("b", 1.0, Count(7, 7)) == UNKNOWN
    rates.note(5.0, {"b": Count(50, 50)})
    assert rates.of("b", 7.0, Count(60, 90)) == Rate(5.0, 20.0)


@pytest.mark.parametrize("count", [Count(99, 1000), Count(100, 999)])
def test_counts_that_began_anew_are_another_endpoint_of_that_name(count: Count) -> None:
    rates = Rates()
    rates.note(0.0, {"a": Count(100, 1000)})
    assert rates.of("a", 1.0, count) == UNKNOWN


def test_no_time_is_no_rate() -> None:
    rates = Rates()
    rates.note(3.0, {"a": Count(1, 1)})
    assert rates.of("a", 3.0, Count(2, 2)) == UNKNOWN
