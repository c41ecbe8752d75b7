"""Fan-in: what the owners' records become, in one order, waiting for one consumer.

    record ──> Arrival (numbered) ─┐
                                   ├──> queue ──> Hand: an iterator over Messages and Events, or over Batches and Events
    event ─────────────────────────┘

The reactor puts in, the consumer takes out; records are sliced into messages only on the consumer's turn. Overflow is decided
here and nowhere else: what waits of one endpoint may not be more than its `buffer.max_bytes`. The oldest go first, and a
`Dropped` stands where they stood.

An interrupt (KeyboardInterrupt) may strike the consumer between any two instructions, and must cost it nothing. So what it
takes is put in its hand by one assignment, and leaves the queue after that. The messages of a large record are made in hand one
by one, by iterators written in C, between whose steps no interrupt can fall: a list of them all would leave the processor's
cache before they are used, and have the garbage collector look at each.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, groupby, islice, repeat
from operator import length_hint
from time import time_ns
from typing import Any

import orjson

from wsadapter.contract.endpoint import Buffer
from wsadapter.contract.items import Batch, Dropped, Event, Message
from wsadapter.contract.record import Record
from wsadapter.hand import Hand, hand_of

_OVERHEAD = 256
"""Bytes that a waiting record costs besides its own."""
_PER_MESSAGE = 8
"""Bytes that each of its messages costs besides."""
_SWEEP_AFTER = 1024
"""So many empty entries, and half of the queue, before it is swept: a consumer that never comes must not cost memory."""
_CONFLATE_TO = 0.75
"""Share of the buffer that may be in use after conflating; so it is not done again at once."""

_FEW = 16
"""Messages of a record up to which making them at once costs less than preparing to make them one by one."""
_SMALL = 4096
"""Bytes of a record, at most, that is taken in hand together with others."""
_HANDFUL = 32
"""So many small records and events are taken in hand at once."""


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

    def event(self) -> Dropped:
        return Dropped(self.endpoint, self.epoch, time_ns(), self.first, self.last, self.count, self.size, self.cause)


@dataclass(slots=True, eq=False)
class Account:
    """What waits of one endpoint."""

    name: str
    buffer: Buffer
    waiting: int = 0
    """Bytes."""
    dropped: int = 0
    """Messages dropped since the endpoint was added."""
    arrivals: deque[Arrival | None] = field(default_factory=deque)
    """Oldest first; None where an event stands between: a loss does not reach across it."""
    loss: Loss | None = None
    """The last one, while it may still grow."""
    relieved: Callable[[], None] | None = None
    """Called once, by the consumer's thread, when half of the buffer is free again ("block")."""

    @property
    def is_full(self) -> bool:
        return self.waiting > self.buffer.max_bytes

    @property
    def has_room(self) -> bool:
        """Half of the buffer is free."""
        return self.waiting <= self.buffer.max_bytes // 2


