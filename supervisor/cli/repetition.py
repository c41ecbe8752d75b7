"""Limits how often one kind of log line is written, and counts the lines that are held back. Pure: `now` is an argument.

    first line of a kind ──> a window of 10 s begins
    up to 20 lines of one thing (an endpoint) and 1,000 of all things in it ──> written
    more ──> held back; at the end of the window the last of them is written, with how many others there were

So an exchange that rejects each of 5,000 streams, a hook that prints for each message, or an endpoint without a network writes
a bounded number of lines, and no kind of line is missing.
"""

from __future__ import annotations

import logging
from collections import deque
from copy import copy
from dataclasses import dataclass
from typing import Final, NamedTuple

WINDOW: Final = 10.0
"""Seconds that begin with the first line of a kind."""
OF_ONE_THING: Final = 20
"""Lines of one kind about one thing in a window."""
OF_ALL_THINGS: Final = 1000
"""Lines of one kind in a window. Higher than the number of endpoints: if all go down at once, each has its line."""

_OTHERS: Final = " (and %d more of this kind in %g s)"


class _Kind(NamedTuple):
    """Lines that differ in their values alone."""

    logger: str
    level: int
    template: str
    thing: str | None
    """The subject of the lines: their first value, or "" if they do not begin with one; None: all subjects."""


@dataclass(slots=True)
class _Window:
    """What happened since the first line of a kind."""

    kind: _Kind
    began: float
    written: int = 0
    held: int = 0
    last: logging.LogRecord | None = None
    """The last line that was held back."""


class Repetition:
    """The windows of all kinds of lines. Not thread-safe."""

    def __init__(self) -> None:
        self._windows: dict[_Kind, _Window] = {}
        self._oldest_first: deque[_Window] = deque()

    def passes(self, record: logging.LogRecord, now: float) -> bool:
        """Whether to write it. Call `due` before it: that ends the windows that are over."""
        template, thing = str(record.msg), ""
        if template.startswith("%s") and isinstance(record.args, tuple) and record.args:
            thing = str(record.args[0])
        # All things first: once that window is full, no window of another thing is made, so their number is bounded.
        windows = []
        for about, most in ((None, OF_ALL_THINGS), (thing, OF_ONE_THING)):
            window = self._window(_Kind(record.name, record.levelno, template, about), now)
            if window.written >= most:
                window.held += 1
                window.last = record
                return False
            windows.append(window)
        for window in windows:
            window.written += 1
        return True

    def _window(self, kind: _Kind, now: float) -> _Window:
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(kind, now)
            self._oldest_first.append(window)
        return window

    def due(self, now: float) -> list[logging.LogRecord]:
        """For each window that has ended and held lines back: the last held line, with the number of the others."""
        found = []
        while self._oldest_first and self._oldest_first[0].began + WINDOW <= now:
            window = self._oldest_first.popleft()
            del self._windows[window.kind]
            if window.last is not None:
                found.append(_with_count(window.last, window.held - 1))
        return found


def _with_count(record: logging.LogRecord, others: int) -> logging.LogRecord:
    """The line, which begins as it did: what reads the endpoint off its template and its values finds it there."""
    if not others:
        return record
    counted = copy(record)
    if isinstance(record.args, tuple) and record.args:
        counted.msg, counted.args = f"{record.msg}{_OTHERS}", (*record.args, others, WINDOW)
    else:
        counted.msg, counted.args = f"{record.getMessage()}".replace("%", "%%") + _OTHERS, (others, WINDOW)
    return counted
