"""What waits of one endpoint in the inbox: the records' messages, and what stands where messages were dropped.

    account:  oldest ──> arrival ⇄ arrival ⇄ arrival <── last
                            │         │         └ all of its messages wait
                            │         └ thinned: some of its messages were dropped, `loss` counts those at its front
                            └ no message left: only its `loss` waits

Losses next to each other become one, so what was dropped costs no more memory than what waits. A loss does not reach across an
event, nor into another epoch. Everything here is used under the inbox's lock.
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
"""Bytes that each of its messages costs besides."""


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
        """By the loss right behind it."""
        self.cause, self.last = more.cause, more.last
        self.count += more.count
        self.size += more.size

    def event(self) -> Dropped:
        return Dropped(self.endpoint, self.epoch, time_ns(), self.first, self.last, self.count, self.size, self.cause)


@dataclass(slots=True, eq=False)
class Thinned:
    """The messages of an arrival of which some were dropped."""

    payloads: list[bytes | None]
    """None where a message was dropped."""
    sizes: list[int]
    """Payload bytes of each message, dropped or not."""
    begin: int = 0
    """The messages before this position are in the arrival's `loss`, or in that of the arrival before it."""


@dataclass(slots=True, eq=False)
class Arrival:
    """The messages of one record, numbered, waiting."""

    account: Account
    epoch: int
    first: int
    """Number of the first message."""
    received_at: int
    binary: bool | list[bool]
    streams: list[str | None] | None
    payloads: Sequence[bytes]
    """Not used where it is `thinned`."""
    count: int
    left: int
    """Messages that wait. 0: all were delivered or dropped."""
    size: int
    """Bytes it is charged with."""
    apart: bool = False
    """An event stands between it and the arrival before it."""
    before: Arrival | None = None
    after: Arrival | None = None
    thinned: Thinned | None = None
    stale: array[int] | None = None
    """Positions of messages that may be conflated."""
    loss: Loss | None = None
    """What stands in front of it, or instead of it."""

    @property
    def endpoint(self) -> str:
        """The name, as an event has it."""
        return self.account.name

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it is left to be delivered."""
        return not self.left and self.loss is None

    def holds(self, position: int) -> bool:
        """Whether this message of it waits."""
        return self.left > 0 and (self.thinned is None or self.thinned.payloads[position] is not None)

    def thin(self) -> Thinned:
        """Prepare for some of its messages to be dropped."""
        if self.thinned is None:
            sizes = [len(data) for data in self.payloads]
            self.thinned = Thinned(list(self.payloads), sizes)
            self.payloads = ()
            size = sum(sizes) + PER_MESSAGE * self.count + OVERHEAD  # the frames' headers are gone
            self.account.waiting += size - self.size
            self.size = size
        return self.thinned

    def drop(self, position: int) -> None:
        """Drop one message, which must wait; it is counted, and is to be told as lost."""
        thinned = self.thin()
        thinned.payloads[position] = None
        free = thinned.sizes[position] + PER_MESSAGE
        self.left -= 1
        self.size -= free
        self.account.waiting -= free
        self.account.dropped += 1

    def messages(self) -> list[tuple[int, bytes]]:
        """Position and payload of each message that waits."""
        if self.thinned is None:
            return list(enumerate(self.payloads))
        return [(place, data) for place, data in enumerate(self.thinned.payloads) if data is not None]

    def deliver(self) -> list[Batch | Event]:
        """What the consumer gets for it."""
        lost: list[Batch | Event] = [] if self.loss is None else [self.loss.event()]
        if not self.left:
            return lost
        if self.thinned is None:
            return [*lost, self._batch(self.payloads, 0, self.binary, self.streams)]
        return lost + self._runs(self.thinned)

    def deliver_each(self) -> list[Message | Event]:
        """The same of a small one that is not thinned, message by message, without a detour by a Batch."""
        if self.loss is not None:
            return [self.loss.event()]
        if not self.left:
            return []
        name, epoch, at, binary, streams = self.account.name, self.epoch, self.received_at, self.binary, self.streams
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
        """Batches of what is left, a `Dropped` where messages between were conflated."""
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
    """Who knows which messages of an account may be conflated."""

    def exhausted(self, arrival: Arrival) -> None:
        """No message of it is left; it is still linked to its neighbours."""
        ...

    def make_room(self, came: int) -> int: ...


class Account:
    """What waits of one endpoint, oldest first."""

    __slots__ = ("apart", "buffer", "conflation", "dropped", "last", "limit", "name", "oldest", "relieved", "waiting")

    def __init__(self, name: str, buffer: Buffer) -> None:
        self.name = name
        self.waiting = 0
        """Bytes."""
        self.dropped = 0
        """Messages dropped since the endpoint was added."""
        self.oldest: Arrival | None = None
        """The first that has messages left."""
        self.last: Arrival | None = None
        """The last, with messages left or without."""
        self.relieved: Callable[[], None] | None = None
        """Called once, by the consumer's thread, when half of the buffer is free again ("block")."""
        self.conflation: Conflates | None = None
        self.apart = False
        """An event stands behind all that waits."""
        self.use(buffer)

    def use(self, buffer: Buffer) -> None:
        """Another buffer's settings hold from now on."""
        self.buffer = buffer
        self.conflation = None
        self.limit = buffer.max_bytes // 2 if buffer.overflow == "conflate" else buffer.max_bytes
        """Bytes above which something is done at each put."""

    @property
    def is_full(self) -> bool:
        """More waits than `max_bytes`."""
        return self.waiting > self.buffer.max_bytes

    @property
    def has_room(self) -> bool:
        """Half of the buffer is free."""
        return self.waiting <= self.buffer.max_bytes // 2

    @property
    def has_overflowed(self) -> bool:
        """Whether more waits than may. What arrived at once and takes more than half of the buffer may wait besides the rest:
        the consumer had no chance to take it before."""
        oldest, most = self.oldest, self.buffer.max_bytes
        large = oldest.size if oldest is not None and oldest.size > most // 2 else 0
        return self.waiting - large > most

    def settle(self, arrival: Arrival) -> None:
        """It was delivered, and so was its loss."""
        if arrival.left:
            self.exhausted(arrival)
        self.unlink(arrival)

    def exhausted(self, arrival: Arrival) -> None:
        """No message of it is left: all were delivered or dropped."""
        self.waiting -= arrival.size
        arrival.left = arrival.size = 0
        arrival.payloads, arrival.thinned, arrival.stale = (), None, None
        if self.conflation is not None:
            self.conflation.exhausted(arrival)
        if arrival is self.oldest:
            self.oldest = next_waiting(arrival)

    def unlink(self, arrival: Arrival) -> None:
        """Nothing of it is left to be delivered."""
        before, after = arrival.before, arrival.after
        if before is not None:
            before.after = after
        if after is not None:
            after.before = before
            after.apart = after.apart or arrival.apart
        elif arrival is self.last:
            self.last = before
            self.apart = self.apart or arrival.apart
        arrival.before = arrival.after = None

    def drop_all_of(self, arrival: Arrival, cause: str) -> int:
        """Drop what is left of it; how many arrivals nothing stands for any more."""
        thinned = arrival.thinned
        begin = 0 if thinned is None else thinned.begin
        size = sum(map(len, arrival.payloads) if thinned is None else thinned.sizes[begin:])
        self.dropped += arrival.left
        self.exhausted(arrival)
        return self.lose(arrival, cause, begin, arrival.count, size)

    def lose(self, arrival: Arrival, cause: str, begin: int, end: int, size: int) -> int:
        """The messages at these positions, which are its first or all that is left of it, are lost; how many arrivals nothing
        stands for any more."""
        first, last, before = arrival.first + begin, arrival.first + end - 1, arrival.before
        loss = Loss(self.name, arrival.epoch, cause, first, last, end - begin, size)
        if arrival.loss is not None:
            arrival.loss.grow(loss)
        elif before is not None and before.loss is not None and _are_one(before, arrival, loss):
            before.loss.grow(loss)
            if arrival.left:
                return self._join(before)
            self.unlink(arrival)
            return 1 + self._join(before)
        else:
            arrival.loss = loss
        return self._join(arrival)

    def _join(self, arrival: Arrival) -> int:
        """Make one of the losses before and behind the one that stands instead of this arrival; how many are gone."""
        joined = 0
        while (after := arrival.after) is not None and _stand_together(arrival, after):
            self._put_together(arrival, after)
            joined += 1
        while (before := arrival.before) is not None and _stand_together(before, arrival):
            self._put_together(before, arrival)
            arrival, joined = before, joined + 1
        return joined

    def _put_together(self, arrival: Arrival, after: Arrival) -> None:
        assert arrival.loss is not None
        assert after.loss is not None
        arrival.loss.grow(after.loss)
        after.loss = None
        self.unlink(after)


