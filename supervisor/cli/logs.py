"""The runner's log lines: on standard error, for a person, and never in the way of the supervision.

    logger ──> queue (bounded) ──> a thread ──> standard error

A terminal that is stopped (Ctrl-S), or a pipe that nobody reads, blocks only that thread. What does not fit into the queue
meanwhile is counted, and said as soon as lines get through again.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import select
import threading
from datetime import UTC, datetime
from queue import Full, Queue
from types import TracebackType
from typing import Final, Self

_CAPACITY: Final = 10_000
_LAST_WORDS: Final = 2.0
"""Seconds that the end of the program waits for a standard error that takes nothing."""
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


class Lines(logging.Formatter):
    """`2026-11-23T20:11:34.123Z WARNING binance/3 down: ...`

    What a peer or user code said is part of some lines: control characters are shown, not obeyed, and a line break can't begin
    what looks like a line of ours.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, continued by indented ones."""
        at = _stamp(datetime.fromtimestamp(record.created, UTC))
        text = super().format(record).translate(_CONTROLS).replace("\n", "\n    ")
        return f"{at} {record.levelname} {text}"


class _Handler(logging.handlers.QueueHandler):
    """Puts finished lines into the queue, or counts them."""

    queue: Queue[str | None]

    def __init__(self, lines: Queue[str | None]) -> None:
        super().__init__(lines)
        self.lost = 0

    def prepare(self, record: logging.LogRecord) -> str:
        return self.format(record)

    def enqueue(self, record: str) -> None:  # type: ignore[override]
        try:
            self.queue.put_nowait(record)
        except Full:
            self.lost += 1


class LogThread:
    """While it is entered, what is logged below `wsadapter` (and warnings of everybody else) goes to a descriptor."""

    def __init__(self, fd: int, level: int = logging.INFO) -> None:
        self._fd = fd
        self._level = level
        self._lines: Queue[str | None] = Queue(_CAPACITY)
        self._handler = _Handler(self._lines)
        self._handler.setFormatter(Lines("%(message)s"))
        self._thread = threading.Thread(target=self._run, name="wsadapter-log", daemon=True)
        self._told = 0

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._handler)
        logging.getLogger("wsadapter").setLevel(self._level)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        logging.getLogger().removeHandler(self._handler)
        self.finish()

    def finish(self, timeout: float = _LAST_WORDS) -> None:
        """Let what waits get out, as far as that goes within `timeout` seconds."""
        try:
            self._lines.put(None, timeout=timeout)
        except Full:
            return
        self._thread.join(timeout)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            if not self._write(line):
                return
            lost = self._handler.lost
            if lost > self._told:
                now = _stamp(datetime.now(UTC))
                self._write(f"{now} WARNING {lost - self._told} log lines were lost here: standard error took nothing")
                self._told = lost

    def _write(self, line: str) -> bool:
        """False where nobody will ever read it."""
        rest = memoryview(line.encode(errors="backslashreplace") + b"\n")
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody made the description, which others share, non-blocking
                select.select([], [self._fd], [])
            except OSError:
                return False
        return True


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
