"""Measurements every few seconds while a supervisor runs: counts for the rates, and jumps of the wall clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from wsadapter.endpoint.rates import Count, Rate, Rates

_CLOCK_STEP: Final = 1.0
"""Seconds the wall clock may move against the monotonic one before it is called a step."""


class Samples:
    """Clocks are passed in: `now` is monotonic seconds, `wall` seconds of the wall clock at the same moment."""

    def __init__(self, now: float, wall: float) -> None:
        self._rates = Rates()
        self._offset = wall - now
        self.started_at = now
        """When the supervisor started; until then, when it was made."""

    def take(self, now: float, wall: float, counts: Mapping[str, Count]) -> float | None:
        """Note the counts of all endpoints. Returns by how many seconds the wall clock jumped since the last sample; None: it
        did not."""
        self._rates.note(now, counts)
        offset = wall - now
        step, self._offset = offset - self._offset, offset
        return step if abs(step) > _CLOCK_STEP else None

    def rate(self, name: str, now: float, count: Count) -> Rate:
        """Messages and bytes per second of an endpoint that has received `count`."""
        return self._rates.of(name, now, count)
