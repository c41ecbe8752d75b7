"""When to try which of a host's addresses: Happy Eyeballs (RFC 8305). Pure; the clock is passed in.

    192.0.2.1  ──SYN───────────────────────────────── no answer ...
    2001:db8::1    (delay) ──SYN── refused
    192.0.2.2                            ──SYN── open: this one is used, the others are closed

An address that never answers costs one delay, not the whole deadline. An address that refuses costs nothing: the next address
is tried at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

DELAY: Final = 0.25
"""Seconds from one attempt to the next (RFC 8305 §5, "Connection Attempt Delay")."""
_LEAST_DELAY: Final = 0.01
"""The RFC's lower bound."""


def interleaved(families: Sequence[int]) -> list[int]:
    """The indices of addresses of these families, in the order to try them: families take turns, each in its own order
    (RFC 8305 §4, with a First Address Family Count of 1). The first address stays the first."""
    queues: dict[int, deque[int]] = {}
    for index, family in enumerate(families):
        queues.setdefault(family, deque()).append(index)
    order: list[int] = []
    while queues:
        order += [queue.popleft() for queue in queues.values()]
        queues = {family: queue for family, queue in queues.items() if queue}
    return order


def delay_for(count: int, within: float) -> float:
    """Seconds from one attempt to the next, so that all of `count` begin in the first half of `within`."""
    return max(_LEAST_DELAY, min(DELAY, within / 2 / max(1, count)))


class Attempts:
    """The schedule of `count` attempts, which are numbered from 0. Not thread-safe."""

    def __init__(self, count: int, delay: float, now: float) -> None:
        """`delay`: seconds from one attempt to the next. The first is due at once."""
        self._left = deque(range(count))
        self._delay = delay
        self._due_at = now

    def due(self, now: float) -> int | None:
        """The number of the attempt to begin now; None: none is due."""
        if not self._left or now < self._due_at:
            return None
        self._due_at = now + self._delay
        return self._left.popleft()

    def failed(self, now: float) -> None:
        """An attempt has failed: the next one is due at once."""
        self._due_at = now

    def wait(self, now: float) -> float | None:
        """Seconds until an attempt is due; None: none is left to begin."""
        return max(0.0, self._due_at - now) if self._left else None
