"""The work of a sink process: from the journal to the target, until it is asked to end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

from wsadapter.config.settings import SinkSettings
from wsadapter.contract.errors import JournalError, WsAdapterError
from wsadapter.contract.reasons import Reason
from wsadapter.journal.sleeper import Sleeper
from wsadapter.sinks.base import Position, Sink, SinkError
from wsadapter.sinks.feed import JournalFeed, first_position, resume
from wsadapter.sinks.store import SinkStore
from wsadapter.sinks.task import Report

_FLUSH: Final = 0.2
"""Seconds between two flushes while more is there."""
_QUIET_FLUSH: Final = 0.05
"""The same at the end of the journal: a flush may have to wait for a disk, and each commit of the journal wakes the sink."""
_REPORT: Final = 0.5
_SAVE: Final = 2.0
DRAIN: Final = 5.0
"""Seconds to write the rest of the journal when the process is asked to end. The next process writes what remains."""


class Ending:
    """Whether a process is asked to end. It ends waits for descriptors too. `set` may be called by a signal handler, and by any
    thread."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self.is_set = False
        self.said = b""
        """The bytes that were read from standard input before its end."""

    def set(self) -> None:
        """End."""
        if not self.is_set:
            self.is_set = True
            os.write(self._writer, b"\0")

    def fileno(self) -> int:
        """Readable once `set` was called."""
        return self._reader

    def close(self) -> None:
        """Close both ends."""
        os.close(self._reader)
        os.close(self._writer)


class Carrier:
    """One life of a sink."""

    def __init__(self, journal: Path, settings: SinkSettings, sink: Sink, store: SinkStore, report: Callable[[Report], None]):
        self._journal = journal
        self._settings = settings
        self._sink = sink
        self._store = store
        self._report = report
        self._sleeper = Sleeper(journal)
        self._flushed_at = self._report_at = self._save_at = 0.0
        self._at = 0
        """Wall-clock ns of the last item that was written."""
        self._saved: Position | None = None

    def run(self, ending: Ending) -> None:
        """Until `ending` is set and nothing more is there. Raises `SinkError`, `JournalError`."""
        stored = self._store.load() or first_position(self._journal, self._settings.start)
        position = resume(self._journal, self._sink.open(resume(self._journal, stored)))
        feed = JournalFeed(self._journal, position, self._settings.endpoints)
        try:
            self._tell()
            self._carry(feed, ending)
            self._sink.flush()
            self._keep()
            self._tell()
        finally:
            self._sleeper.close()
            feed.close()

    def _carry(self, feed: JournalFeed, ending: Ending) -> None:
        give_up_at: float | None = None
        while True:
            if ending.is_set:
                give_up_at = give_up_at or monotonic() + DRAIN
                if monotonic() >= give_up_at:
                    return
            batch = feed.read()
            if batch is None:
                if ending.is_set:
                    return
                self._wait(ending)
                continue
            self._sink.write(batch)
            if batch.records:
                self._at = batch.records[-1].at
            if monotonic() >= self._flushed_at + _FLUSH:
                self._settle()

    def _wait(self, ending: Ending) -> None:
        """At the end of the journal."""
        now = monotonic()
        if now >= self._flushed_at + _QUIET_FLUSH:
            self._settle()
            self._sleeper.sleep(self._sleeper.patience, ending.fileno())
        else:
            self._sleeper.sleep(self._flushed_at + _QUIET_FLUSH - now, ending.fileno())

    def _settle(self) -> None:
        now = monotonic()
        self._sink.flush()
        self._flushed_at = now
        if now >= self._save_at:
            self._keep()
            self._save_at = now + _SAVE
        if now >= self._report_at:
            self._tell()
            self._report_at = now + _REPORT

    def _keep(self) -> None:
        position = self._sink.position
        if position != self._saved:
            self._store.save(position)
            self._saved = position

    def _tell(self) -> None:
        position = self._sink.position
        received = [each.at for each in position.endpoints.values() if each.at is not None]
        self._report(Report(position.seq, position.bytes, max(received, default=self._at)))


def reason_of(error: Exception) -> Reason:
    """Why a process ends."""
    if isinstance(error, SinkError):
        return Reason(kind=error.kind, text=str(error), retry_after=error.retry_after or None)
    if isinstance(error, JournalError):
        return Reason(kind="journal", text=str(error))
    text = str(error) if isinstance(error, WsAdapterError) else f"{type(error).__name__}: {error}"
    return Reason(kind="failed", text=text)
