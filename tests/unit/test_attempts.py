"""When which address is tried: RFC 8305."""

from __future__ import annotations

import socket

import pytest

from wsadapter.worker.connect.attempts import DELAY, Attempts, delay_for, interleaved

FOUR, SIX = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ("families", "order"),
    [
        ([], []),
        ([FOUR], [0]),
        ([FOUR, FOUR, FOUR], [0, 1, 2]),
        ([SIX, SIX, SIX, FOUR], [0, 3, 1, 2]),
        ([SIX, SIX, FOUR, FOUR, FOUR], [0, 2, 1, 3, 4]),
        ([FOUR, SIX, SIX], [0, 1, 2]),
    ],
)
def test_families_take_turns_and_each_keeps_the_order_of_the_resolver(families: list[int], order: list[int]) -> None:
    assert interleaved(families) == order


def test_attempts_begin_one_delay_apart() -> None:
    attempts = Attempts(3, 0.25, 100.0)
    assert [attempts.due(100.0), attempts.due(100.0)] == [0, None]
    assert attempts.wait(100.0) == 0.25
    assert attempts.due(100.24) is None
    assert [attempts.due(100.25), attempts.due(100.25)] == [1, None]
    assert attempts.due(100.5) == 2
    assert attempts.wait(100.5) is None
    assert attempts.due(200.0) is None


def test_after_a_failure_the_next_attempt_is_due_at_once() -> None:
    attempts = Attempts(3, 0.25, 0.0)
    assert attempts.due(0.0) == 0
    attempts.failed(0.01)
    assert attempts.wait(0.01) == 0.0
    assert attempts.due(0.01) == 1
    assert attempts.wait(0.01) == 0.25


def test_a_schedule_of_nothing_is_over() -> None:
    assert Attempts(0, 0.25, 0.0).wait(0.0) is None
    assert Attempts(0, 0.25, 0.0).due(0.0) is None


@pytest.mark.parametrize(
    ("count", "within", "delay"), [(1, 10.0, DELAY), (20, 10.0, DELAY), (40, 10.0, 0.125), (2, 0.4, 0.1), (1000, 1.0, 0.01)]
)
def test_many_addresses_or_little_time_make_the_delay_shorter_but_never_shorter_than_the_rfc_allows(
    count: int, within: float, delay: float
) -> None:
    assert delay_for(count, within) == pytest.approx(delay)
