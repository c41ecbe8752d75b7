"""An exporter that ends is started again, ever more slowly; it never costs more than a start a minute."""

from __future__ import annotations

import pytest

from wsadapter.cli.exporter_process import LONGEST_DELAY, next_start


def test_the_pause_doubles_up_to_a_minute() -> None:
    failures, delays = 0, []
    for _ in range(10):
        delay, failures = next_start(0.1, failures)
        delays.append(delay)
    assert delays == [0.5, 1, 2, 4, 8, 16, 32, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]


@pytest.mark.parametrize("failures", [0, 5, 10**6])
def test_one_that_has_run_for_a_while_is_started_soon(failures: int) -> None:
    assert next_start(61.0, failures) == (0.5, 1)


def test_a_million_failures_are_no_overflow() -> None:
    assert next_start(0.0, 10**6)[0] == LONGEST_DELAY
