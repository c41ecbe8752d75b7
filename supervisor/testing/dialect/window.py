"""How many frames came within a period: a sliding window. Pure; the clock is passed in."""

from __future__ import annotations

import math
from collections import deque


class Window:
    """The sends of one connection. Not thread-safe."""

    def __init__(self, sends: int, period: float) -> None:
        """`sends` per `period` seconds; 0: no limit. One more frame is allowed, or a fifth more if that is more: on the way,
        frames that were sent evenly come closer together."""
        self._most = max(sends + 1, math.ceil(sends * 1.2)) if sends else 0
        self._period = period
        self._times: deque[float] = deque()

    def exceeded(self, now: float) -> bool:
        """Counts one more; whether it is one too many."""
        if not self._most:
            return False
        while self._times and self._times[0] <= now - self._period:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) > self._most
