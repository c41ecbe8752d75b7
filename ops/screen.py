"""Where the demonstration is watched: a table that updates in place on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import shutil
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Protocol

from wsadapter.cli import table

COLUMNS = ("state", "pid", "epoch", "rate", "messages", "restarts", "gaps", "silence")
_PLAIN_INTERVAL = 5.0


class Screen(Protocol):
    """What the demonstration shows."""

    def note(self, line: str) -> None:
        """Something happened."""

    def update(self, title: str, endpoints: Mapping[str, Mapping[str, Any]]) -> None:
        """How things are."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainLines:
    """Lines, as they come; the table every few seconds."""

    def __init__(self) -> None:
        self._due = monotonic() + _PLAIN_INTERVAL

    def note(self, line: str) -> None:
        """At once."""
        print(line, flush=True)

    def update(self, title: str, endpoints: Mapping[str, Mapping[str, Any]]) -> None:
        """Now and then."""
        if monotonic() >= self._due:
            self._due = monotonic() + _PLAIN_INTERVAL
            print("\n".join(["", title, *table.render(endpoints, COLUMNS), ""]), flush=True)

    def close(self) -> None:
        """Nothing was changed."""


class TerminalTable:
    """The table and the last lines below it, drawn over what was drawn before (ECMA-48: CUU, EL, ED)."""

    def __init__(self) -> None:
        self._notes: deque[str] = deque(maxlen=12)
        self._drawn = 0
        sys.stdout.write("\x1b[?25l")  # the cursor would flicker about

    def note(self, line: str) -> None:
        """Below the table, from the next update on."""
        self._notes.append(line)

    def update(self, title: str, endpoints: Mapping[str, Mapping[str, Any]]) -> None:
        """In place; never more than fits, or the terminal would scroll and the place be lost."""
        width, height = shutil.get_terminal_size()
        lines = [title, "", *table.render(endpoints, COLUMNS), "", *self._last_notes(height - len(endpoints) - 5)]
        lines = [line[: width - 1] for line in lines[: height - 1]]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        sys.stdout.write(f"{up}\r" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        sys.stdout.flush()
        self._drawn = len(lines)

    def close(self) -> None:
        """The last table stays where it is."""
        sys.stdout.write("\x1b[?25h")
        sys.stdout.flush()

    def _last_notes(self, room: int) -> Sequence[str]:
        return list(self._notes)[-room:] if room > 0 else []


def open_screen() -> Screen:
    """What suits standard output."""
    return TerminalTable() if sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "") else PlainLines()
