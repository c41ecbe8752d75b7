"""Fan-in: what the owners' records become, in one order, waiting for one consumer.

    record ──> Arrival (numbered) ─┐
                                   ├──> queue ──> Hand: an iterator over Messages and Events, or over Batches and Events
    event ─────────────────────────┘

The reactor puts in, the consumer takes out; records are sliced into messages only on the consumer's turn. Overflow is decided
here and nowhere else: what waits of one endpoint may not be more than its `buffer.max_bytes`, and one message. The oldest go
first, and a `Dropped` stands where they stood. The newest is never dropped, whatever its size: the consumer may wait for it.

An interrupt (KeyboardInterrupt) may strike the consumer between any two instructions, and must cost it nothing. So what it
takes is put in its hand by one assignment, and leaves the queue after that. The messages of a large record are made in hand one
by one, by iterators written in C, between whose steps no interrupt can fall: a list of them all would leave the processor's
cache before they are used, and have the garbage collector look at each.
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
from wsadapter.delivery.cursor import Hand, hand_of
from wsadapter.delivery.overflow import Conflation
from wsadapter.delivery.queued import PER_MESSAGE, Account, Arrival, arrival_of, arrival_of_one
from wsadapter.loop.sink import Sink

__all__ = ["Account", "Inbox", "RecentInbox", "arrival_of"]

_SWEEP_AFTER = 1024
"""So many empty entries, and half of the queue, before it is swept: a consumer that never comes must not cost memory."""
_FEW = 16
"""Messages of a record up to which making them at once costs less than preparing to make them one by one."""
_SMALL = 4096
"""Bytes of a record, at most, that is taken in hand together with others."""
_HANDFUL = 32
"""So many small records and events are taken in hand at once."""


class Inbox:
    """The queue of one consumer. Putting in is the reactor's, taking out the consumer's thread's; a lock keeps them apart."""

    def __init__(self) -> None:
        self._queue: deque[Arrival | Event] = deque()
        self._lock = threading.Lock()
        self.hand = hand_of((), [], whole=False)
        """What the consumer took and has not used up. Its own: no other thread touches it."""
        self._empty = 0
        self.messages = Sink(partial(self.refill, whole=False))
        """For a consumer of messages that runs the loop. Only this sink takes a message directly, see `put_one`."""
        self.batches = Sink(partial(self.refill, whole=True))
        """For a consumer of batches that runs the loop."""

    def __bool__(self) -> bool:
        return bool(self._queue)

    # -- in --------------------------------------------------------------------------------------------------------------

    def put_event(self, event: Event, account: Account | None = None) -> None:
        """Let an event stand behind all that arrived before it."""
        with self._lock:
            self._queue.append(event)
            if account is not None:
                account.apart = True

    def put(self, arrival: Arrival) -> None:
        """Let messages stand behind all that arrived before them, and make room for them if need be."""
        account = arrival.account
        with self._lock:
            self._queue.append(arrival)
            last, account.last = account.last, arrival
            if last is None:
                account.oldest = arrival
            else:
                last.after, arrival.before, arrival.apart = arrival, last, account.apart
                if account.oldest is None:
                    account.oldest = arrival
            account.apart = False
            account.waiting += arrival.size
            if account.waiting > account.limit:
                self._let_go()
                self._make_room(account, arrival.count)

    def put_one(self, message: Message, account: Account) -> bool:
        """As `put`, for a single message. The message is delivered directly, into the consumer's hand, if the sink accepts that
        and nothing else is in hand or waits. Returns whether it was."""
        hand, sink = self.hand, self.messages
        if sink.accepting and not (self._queue or hand.entries or hand.whole or length_hint(hand.left)):
            left = iter((message,))
            self.hand = Hand(left, left, False, ())
            sink.delivered = True
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
            while account.oldest is not None:
                self._empty += account.drop_all_of(account.oldest, cause)
            self._sweep()

    def move(self, account: Account, other: Inbox) -> None:
        """Hand what waits of an endpoint over to another inbox, in order."""
        with self._lock:
            self._let_go()
            mine = [entry for entry in self._queue if entry.endpoint == account.name]
            self._queue = deque(entry for entry in self._queue if entry.endpoint != account.name)
            other.extend(mine)

    def extend(self, entries: Iterable[Arrival | Event]) -> None:
        """Let entries of another inbox stand behind all that arrived before them."""
        with self._lock:
            self._queue.extend(entries)

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
            elif entry.count <= _FEW and entry.size <= _SMALL and entry.thinned is None:
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
        account, after = entry.account, entry.after
        if entry.left and entry.before is None and account.conflation is None and (after is None or after.left):
            # The usual case, without a call: it is the first, and nothing was dropped behind it.
            account.waiting -= entry.size
            account.oldest = after
            entry.left = entry.size = 0
            if after is None:
                account.last = None
            else:
                entry.after = after.before = None
                after.apart = False
        else:
            self._empty -= entry.is_empty
            account.settle(entry)
        entry.loss = None  # it was told
        relieved = account.relieved  # once: the reactor may take it back meanwhile
        if relieved is not None and account.has_room:
            account.relieved = None
            relieved()

    # -- overflow --------------------------------------------------------------------------------------------------------

    def _make_room(self, account: Account, came: int) -> None:
        match account.buffer.overflow:
            case "conflate":
                if account.conflation is None:
                    account.conflation = Conflation(account)
                self._empty += account.conflation.make_room(came)
                self._drop_oldest(account)
            case "drop_oldest":
                self._drop_oldest(account)
            case "block" | "disconnect":  # whoever feeds the inbox looks at the account and acts
                return
        self._sweep()

    def _drop_oldest(self, account: Account) -> None:
        """Drop the oldest messages until the others fit, see `_may_wait`."""
        most = account.buffer.max_bytes
        while account.waiting > most and (arrival := account.oldest) is not None:
            of_use = arrival is account.last or arrival.size > most // 2 or arrival.size > account.waiting - most
            if arrival.left > 1 and of_use:
                if self._trim(account, arrival):
                    return
            elif _may_wait(account, arrival, arrival.size):
                return
            else:
                self._empty += account.drop_all_of(arrival, "overflow")

    def _trim(self, account: Account, arrival: Arrival) -> bool:
        """Drop the oldest messages of a record until the others fit; false: none of it is left, and they do not."""
        thinned, size = arrival.thin(), 0
        begin = position = thinned.begin
        while arrival.left > 1 and account.is_full:
            if arrival.holds(position):
                if _may_wait(account, arrival, thinned.sizes[position] + PER_MESSAGE):
                    break
                arrival.drop(position)
            size += thinned.sizes[position]
            position += 1
        thinned.begin = position
        if position > begin:
            self._empty += account.lose(arrival, "overflow", begin, position, size)
        return not account.is_full or arrival.left > 1

    def _sweep(self) -> None:
        if self._empty > _SWEEP_AFTER and self._empty * 2 > len(self._queue):
            self._queue = deque(e for e in self._queue if not (isinstance(e, Arrival) and e.is_empty))
            self._empty = 0


def _may_wait(account: Account, arrival: Arrival, size: int) -> bool:
    """Whether the oldest message, of so many bytes, may wait though the buffer is full: it is the newest too, or it takes more
    than half of the buffer, and those behind it fit. Else a message near the buffer's size could never be delivered."""
    most = account.buffer.max_bytes
    if arrival.left == 1 and arrival is account.last:
        return True
    return size > most // 2 and account.waiting - size <= most


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
