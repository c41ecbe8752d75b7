"""Calls at a time on the monotonic clock. Pure: the time is passed in."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from itertools import count
from typing import Final

_FEW: Final = 64
"""Timers for which no search for cancelled ones pays."""


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
        """The first entry is the next one due. It holds cancelled timers too: see `_remove_cancelled`."""
        self._serial = count()
        self._search_at = _FEW
        """Length of the heap at which the next search for cancelled timers is due."""

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Set a timer: `call` is called at `when`."""
        if len(self.heap) >= self._search_at:
            self._remove_cancelled()
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

    def _remove_cancelled(self) -> None:
        """Most timers are deadlines that are cancelled long before their time: they would stay for minutes, and the heap would
        grow with each restart. A search when the heap has doubled costs each timer a constant time."""
        kept = [entry for entry in self.heap if entry[2].call is not None]
        heapq.heapify(kept)
        self.heap[:] = kept  # in one step, because `next_due` reads the heap from other threads
        self._search_at = max(_FEW, 2 * len(self.heap))

    def clear(self) -> None:
        """Remove all timers."""
        self.heap.clear()
