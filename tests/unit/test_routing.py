"""Which member of a pool gets the next request, with the clock in the test's hand."""

from __future__ import annotations

from typing import Any

import pytest

from wsadapter.pool_health import MemberHealth, choose, state_of


def member(name: str, **known: Any) -> MemberHealth:
    failures = known.pop("failures", ())
    health = MemberHealth(name, up=True, **known)
    health.failures.extend(failures)
    return health


def chosen(*members: MemberHealth, now: float = 100.0) -> str | None:
    found = choose(members, now)
    return found.name if found is not None else None


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"rtt": 0.01}, {"rtt": 0.02}),
        ({"rtt": 0.01}, {}),
        ({"rtt": 0.01, "pending": 1}, {"rtt": 0.01, "pending": 2}),
        ({"rtt": 0.01, "pending": 1}, {"rtt": 0.03}),
        ({"rtt": 0.01}, {"rtt": 0.01, "failures": [90.0]}),
        ({"rtt": 0.01, "failures": [60.0]}, {"rtt": 0.01, "failures": [90.0]}),
        ({"rtt": 0.01, "given": 3}, {"rtt": 0.01, "given": 4}),
        ({}, {"given": 1}),
        ({}, {"rtt": 0.01, "pending": 3}),  # not known, and idle: better than known and overloaded
    ],
)
def test_the_healthier_one_is_chosen(better: dict[str, Any], worse: dict[str, Any]) -> None:
    assert chosen(member("worse", **worse), member("better", **better)) == "better"
    assert chosen(member("better", **better), member("worse", **worse)) == "better"


def test_what_is_down_is_not_chosen() -> None:
    assert chosen(MemberHealth("down", rtt=0.001), member("up")) == "up"
    assert chosen(MemberHealth("down")) is None
    assert chosen() is None


def test_a_failure_counts_for_half_a_minute_and_a_new_connection_knows_nothing() -> None:
    health = member("a", rtt=0.01)
    health.answered(0.02)
    assert health.rtt == pytest.approx(0.012)
    health.went_down(10.0)
    assert (health.up, health.rtt) == (False, None)
    assert [health.recent_failures(now) for now in (10.0, 39.9, 40.0)] == [1, 1, 0]


@pytest.mark.parametrize(("up", "state"), [(3, "operational"), (2, "operational"), (1, "degraded"), (0, "down")])
def test_a_pools_state_is_a_matter_of_how_many_are_up(up: int, state: str) -> None:
    assert state_of([MemberHealth(str(number), up=number < up) for number in range(3)], min_up=2) == state
