"""Where the stream goes into the journal: behind the numbers, in front of the consumer's queue.

    record ──> numbered ──> JournaledInbox ──┬──> the journal's queue ──> the writer's thread ──> segments
                                             └──> the consumer's queue (or nobody's)

The journal's queue is an inbox like the consumer's, with separate backlogs. So the items that wait for the disk are bounded by
the same `buffer` and its policies, and the items that the journal loses are reported at their place by a `Dropped`. Both queues
get the items in the same order, under the reactor's lock; putting an item into a queue never waits for a disk.

A supervisor without a journal has plain inboxes, and uses nothing of this module.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from time import time_ns
from typing import Any, Final, cast

from wsadapter.contract.items import EVENT_NAMES, Batch, Event, Gap, Message
from wsadapter.delivery.inbox import Inbox, RecentInbox
from wsadapter.delivery.queued import Backlog, QueuedBatch, queue_single
from wsadapter.journal.marks import Mark

_MOST_EVENTS: Final = 100_000
"""Events that wait for the disk. Beyond it, everything that waits is given up: see `JournalQueue._give_up`."""


@dataclass(slots=True, eq=False)
class Recorded:
    """An event, or a batch, with the number of the record of its owner."""

    item: Event | Batch
    record: int | None


class RecordedBatch(QueuedBatch):
    """Messages that wait for the disk, with the number of their record."""

    __slots__ = ("record",)

    def __init__(self, queued: QueuedBatch, backlog: Backlog, record: int | None) -> None:
        a = queued
        super().__init__(backlog, a.epoch, a.first, a.received_at, a.binary, a.streams, a.payloads, a.count, a.count, a.size)
        self.record = record

    def deliver(self) -> list[Any]:
        """As `QueuedBatch`, with each batch in a `Recorded`."""
        record = self.record
        return [Recorded(item, record) if isinstance(item, Batch) else item for item in super().deliver()]


class DiskInbox(Inbox):
    """The inbox of the writer's thread."""

    def forget_events(self) -> None:
        """Only messages wait afterwards."""
        with self._lock:
            self._release()
            self._queue = deque(entry for entry in self._queue if isinstance(entry, QueuedBatch))


class JournalQueue:
    """What waits for the disk. `put...` is for the reactor, under its lock; the rest for the writer's thread."""

    def __init__(self, wake: SimpleQueue[None], overflowed: Callable[[str], None]) -> None:
        """`overflowed(name)`: more of an endpoint waits than may, and its policy is not to drop the oldest."""
        self.inbox = DiskInbox()
        self._backlogs: dict[str, Backlog] = {}
        self._wake = wake
        self._overflowed = overflowed
        self.is_asleep = False
        """Set by the writer before it sleeps."""
        self._events = 0
        """That were put since the writer found nothing waiting."""
        self.is_closed = False
        """Nothing more is written: discard what comes."""

    def put_event(self, event: Event, backlog: Backlog | None) -> None:
        """Let an event stand behind all that came before."""
        if self.is_closed or type(event) not in EVENT_NAMES:  # what a takeover puts between is no item
            return
        mine = None if backlog is None else self.backlog(backlog)
        record = None if backlog is None else backlog.record
        self.inbox.put_event(cast("Event", Recorded(event, record)), mine)
        self._events += 1
        if self._events > _MOST_EVENTS:
            self._give_up()
        if self.is_asleep:
            self._rouse()

    def put(self, queued: QueuedBatch) -> None:
        """Let messages stand behind all that came before."""
        if self.is_closed:
            return
        backlog = self.backlog(queued.backlog)
        self.inbox.put(RecordedBatch(queued, backlog, queued.backlog.record))
        if self.is_asleep:
            self._rouse()
        if backlog.waiting > backlog.buffer.max_bytes and backlog.buffer.overflow in ("block", "disconnect"):
            self._overflowed(backlog.name)

    def put_mark(self, mark: Mark, backlog: Backlog) -> None:
        """Let a mark stand behind all that came before; it is confirmed when all of that is committed."""
        if not self.is_closed:
            self.inbox.put_event(cast("Event", mark), self.backlog(backlog))
            if self.is_asleep:
                self._rouse()

    def backlog(self, of: Backlog) -> Backlog:
        """The backlog, for the disk, of an endpoint whose backlog for the consumer is `of`."""
        backlog = self._backlogs.get(of.name)
        if backlog is None:
            backlog = self._backlogs[of.name] = Backlog(of.name, of.buffer)
        elif backlog.buffer is not of.buffer:
            backlog.use(of.buffer)
        return backlog

    @property
    def waiting(self) -> int:
        """Bytes of messages that wait."""
        return sum(backlog.waiting for backlog in tuple(self._backlogs.values()))

    @property
    def dropped(self) -> int:
        """Messages that were dropped because the disk did not keep up."""
        return sum(backlog.dropped for backlog in tuple(self._backlogs.values()))

    def _rouse(self) -> None:
        self.is_asleep = False
        self._wake.put(None)

    def _give_up(self) -> None:
        """Events are never dropped singly: one of them may say that messages are missing. So many wait only if the disk takes
        nothing for hours. Then all that waits is dropped, and a Gap of each endpoint stands for the events."""
        self._events = 0
        self.inbox.forget_events()
        for backlog in tuple(self._backlogs.values()):
            self.inbox.discard(backlog, "overflow")
            gap = Gap(backlog.name, 0, time_ns(), "journal", None, None)
            self.inbox.put_event(cast("Event", Recorded(gap, None)), backlog)

    def take(self) -> list[Any]:
        """What is next: `Recorded`, and `Dropped` between."""
        inbox = self.inbox
        if not inbox.take(as_batches=True):
            self._events = 0
            return []
        return list(inbox.current)


class JournaledInbox(Inbox):
    """The inbox of a consumer, or of none, in front of which everything goes into the journal."""

    def __init__(self, journal: JournalQueue, *, delivers: bool, **of_inbox: Any) -> None:
        """`delivers`: there is a consumer. If not, the journal is all that gets the items. `of_inbox`: what the inbox takes."""
        super().__init__(**of_inbox)
        self._journal = journal
        self._delivers = delivers

    def put_event(self, event: Event, backlog: Backlog | None = None) -> None:
        self._journal.put_event(event, backlog)
        if self._delivers or type(event) not in EVENT_NAMES:
            super().put_event(event, backlog)

    def put(self, queued: QueuedBatch) -> None:
        self._journal.put(queued)
        if self._delivers:
            super().put(queued)

    def put_single(self, message: Message, backlog: Backlog) -> bool:
        _, data, epoch, number, received_at, _, binary = message
        self._journal.put(queue_single(data, backlog, epoch=epoch, number=number, received_at=received_at, binary=binary))
        return super().put_single(message, backlog) if self._delivers else False


class JournaledRecentInbox(JournaledInbox, RecentInbox):
    """The same for the stream of a pool, which may have no consumer."""

    def __init__(self, journal: JournalQueue, most_events: int) -> None:
        JournaledInbox.__init__(self, journal, delivers=True, most_events=most_events)
