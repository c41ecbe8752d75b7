"""What must hold for numbered messages that went through a supervisor. Pure.

Every message that a lane sends says in `soak` which series it belongs to, its number there, and when it was due:

    {"soak": ["trades", 4711, 1732370000123456789], ...}

A number that is missing must be covered by an event: a `Gap` of the endpoint (or of the stream) or a `Dropped`, between the
message before it and the message behind it. A number comes again only right behind such an event, and the supervisor's own
numbers go up by 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

_MOST_TEXTS: Final = 50
KEY: Final = "soak"


@dataclass
class Totals:
    """Of one endpoint, since the start."""

    received: int = 0
    covered: int = 0
    """Messages that did not come and were reported: by a `Gap` or a `Dropped`."""
    silent: int = 0
    """Messages that did not come and were not reported."""
    doubled: int = 0
    """Messages that came twice, or after a later one."""
    repeated: int = 0
    """Messages that came again right behind a `Gap`, as where a planned change could not compare the connections."""
    misnumbered: int = 0
    """Messages whose number is not the one before plus 1."""
    gaps: int = 0
    dropped: int = 0
    downs: int = 0
    resumed: int = 0
    """`Up` events that went on with the connection of a dead owner."""

    @property
    def wrong(self) -> int:
        """What must be 0."""
        return self.silent + self.doubled + self.misnumbered


@dataclass
class _Series:
    expected: int | None = None
    """None: the next message is the first."""
    gaps_before: int = 0
    """How many events that cover a hole the endpoint had when the last message of the series came."""


@dataclass
class Backlog:
    """One endpoint. Not thread-safe."""

    name: str
    totals: Totals = field(default_factory=Totals)
    texts: list[str] = field(default_factory=list)
    """What was wrong, the first of it."""
    latencies: list[float] = field(default_factory=list)
    """ms from when each message was due to when its line was read; the caller empties the list."""
    last_at: float = 0.0
    """Clock of the caller when the last message was taken."""
    _series: dict[str, _Series] = field(default_factory=dict)
    _covers: int = 0
    _number: int = 0

    def take(self, line: dict[str, Any], *, now: float, wall_ns: int) -> None:
        """A line of the output that concerns this endpoint. `now`: the caller's clock; `wall_ns`: the wall clock."""
        event = line.get("event")
        if event is None:
            self._message(line, now, wall_ns)
        elif event == "gap":
            self.totals.gaps += 1
            self._covers += 1
        elif event == "dropped":
            self.totals.dropped += line["count"]
            self._covers += 1
            if line["last"] is not None:
                self._number = line["last"]
        elif event == "down":
            self.totals.downs += 1
        elif event == "up":
            self.totals.resumed += line["resumed"]

    def forget(self) -> None:
        """The endpoint was removed: what it is sent meanwhile concerns nobody."""
        self._series.clear()

    def reached(self, series: str) -> int:
        """The number of the last message of that series; -1: none came."""
        known = self._series.get(series)
        return -1 if known is None or known.expected is None else known.expected - 1

    def _message(self, line: dict[str, Any], now: float, wall_ns: int) -> None:
        if line["number"] != self._number + 1:
            self.totals.misnumbered += 1
            self._note(f"number {line['number']} after {self._number}")
        self._number = line["number"]
        data = line.get("data")
        mark = data.get(KEY) if isinstance(data, dict) else None
        if mark is None:
            return
        key, n, due = mark
        self.totals.received += 1
        self.latencies.append((wall_ns - due) / 1e6)
        self.last_at = now
        self._judge(key, n, f"epoch {line['epoch']}, number {line['number']}")

    def _judge(self, key: str, n: int, place: str) -> None:
        series = self._series.setdefault(key, _Series(gaps_before=self._covers))
        expected = series.expected
        covered = self._covers > series.gaps_before
        if expected is not None and n < expected and covered:
            self.totals.repeated += expected - n
        elif expected is not None and n < expected:
            self.totals.doubled += 1
            self._note(f"{key} {n} where {expected} was expected ({place})")
            return
        elif expected is not None and n > expected:
            if covered:
                self.totals.covered += n - expected
            else:
                self.totals.silent += n - expected
                self._note(f"{key} {n} where {expected} was expected, without a gap ({place})")
        series.expected = n + 1
        series.gaps_before = self._covers

    def _note(self, text: str) -> None:
        if len(self.texts) < _MOST_TEXTS:
            self.texts.append(f"{self.name}: {text}")


def summed(accounts: Iterable[Backlog]) -> Totals:
    """Those of all endpoints."""
    total = Totals()
    for backlog in accounts:
        for name in vars(total):
            setattr(total, name, getattr(total, name) + getattr(backlog.totals, name))
    return total
