"""The backlog of one endpoint in the inbox: the messages of its records, and the losses in place of dropped messages.

    Backlog:  oldest ──> QueuedBatch ⇄ QueuedBatch ⇄ QueuedBatch <── last
                            │             │             └ all of its messages wait
                            │             └ thinned: some of its messages were dropped, `loss` counts those at its front
                            └ no message left: only its `loss` waits

Adjacent losses become one, so dropped messages cost no more memory than waiting ones. A loss does not reach across an event,
nor into another epoch. Everything here is used under the inbox's lock.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, groupby, repeat
from time import time_ns
from typing import Protocol

from wsadapter.contract.endpoint import Buffer
from wsadapter.contract.ipc.record import Record
from wsadapter.contract.items import Batch, Dropped, Event, Message

OVERHEAD = 256
"""Bytes that a waiting record costs besides its own."""
PER_MESSAGE = 8
"""Bytes that each message of a record costs besides its payload."""


@dataclass(slots=True, eq=False)
class Loss:
    """A `Dropped` in the making: it grows while the messages behind it are dropped too."""

    endpoint: str
    epoch: int
    cause: str
    first: int
    last: int
    count: int
    size: int

    def grow(self, more: Loss) -> None:
        """Add the loss directly behind this one."""
        self.cause, self.last = more.cause, more.last
        self.count += more.count
        self.size += more.size

    def event(self) -> Dropped:
        return Dropped(self.endpoint, self.epoch, time_ns(), self.first, self.last, self.count, self.size, self.cause)


@dataclass(slots=True, eq=False)
class Thinned:
    """The messages of a queued batch of which some were dropped."""

    payloads: list[bytes | None]
    """None where a message was dropped."""
    sizes: list[int]
    """Payload bytes of each message, dropped or not."""
    begin: int = 0
    """The messages before this position are in the `loss` of this batch, or of the one before it."""


@dataclass(slots=True, eq=False)
class QueuedBatch:
    """The messages of one record, numbered, that wait for the consumer."""

    backlog: Backlog
    epoch: int
    first: int
    """Number of the first message."""
    received_at: int
    binary: bool | list[bool]
    streams: list[str | None] | None
    payloads: Sequence[bytes]
    """Not used if the batch is `thinned`."""
    count: int
    left: int
    """Messages that wait. 0: all were delivered or dropped."""
    size: int
    """Bytes that count against the buffer."""
    apart: bool = False
    """An event is between this batch and the one before it."""
    before: QueuedBatch | None = None
    after: QueuedBatch | None = None
    thinned: Thinned | None = None
    stale: array[int] | None = None
    """Positions of messages that may be conflated."""
    loss: Loss | None = None
    """The loss before the batch, or in its place."""

    @property
    def endpoint(self) -> str:
        """The name, as an event has it."""
        return self.backlog.name

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to be delivered."""
        return not self.left and self.loss is None

    def holds(self, position: int) -> bool:
        """Whether the message at this position waits."""
        return self.left > 0 and (self.thinned is None or self.thinned.payloads[position] is not None)

    def thin(self) -> Thinned:
        """Prepare for some of its messages to be dropped."""
        if self.thinned is None:
            sizes = [len(data) for data in self.payloads]
            self.thinned = Thinned(list(self.payloads), sizes)
            self.payloads = ()
            size = sum(sizes) + PER_MESSAGE * self.count + OVERHEAD  # without the headers of the frames
            self.backlog.waiting += size - self.size
            self.size = size
        return self.thinned

    def drop(self, position: int) -> None:
        """Drop one message, which must wait. It is counted; the caller reports the loss."""
        thinned = self.thin()
        thinned.payloads[position] = None
        free = thinned.sizes[position] + PER_MESSAGE
        self.left -= 1
        self.size -= free
        self.backlog.waiting -= free
        self.backlog.dropped += 1

    def messages(self) -> list[tuple[int, bytes]]:
        """Position and payload of each message that waits."""
        if self.thinned is None:
            return list(enumerate(self.payloads))
        return [(place, data) for place, data in enumerate(self.thinned.payloads) if data is not None]

    def deliver(self) -> list[Batch | Event]:
        """The items for the consumer."""
        lost: list[Batch | Event] = [] if self.loss is None else [self.loss.event()]
        if not self.left:
            return lost
        if self.thinned is None:
            return [*lost, self._batch(self.payloads, 0, self.binary, self.streams)]
        return lost + self._runs(self.thinned)

    def deliver_each(self) -> list[Message | Event]:
        """As `deliver`, of a small batch that is not thinned, as messages, without a `Batch` in between."""
        if self.loss is not None:
            return [self.loss.event()]
        if not self.left:
            return []
        name, epoch, at, binary, streams = self.backlog.name, self.epoch, self.received_at, self.binary, self.streams
        payloads = self.payloads
        if len(payloads) == 1:  # the usual case where each message counts
            kind = binary if isinstance(binary, bool) else binary[0]
            values = (name, payloads[0], epoch, self.first, at, streams[0] if streams else None, kind)
            return [tuple.__new__(Message, values)]
        kinds = repeat(binary) if isinstance(binary, bool) else binary
        each = zip(count(self.first), payloads, streams or repeat(None), kinds, strict=False)
        return [tuple.__new__(Message, (name, data, epoch, n, at, stream, kind)) for n, data, stream, kind in each]

    def _batch(
        self, payloads: Sequence[bytes], offset: int, binary: bool | list[bool], streams: list[str | None] | None
    ) -> Batch:
        return Batch(
            self.endpoint,
            payloads,
            epoch=self.epoch,
            first_number=self.first + offset,
            received_at=self.received_at,
            binary=binary,
            streams=streams,
        )

    def _runs(self, thinned: Thinned) -> list[Batch | Event]:
        """Batches of the messages that are left, and a `Dropped` where messages between them were conflated."""
        delivered: list[Batch | Event] = []
        position = thinned.begin
        for _, run in groupby(enumerate(self.messages()), lambda pair: pair[1][0] - pair[0]):
            left = [place_and_data for _, place_and_data in run]
            begin, end = left[0][0], left[-1][0] + 1
            if begin > position:
                delivered.append(self._conflated(thinned, position, begin))
            position = end
            binary = self.binary if isinstance(self.binary, bool) else self.binary[begin:end]
            streams = self.streams[begin:end] if self.streams else None
            delivered.append(self._batch([data for _, data in left], begin, binary, streams))
        if position < self.count:
            delivered.append(self._conflated(thinned, position, self.count))
        return delivered

    def _conflated(self, thinned: Thinned, begin: int, end: int) -> Dropped:
        first, last, size = self.first + begin, self.first + end - 1, sum(thinned.sizes[begin:end])
        return Dropped(self.endpoint, self.epoch, time_ns(), first, last, end - begin, size, "conflated")


