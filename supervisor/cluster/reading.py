"""What a consumer makes of the messages of the cluster's stream: items, in order, with their numbers checked. Pure.

    message 71 of "a": lines ──> items behind what was processed ──> number as expected ──> Batch, Up, Gap ...
                                                          ├── higher ──> Dropped, with what is missing
                                                          └── lower: the stream was purged, and begins anew ──> Gap
    messages 72-74 of "a": a line in three parts ──> kept until the last part is there

The place of a consumer is one sequence of the stream, behind which it reads, and for each endpoint how far it has come. So what
is read again after a restart, because a line in parts began before it, is not given again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import time_ns
from typing import NamedTuple

import msgspec

from wsadapter.contract.items import AnyEvent, Batch, Dropped, Gap
from wsadapter.outputs.parsing import parse
from wsadapter.sinks.jetstream import integer_field


class End(msgspec.Struct, frozen=True):
    """How far a consumer has come with one endpoint."""

    sequence: int = 0
    """Of a message of the stream: those before it are done. 0: only the number counts."""
    items: int = 0
    """Of that message: done."""
    number: int | None = None
    """Of the last message that is done; None: not known."""


class Place(msgspec.Struct, frozen=True):
    """How far a consumer has come."""

    begin: int
    """The first message of the stream that has to be read."""
    ends: dict[str, End] = {}


class Entry(NamedTuple):
    """One item, or a batch, and where it stands."""

    item: Batch | AnyEvent
    endpoint: str
    sequence: int
    first: int
    """How many items of its message are before it."""
    length: int
    """How many items of its message it has; 0: it reports a loss."""
    number: int | None
    """Of the endpoint's last message up to its end; None: not known."""
    begin: int
    """Where reading has to begin again as long as this entry is not done."""

    def done(self, items: int) -> End:
        """Where the consumer is with the endpoint if so many items of this entry are done."""
        number = self.number
        if isinstance(self.item, Batch):
            number = self.item.first_number + items - 1
        return End(self.sequence, self.first + items, number)


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """As it came from the server."""

    sequence: int
    endpoint: str
    headers: Mapping[str, str]
    body: bytes


class Reading:
    """Of one consumer. Not thread-safe."""

    def __init__(self, place: Place, since: int | None = None) -> None:
        """`since`: what was received, or happened, before it (wall-clock ns) is left out, until something later comes."""
        self.next = place.begin
        """Sequence of the next message that is needed."""
        self._ends = dict(place.ends)
        self._numbers = {name: end.number for name, end in place.ends.items()}
        self._unseen = {name: end.number for name, end in place.ends.items() if end.sequence == 0 and end.number is not None}
        """Endpoints of which only a number is known: everything is left out up to that number."""
        self._is_behind = not self._unseen
        """Whether one of these has come behind its number: until then, what is of other endpoints was processed before too."""
        self._since = since
        self._parts: dict[str, list[StreamMessage]] = {}
        self._aged: set[str] = set()
        """Endpoints of which messages may be missing because the stream has removed them."""

    @property
    def begin(self) -> int:
        """Where reading has to begin again if everything that was given is done: a line in parts is read from its beginning."""
        return min([parts[0].sequence for parts in self._parts.values()] + [self.next])

    def begin_at(self, first: int) -> int:
        """The server's oldest message is `first`. Where to read now: a message may have come in part."""
        if first > self.next:
            self._aged = set(self._numbers)
            self._parts.clear()
            self.next = first
        return self.next

    def take(self, message: StreamMessage) -> list[Entry]:
        """Its items, as far as they were not done. Raises `NotALine`."""
        self.next = message.sequence + 1
        whole = self._whole(message)
        done = self._ends.get(message.endpoint, End())
        if not whole or message.sequence < done.sequence:
            return []
        self._numbers.setdefault(message.endpoint, None)
        items = list(parse(b"".join(part.body for part in whole)))
        over = done.items if message.sequence == done.sequence else 0
        begin = min(self.begin, whole[0].sequence)
        entries = [entry._replace(begin=begin) for entry in self._entries(items, message, over)]
        if self._numbers[message.endpoint] is None:
            self._numbers[message.endpoint] = integer_field(message.headers, "Number")
        return entries

    def _whole(self, message: StreamMessage) -> list[StreamMessage]:
        """The messages of its lines; none: a line isn't whole yet."""
        part, parts = integer_field(message.headers, "Part") or 1, integer_field(message.headers, "Parts") or 1
        waiting = self._parts.pop(message.endpoint, [])
        if part == 1:
            waiting = []  # what another writer has left unfinished comes again
        elif len(waiting) != part - 1:
            return []  # its beginning was removed, or is done: the numbers say which
        waiting.append(message)
        if part < parts:
            self._parts[message.endpoint] = waiting
            return []
        return waiting

    def _entries(self, items: list[Batch | AnyEvent], message: StreamMessage, done: int) -> Iterator[Entry]:
        """`done`: how many of the items were done before."""
        endpoint, end = message.endpoint, 0
        for item in items:
            begin, end = end, end + (len(item) if isinstance(item, Batch) else 1)
            over = max(done - begin, self._known(item), 0)
            if over >= end - begin:
                continue
            if self._is_left_out(item):
                if isinstance(item, Batch):
                    self._numbers[endpoint] = item.first_number + len(item) - 1
                continue
            shown: Batch | AnyEvent = item
            if isinstance(item, Batch):
                shown = item.part(over) if over else item
                yield from self._losses(shown, message, begin + over)
                self._numbers[endpoint] = item.first_number + len(item) - 1
            elif isinstance(item, Dropped) and item.last is not None:
                self._numbers[endpoint] = max(item.last, self._numbers[endpoint] or 0)
            number = self._numbers[endpoint]
            yield Entry(shown, endpoint, message.sequence, begin + over, end - begin - over, number, 0)

    def _known(self, item: Batch | AnyEvent) -> int:
        """How many of its messages were processed, as the numbers say with which the consumer began."""
        if not isinstance(item, Batch) or item.endpoint not in self._unseen:
            return 0
        return (self._unseen[item.endpoint] or 0) - item.first_number + 1

    def _is_left_out(self, item: Batch | AnyEvent) -> bool:
        if isinstance(item, Batch) and self._unseen.pop(item.endpoint, None) is not None:
            self._is_behind = True
        if not self._is_behind or item.endpoint in self._unseen:
            return True
        if self._since is not None and (item.received_at if isinstance(item, Batch) else item.at) < self._since:
            return True
        self._since = None
        return False

    def _losses(self, batch: Batch, message: StreamMessage, first: int) -> Iterator[Entry]:
        """What is to be said before these messages."""
        endpoint, known, number = batch.endpoint, self._numbers[batch.endpoint], batch.first_number
        cause = "retention" if endpoint in self._aged else "journal"
        self._aged.discard(endpoint)
        if known is None or number == known + 1:
            return
        loss: AnyEvent = Gap(endpoint, batch.epoch, time_ns(), "journal", None, batch.received_at)
        if number > known:
            loss = Dropped(endpoint, batch.epoch, time_ns(), known + 1, number - 1, number - known - 1, 0, cause)
        yield Entry(loss, endpoint, message.sequence, first, 0, number - 1, 0)
