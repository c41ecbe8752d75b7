"""The reactor's lag is how late a call comes that was asked for a second before."""

from __future__ import annotations

from collections.abc import Callable

from wsadapter.loop.lag import INTERVAL, LagMeter


class Clock:
    """Calls what is due when its time is moved."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, call: Callable[[], None], /) -> None:
        self.due.append((self.now + delay, call))

    def pass_by(self, late: float) -> None:
        """Until the next call, which comes `late` seconds after its time."""
        at, call = self.due.pop(0)
        self.now = at + late
        call()


def test_the_last_and_the_worst_of_the_last_minute() -> None:
    clock = Clock()
    meter = LagMeter(clock, lambda: clock.now)
    assert (meter.last, meter.worst) == (0.0, 0.0)
    meter.begin()
    for late in (0.0, 0.5, 0.25):
        clock.pass_by(late)
    assert (meter.last, meter.worst) == (0.25, 0.5)
    for _ in range(58):
        clock.pass_by(0.0)
    assert meter.worst == 0.5
    for _ in range(2):
        clock.pass_by(0.0)
    assert meter.worst == 0.0


def test_a_call_that_is_overdue_counts_before_it_comes() -> None:
    clock = Clock()
    meter = LagMeter(clock, lambda: clock.now)
    meter.begin()
    clock.now += INTERVAL + 3.0
    assert meter.worst == 3.0
    assert meter.last == 0.0