class Conflates(Protocol):
    """Keeps the messages of a backlog that may be conflated."""

    def exhausted(self, queued: QueuedBatch) -> None:
        """No message of this batch is left; it is still linked to its neighbours."""
        ...

    def make_room(self, came: int) -> int: ...


class Backlog:
    """The backlog of one endpoint, oldest first."""

    __slots__ = ("apart", "buffer", "conflation", "dropped", "last", "limit", "name", "oldest", "on_room", "record", "waiting")

    def __init__(self, name: str, buffer: Buffer) -> None:
        self.name = name
        self.record: int | None = None
        """The number of the owner's record that is being put in; for the journal."""
        self.waiting = 0
        """Bytes."""
        self.dropped = 0
        """Messages dropped since the endpoint was added."""
        self.oldest: QueuedBatch | None = None
        """The first batch that has messages left."""
        self.last: QueuedBatch | None = None
        """The last batch, with messages left or without."""
        self.on_room: Callable[[], None] | None = None
        """Called once, by the consumer's thread, when half of the buffer is free again ("block")."""
        self.conflation: Conflates | None = None
        self.apart = False
        """An event is behind all that waits."""
        self.use(buffer)

    def use(self, buffer: Buffer) -> None:
        """Apply other settings from now on."""
        self.buffer = buffer
        self.conflation = None
        self.limit = buffer.max_bytes // 2 if buffer.overflow == "conflate" else buffer.max_bytes
        """Bytes above which something is done at each put."""

    @property
    def is_full(self) -> bool:
        """Whether more than `max_bytes` wait."""
        return self.waiting > self.buffer.max_bytes

    @property
    def has_room(self) -> bool:
        """Whether half of the buffer is free."""
        return self.waiting <= self.buffer.max_bytes // 2

    @property
    def has_overflowed(self) -> bool:
        """Whether more waits than may. A record that takes more than half of the buffer is not counted, because it arrived at
        once, and the consumer had no chance to take it before."""
        oldest, most = self.oldest, self.buffer.max_bytes
        large = oldest.size if oldest is not None and oldest.size > most // 2 else 0
        return self.waiting - large > most

    def mark_delivered(self, queued: QueuedBatch) -> None:
        """The batch was delivered, and so was its loss."""
        if queued.left:
            self.exhausted(queued)
        self.unlink(queued)

    def exhausted(self, queued: QueuedBatch) -> None:
        """No message of the batch is left: all were delivered or dropped."""
        self.waiting -= queued.size
        queued.left = queued.size = 0
        queued.payloads, queued.thinned, queued.stale = (), None, None
        if self.conflation is not None:
            self.conflation.exhausted(queued)
        if queued is self.oldest:
            self.oldest = next_waiting(queued)

    def unlink(self, queued: QueuedBatch) -> None:
        """Nothing of the batch is left to be delivered."""
        before, after = queued.before, queued.after
        if before is not None:
            before.after = after
        if after is not None:
            after.before = before
            after.apart = after.apart or queued.apart
        elif queued is self.last:
            self.last = before
            self.apart = self.apart or queued.apart
        queued.before = queued.after = None

    def drop_all_of(self, queued: QueuedBatch, cause: str) -> int:
        """Drop all messages that are left of the batch. Returns how many entries of the queue became empty."""
        thinned = queued.thinned
        begin = 0 if thinned is None else thinned.begin
        size = sum(map(len, queued.payloads) if thinned is None else thinned.sizes[begin:])
        self.dropped += queued.left
        self.exhausted(queued)
        return self.lose(queued, cause, begin, queued.count, size)

    def lose(self, queued: QueuedBatch, cause: str, begin: int, end: int, size: int) -> int:
        """The messages at these positions, which are the first ones or all that were left, are lost. Returns how many entries
        of the queue became empty."""
        first, last, before = queued.first + begin, queued.first + end - 1, queued.before
        loss = Loss(self.name, queued.epoch, cause, first, last, end - begin, size)
        if queued.loss is not None:
            queued.loss.grow(loss)
        elif before is not None and before.loss is not None and _are_one(before, queued, loss):
            before.loss.grow(loss)
            if queued.left:
                return self._join(before)
            self.unlink(queued)
            return 1 + self._join(before)
        else:
            queued.loss = loss
        return self._join(queued)

    def _join(self, queued: QueuedBatch) -> int:
        """Join the loss in place of this batch with those before and behind it. Returns how many entries of the queue became
        empty."""
        joined = 0
        while (after := queued.after) is not None and _stand_together(queued, after):
            self._put_together(queued, after)
            joined += 1
        while (before := queued.before) is not None and _stand_together(before, queued):
            self._put_together(before, queued)
            queued, joined = before, joined + 1
        return joined

    def _put_together(self, queued: QueuedBatch, after: QueuedBatch) -> None:
        assert queued.loss is not None
        assert after.loss is not None
        queued.loss.grow(after.loss)
        after.loss = None
        self.unlink(after)


