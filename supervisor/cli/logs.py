"""The runner's log lines on standard error. Writing them never blocks the supervision.

    logger ──> queue (bounded) ──> a thread ──> standard error

A stopped terminal (Ctrl-S), or a pipe that is not read, blocks only that thread. Lines that do not fit into the queue meanwhile
are counted, and the count is logged as soon as lines can be written again. What repeats is limited before it gets there
(`repetition.py`).

If standard error is the journal of systemd, each line begins with its priority (`<4>`, sd-daemon(3)), which journald removes:
so `journalctl --priority=warning` finds warnings and errors.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import select
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from math import inf
from queue import Empty, Full, Queue
from time import monotonic
from types import TracebackType
from typing import Final, Self

from wsadapter.cli.repetition import WINDOW, Repetition

_CAPACITY: Final = 10_000
_KEPT: Final = 500
"""Lines that are kept for the command `logs`."""
_OF_AN_OWNER: Final = "%s/%d"
"""The beginning of the format of every line about an owner: its endpoint and its epoch."""
_LAST_WORDS: Final = 2.0
"""Seconds that the end of the program waits for a standard error that blocks."""
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""The priority of the journal for each level and those above it (syslog(3))."""
_DEBUG: Final = 7
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


class Lines(logging.Formatter):
    """`2026-11-23T20:11:34.123Z WARNING binance/3 down: ...`

    Some lines contain text of a peer or of user code. So control characters are shown as text, and the lines after a line break
    are indented, so that they can't look like log lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, continued by indented ones."""
        at = _stamp(datetime.fromtimestamp(record.created, UTC))
        text = super().format(record).translate(_CONTROLS).replace("\n", "\n    ")
        return f"{at} {record.levelname} {text}"


class JsonLog(logging.Formatter):
    """`{"at":"2026-11-23T20:11:34.123Z","level":"WARNING","logger":"wsadapter.supervisor","endpoint":"binance","epoch":3,...}`

    One JSON object on one line, for programs that collect logs. `endpoint` and `epoch` are there if the line is of an owner.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        said: dict[str, object] = {
            "at": _stamp(datetime.fromtimestamp(record.created, UTC)), "level": record.levelname, "logger": record.name,
        }  # fmt: skip
        if isinstance(record.msg, str) and record.msg.startswith(_OF_AN_OWNER) and isinstance(record.args, tuple):
            said["endpoint"], said["epoch"] = record.args[:2]
        said["text"] = record.getMessage()
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)  # ASCII: other characters are escaped


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether the descriptor is the stream to the journal that systemd has opened for this service ($JOURNAL_STREAM)."""
    try:
        about = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


def with_priority(line: str, level: int) -> str:
    """For the journal. A line that continues another one is an entry of its own there, so the priority stands before it too."""
    prefix = f"<{next((priority for least, priority in _PRIORITIES if level >= least), _DEBUG)}>"
    return prefix + line.replace("\n", f"\n{prefix}")


class _Handler(logging.handlers.QueueHandler):
    """Puts finished lines into the queue, or counts them."""

    queue: Queue[str | None]

    def __init__(self, lines: Queue[str | None], *, for_journal: bool) -> None:
        super().__init__(lines)
        self._for_journal = for_journal
        self.lost = 0
        self.recent: deque[str] = deque(maxlen=_KEPT)
        """The last lines, also those that were lost."""
        self._repetition = Repetition()

    def emit(self, record: logging.LogRecord) -> None:
        """Put it into the queue, unless there were too many like it. The caller holds the handler's lock."""
        now = monotonic()
        for counted in self._repetition.due(now):
            super().emit(counted)
        if self._repetition.passes(record, now):
            super().emit(record)

    def emit_due(self, now: float) -> None:
        """Put in the last lines of the windows that are over. At the end of the program `now` is infinite."""
        with self.lock:  # type: ignore[union-attr]  # the constructor makes it
            for counted in self._repetition.due(now):
                super().emit(counted)

    def prepare(self, record: logging.LogRecord) -> str:
        line = self.format(record)
        self.recent.append(line)
        return self.finished(line, record.levelno)

    def finished(self, line: str, level: int) -> str:
        """The line as it is written."""
        return with_priority(line, level) if self._for_journal else line

    def enqueue(self, record: str) -> None:  # type: ignore[override]
        try:
            self.queue.put_nowait(record)
        except Full:
            self.lost += 1


class LogThread:
    """While this context is entered, log records of `wsadapter` (and warnings of other loggers) go to a descriptor."""

    def __init__(self, fd: int, level: int = logging.INFO, *, as_json: bool = False) -> None:
        self._fd = fd
        self._level = level
        self._lines: Queue[str | None] = Queue(_CAPACITY)
        self._handler = _Handler(self._lines, for_journal=is_journal(fd, os.environ))
        self._handler.setFormatter(JsonLog() if as_json else Lines("%(message)s"))
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

    def recent(self) -> list[str]:
        """The last lines, oldest first: at most 500. Any thread may call it."""
        return list(self._handler.recent.copy())  # CPython copies a deque of strings in one step

    def finish(self, timeout: float = _LAST_WORDS) -> None:
        """Write the lines that wait, for at most `timeout` seconds."""
        self._handler.emit_due(inf)
        try:
            self._lines.put(None, timeout=timeout)
        except Full:
            return
        self._thread.join(timeout)

    def _run(self) -> None:
        while (line := self._next()) is not None:
            if not self._write(line):
                return
            lost = self._handler.lost
            if lost > self._told:
                text = "%d log lines were lost here: standard error took nothing"
                record = logging.LogRecord("wsadapter.runner", logging.WARNING, "", 0, text, (lost - self._told,), None)
                self._write(self._handler.finished(self._handler.format(record), record.levelno))
                self._told = lost

    def _next(self) -> str | None:
        """The next line; None: there will be no more."""
        while True:
            try:
                return self._lines.get(timeout=WINDOW)
            except Empty:
                self._handler.emit_due(monotonic())

    def _write(self, line: str) -> bool:
        """Returns false if standard error is closed for ever."""
        rest = memoryview(line.encode(errors="backslashreplace") + b"\n")
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # another process that shares the open file has made it non-blocking
                select.select([], [self._fd], [])
            except OSError:
                return False
        return True


def log_line(fd: int, level: int, text: str, *, as_json: bool) -> None:
    """Write one line, in a process without a `LogThread`. It is lost if the descriptor takes nothing now."""
    formatter: logging.Formatter = JsonLog() if as_json else Lines("%(message)s")
    line = formatter.format(logging.LogRecord("wsadapter.runner", level, "", 0, text, (), None))
    if is_journal(fd, os.environ):
        line = with_priority(line, level)
    if select.select([], [fd], [], 0)[1]:
        with suppress(OSError):  # it is closed for ever
            os.write(fd, line.encode(errors="backslashreplace") + b"\n")


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
