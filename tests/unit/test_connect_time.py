"""How long many endpoints take to connect under a host's limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.config.connect_time import NOTICEABLE, connect_limit, slow_connects, time_to_connect
from wsadapter.contract.endpoint import Endpoint
from wsadapter.endpoint.restart_policy import ConnectBudget


def endpoints(count: int, url: str = "wss://h.test/", **settings: Any) -> list[Endpoint]:
    return [Endpoint(f"e{number}", url=url, **settings) for number in range(count)]


THIRTY = {"connects": 30, "connects_period": 60.0}


@pytest.mark.parametrize(
    ("count", "connects", "period", "seconds"),
    [(0, 30, 60.0, 0.0), (30, 30, 60.0, 0.0), (31, 30, 60.0, 60.0), (300, 30, 60.0, 540.0), (300, 0, 1.0, 0.0)],
)
def test_the_last_of_so_many_connects_waits_for_whole_windows(count: int, connects: int, period: float, seconds: float) -> None:
    assert time_to_connect(count, connects, period) == seconds


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 100))
def test_it_is_what_the_connect_budget_makes_of_it(count: int, connects: int, period: int) -> None:
    budget = ConnectBudget()
    slots = [budget.reserve("h", 0.0, connects, float(period)) for _ in range(count)]
    assert max(slots) == time_to_connect(count, connects, float(period))


def test_a_host_whose_endpoints_take_minutes_is_told_with_the_arithmetic() -> None:
    text = "300 endpoints connect to h.test: at most 30 in 60 s (limits.connects), so the last one connects after about 9 min"
    assert slow_connects(endpoints(300, limits=THIRTY)) == [text]


@pytest.mark.parametrize(
    ("url", "settings", "text"),
    [
        ("wss://h.test/", {}, "300 endpoints connect to h.test: at most 60 in 60 s (limits.connects), so the last one"),
        ("wss://h.test/", {"replicas": 2, "identity": "bytes"}, "600 replicas of 300 endpoints connect to h.test: at"),
        ("wss://h.test/", {"bind": "192.0.2.1"}, "300 endpoints connect to h.test from 192.0.2.1: at most 60"),
        ("wss://h.test/", {"limits": {"connects": 40, "connects_period": 3600.0}}, "the last one connects after about 7 h"),
        ("wss://h.test/", {"limits": {"connects": 8, "connects_period": 1.0}}, "so the last one connects after about 37 s"),
        (["wss://h.test/", "wss://other.test/"], {}, "300 endpoints connect to h.test: "),
    ],
)
def test_sources_replicas_and_units_are_told(url: str, settings: dict[str, Any], text: str) -> None:
    [line] = slow_connects(endpoints(300, url, **settings))
    assert text in line


@pytest.mark.parametrize(
    ("count", "url", "settings"),
    [
        (60, "wss://h.test/", {}),
        (300, "ws://127.0.0.1:1/", {}),
        (300, "ws://localhost/", {}),
        (300, "wss://h.test/", {"limits": {"connects": 0}}),
        (300, "wss://h.test/", {"limits": {"connects": 10, "connects_period": 1.0}}),
        (300, "", {}),
    ],
)
def test_what_is_quick_or_not_limited_is_not_told(count: int, url: str, settings: dict[str, Any]) -> None:
    assert slow_connects(endpoints(count, url, **settings)) == []


def test_hosts_and_source_addresses_are_counted_by_themselves() -> None:
    apart = [*endpoints(50), *endpoints(50, "wss://other.test/"), *endpoints(50, bind="192.0.2.1")]
    assert slow_connects(apart) == []
    assert len(slow_connects(apart * 2)) == 3


def test_the_strictest_limit_of_a_host_holds_for_all() -> None:
    mixed = [*endpoints(299), *endpoints(1, limits=THIRTY)]
    assert slow_connects(mixed) == slow_connects(endpoints(300, limits=THIRTY))


def test_half_a_minute_is_not_worth_a_word() -> None:
    limits = {"connects": 1, "connects_period": NOTICEABLE}
    assert slow_connects(endpoints(2, limits=limits)) == []
    assert slow_connects(endpoints(3, limits=limits)) != []


def test_a_limit_of_ones_own_holds_on_loopback_too() -> None:
    [endpoint] = endpoints(1, "ws://127.0.0.1/", limits=THIRTY)
    assert connect_limit(endpoint, "127.0.0.1") == (30, 60.0)
