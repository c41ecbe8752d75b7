"""The periodic work of a supervisor, with clocks of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from wsadapter.contract.items import ClockStep, Event
from wsadapter.endpoint.rates import INTERVAL, Count
from wsadapter.loop.reactor import Reactor
from wsadapter.periodic import PeriodicWork


class Setup:
    """Periodic work whose timers are run by `wait`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.wall = 100.0, 5_000.0
        monkeypatch.setattr("wsadapter.periodic.monotonic", lambda: self.now)
        monkeypatch.setattr("wsadapter.periodic.time", lambda: self.wall)
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.counts = {"a": Count(0, 0)}
        self.events: list[Event] = []
        self.cleaned: list[float] = []
        self.work = PeriodicWork(
            cast("Reactor", self), lambda: dict(self.counts), self.events.append, lambda: self.cleaned.append(self.now)
        )

    def call_later(self, delay: float, call: Callable[[], object]) -> Any:
        self.timers.append((self.now + delay, call))

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= until]:
            timer = min(due, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.wall += timer[0] - self.now
            self.now = timer[0]
            timer[1]()
        self.wall += until - self.now
        self.now = until


def test_rates_come_from_samples_that_are_taken_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(monkeypatch)
    setup.work.start()
    for n in range(1, 4):
        setup.counts["a"] = Count(100 * n, 1_000 * n)
        setup.wait(INTERVAL)
    assert setup.work.rate("a", setup.counts["a"]) == (100 / INTERVAL, 1_000 / INTERVAL)
    assert setup.work.uptime == 3 * INTERVAL


def test_a_jump_of_the_wall_clock_is_logged_and_is_one_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setup = Setup(monkeypatch)
    setup.work.start()
    setup.wait(INTERVAL)
    setup.wall -= 3_600.0
    setup.wait(3 * INTERVAL)
    (event,) = setup.events
    assert isinstance(event, ClockStep)
    assert event.delta == -3_600.0
    assert "the wall clock jumped by -3600.0 s" in caplog.text


def test_the_quarantine_is_cleaned_at_the_start_and_every_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(monkeypatch)
    setup.work.start()
    setup.wait(1_500.0)
    assert setup.cleaned == [100.0, 700.0, 1_300.0]
