"""Fan-in: merges the records of all owners into one queue for one consumer.

    record ──> QueuedBatch (numbered) ─┐
                                       ├──> queue ──> Cursor: an iterator over Messages and Events, or over Batches and Events
    event ─────────────────────────────┘

The reactor adds entries, and the consumer fetches them; records are cut into messages only in the consumer's thread. What
`drop_oldest` and `conflate` do is decided only here: at most `buffer.max_bytes` plus one message of an endpoint wait. (`block`
and `disconnect` are applied in endpoint/backpressure.py.) The oldest messages are dropped first, and a `Dropped` takes their
place. The newest message is never dropped, whatever its size, because the consumer may wait for it.

An interrupt (KeyboardInterrupt) may come between any two instructions of the consumer, and must lose nothing. Therefore one
assignment puts entries into the cursor, and the entries are removed from the queue afterwards. The messages of a large record
are made one by one, by iterators written in C, because no interrupt falls within a step of those. A list of all messages would
leave the processor's cache before they are used, and the garbage collector would look at each of them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from operator import length_hint
from typing import Any

from wsadapter.contract.items import Event, Message
from wsadapter.delivery.cursor import Cursor, cursor_over
from wsadapter.delivery.overflow import Conflation
from wsadapter.delivery.queued import PER_MESSAGE, Backlog, QueuedBatch, queue_batch, queue_single
from wsadapter.loop.sink import Sink

__all__ = ["Backlog", "Inbox", "RecentInbox", "queue_batch"]

_SWEEP_AFTER = 1024
"""The queue is swept if it has more empty entries than this, and more than half of it is empty: without a consumer it must not
grow."""
_FEW = 16
"""Up to this many messages of a record are created together, which costs less than an iterator."""
_SMALL = 4096
"""Bytes of a record, at most, that is put into a cursor together with others."""
_MOST_ENTRIES = 32
"""Small records and events that are put into a cursor together, at most."""


class Inbox:
    """The queue of one consumer. The reactor's thread adds, the consumer's thread takes; a lock keeps them apart."""

    def __init__(self) -> None:
        self._queue: deque[QueuedBatch | Event] = deque()
        self._lock = threading.Lock()
        self.cursor = cursor_over((), [], as_batches=False)
        """What the consumer has fetched and not iterated yet. Only the consumer's thread touches it."""
        self._empty = 0
        self.messages = Sink(partial(self.refill, as_batches=False))
        """For a consumer of messages that runs the loop. Only this sink takes a message directly, see `put_single`."""
        self.batches = Sink(partial(self.refill, as_batches=True))
        """For a consumer of batches that runs the loop."""

    def __bool__(self) -> bool:
        return bool(self._queue)

    # -- in --------------------------------------------------------------------------------------------------------------

    def put_event(self, event: Event, backlog: Backlog | None = None) -> None:
        """Add an event, behind all that arrived before it."""
        with self._lock:
            self._queue.append(event)
            if backlog is not None:
                backlog.apart = True

    def put(self, queued: QueuedBatch) -> None:
        """Add messages, behind all that arrived before them, and make room for them if they do not fit."""
        backlog = queued.backlog
        with self._lock:
            self._queue.append(queued)
            last, backlog.last = backlog.last, queued
            if last is None:
                backlog.oldest = queued
            else:
                last.after, queued.before, queued.apart = queued, last, backlog.apart
                if backlog.oldest is None:
                    backlog.oldest = queued
            backlog.apart = False
            backlog.waiting += queued.size
            if backlog.waiting > backlog.limit:
                self._release()
                self._make_room(backlog, queued.count)

    def put_single(self, message: Message, backlog: Backlog) -> bool:
        """As `put`, for a single message. The message goes directly into the cursor if the sink accepts that, and if nothing
        else is in the cursor or waits. Returns whether it did."""
        cursor, sink = self.cursor, self.messages
        if sink.accepting and not (self._queue or cursor.entries or cursor.as_batches or length_hint(cursor.left)):
            left = iter((message,))
            self.cursor = Cursor(left, left, False, ())
            sink.delivered = True
            return True
        _, data, epoch, number, received_at, _, binary = message
        # Not `self.put`: a subclass that does more there (JournaledInbox) has done it for this message.
        one = queue_single(data, backlog, epoch=epoch, number=number, received_at=received_at, binary=binary)
        Inbox.put(self, one)
        return False

    def await_room(self, backlog: Backlog, on_room: Callable[[], None]) -> bool:
        """Call `on_room` when half of the buffer is free again. Returns false, and does not call `on_room`, if half of the
        buffer is free now: the consumer was faster, the queue may be empty, and then nothing would ever call `on_room`."""
        with self._lock:
            if backlog.has_room:
                return False
            backlog.on_room = on_room
            return True

    def discard(self, backlog: Backlog, cause: str) -> None:
        """Drop all messages of an endpoint that wait."""
        with self._lock:
            self._release()
            while backlog.oldest is not None:
                self._empty += backlog.drop_all_of(backlog.oldest, cause)
            self._sweep()

    def move(self, backlog: Backlog, other: Inbox) -> None:
        """Move the waiting entries of an endpoint to another inbox, in order."""
        with self._lock:
            self._release()
            mine = [entry for entry in self._queue if entry.endpoint == backlog.name]
            self._queue = deque(entry for entry in self._queue if entry.endpoint != backlog.name)
            other.extend(mine)

    def extend(self, entries: Iterable[QueuedBatch | Event]) -> None:
        """Add entries of another inbox, behind all that arrived before them."""
        with self._lock:
            self._queue.extend(entries)

    # -- out -------------------------------------------------------------------------------------------------------------

    @property
    def current(self) -> Iterator[Any]:
        """What the consumer has fetched and not iterated yet."""
        return self.cursor.items

    def regroup(self, *, as_batches: bool) -> None:
        """Turn the rest of the cursor into the other form: batches into messages, or messages into batches."""
        with self._lock:
            before = self.cursor
            self.cursor = before.regrouped(as_batches=as_batches)
            before.empty()  # an iteration that is under way may still hold it

    def refill(self, *, as_batches: bool) -> bool:
        """Put the next entries into the cursor, unless something is left in it. Returns false if nothing waits."""
        if self.cursor.as_batches != as_batches:
            self.regroup(as_batches=as_batches)
        return self.cursor.has_items() or self.take(as_batches=as_batches)

    def take(self, *, as_batches: bool) -> bool:
        """Put the next entries into the cursor: Messages and Events, or Batches and Events. Returns false if nothing waits."""
        with self._lock:
            if self.cursor.entries:  # an interrupt came between the assignment and `_release`
                self._release()
            while self._queue:
                self.cursor = self._next_chunk(as_batches=as_batches)
                self._release()
                if self.cursor.has_items():
                    return True
            return False

    def _next_chunk(self, *, as_batches: bool) -> Cursor:
        """A cursor over the first entries of the queue: one large record, or some small records and events."""
        entries: list[QueuedBatch | Event] = []
        items: list[Any] = []
        for entry in islice(self._queue, _MOST_ENTRIES):
            if not isinstance(entry, QueuedBatch):
                items.append(entry)
            elif entry.count <= _FEW and entry.size <= _SMALL and entry.thinned is None:
                items += entry.deliver() if as_batches else entry.deliver_each()
            elif entries:
                break
            else:
                return cursor_over((entry,), entry.deliver(), as_batches=as_batches)
            entries.append(entry)
        left = iter(items)
        return Cursor(left, left, as_batches, entries)

    def _release(self) -> None:
        """Remove the entries of the cursor from the queue, if they are still in it."""
        cursor, queue = self.cursor, self._queue
        for entry in cursor.entries:
            if queue and queue[0] is entry:
                if isinstance(entry, QueuedBatch):
                    self._mark_delivered(entry)
                queue.popleft()
        cursor.entries = ()

    def _mark_delivered(self, entry: QueuedBatch) -> None:
        """The consumer has this entry: its messages do not wait any more."""
        backlog, after = entry.backlog, entry.after
        if entry.left and entry.before is None and backlog.conflation is None and (after is None or after.left):
            # The usual case, without a call: the entry is the first one, and nothing was dropped behind it.
            backlog.waiting -= entry.size
            backlog.oldest = after
            entry.left = entry.size = 0
            if after is None:
                backlog.last = None
            else:
                entry.after = after.before = None
                after.apart = False
        else:
            self._empty -= entry.is_empty
            backlog.mark_delivered(entry)
        entry.loss = None  # it is in the cursor
        on_room = backlog.on_room  # read once, because the reactor may set it to None at the same time
        if on_room is not None and backlog.has_room:
            backlog.on_room = None
            on_room()

    # -- overflow --------------------------------------------------------------------------------------------------------

    def _make_room(self, backlog: Backlog, came: int) -> None:
        match backlog.buffer.overflow:
            case "conflate":
                if backlog.conflation is None:
                    backlog.conflation = Conflation(backlog)
                self._empty += backlog.conflation.make_room(came)
                self._drop_oldest(backlog)
            case "drop_oldest":
                self._drop_oldest(backlog)
            case "block" | "disconnect":  # the endpoint compares its backlog with the bound, and acts (backpressure.py)
                return
        self._sweep()

    def _drop_oldest(self, backlog: Backlog) -> None:
        """Drop the oldest messages until the others fit, see `_may_wait`."""
        most = backlog.buffer.max_bytes
        while backlog.waiting > most and (queued := backlog.oldest) is not None:
            can_trim = queued is backlog.last or queued.size > most // 2 or queued.size > backlog.waiting - most
            if queued.left > 1 and can_trim:
                if self._trim(backlog, queued):
                    return
            elif _may_wait(backlog, queued, queued.size):
                return
            else:
                self._empty += backlog.drop_all_of(queued, "overflow")

    def _trim(self, backlog: Backlog, queued: QueuedBatch) -> bool:
        """Drop the oldest messages of a record until the others fit. Returns false if they do not fit, and only the last
        message of the record is left."""
        thinned, size = queued.thin(), 0
        begin = position = thinned.begin
        while queued.left > 1 and backlog.is_full:
            if queued.holds(position):
                if _may_wait(backlog, queued, thinned.sizes[position] + PER_MESSAGE):
                    break
                queued.drop(position)
            size += thinned.sizes[position]
            position += 1
        thinned.begin = position
        if position > begin:
            self._empty += backlog.lose(queued, "overflow", begin, position, size)
        return not backlog.is_full or queued.left > 1

    def _sweep(self) -> None:
        if self._empty > _SWEEP_AFTER and self._empty * 2 > len(self._queue):
            self._queue = deque(e for e in self._queue if not (isinstance(e, QueuedBatch) and e.is_empty))
            self._empty = 0


