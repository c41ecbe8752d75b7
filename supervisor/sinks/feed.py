"""The journal as a sink reads it: in batches, from the position of the target on."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from wsadapter.contract.errors import PositionBeyondEnd
from wsadapter.contract.items import Batch
from wsadapter.journal import folder as folders
from wsadapter.journal import places
from wsadapter.journal.journal import Choice, choice
from wsadapter.journal.reader import Entry, Reader
from wsadapter.journal.reading import UnreadableSegment, meta_of, opened, state_at
from wsadapter.journal.state import NOTHING, State
from wsadapter.sinks.base import EndpointPosition, Position, SinkBatch, SinkRecord, position_of

logger = logging.getLogger("wsadapter.sinks")

_MOST_RECORDS: Final = 4096
_MOST_BYTES: Final = 1024 * 1024
"""Of a batch, about: the journal is read in queries of some hundred rows."""
_STARTS: Final = (
    "SELECT seq, json_extract(CAST(payload AS TEXT), '$.run') FROM records WHERE count = 0 AND endpoint = '' "
    "AND json_extract(CAST(payload AS TEXT), '$.event') = 'started' ORDER BY seq"
)


def first_position(path: Path, start: Literal["earliest", "latest"]) -> Position:
    """Where a new sink begins. Raises `JournalError`."""
    return position_of(folders.identify(path), places.find(path, start))


def resume(path: Path, position: Position) -> Position:
    """The position from which this journal can be read for a target with `position`. Raises `PositionBeyondEnd`,
    `JournalError`.

    The journal at this path may be another one, or may have lost its end: after a power failure its last moments, which a sink
    may have written. Then a new run begins there, whose items take the places of those that are lost.
    """
    identity = folders.identify(path)
    if position.journal != identity:
        logger.warning("the journal %s is not the one of this sink's position: all of it is written", path)
        return position_of(identity, places.earliest(path))
    try:
        end = places.latest(path)
    except UnreadableSegment:  # what is in front of its damage can be read from this position on
        end = State(seq=position.seq)
    cuts: dict[str, State | None] = {end.run: None, "": None}
    for run in {position.run, *(each.run for each in position.endpoints.values())} - cuts.keys():
        cuts[run] = _next_run(path, run)
    began = cuts[position.run]
    if began is None and position.seq > end.seq:
        raise PositionBeyondEnd(f"{path}: the sink has come to item {position.seq}, and the journal ends at {end.seq}")
    if began is not None and began.seq < position.seq:
        last = position.seq - 1
        logger.warning(
            "the journal %s lost its end: items %d to %d are in the target and not in the journal", path, began.seq, last
        )
        position = replace(position_of(identity, began), endpoints=position.endpoints)
    known = {name: _clipped(name, each, cuts[each.run]) for name, each in position.endpoints.items()}
    return replace(position, endpoints=known)


def _clipped(name: str, each: EndpointPosition, began: State | None) -> EndpointPosition:
    if began is None or each.seq <= began.seq:
        return each
    progress = began.endpoints.get(name, NOTHING)
    return EndpointPosition(began.seq, progress.number, progress.epoch, progress.at, began.run)


def _next_run(path: Path, run: str) -> State | None:
    """Where the run ended, because another one began; None if none did. Of a run that the journal does not have any more: the
    beginning of the journal."""
    began: tuple[folders.Segment, int] | None = None
    behind_damage: list[tuple[folders.Segment, int] | None] = []
    found = folders.segments(path)
    for segment in reversed(found):
        try:
            with opened(segment.path, is_last=segment is found[-1]) as database:
                starts = database.execute(_STARTS).fetchall()
                first = meta_of(database).get("run")
        except UnreadableSegment as error:  # which runs are in it is not known; the reader reports what is missing
            logger.warning("%s", error)
            behind_damage.append(began)
            continue
        for seq, name in reversed(starts):
            if name == run:
                return _state_in(began, found)
            began = segment, seq
        if first == run:
            return _state_in(began, found)
    if behind_damage:  # the run is in one of these segments
        return _state_in(behind_damage[-1], found)
    return places.earliest(path)


def _state_in(place: tuple[folders.Segment, int] | None, found: Sequence[folders.Segment]) -> State | None:
    if place is None:
        return None
    segment, seq = place
    with opened(segment.path, is_last=segment is found[-1]) as database:
        return state_at(database, segment.first, seq)


class JournalFeed:
    """The records from a position on. Not thread-safe."""

    def __init__(self, path: Path, position: Position, endpoints: Collection[str] = ()) -> None:
        """`endpoints`: only these, and events of the whole supervisor; empty: all."""
        self.path = path
        self._journal = position.journal
        self._ahead = position.ahead()
        self._choice: Choice | None = choice(endpoints, ())
        self._reader = Reader(path, position.state())
        self._held: tuple[list[SinkRecord], Position, int] | None = None
        """Already read, and from another segment than the previous batch."""

    def close(self) -> None:
        """Close the open segment."""
        self._reader.close()

    def read(self) -> SinkBatch | None:
        """The next batch; None: the end of the journal. A batch may be empty: none of the read records is wanted. Raises
        `JournalError`."""
        records: list[SinkRecord] = []
        size = 0
        after: Position | None = None
        segment = 0
        while size < _MOST_BYTES and len(records) < _MOST_RECORDS:
            found = self._held or self._next()
            self._held = None
            if found is None:
                break
            if after is not None and found[2] != segment:
                self._held = found
                break
            records += found[0]
            after, segment = found[1], found[2]
            size += sum(_size(record) for record in found[0])
        return None if after is None else SinkBatch(records, after, segment)

    def _next(self) -> tuple[list[SinkRecord], Position, int] | None:
        entries = self._reader.read()
        if not entries:
            return None
        state = self._reader.place
        records = [record for entry in entries for record in self._records(entry, state)]
        firsts = [each.first for each in folders.segments(self.path)]
        segment = max((first for first in firsts if first <= entries[-1].begin), default=entries[-1].begin)
        return records, position_of(self._journal, state), segment

    def _records(self, entry: Entry, state: State) -> Iterator[SinkRecord]:
        name = entry.item.endpoint
        if name and self._choice is not None and not self._choice.wants(name):
            return
        ahead = self._ahead.get(name, 0)
        number = entry.number
        if number is None:
            number = state.endpoints[name].number if name in state.endpoints else 0
        record = SinkRecord(entry.item, entry.begin, entry.end, number, state.run, entry.at)
        if entry.begin >= ahead:
            yield record
        elif entry.end > ahead and isinstance(entry.item, Batch):
            yield record.part(ahead - entry.begin, len(entry.item))


def _size(record: SinkRecord) -> int:
    return sum(map(len, record.item)) if isinstance(record.item, Batch) else 256