@dataclass(slots=True, eq=False)
class Arrival:
    """The messages of one record, numbered, waiting."""

    endpoint: str
    epoch: int
    first: int
    """Number of the first message."""
    received_at: int
    binary: bool | list[bool]
    streams: list[str | None] | None
    record: Record | None
    """None once its messages were dropped, or picked out of it."""
    count: int
    size: int
    """Bytes it is charged with."""
    account: Account | None
    """None once it is delivered or dropped."""
    payloads: list[bytes] | None = None
    """Where the messages are not in a record: the user's own, or those that conflation kept."""
    kept: list[int] | None = None
    """Positions of the messages that conflation kept; None: all."""
    sizes: list[int] | None = None
    """Payload bytes of all its messages, where some are gone."""
    loss: Loss | None = None
    """What stands here instead."""

    @property
    def is_empty(self) -> bool:
        return self.account is None and self.loss is None

    def messages(self) -> Sequence[bytes]:
        """Its payloads, the kept ones only."""
        if self.payloads is None:
            return self.record.payloads if self.record is not None else ()
        return self.payloads

    def deliver(self) -> list[Batch | Event]:
        """What the consumer gets for it."""
        if self.loss is not None:
            return [self.loss.event()]
        if self.account is None:
            return []
        if self.kept is None:
            return [self._batch(self.messages(), 0, self.binary, self.streams)]
        return self._runs(self.kept, self.messages())

    def deliver_each(self) -> list[Message | Event]:
        """The same of a small one, message by message, without a detour by a Batch."""
        if self.loss is not None:
            return [self.loss.event()]
        if self.account is None:
            return []
        name, epoch, at, binary, streams = self.endpoint, self.epoch, self.received_at, self.binary, self.streams
        payloads = self.record.payloads if self.record is not None else self.messages()
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

    def _runs(self, kept: list[int], payloads: Sequence[bytes]) -> list[Batch | Event]:
        """Batches of the kept messages, a `Dropped` where others stood."""
        delivered: list[Batch | Event] = []
        position = 0
        taken = iter(payloads)
        for _, run in groupby(enumerate(kept), lambda pair: pair[1] - pair[0]):
            places = [place for _, place in run]
            if places[0] > position:
                delivered.append(self._conflated(position, places[0]))
            position = places[-1] + 1
            binary = self.binary if isinstance(self.binary, bool) else [self.binary[place] for place in places]
            streams = [self.streams[place] for place in places] if self.streams else None
            delivered.append(self._batch([next(taken) for _ in places], places[0], binary, streams))
        if position < self.count:
            delivered.append(self._conflated(position, self.count))
        return delivered

    def _conflated(self, start: int, stop: int) -> Dropped:
        first, last = self.first + start, self.first + stop - 1
        size = sum((self.sizes or [])[start:stop])
        return Dropped(self.endpoint, self.epoch, time_ns(), first, last, stop - start, size, "conflated")


def arrival_of(received: Record, account: Account, *, epoch: int, first: int, streams: list[str | None] | None) -> Arrival:
    """The arrival of a BATCH record."""
    return Arrival(
        account.name, epoch, first, received.received_at, received.binary, streams, received, received.count,
        received.size + _PER_MESSAGE * received.count + _OVERHEAD, account,
    )  # fmt: skip


def arrival_of_one(data: bytes, account: Account, *, epoch: int, number: int, received_at: int, binary: bool) -> Arrival:
    """The arrival of a message that came through no pipe: the user's own."""
    return Arrival(
        account.name, epoch, number, received_at, binary, None, None, 1, len(data) + _OVERHEAD, account, payloads=[data]
    )


