"""Messages and bytes per second of each endpoint, from samples of its counts. The clock and the counts are passed in.

Nothing is done per message: all counts are noted once per `INTERVAL`, and a rate is what was counted since the note before the
last one, so it covers the last 5 to 10 seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

INTERVAL: Final = 5.0
"""Seconds between two notes."""


class Count(NamedTuple):
    """What an endpoint has received since it was added."""

    messages: int
    bytes: int


class Rate(NamedTuple):
    """Per second. None: nothing was noted of the endpoint yet."""

    messages: float | None
    bytes: float | None


_UNKNOWN: Final = Rate(None, None)


class _Note(NamedTuple):
    at: float
    counts: Mapping[str, Count]


class Rates:
    """The last two notes."""

    def __init__(self) -> None:
        self._last = self._before = _Note(0.0, {})

    def note(self, now: float, counts: Mapping[str, Count]) -> None:
        """Remember the counts of all endpoints by their names. `now`: monotonic seconds."""
        self._before, self._last = self._last, _Note(now, counts)

    def of(self, name: str, now: float, count: Count) -> Rate:
        """The rates of an endpoint that has received `count`."""
        for noted in (self._before, self._last):  # one that was added since is only in the last one
            start = noted.counts.get(name)
            if start is not None and now > noted.at and count.messages >= start.messages and count.bytes >= start.bytes:
                messages, octets = count.messages - start.messages, count.bytes - start.bytes
                return Rate(round(messages / (now - noted.at), 3), round(octets / (now - noted.at), 3))
        return _UNKNOWN