def _may_wait(backlog: Backlog, queued: QueuedBatch, size: int) -> bool:
    """Whether the oldest message, of `size` bytes, may wait although the buffer is full: it is also the newest, or it takes
    more than half of the buffer and the messages behind it fit. Otherwise a message near the buffer's size could never be
    delivered."""
    most = backlog.buffer.max_bytes
    if queued.left == 1 and queued is backlog.last:
        return True
    return size > most // 2 and backlog.waiting - size <= most


class RecentInbox(Inbox):
    """For a stream that may have no consumer: the oldest waiting events are dropped; messages are bounded by `buffer`."""

    def __init__(self, most_events: int) -> None:
        super().__init__()
        self._most = most_events
        self._events = 0
        """Counts the events since the last drop. It starts at half the limit, so that drops are rare."""

    def put_event(self, event: Event, backlog: Backlog | None = None) -> None:
        super().put_event(event, backlog)
        self._events += 1
        if self._events > self._most:
            with self._lock:
                self._release()
                self._forget()

    def _forget(self) -> None:
        waiting = [entry for entry in self._queue if not isinstance(entry, QueuedBatch)]
        surplus = set(map(id, waiting[: max(0, len(waiting) - self._most)]))
        self._queue = deque(entry for entry in self._queue if id(entry) not in surplus)
        self._events = self._most // 2
