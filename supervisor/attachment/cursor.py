"""Which items an attached consumer has read, has been given, and has committed.

    Reader ──entries──> wanted? ──> in hand: an iterator over the items of one entry ──> the consumer
                                        └── each step stores in the position file how many items are done

Within a record no Python code of ours runs per message: with `commit="auto"`, iterating to a message stores in the position
file that the messages before it are done. C code does both, so neither an interrupt nor a kill can fall between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count, repeat
from operator import itemgetter, length_hint
from pathlib import Path
from typing import Any

from wsadapter.contract.errors import ConsumerReplaced, PositionBeyondEnd, UnknownConsumer
from wsadapter.contract.items import Batch
from wsadapter.journal import folder as folders
from wsadapter.journal import places, positions
from wsadapter.journal.journal import Choice, behind
from wsadapter.journal.places import Start
from wsadapter.journal.positions import Position, PositionFile
from wsadapter.journal.reader import Entry, Reader, without_filtered
from wsadapter.journal.reading import UnreadableSegment
from wsadapter.journal.state import Progress, State

_first: Callable[[Any], Any] = itemgetter(0)


def begin(path: Path, start: Start | str, consumer: str, held: PositionFile, found: Position | None) -> State:
    """The state from which the consumer reads: its own position, or `start`. Raises `UnknownConsumer`, `PositionBeyondEnd`,
    `WrongType`, `JournalError`."""
    if found is None:
        if start == "position":
            raise UnknownConsumer(consumer, positions.known(path))
        state = places.find(path, start)  # type: ignore[arg-type]
        numbers = {name: progress.number for name, progress in state.endpoints.items()}
        held.store(Position(state.seq, state.bytes, 0, numbers))
        return state
    try:
        end = places.latest(path)
    except UnreadableSegment:  # what is in front of its damage can be read from this position on
        end = State(seq=found.seq)
    if found.seq > end.seq:
        text = f"its position is item {found.seq}, and the journal ends at item {end.seq}: the journal was replaced or cut"
        raise PositionBeyondEnd(f"consumer {consumer!r}: {text}; remove {positions.path_of(path, consumer)} to begin anew")
    held.store(found)
    progress = {name: Progress(number, 0, None, up=False) for name, number in found.numbers.items()}
    return State(end.run, found.seq, found.bytes, progress)


class Cursor:
    """One consumer's place in a journal. Not thread-safe."""

    def __init__(
        self, path: Path, consumer: str, start: Start | str, chosen: Choice | None, *, takeover: bool, auto: bool
    ) -> None:
        """Raises `ConsumerInUse` and what `begin` raises."""
        self.path = path
        self.consumer = consumer
        self.held, found = PositionFile.open(path, consumer, folders.identify(path), takeover=takeover)
        try:
            place = begin(path, start, consumer, self.held, found)
        except BaseException:
            self.held.close()
            raise
        self._known = {name: progress.number for name, progress in place.endpoints.items()}
        """The last message of each endpoint that was processed before; messages up to it are skipped at any place of the
        journal."""
        self._reader = Reader(path, place)
        self._chosen = chosen
        self._auto = auto
        self._entries: deque[Entry] = deque()
        self._last: Entry | None = None
        """The last entry that is used up and not committed."""
        self._passed: dict[str, int] = {}
        """By endpoint, the last number that is used up and not committed."""
        self._current: Entry | None = None
        self._left: Iterator[Any] = iter(())
        """Payloads of the current batch that were not taken, or the current event."""
        self.hand: Iterator[Any] = iter(())
        """The iterator from which the consumer gets its items."""
        self.numbers = {name: progress.number for name, progress in place.endpoints.items()}
        """The last committed message of each endpoint."""

    def close(self) -> None:
        """Let the name and the files go."""
        deque(self._left, maxlen=0)  # an iteration that is under way ends
        self._reader.close()
        self.held.close()

    # -- taking ----------------------------------------------------------------------------------------------------------

    @property
    def has_items(self) -> bool:
        """Whether something is in hand."""
        return length_hint(self._left) > 0

    @property
    def is_at_end(self) -> bool:
        """Asked when nothing was there."""
        return True

    def refill(self, *, whole: bool) -> bool:
        """Take the next entry in hand, unless something is left there. What was in hand before is used up, which is committed
        if that is automatic. False: nothing is there now. Raises `ConsumerReplaced`, `JournalError`."""
        if self.has_items:
            return True
        self._use_up()
        if self.held.is_replaced:
            raise ConsumerReplaced(self.consumer)
        while not self._entries:
            read = self._reader.read()
            if not read:
                return False
            self._entries.extend(part for entry in read for part in self._wanted(entry))
            if not self._entries and (self._auto or self._last is None):
                self._last = read[-1]  # the position moves past entries that are not wanted
                self._settle()
        self._take(self._entries.popleft(), whole=whole)
        return True

    def _wanted(self, entry: Entry) -> list[Entry]:
        rest = behind(entry, self._known)
        if rest is None:
            return []
        entry = rest
        return [entry] if self._chosen is None else without_filtered(entry, self._chosen.wants, self._chosen.streams)

    def _take(self, entry: Entry, *, whole: bool) -> None:
        self._current = entry
        item = entry.item
        if self._auto:
            self._move(entry)
        if whole or not isinstance(item, Batch):
            self._left = self.hand = iter([item])
            return
        self._left = iter(list(item))
        messages = item.around(self._left)
        # Behind the message, so that at the end of the payloads nothing is stored.
        done = map(self.held.taken.__setitem__, repeat(0), count())
        self.hand = map(_first, zip(messages, done, strict=False)) if self._auto else messages

    def _use_up(self) -> None:
        if self._current is None:
            return
        entry, self._current = self._current, None
        self._last = entry
        if entry.number is not None and entry.item.endpoint:
            self._passed[entry.item.endpoint] = entry.number
        if self._auto:
            self._settle()

    # -- committing ------------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Everything that was taken is done, the current item included. Raises `ConsumerReplaced`, `JournalError`."""
        if self.held.is_lost:  # who takes the name over waits a moment: until then a commit counts
            raise ConsumerReplaced(self.consumer)
        current = self._current
        if current is None or not self.has_items:
            self._use_up()
            self._settle()
            return
        taken = len(current.item) - length_hint(self._left) if isinstance(current.item, Batch) else 0
        self._move(current)
        self.held.taken[0] = taken

    def _settle(self) -> None:
        """All that is used up is committed."""
        last = self._last
        if last is not None:
            self._note(last)
            self.held.move(last.end, last.bytes + last.size, last.at)

    def _move(self, entry: Entry) -> None:
        """Store the position: everything before this entry, and of this entry as many items as will be `taken`."""
        self._note(entry)
        batch = entry.item
        if not isinstance(batch, Batch):
            self.held.move(entry.begin, entry.bytes, entry.at)
            return
        if not self.held.set_number(batch.endpoint, batch.first_number - 1):
            self.held.store(
                Position(entry.begin, entry.bytes, entry.at, {**self.numbers, batch.endpoint: batch.first_number - 1})
            )
        self.held.move(entry.begin, entry.bytes, entry.at, batch.endpoint)

    def _note(self, at: Entry) -> None:
        """The number of the last message of each endpoint that is used up."""
        self._last = None
        for name, number in self._passed.items():
            self.numbers[name] = number
            if not self.held.set_number(name, number):
                self.held.store(Position(at.begin, at.bytes, at.at, self.numbers))
        self._passed.clear()
