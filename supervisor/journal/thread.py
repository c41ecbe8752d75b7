"""The thread that writes the journal. It does nothing else, and nobody waits for it: not the reactor, not a consumer.

    asleep ──something came──> gathering ──rows──> committing ──> wake the attached consumers ──> pause, or asleep
                                                     └── failed (disk full, no such folder) ──> the rows stay, again in a second

A commit follows at once if little comes. The longer commits take, the longer the pause between two of them, up to
`journal.commit`: so that a busy disk gets few large transactions and an idle one gives a short way to the consumers.
"""

from __future__ import annotations

import logging
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic, sleep, time_ns
from typing import Any, Final

from wsadapter.config.settings import JournalSettings
from wsadapter.contract.errors import JournalError, JournalInUse
from wsadapter.contract.items import Batch, Dropped
from wsadapter.journal import positions
from wsadapter.journal.marks import Mark
from wsadapter.journal.rows import Row, event_row, message_row
from wsadapter.journal.state import State
from wsadapter.journal.tap import JournaledInbox, JournaledRecentInbox, JournalQueue
from wsadapter.journal.wakers import Wakers
from wsadapter.journal.writer import JournalWriter
from wsadapter.loop.signal_guard import FAULTS
from wsadapter.status import ConsumerLag, ConsumerStatus, JournalStatus

logger = logging.getLogger("wsadapter.journal")

_MOST_ROWS: Final = 4096
_MOST_BYTES: Final = 8 * 1024 * 1024
"""Of one commit, about: what is taken out of the queue waits here instead."""
_SHARE: Final = 1.0
"""The pause after a commit, in units of the time that it took."""
_RETRY: Final = 1.0
"""Seconds until a commit that failed is tried again."""
_RETRY_AT_END: Final = 0.1
_LOOK: Final = 1.0
"""Seconds between looks at the folder, and at how old the segments are."""
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT})
"""Errors of SQLite that the next try would meet again, in this segment."""


def pause_after(took: float, longest: float) -> float:
    """Seconds to wait behind a commit that took so long. The writer works half of the time at most, unless records would wait
    longer than `longest`."""
    return min(took * _SHARE, max(0.0, longest - took))


@dataclass(slots=True)
class _Taken:
    """Out of the queue, and not committed."""

    rows: list[Row] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    """Each stands behind some of the rows."""
    since: float | None = None
    """Monotonic seconds since when something waits for a commit; None: nothing does."""