def next_waiting(arrival: Arrival) -> Arrival | None:
    """The next one behind it that has messages left."""
    after = arrival.after
    while after is not None and not after.left:
        after = after.after
    return after


def _are_one(before: Arrival, arrival: Arrival, loss: Loss) -> bool:
    """Whether the loss that stands instead of `before` may grow by `loss`, at the front of `arrival`. What was conflated
    before an overflow is told with it: else the two would alternate without end where nobody consumes."""
    lost = before.loss
    if lost is None or before.left or arrival.apart or (lost.last + 1, lost.epoch) != (loss.first, loss.epoch):
        return False
    return lost.cause == loss.cause or (lost.cause, loss.cause) == ("conflated", "overflow")


def _stand_together(before: Arrival, arrival: Arrival) -> bool:
    """Whether losses stand instead of both, and are one."""
    lost, loss = before.loss, arrival.loss
    if lost is None or loss is None or arrival.left or lost.cause != loss.cause:
        return False
    return _are_one(before, arrival, loss)


def arrival_of(received: Record, account: Account, *, epoch: int, first: int, streams: list[str | None] | None) -> Arrival:
    """The arrival of a BATCH record."""
    count = received.count
    return Arrival(
        account, epoch, first, received.received_at, received.binary, streams, received.payloads, count, count,
        received.size + PER_MESSAGE * count + OVERHEAD,
    )  # fmt: skip


def arrival_of_one(data: bytes, account: Account, *, epoch: int, number: int, received_at: int, binary: bool) -> Arrival:
    """The arrival of a lone message."""
    size = len(data) + PER_MESSAGE + OVERHEAD
    return Arrival(account, epoch, number, received_at, binary, None, (data,), 1, 1, size)
