"""How late the reactor is: once a second it looks at how long after its time a call comes. The clock is passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

INTERVAL: Final = 1.0
"""Seconds between two looks."""
_REMEMBERED: Final = 60


class Clock(Protocol):
    """Calls at a time: the reactor, or a test's clock."""

    def call_later(self, delay: float, call: Callable[[], None], /) -> object: ...


class LagMeter:
    """Under the reactor's lock."""

    def __init__(self, clock: Clock, now: Callable[[], float] = monotonic) -> None:
        """`now` returns monotonic seconds."""
        self._clock = clock
        self._now = now
        self._due = 0.0
        self._recent: deque[float] = deque([0.0], maxlen=_REMEMBERED)

    @property
    def last(self) -> float:
        """Seconds that the last call was late."""
        return self._recent[-1]

    @property
    def worst(self) -> float:
        """The most of the last minute. One that is overdue now counts: a reactor that was stopped answers before it looks."""
        overdue = self._now() - self._due if self._due else 0.0
        return max(*self._recent, overdue)

    def begin(self) -> None:
        """Look from now on."""
        self._due = self._now() + INTERVAL
        self._clock.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        self._recent.append(max(0.0, self._now() - self._due))
        self.begin()