def next_waiting(queued: QueuedBatch) -> QueuedBatch | None:
    """The next batch that has messages left."""
    after = queued.after
    while after is not None and not after.left:
        after = after.after
    return after


def _are_one(before: QueuedBatch, queued: QueuedBatch, loss: Loss) -> bool:
    """Whether the loss in place of `before` may grow by `loss`, at the front of `queued`. Messages that were conflated before
    an overflow are reported together with the overflow; otherwise the two would alternate without end if nobody consumes."""
    lost = before.loss
    if lost is None or before.left or queued.apart or (lost.last + 1, lost.epoch) != (loss.first, loss.epoch):
        return False
    return lost.cause == loss.cause or (lost.cause, loss.cause) == ("conflated", "overflow")


def _stand_together(before: QueuedBatch, queued: QueuedBatch) -> bool:
    """Whether both have only losses, which can be joined."""
    lost, loss = before.loss, queued.loss
    if lost is None or loss is None or queued.left or lost.cause != loss.cause:
        return False
    return _are_one(before, queued, loss)


def queue_batch(received: Record, backlog: Backlog, *, epoch: int, first: int, streams: list[str | None] | None) -> QueuedBatch:
    """The messages of a BATCH record, for the queue."""
    count = received.count
    return QueuedBatch(
        backlog, epoch, first, received.received_at, received.binary, streams, received.payloads, count, count,
        received.size + PER_MESSAGE * count + OVERHEAD,
    )  # fmt: skip


def queue_single(data: bytes, backlog: Backlog, *, epoch: int, number: int, received_at: int, binary: bool) -> QueuedBatch:
    """A single message, for the queue."""
    size = len(data) + PER_MESSAGE + OVERHEAD
    return QueuedBatch(backlog, epoch, number, received_at, binary, None, (data,), 1, 1, size)
