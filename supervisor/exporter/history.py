"""What the status page shows of the past: rates second by second, and what happened when. Pure; readings go in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from wsadapter.exporter.reading import Reading, last_exit
from wsadapter.status import EndpointStatus, Status

_SECONDS: Final = 120
"""Rates of each endpoint that are remembered."""
_MARKS: Final = 500
_MOST_AT_ONCE: Final = 100
"""Marks of one reading: of more, the page could not show them, and the last are as good as any."""


class Mark(NamedTuple):
    """Something happened to an endpoint."""

    number: int
    """1, 2, 3 ..."""
    at: int
    """Wall-clock milliseconds."""
    endpoint: str
    kind: str
    """"down", "gap", "dropped", "stalled", "up" or "fatal"."""
    text: str


class History:
    """The history of one supervisor; a new run begins a new history."""

    def __init__(self) -> None:
        self.rates: dict[str, deque[float | None]] = {}
        """Messages per second between two readings, by endpoint, oldest first; None: not known."""
        self._marks: deque[Mark] = deque(maxlen=_MARKS)
        self._last: Reading | None = None
        self._count = 0

    def add(self, reading: Reading) -> None:
        """The next reading. One without a new status changes nothing."""
        before, status = self._last, reading.status
        if status is None or (before is not None and reading.answered_at == before.answered_at):
            return
        self._last = reading
        known = before.status["endpoints"] if before is not None and before.status is not None else {}
        self.rates = {name: self.rates.get(name) or deque(maxlen=_SECONDS) for name in status["endpoints"]}
        for name, rates in self.rates.items():
            earlier = known.get(name)
            rates.append(_rate(earlier, status["endpoints"][name], before, reading))
        found = [mark for name, e in status["endpoints"].items() if name in known for mark in _happened(known[name], e, name)]
        for name, kind, text in found[-_MOST_AT_ONCE:]:
            self._count += 1
            self._marks.append(Mark(self._count, round(reading.wall * 1000), name, kind, text))

    def marks(self, after: int = 0) -> list[Mark]:
        """What happened, oldest first; with `after`, since the mark of that number."""
        return [mark for mark in self._marks if mark.number > after]

    @property
    def status(self) -> Status | None:
        """The last status that was added."""
        return None if self._last is None else self._last.status


def _rate(earlier: EndpointStatus | None, now: EndpointStatus, before: Reading | None, reading: Reading) -> float | None:
    if earlier is None or before is None or before.answered_at is None or reading.answered_at is None:
        return None
    seconds, messages = reading.answered_at - before.answered_at, now["messages"] - earlier["messages"]
    return round(messages / seconds, 2) if seconds > 0 and messages >= 0 else None


def _happened(before: EndpointStatus, now: EndpointStatus, name: str) -> Iterator[tuple[str, str, str]]:
    """Of the counts only: the supervisor keeps no list of what happened."""
    old, new = before["counts"], now["counts"]
    for kind, times in _more(old["downs"], new["downs"]):
        why = last_exit(now["last_exit"]) or kind.replace("_", " ")
        yield name, "down", f"{why}{_times(times)}"
    for cause, times in _more(old["gaps"], new["gaps"]):
        yield name, "gap", f"{cause.replace('_', ' ')}{_times(times)}"
    for cause, count in _more(old["dropped"], new["dropped"]):
        yield name, "dropped", f"{count:,} message{'s' if count > 1 else ''}: {cause}"
    if (times := new["stalled"] - old["stalled"]) > 0:
        yield name, "stalled", f"a stream is silent{_times(times)}"
    if before["state"] != now["state"] and now["state"] in ("up", "fatal"):
        yield name, now["state"], "up" if now["state"] == "up" else last_exit(now["last_exit"])


def _more(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for word, count in now.items():
        if (more := count - before.get(word, 0)) > 0:
            yield word, more


def _times(times: int) -> str:
    return f" ({times} times)" if times > 1 else ""
