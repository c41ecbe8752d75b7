"""Writes rows to a journal, begins new segments, and removes old ones. For one thread.

open ──> the last segment ──append──> full, or long enough ──> sealed, and the next one ──> ...
                                                                 └─ the oldest go: retention
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, time_ns
from typing import Final
from uuid import uuid4

from wsadapter.config.settings import JournalSettings
from wsadapter.contract.errors import JournalError
from wsadapter.contract.items import Started
from wsadapter.journal import folder as folders
from wsadapter.journal.reading import newest_at
from wsadapter.journal.rows import DamagedRow, Row, item_of
from wsadapter.journal.segment import WritableSegment, create
from wsadapter.journal.state import State, Stored, expired

logger = logging.getLogger("wsadapter.journal")

_CHECKPOINT_EVERY: Final = 1.0
"""Seconds between two copies of the state in the journal, so that a new supervisor has little to read."""
_CHECKPOINT_ROWS: Final = 20_000
_UNSYNCED: Final = 1 << 24
"""SQLite syncs its WAL about every 16 MB. Fewer items than this fit between two syncs, so a power failure cannot lose more."""
_SPAN: Final = 8
"""A segment spans at most this part of `retain` (an eighth), because only whole segments are removed."""


class JournalWriter:
    """One open journal, for its supervisor. The lock is held."""

    def __init__(self, settings: JournalSettings) -> None:
        """Raises `NotAJournal`, `NewerJournal`, `JournalInUse`, `JournalError`."""
        self.settings = settings
        self.path = Path(settings.path)
        self.identity = folders.prepare(self.path)
        self._lock = folders.Lock(self.path)
        self._described = "", ""
        """Name and runtime folder of the supervisor, as the lock file has them."""
        self._checkpoint_at = 0.0
        self._since_checkpoint = 0
        self._began_at = monotonic()
        try:
            before = folders.writer_of(self.path)
            self.state = State()
            self.stored: list[Stored] = []
            """The complete segments, the oldest first."""
            self._segment: WritableSegment | None = None
            self._open_last()
            is_doubtful = bool(before.boot) and not before.closed and before.boot != folders.boot_id()
            if is_doubtful and settings.sync != "full":
                self._begin_behind_lost_commits()
            self.state.run = self.state.run or uuid4().hex
        except (OSError, sqlite3.Error) as error:
            self._lock.release()
            raise JournalError(f"{self.path}: the journal cannot be opened: {error}") from error
        except BaseException:
            self._lock.release()
            raise

    def describe(self, name: str, runtime_dir: str) -> None:
        """Write the name of the supervisor into the file of the lock. Raises `OSError`."""
        self._described = name, runtime_dir
        self._lock.describe(name, runtime_dir, closed=False)

    def _begin_behind_lost_commits(self) -> None:
        """The power failed. Consumers may have read items whose commits are lost, and the numbers and places of these items
        would be used again. So a new run begins, at a place that no consumer can have reached."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None
            last = folders.segments(self.path)[-1]
            self.stored.append(Stored(last.first, last.size, time_ns()))
        self.state.run = uuid4().hex
        self.state.seq += _UNSYNCED
        self._create()

    # -- opening ---------------------------------------------------------------------------------------------------------

    def _open_last(self) -> None:
        found = folders.segments(self.path)
        if not found:
            self._create()
            return
        self.stored = [Stored(segment.first, segment.size, newest_at(segment.path)) for segment in found[:-1]]
        last = found[-1]
        try:
            self._segment = WritableSegment(last.path, self.settings.sync)
            self.state = self._segment.read_state()
        except (sqlite3.DatabaseError, DamagedRow) as error:
            self._leave_damaged(last, found[:-1], error)

    def _leave_damaged(self, last: folders.Segment, before: Sequence[folders.Segment], error: Exception) -> None:
        """The end of the journal can't be read, so the numbers that were used there are unknown. A new run begins, in a new
        segment, at a place that the damaged segment can't have reached, because an item takes more than a byte."""
        logger.error("%s is damaged (%s); it is kept, and a new run begins in a new segment", last.path, error)
        if self._segment is not None:
            self._segment.abandon()
            self._segment = None
        self.state = State()
        for segment in reversed(before):
            try:
                earlier = WritableSegment(segment.path, self.settings.sync)
            except (sqlite3.DatabaseError, DamagedRow):
                continue
            try:
                self.state = earlier.read_state()
                break
            except (sqlite3.DatabaseError, DamagedRow):
                continue
            finally:
                earlier.abandon()
        self.stored.append(Stored(last.first, last.size, time_ns()))
        self.state.seq = max(self.state.seq, last.first + last.size)
        self.state.run = uuid4().hex
        self._create()

    def _create(self) -> None:
        self._restore_folder()
        path = folders.segment_path(self.path, self.state.seq)
        create(path, self.identity, self.state)
        self._segment = WritableSegment(path, self.settings.sync)
        self._began_at = monotonic()

    # -- writing ---------------------------------------------------------------------------------------------------------

    def append(self, rows: Sequence[Row]) -> None:
        """Add all rows, which begin at `state.seq`. Raises `sqlite3.Error`, `OSError`; then none of the rows was written."""
        if self._segment is None:  # the disk was full when the next one was to begin
            self._create()
        assert self._segment is not None
        after = self.state.copy()
        run = ""
        for row in rows:
            after.advance(row)
            if not row.messages and not row.endpoint and isinstance(started := item_of(row), Started):
                run = started.run
        self._since_checkpoint += len(rows)
        now = monotonic()
        is_due = self._since_checkpoint >= _CHECKPOINT_ROWS or now >= self._checkpoint_at
        self._segment.commit(rows, run, after if is_due else None)
        self.state = after
        if is_due:
            self._checkpoint_at, self._since_checkpoint = now + _CHECKPOINT_EVERY, 0

    def maintain(self) -> None:
        """Begin the next segment if it is due, and check that the files are in place. Call this regularly, and if `is_full`.
        Raises `sqlite3.Error`, `OSError`."""
        if self._segment is None:
            return
        if not self._segment_is_there():
            logger.error("%s was removed; a new segment follows it, and its items are lost", self._segment.path)
            self._segment.abandon()
            self._segment = None
            self._create()
        elif self.is_full:
            self._roll()

    @property
    def is_full(self) -> bool:
        """Whether the next segment is due."""
        segment, retain = self._segment, self.settings.retain
        if segment is None or not segment.size:
            return False
        return segment.size >= self.settings.segment_bytes or (
            retain > 0 and segment.has_rows and monotonic() - self._began_at > retain / _SPAN
        )

    @property
    def has_segment(self) -> bool:
        """Whether a segment is open."""
        return self._segment is not None

    def _roll(self) -> None:
        """The next segment begins; the one before it is complete."""
        segment = self._segment
        assert segment is not None
        segment.commit([], "", self.state)
        self._segment = None
        segment.close()
        first = int(segment.path.stem.rpartition("-")[2])
        self.stored.append(Stored(first, folders.Segment(first, segment.path).size, time_ns()))
        self._create()
        self.retain()

    def retain(self) -> None:
        """Remove segments beyond `retain` or `retain_bytes`."""
        settings, live = self.settings, self.live_bytes
        for first in expired(self.stored, live, time_ns(), retain=settings.retain, retain_bytes=settings.retain_bytes):
            self._remove(folders.Segment(first, folders.segment_path(self.path, first)))
            self.stored = [segment for segment in self.stored if segment.first != first]

    def _remove(self, segment: folders.Segment) -> None:
        """A reader that has the file open can still read it to its end."""
        logger.info("%s is removed (journal.retain, journal.retain_bytes)", segment.path)
        for file in segment.files():
            file.unlink(missing_ok=True)

    @property
    def live_bytes(self) -> int:
        """Bytes of the segment that is written."""
        return 0 if self._segment is None else self._segment.size

    def _segment_is_there(self) -> bool:
        assert self._segment is not None
        try:
            there = self._segment.path.stat()
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (self._segment.place.st_dev, self._segment.place.st_ino)

    def _restore_folder(self) -> None:
        """Restore what somebody removed from the folder. SQLite continues to write into a removed file without an error."""
        (self.path / folders.POSITIONS).mkdir(parents=True, exist_ok=True)
        if not folders.is_marked(self.path):
            folders.write_marker(self.path, self.identity)
        if not self._lock.is_in_place():
            self._lock.release()
            self._lock = folders.Lock(self.path)
            self.describe(*self._described)
        there = {segment.first for segment in folders.segments(self.path)}
        self.stored = [segment for segment in self.stored if segment.first in there]

    def leave_segment(self) -> None:
        """The segment can't be written any more; the next rows go to a new one."""
        assert self._segment is not None
        segment, self._segment = self._segment, None
        segment.abandon()
        first = int(segment.path.stem.rpartition("-")[2])
        self.stored.append(Stored(first, folders.Segment(first, segment.path).size, time_ns()))

    def close(self) -> None:
        """Write everything that was appended to the files. Raises `sqlite3.Error`, `OSError`; the lock is released in any
        case."""
        try:
            if self._segment is not None:
                segment, self._segment = self._segment, None
                try:
                    segment.commit([], "", self.state)
                finally:
                    segment.close()
            self._lock.describe(*self._described, closed=True)
        finally:
            self._lock.release()
