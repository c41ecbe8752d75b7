"""What is looked at every few seconds: rates, and jumps of the wall clock."""

from __future__ import annotations

import pytest

from wsadapter.endpoint.rates import Count
from wsadapter.endpoint.samples import Samples


@pytest.mark.parametrize(("jump", "told"), [(0.0, None), (0.9, None), (-0.9, None), (3600.0, 3600.0), (-2.0, -2.0)])
def test_a_jump_of_the_wall_clock_is_told_once(jump: float, told: float | None) -> None:
    samples = Samples(100.0, 5000.0)
    assert samples.take(105.0, 5005.0 + jump, {}) == told
    assert samples.take(110.0, 5010.0 + jump, {}) is None


def test_a_slow_drift_adds_up_to_no_jump() -> None:
    samples = Samples(0.0, 0.0)
    assert [samples.take(5.0 * n, 5.5 * n, {}) for n in range(1, 10)] == [None] * 9


def test_rates_are_those_between_samples() -> None:
    samples = Samples(0.0, 0.0)
    samples.take(5.0, 5.0, {"a": Count(100, 1_000)})
    samples.take(10.0, 10.0, {"a": Count(200, 2_000)})
    assert samples.rate("a", 10.0, Count(200, 2_000)) == (20.0, 200.0)
    assert samples.rate("unknown", 10.0, Count(1, 1)) == (None, None)