class Inbox:
    """The queue of one consumer. Putting in is the reactor's, taking out the consumer's thread's; a lock keeps them apart."""

    def __init__(self) -> None:
        self._queue: deque[Arrival | Event] = deque()
        self._lock = threading.Lock()
        self.hand = hand_of((), [], whole=False)
        """What the consumer took and has not used up. Its own: no other thread touches it."""
        self._empty = 0
        self.consumer: object = None
        """What a turn of the loop `serves` when the consumer of messages runs it, see `put_one`."""

    def __bool__(self) -> bool:
        return bool(self._queue)

    # -- in --------------------------------------------------------------------------------------------------------------

    def put_event(self, event: Event, account: Account | None = None) -> None:
        """Let an event stand behind all that arrived before it."""
        with self._lock:
            self._queue.append(event)
            if account is not None:
                account.loss = None
                if account.arrivals and account.arrivals[-1] is not None:
                    account.arrivals.append(None)

    def put(self, arrival: Arrival) -> None:
        """Let messages stand behind all that arrived before them, and make room for them if need be."""
        account = arrival.account
        assert account is not None
        with self._lock:
            self._queue.append(arrival)
            account.arrivals.append(arrival)
            account.waiting += arrival.size
            if account.waiting > account.buffer.max_bytes:
                self._let_go()
                self._make_room(account)

    def put_one(self, message: Message, account: Account, serves: object) -> bool:
        """The same of one message; into the consumer's hand at once, where the turn that brings it `serves` the consumer of
        messages, and nothing is in hand, nor waiting. Whether it is there."""
        hand = self.hand
        if serves is self.consumer is not None and not (self._queue or hand.entries or hand.whole or length_hint(hand.left)):
            left = iter((message,))
            self.hand = Hand(left, left, False, ())
            return True
        _, data, epoch, number, received_at, _, binary = message
        self.put(arrival_of_one(data, account, epoch=epoch, number=number, received_at=received_at, binary=binary))
        return False

    def await_relief(self, account: Account, relieved: Callable[[], None]) -> bool:
        """Have `relieved` called when half of the buffer is free again. False where it is already: the consumer was faster,
        and nothing may be left that would ever call it."""
        with self._lock:
            if account.has_room:
                return False
            account.relieved = relieved
            return True

    def discard(self, account: Account, cause: str) -> None:
        """Drop all that waits of an endpoint."""
        with self._lock:
            self._let_go()
            self._drop_down_to(account, 0, cause)

    def move(self, account: Account, other: Inbox) -> None:
        """Hand what waits of an endpoint over to another inbox, in order."""
        with self._lock, other._lock:
            self._let_go()
            mine = [entry for entry in self._queue if entry.endpoint == account.name]
            self._queue = deque(entry for entry in self._queue if entry.endpoint != account.name)
            other._queue.extend(mine)

    # -- out -------------------------------------------------------------------------------------------------------------

    @property
    def in_hand(self) -> Iterator[Any]:
        """What the consumer took and has not used up."""
        return self.hand.items

    def regroup(self, *, whole: bool) -> None:
        """Turn what is in hand into what is wanted next: batches into messages, or the other way round."""
        with self._lock:
            before = self.hand
            self.hand = before.regrouped(whole=whole)
            before.empty()  # an iteration that is under way may hold it still

    def refill(self, *, whole: bool) -> bool:
        """Take what is next in hand, unless something is left there. False: nothing waits."""
        if self.hand.whole != whole:
            self.regroup(whole=whole)
        return self.hand.has_items() or self.take(whole=whole)

    def take(self, *, whole: bool) -> bool:
        """Take the next entries in hand: Messages and Events, or, with `whole`, Batches and Events. False: nothing waits."""
        with self._lock:
            if self.hand.entries:  # an interrupt came between
                self._let_go()
            while self._queue:
                self.hand = self._grasp(whole=whole)
                self._let_go()
                if self.hand.has_items():
                    return True
            return False

    def _grasp(self, *, whole: bool) -> Hand:
        """A hand of what stands first in the queue: one large record, or some small ones and events."""
        entries: list[Arrival | Event] = []
        items: list[Any] = []
        for entry in islice(self._queue, _HANDFUL):
            if not isinstance(entry, Arrival):
                items.append(entry)
            elif entry.count <= _FEW and entry.size <= _SMALL and entry.kept is None:
                items += entry.deliver() if whole else entry.deliver_each()
            elif entries:
                break
            else:
                return hand_of((entry,), entry.deliver(), whole=whole)
            entries.append(entry)
        left = iter(items)
        return Hand(left, left, whole, entries)

    def _let_go(self) -> None:
        """What is in hand leaves the queue; nothing to do where it has left already."""
        hand, queue = self.hand, self._queue
        for entry in hand.entries:
            if queue and queue[0] is entry:
                if isinstance(entry, Arrival):
                    self._settle(entry)
                queue.popleft()
        hand.entries = ()

    def _settle(self, entry: Arrival) -> None:
        """It does not wait any more."""
        account = entry.account
        if account is not None:
            entry.account = None
            account.waiting -= entry.size
            while account.arrivals and account.arrivals[0] is None:
                account.arrivals.popleft()
            if account.arrivals and account.arrivals[0] is entry:
                account.arrivals.popleft()
            relieved = account.relieved  # once: the reactor may take it back meanwhile
            if relieved is not None and account.has_room:
                account.relieved = None
                relieved()
        elif entry.loss is None:
            self._empty -= 1
        else:
            entry.loss.last = -1  # it was told: what is dropped from now on needs a new one

    # -- overflow --------------------------------------------------------------------------------------------------------

    def _make_room(self, account: Account) -> None:
        match account.buffer.overflow:
            case "drop_oldest":
                self._drop_down_to(account, account.buffer.max_bytes, "overflow")
            case "conflate":
                self._conflate(account)
                if account.waiting > account.buffer.max_bytes * _CONFLATE_TO:
                    self._drop_down_to(account, int(account.buffer.max_bytes * _CONFLATE_TO), "overflow")
            case "block" | "disconnect":  # whoever feeds the inbox looks at `is_full` and acts
                return

    def _drop_down_to(self, account: Account, limit: int, cause: str) -> None:
        while account.waiting > limit and account.arrivals:
            arrival = account.arrivals.popleft()
            if arrival is not None:
                self._drop(account, arrival, cause)
        self._sweep()

    def _drop(self, account: Account, arrival: Arrival, cause: str) -> None:
        last = arrival.first + arrival.count - 1
        size = sum(arrival.sizes or map(len, arrival.messages()))
        loss = account.loss
        if loss is not None and (loss.last + 1, loss.epoch, loss.cause) == (arrival.first, arrival.epoch, cause):
            loss.last, loss.count, loss.size = last, loss.count + arrival.count, loss.size + size
            self._empty += 1
        else:
            arrival.loss = account.loss = Loss(account.name, arrival.epoch, cause, arrival.first, last, arrival.count, size)
        account.dropped += arrival.count if arrival.kept is None else len(arrival.kept)  # the others were counted before
        account.waiting -= arrival.size
        arrival.account = arrival.record = arrival.payloads = None

    def _sweep(self) -> None:
        if self._empty > _SWEEP_AFTER and self._empty * 2 > len(self._queue):
            self._queue = deque(e for e in self._queue if not (isinstance(e, Arrival) and e.is_empty))
            self._empty = 0

    def _conflate(self, account: Account) -> None:
        """Of what waits, keep for each key only the newest message."""
        newest: dict[Any, tuple[int, int]] = {}
        arrivals = [arrival for arrival in account.arrivals if arrival is not None]
        for index, arrival in enumerate(arrivals):
            for position, key in _keys(arrival, account.buffer.key):
                newest[key] = (index, position)
        keep: dict[int, set[int]] = {}
        for index, position in newest.values():
            keep.setdefault(index, set()).add(position)
        for index, arrival in enumerate(arrivals):
            self._keep_only(account, arrival, keep.get(index, set()))
        account.arrivals = deque(e for e in account.arrivals if e is None or e.account is not None)

    def _keep_only(self, account: Account, arrival: Arrival, positions: set[int]) -> None:
        if not positions:
            self._drop(account, arrival, "conflated")
            return
        before = range(arrival.count) if arrival.kept is None else arrival.kept
        if arrival.sizes is None:
            arrival.sizes = [len(data) for data in arrival.messages()]
        chosen = [(p, data) for p, data in zip(before, arrival.messages(), strict=True) if p in positions]
        account.dropped += len(before) - len(chosen)
        arrival.kept = [position for position, _ in chosen]
        arrival.payloads = [data for _, data in chosen]
        arrival.record = None
        size = sum(map(len, arrival.payloads)) + _OVERHEAD
        account.waiting += size - arrival.size
        arrival.size = size