class JournalThread:
    """The journal of one running supervisor."""

    def __init__(self, settings: JournalSettings, overflowed: Callable[[str], None]) -> None:
        """`overflowed(name)`: see `JournalQueue`; called by the reactor."""
        self.settings = settings
        self._wake: SimpleQueue[None] = SimpleQueue()
        self.queue = JournalQueue(self._wake, overflowed)
        self.writer: JournalWriter | None = None
        """None: it is not open."""
        self._thread = threading.Thread(target=self._run, name="wsadapter-journal", daemon=True)
        self._give_up_at: float | None = None
        """Monotonic seconds until which what waits is written; None: it is not closing."""
        self._taken = _Taken()
        self._error: str | None = None
        self.has_lost_its_end = False
        """Something was not written when it was closed."""
        self._look_at = 0.0
        self._seq = 1
        self._committed = 0
        """Place behind the last item that is committed."""
        self.wakers = Wakers()
        self._consumers: dict[str, ConsumerStatus] = {}
        self._newest_at = 0
        """Wall-clock ns of the last committed row."""

    def inbox(self, *, delivers: bool) -> JournaledInbox:
        """An inbox whose items go into the journal first; see `JournaledInbox`."""
        return JournaledInbox(self.queue, delivers=delivers)

    def recent_inbox(self, most_events: int) -> JournaledRecentInbox:
        """The same for the stream of a pool."""
        return JournaledRecentInbox(self.queue, most_events)

    # -- life ------------------------------------------------------------------------------------------------------------

    def open(self, name: str, runtime_dir: str, patience: float = 0.0) -> State:
        """Take the journal, and return what it holds. `patience`: seconds to wait for a supervisor that is about to release it.
        Raises `NotAJournal`, `NewerJournal`, `JournalInUse`, `JournalError`."""
        deadline = monotonic() + patience
        while True:
            try:
                self.writer = JournalWriter(self.settings)
                break
            except JournalInUse:
                if monotonic() >= deadline:
                    raise
                sleep(0.01)
        try:
            self.writer.describe(name, runtime_dir)
        except OSError as error:
            self.writer.close()
            raise JournalError(f"{self.settings.path}: the journal cannot be written: {error.strerror}") from error
        state = self.writer.state
        self._seq = self._committed = state.seq
        return state.copy()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self, patience: float) -> None:
        """Write what waits, and release the journal. If the disk accepts nothing for `patience` seconds, what waits is lost,
        and a log line reports the loss."""
        if self.writer is None:
            return
        self._give_up_at = monotonic() + patience
        self._wake.put(None)
        if self._thread.ident is not None:
            self._thread.join(patience)
        if self._thread.ident is not None and (self._thread.is_alive() or self._taken.rows or self.queue.inbox):
            text = "the disk of the journal %s accepts nothing: %d bytes of messages are not written"
            logger.error(text, self.settings.path, self._unwritten())
            self.queue.is_closed = self.has_lost_its_end = True
        self.wakers.close()

    def _unwritten(self) -> int:
        return self.queue.waiting + sum(len(row.payload) for row in self._taken.rows)

    # -- the thread ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)  # they are the program's
        try:
            while self._turn():
                pass
        except Exception:  # a bug: supervision continues, and the status shows that the journal has failed
            logger.exception("the journal's thread failed; this is a bug in wsadapter. Nothing more is written")
            self._error = "the journal's thread failed; the log has the traceback"
        finally:
            self.queue.is_closed = True
            self._let_go()

    def _turn(self) -> bool:
        """One commit, or a wait. False: everything is written, and nothing more comes."""
        begun = monotonic()
        if not self._taken.rows:
            self._gather()
        if not self._taken.rows:
            self._confirm()
        if self._taken.rows:
            if not self._commit():
                self._make_room()
                return self._give_up_at is None or monotonic() < self._give_up_at
            took = monotonic() - begun
            self._look()
            if self.queue.inbox and self._give_up_at is None:
                sleep(pause_after(took, self.settings.commit))
            return True
        if self._give_up_at is not None:
            return False
        self._look()
        self._sleep()
        return True

    def _sleep(self) -> None:
        self.queue.is_asleep = True
        if not self.queue.inbox:  # else it came before the flag was up
            with suppress(Empty):
                self._wake.get(timeout=_LOOK)
        self.queue.is_asleep = False

    def _wait_for_disk(self) -> None:
        with suppress(Empty):
            self._wake.get(timeout=_RETRY if self._give_up_at is None else _RETRY_AT_END)

    def _gather(self) -> None:
        rows, size = self._taken.rows, 0
        seq = self._seq
        while len(rows) < _MOST_ROWS and size < _MOST_BYTES:
            found = self.queue.take()
            if not found:
                break
            for each in found:
                if isinstance(each, Mark):
                    self._taken.marks.append(each)
                    continue
                row = _row_of(each, seq)
                rows.append(row)
                seq += row.messages or 1
                size += len(row.payload)
        self._seq = seq
        if rows and self._taken.since is None:
            self._taken.since = monotonic()

    def _commit(self) -> bool:
        """Whether the rows are written."""
        assert self.writer is not None
        try:
            self.writer.append(self._taken.rows)
        except (sqlite3.Error, OSError, JournalError) as error:
            self._failed(error)
            return False
        if self._error is not None:
            logger.warning("the journal %s is written again", self.settings.path)
            self._error = None
        self._newest_at = self._taken.rows[-1].at
        self._committed = self._seq
        self._confirm()
        self.wakers.notify()
        return True

    def _confirm(self) -> None:
        """All that was put in front of the marks is committed."""
        taken, self._taken = self._taken, _Taken()
        for mark in taken.marks:
            try:
                mark.confirm()
            except OSError as error:  # no memory: the mark before is still there, and what was read behind it
                logger.error("a mark of the journal cannot be stored: %s", error)  # noqa: TRY400

    def _failed(self, error: sqlite3.Error | OSError | JournalError) -> None:
        assert self.writer is not None
        text = _described(error)
        if text != self._error:
            logger.error("the journal %s cannot be written: %s; it is tried again every second", self.settings.path, text)
            self._error = text
        if getattr(error, "sqlite_errorcode", None) in _BROKEN and self.writer.has_segment:
            logger.error("the segment is closed; a new segment follows it")
            self.writer.leave_segment()
        self._wait_for_disk()

    def _look(self) -> None:
        """Now and then: the next segment, the folder, the retention."""
        assert self.writer is not None
        now = monotonic()
        try:
            if self.writer.is_full or now >= self._look_at:
                self._look_at = now + _LOOK
                self.writer.maintain()
                self._look_at_consumers()
                self.writer.retain()
        except (sqlite3.Error, OSError, JournalError) as error:
            text = _described(error)
            if text != self._error:
                logger.error("the journal %s: %s", self.settings.path, text)  # noqa: TRY400
                self._error = text

    def _make_room(self) -> None:
        """The disk may be full, and segments that are too old may stand on it."""
        assert self.writer is not None
        try:
            self.writer.retain()
        except OSError as error:
            logger.error("the journal %s: old segments cannot be removed: %s", self.settings.path, error)  # noqa: TRY400

    def _let_go(self) -> None:
        assert self.writer is not None
        try:
            self.writer.close()
        except (sqlite3.Error, OSError) as error:
            logger.error("the journal %s could not be closed in order: %s", self.settings.path, error)  # noqa: TRY400

    # -- what is to be seen ----------------------------------------------------------------------------------------------

    def status(self) -> JournalStatus:
        """From memory: the disk is not asked."""
        oldest, writer = self._taken.since, self.writer
        stored = [] if writer is None else writer.stored
        return {
            "path": self.settings.path,
            "segments": len(stored) + 1,
            "bytes": sum(segment.size for segment in stored) + (0 if writer is None else writer.live_bytes),
            "end": self._committed,
            "waiting": self.queue.waiting,
            "lag": 0.0 if oldest is None else round(monotonic() - oldest, 6),
            "dropped": self.queue.dropped,
            "error": self._error,
            "consumers": self._consumers,
        }

    def _look_at_consumers(self) -> None:
        """In the writer's thread: the files of the positions are on the disk."""
        assert self.writer is not None
        state, newest = self.writer.state, self._newest_at
        found: dict[str, ConsumerStatus] = {}
        for name in positions.known(self.writer.path):
            seen = positions.look(positions.path_of(self.writer.path, name))
            if seen is None:
                continue
            position, pid = seen
            behind = max(0, state.seq - position.seq)
            lag: ConsumerLag = {
                "messages": behind,
                "bytes": max(0, state.bytes - position.bytes) if behind else 0,
                "seconds": round(max(0.0, (newest - position.at) / 1e9), 6) if behind and position.at else 0.0,
            }
            found[name] = {"pid": pid, "position": position.seq, "lag": lag}
        self._consumers = found


def _described(error: Exception) -> str:
    """With SQLite's name of the error, which has more than its text: SQLITE_IOERR_FSYNC is "disk I/O error" too."""
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)


def _row_of(found: Any, seq: int) -> Row:
    """The row of what the queue delivers. What the disk was too slow for is lost to the journal, not to a consumer."""
    if isinstance(found, Dropped):
        cause = "journal" if found.cause == "overflow" else found.cause
        at = time_ns()
        return event_row(
            seq, Dropped(found.endpoint, found.epoch, at, found.first, found.last, found.count, found.bytes, cause)
        )
    item, record = found.item, found.record
    if not isinstance(item, Batch):
        return event_row(seq, item, record)
    return message_row(
        seq, item.endpoint, list(item), epoch=item.epoch, record=record, number=item.first_number, at=item.received_at,
        binary=item.binary, streams=item.streams,
    )  # fmt: skip
