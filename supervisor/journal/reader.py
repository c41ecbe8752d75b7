"""Reads a journal from a place on, over all its segments, while it is written or not.

    place ──> segment ──rows──> its end ──> the next segment ──> ... ──> nothing more: read again later
                └ damaged ──> a Gap for each endpoint, and on with the next row that can be read
    place before the oldest segment ──> Dropped(cause="retention") for each endpoint, and on with the oldest

Numbers make losses visible here too: the reader keeps the last number of each endpoint, and a row that does not follow it comes
behind a `Dropped` with what is missing. So no loss passes without a record, whatever its cause.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from time import time_ns
from typing import Any, Final, NamedTuple

from wsadapter.contract.errors import JournalError
from wsadapter.contract.items import AnyEvent, Batch, Dropped, Gap
from wsadapter.journal import folder as folders
from wsadapter.journal.reading import DAMAGE, lost_end, next_readable, open_segment, read_rows, row_with, state_before
from wsadapter.journal.rows import DamagedRow, Row, checked, item_of
from wsadapter.journal.state import NOTHING, Missing, Progress, State, missing

logger = logging.getLogger("wsadapter.journal")

_ROWS: Final = 256
"""Rows of one query, so that a reader holds no more than their payloads."""
_UNKNOWN: Final = 0
"""Bytes of messages of which only the numbers are known."""


class Entry(NamedTuple):
    """One item of a journal, or a batch, and where that leaves the reader."""

    item: Batch | AnyEvent
    begin: int
    """Place in the stream of its first item. An event that reports a loss has no place of its own."""
    end: int
    """Place behind its last item."""
    number: int | None
    """Of its endpoint: the last message up to its end; None: as before."""
    bytes: int
    """Payload bytes of the stream before it."""
    size: int
    """Its payload bytes."""
    at: int


_make_entry: Callable[[type[Entry], tuple[Any, ...]], Entry] = tuple.__new__


class Reader:
    """From a place on. Not thread-safe."""

    def __init__(self, path: Path, place: State) -> None:
        """`place`: where to begin, and what was read before; it moves on."""
        self.path = path
        self.place = place
        self._first: int | None = None
        """Of the open segment, or of the one that could not be opened; None: neither."""
        self._database: sqlite3.Connection | None = None
        self._next: int | None = None
        """Of the segment behind the open one, if it is known: then nothing more is written to this one."""
        self._is_removed = False
        """The retention has removed the open one, and all up to `_next`: it removes the oldest first."""
        self._skips = False
        """Rows at the end of the segment before were passed over."""
        self._has_hole = False
        """Rows were passed over: an endpoint of which nothing was read before may have lost messages too."""
        self._cause = "journal"
        """Of the last loss. Messages that are missing before the next row of an endpoint are reported with this cause."""

    def close(self) -> None:
        """Close the open segment."""
        if self._database is not None:
            self._database.close()
            self._database, self._first, self._next, self._is_removed = None, None, None, False

    def read(self) -> list[Entry]:
        """The next entries; none: nothing more is there now. Raises `NotAJournal`, `NewerJournal`, `JournalError`."""
        while True:
            try:
                if self._database is None and (entries := self._enter()) is not None:
                    return entries
                if entries := self._read_open() or self._lost_end():
                    return entries
            except DAMAGE as error:
                if entries := self._pass_damage(error):
                    return entries
                continue  # no endpoint is known yet that could have a Gap
            if not self._is_over():
                return []
            self.close()

    # -- from segment to segment -----------------------------------------------------------------------------------------

    def _enter(self) -> list[Entry] | None:
        """Open the segment with the place, or the first behind it. What is missing between is returned; None: nothing is, and a
        segment is open."""
        found = self._segments()
        if not found:
            return []
        behind = [segment for segment in found if segment.first > self.place.seq]
        before = [segment for segment in found if segment.first <= self.place.seq]
        segment = before[-1] if before else behind[0]
        self._first = segment.first
        try:
            self._database = open_segment(segment.path, is_last=segment is found[-1])
        except FileNotFoundError:  # the retention was faster
            return self._enter()
        self._next = behind[0].first if before and behind else behind[1].first if len(behind) > 1 else None
        there = state_before(self._database, segment.first)
        self.place.run = there.run if segment.first >= self.place.seq else self.place.run
        if not before:
            return self._lost_to_retention(there)
        if segment.first == self.place.seq:
            return self._catch_up(there, "retention" if len(before) == 1 and not self._skips else "journal") or None
        return None

    def _segments(self) -> list[folders.Segment]:
        try:
            return folders.segments(self.path)
        except FileNotFoundError:
            folders.identify(self.path)  # reports that the segment was removed
            raise
        except OSError as error:
            raise JournalError(f"{self.path}: the journal cannot be read: {error.strerror}") from error

    def _is_over(self) -> bool:
        """Whether nothing more comes in the open segment. If the next one is new, this one is to be read once more: rows may
        have been added in between."""
        if self._next is not None:
            if self.place.seq < self._next and not self._is_removed:  # else `_enter` returns what is missing, and why
                self._skip_to(self._next)
            return True
        there = [segment.first for segment in self._segments()]
        behind = [first for first in there if self._first is not None and first > self._first]
        if behind:
            self._next, self._is_removed = behind[0], self._first not in there
            return bool(self.place.seq >= self._next)
        return False

    def _skip_to(self, seq: int) -> None:
        """Rows at the end of a segment are not there. The next segment knows how far each endpoint had come."""
        self._skips = True
        self.place.seq = seq

    # -- rows ------------------------------------------------------------------------------------------------------------

    def _read_open(self) -> list[Entry]:
        assert self._database is not None
        begin = row_with(self._database, self.place.seq)
        entries: list[Entry] = []
        for values in read_rows(self._database, begin, _ROWS):
            try:
                row = checked(values)
                place = self.place
                if row.seq == place.seq and row.messages and place.follows(row):  # most rows: nothing is missing before it
                    before = place.bytes
                    number = place.advance_by_messages(row)
                    entries.append(
                        _make_entry(Entry, (item_of(row), row.seq, place.seq, number, before, len(row.payload), row.at))
                    )
                    continue
                if row.seq > place.seq:
                    entries += self._hole(row.seq)
                elif row.end <= place.seq or (row.seq < place.seq and entries):
                    raise DamagedRow(f"row {row.seq} is not at its place")
                entries += self._take(row)
            except DAMAGE:
                if not entries:
                    raise
                break  # what came before it is delivered first
        return entries

    def _take(self, row: Row) -> Iterator[Entry]:
        item = item_of(row)
        taken = self.place.seq - row.seq
        if self._has_hole and row.endpoint and row.endpoint not in self.place.endpoints:
            yield self._gap(row.endpoint, Progress(0, row.epoch, None, up=False), row.at)
        if isinstance(item, Batch):
            known = self.place.endpoints.get(row.endpoint, NOTHING)
            if row.endpoint in self.place.endpoints and (row.number or 0) > known.number + 1:
                yield self._dropped(Missing(row.endpoint, row.epoch, known.number + 1, (row.number or 0) - 1))
            if taken:
                item = item.part(taken)
        before = self.place.bytes
        self.place.advance(row)
        number = self.place.endpoints[row.endpoint].number if row.endpoint in self.place.endpoints else None
        yield Entry(item, row.seq + taken, row.end, number, before, len(row.payload), row.at)

    def _lost_end(self) -> list[Entry]:
        """What is missing at the end of the last segment; a segment that another one follows is compared with that one."""
        assert self._database is not None
        there = None if self._next is not None else lost_end(self._database, self.place.seq)
        if there is None:
            return []
        logger.error("%s: items %d to %d of the journal cannot be read", self.path, self.place.seq, there.seq - 1)
        self.place.seq, self._skips = there.seq, True
        return self._catch_up(there, "journal")

    # -- what is missing -------------------------------------------------------------------------------------------------

    def _dropped(self, lost: Missing) -> Entry:
        before = self.place.endpoints.get(lost.endpoint, NOTHING)
        self.place.endpoints[lost.endpoint] = before._replace(number=lost.last, epoch=max(before.epoch, lost.epoch))
        event = Dropped(lost.endpoint, lost.epoch, time_ns(), lost.first, lost.last, lost.total, _UNKNOWN, self._cause)
        return Entry(event, self.place.seq, self.place.seq, lost.last, self.place.bytes, 0, event.at)

    def _gap(self, endpoint: str, known: Progress, at: int | None) -> Entry:
        event = Gap(endpoint, known.epoch, time_ns(), "journal", known.at, at)
        return Entry(event, self.place.seq, self.place.seq, None, self.place.bytes, 0, event.at)

    def _lost_to_retention(self, there: State) -> list[Entry]:
        """The place is gone; `there` is the beginning of the oldest segment."""
        places = there.seq - self.place.seq
        lost = missing(self.place.endpoints, there.endpoints)
        known = dict(self.place.endpoints)
        self._cause = "retention"
        self.place.seq, self.place.bytes = there.seq, there.bytes
        entries = [self._dropped(each) for each in lost]
        if places > sum(each.total for each in lost):  # events are missing too, and one of them may have reported a loss
            told = {each.endpoint for each in lost}
            entries += [self._gap(name, progress, None) for name, progress in known.items() if name not in told]
        for name, progress in there.endpoints.items():
            self.place.endpoints.setdefault(name, progress)
        self._cause = "journal"
        return entries

    def _catch_up(self, there: State, cause: str) -> list[Entry]:
        """At the beginning of a segment: what its writer had given numbers to, and was not read."""
        self._cause = cause
        entries = [self._dropped(lost) for lost in missing(self.place.endpoints, there.endpoints)]
        if self._skips:
            told = {entry.item.endpoint for entry in entries}
            gaps = [(name, known) for name, known in self.place.endpoints.items() if name not in told]
            entries += [self._gap(name, known, None) for name, known in gaps]
            self._skips = False
        self.place.bytes = max(self.place.bytes, there.bytes)
        self._cause = "journal"
        return entries

    def _hole(self, seq: int) -> list[Entry]:
        """Rows are missing up to `seq`: whatever they held, each endpoint may have lost something."""
        logger.error("%s: items %d to %d of the journal cannot be read", self.path, self.place.seq, seq - 1)
        self.place.seq = seq
        self._skips, self._has_hole = False, True
        return [self._gap(name, known, None) for name, known in self.place.endpoints.items()]

    def _pass_damage(self, error: Exception) -> list[Entry]:
        """Continue behind the rows that can't be read."""
        found = None
        if self._database is not None and self._first is not None:
            try:
                found = next_readable(self._database, self.place.seq)
            except DAMAGE:
                found = None
        file = self.path if self._first is None else folders.segment_path(self.path, self._first)
        if found is not None:
            logger.error("%s: %s", file, error)
            return self._hole(max(found, self.place.seq + 1))
        behind = [segment.first for segment in self._segments() if segment.first > self.place.seq]
        if not behind:
            raise JournalError(f"{file}: the journal cannot be read from item {self.place.seq} on: {error}") from error
        self.close()
        logger.error("%s: items %d to %d cannot be read: %s", file, self.place.seq, behind[0] - 1, error)
        self._skip_to(behind[0])
        return []


def without_filtered(entry: Entry, wanted: Callable[[str], bool], streams: frozenset[str] | None) -> list[Entry]:
    """The entry if it is of an endpoint and of streams that are wanted; of a batch, its parts. Events of the whole supervisor
    are always wanted."""
    item = entry.item
    if item.endpoint and not wanted(item.endpoint):
        return []
    if streams is None:
        return [entry]
    if not isinstance(item, Batch):
        named = getattr(item, "stream", None)
        return [entry] if named is None or named in streams else []
    return _parts(entry, item, streams)


def _parts(entry: Entry, batch: Batch, streams: frozenset[str]) -> list[Entry]:
    if batch.streams is None:
        return []
    hits = [name in streams for name in batch.streams]
    if all(hits):
        return [entry]
    parts: list[Entry] = []
    begin = 0
    while begin < len(hits):
        end = begin + 1
        while end < len(hits) and hits[end] == hits[begin]:
            end += 1
        if hits[begin]:
            parts.append(entry._replace(item=batch.part(begin, end), begin=entry.begin + begin, end=entry.begin + end))
        begin = end
    return parts