def _keys(arrival: Arrival, path: str) -> Iterable[tuple[int, Any]]:
    """Position and key of each message of an arrival. A message without the key is its own: it is never conflated."""
    positions = range(arrival.count) if arrival.kept is None else arrival.kept
    for position, data in zip(positions, arrival.messages(), strict=True):
        if path:
            yield position, _json_key(data, path) or (arrival.first + position,)
        elif arrival.streams is not None and arrival.streams[position] is not None:
            yield position, arrival.streams[position]
        else:
            yield position, (arrival.first + position,)


def _json_key(data: bytes, path: str) -> str:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ""
    for name in path.split("."):
        if not isinstance(value, dict):
            return ""
        value = value.get(name)
    try:
        return "" if value is None else orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested deeper than orjson writes, though it reads it
        return ""


class RecentInbox(Inbox):
    """For items that perhaps nobody ever takes: of the events that wait, the oldest are forgotten; messages are bounded."""

    def __init__(self, most_events: int) -> None:
        super().__init__()
        self._most = most_events
        self._events = 0
        """That came since some were forgotten."""

    def put_event(self, event: Event, account: Account | None = None) -> None:
        super().put_event(event, account)
        self._events += 1
        if self._events > self._most:
            with self._lock:
                self._let_go()
                self._forget()

    def _forget(self) -> None:
        waiting = [entry for entry in self._queue if not isinstance(entry, Arrival)]
        surplus = set(map(id, waiting[: max(0, len(waiting) - self._most)]))
        self._queue = deque(entry for entry in self._queue if id(entry) not in surplus)
        self._events = self._most // 2
