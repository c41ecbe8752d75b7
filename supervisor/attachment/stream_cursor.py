"""What a consumer of a cluster's stream has been given and has committed: `Cursor`, for a stream in place of a journal.

The place is stored at the server: with `commit="auto"` every fifth of a second, and at the end.
"""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Iterator
from operator import length_hint
from typing import Any, Final

from wsadapter.attachment.stream_source import StreamSource
from wsadapter.cluster.reading import Entry, Place
from wsadapter.contract.items import Batch
from wsadapter.journal.journal import Choice
from wsadapter.journal.places import Start
from wsadapter.journal.reader import Entry as Row
from wsadapter.journal.reader import without_filtered

_LOOK: Final = 0.5


class StreamCursor:
    """One consumer's place in a stream. To be used by one thread at a time."""

    def __init__(self, source: StreamSource, start: Start | str, chosen: Choice | None, *, takeover: bool, auto: bool) -> None:
        """Raises as `StreamSource.open`."""
        place = source.open(start, takeover=takeover)
        self.consumer = source.consumer
        self.path = source.shown
        self._source = source
        self._chosen = chosen
        self._auto = auto
        self._lock = threading.Lock()
        self._begin = place.begin
        self._ends = dict(place.ends)
        """Used up."""
        self._committed = place
        self._whole: Entry | None = None
        """That is in hand, or whose parts are."""
        self._parts: deque[Entry] = deque()
        """Of it, that are wanted and were not taken."""
        self._current: Entry | None = None
        self._steps = 0
        """How many items the consumer takes of it."""
        self._left: Iterator[Any] = iter(())
        self.hand: Iterator[Any] = iter(())
        """What the consumer takes items from."""
        source.keep(self._stored_by_itself, auto=auto)

    def close(self) -> None:
        """Let the name go."""
        self._source.close(self._stored_by_itself())
        deque(self._left, maxlen=0)  # an iteration that is under way ends

    # -- taking ----------------------------------------------------------------------------------------------------------

    @property
    def has_items(self) -> bool:
        """Whether something is in hand."""
        return length_hint(self._left) > 0

    @property
    def is_at_end(self) -> bool:
        """Whether nothing more was there when the end was reached."""
        return self._source.is_at_end

    def refill(self, *, whole: bool) -> bool:
        """Take the next entry in hand, unless something is left there. False: nothing is there now. Raises `ConsumerReplaced`,
        `JournalError`."""
        if self.has_items:
            return True
        self._source.check()
        with self._lock:
            self._use_up()
            while not self._parts:
                self._pass()
                if not self._source.entries:
                    return False
                self._whole = self._source.entries.popleft()
                self._source.taken()
                self._parts.extend(self._wanted(self._whole))
            self._take(self._parts.popleft(), whole=whole)
        return True

    def _wanted(self, entry: Entry) -> list[Entry]:
        if self._chosen is None:
            return [entry]
        row = Row(entry.item, entry.first, entry.first + entry.length, entry.number, 0, 0, 0)
        rows = without_filtered(row, self._chosen.wants, self._chosen.streams)
        return [entry._replace(item=part.item, first=part.begin, length=part.end - part.begin) for part in rows]

    def _take(self, entry: Entry, *, whole: bool) -> None:
        self._current = entry
        item = entry.item
        if whole or not isinstance(item, Batch):
            self._steps, self._left = 1, iter([item])
            self.hand = self._left
        else:
            self._steps, self._left = len(item), iter(list(item))
            self.hand = item.around(self._left)

    def _use_up(self) -> None:
        if self._current is not None:
            self._ends[self._current.endpoint] = self._current.done(self._current.length)
            self._current = None

    def _pass(self) -> None:
        """All of an entry is done, what is not wanted included."""
        if self._whole is not None:
            self._begin = self._whole.begin
            self._ends[self._whole.endpoint] = self._whole.done(self._whole.length)
            self._whole = None

    # -- committing ------------------------------------------------------------------------------------------------------

    def _place(self, behind: int) -> Place:
        """Behind what was taken, but for the last `behind` items of what is in hand. From any thread."""
        with self._lock:
            ends = dict(self._ends)
            entry = self._current
            if entry is not None:
                done = self._steps - length_hint(self._left) - behind
                if done > 0:
                    ends[entry.endpoint] = entry.done(entry.length if done == self._steps else done)
            return Place(self._begin if self._whole is None else self._whole.begin, ends)

    def _stored_by_itself(self) -> Place:
        if self._auto:
            self._committed = self._place(1)
        return self._committed

    def commit(self) -> None:
        """Everything that was taken is done, the current item included; the server has it afterwards. Raises
        `ConsumerReplaced`, `JournalError`."""
        place = self._place(0)
        self._source.store(place)
        self._committed = place

    @property
    def numbers(self) -> dict[str, int]:
        """Of each endpoint, the last message that was committed."""
        return {name: end.number for name, end in self._committed.ends.items() if end.number is not None}


class SourceSleeper:
    """How a consumer sleeps until something new is there: the thread of its source wakes it."""

    patience: Final = _LOOK

    def __init__(self, source: StreamSource) -> None:
        self.waker = source.waker

    def connect(self) -> None:
        """Nothing to do."""

    def sleep(self, seconds: float) -> None:
        """Until something may be there, or the time is over."""
        poller = select.poll()
        poller.register(self.waker, select.POLLIN)
        poller.poll(max(0.0, min(seconds, self.patience)) * 1000)
        self.woken()

    def woken(self) -> None:
        """Take the bytes that woke us."""
        try:
            while len(self.waker.recv(4096)) == 4096:
                pass
        except OSError:
            return

    def close(self) -> None:
        """The source closes the socket."""
