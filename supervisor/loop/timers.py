"""Calls at a time on the monotonic clock. Pure: the time is passed in."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from itertools import count


class Timer:
    """A call at a time on the monotonic clock; `cancel()` is idempotent."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], object]) -> None:
        self.when = when
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Prevent the call."""
        self.call = None


class Timers:
    """All timers of one loop. `call_at` and `run_due` under the loop's lock; `next_due` from any thread."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Timer]] = []
        """The first entry is the next one due. Cancelled timers stay until their time."""
        self._serial = count()

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Set a timer: `call` is called at `when`."""
        timer = Timer(when, call)
        heapq.heappush(self.heap, (when, next(self._serial), timer))
        return timer

    def next_due(self) -> float:
        """When the next timer is due; far in the future if there is none."""
        first = next(iter(self.heap), None)  # one step, because other threads push and pop meanwhile
        return first[0] if first is not None else sys.float_info.max

    def run_due(self, now: float) -> None:
        """Call the timers that are due, in the order of their times; timers of one time in the order in which they were set."""
        heap = self.heap
        while heap and heap[0][0] <= now:
            timer = heapq.heappop(heap)[2]
            if timer.call is not None:
                timer.call()

    def clear(self) -> None:
        """Remove all timers."""
        self.heap.clear()
