"""What a consumer took and has not used up.

Iterators written in C give out the items, so that an interrupt falls between two items and never within one. The number of
items that are left is known at any time without taking one, so a cursor can be turned from messages into batches, and back, at
any place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from operator import length_hint
from typing import Any

from wsadapter.contract.items import Batch, Event, Message

Deliverable = Message | Batch | Event


@dataclass(slots=True, eq=False)
class Cursor:
    """Items for the consumer: messages and events, or, if `as_batches`, batches and events."""

    items: Iterator[Any]
    """For the consumer."""
    left: Iterator[Any]
    """The iterator of a list from which `items` takes, one for one. It knows how many are left."""
    as_batches: bool
    entries: Sequence[object]
    """The entries of the queue that it was made of."""
    batch: Batch | None = None
    """The batch whose messages are made one by one, from its payloads that are `left`; None: the items are made already."""

    def has_items(self) -> bool:
        """Whether something is left."""
        return length_hint(self.left) > 0

    def regrouped(self, *, as_batches: bool) -> Cursor:
        """The same items in the other form. This cursor keeps its items; see `empty`."""
        rest = list(copy(self.left))
        if self.batch is not None:
            return cursor_over(
                self.entries, [self.batch.part(len(self.batch) - len(rest))] if rest else [], as_batches=as_batches
            )
        return cursor_over(self.entries, _to_batches(rest) if as_batches else rest, as_batches=as_batches)

    def empty(self) -> None:
        """Drop what is left, so that an iteration that is under way ends."""
        deque(self.left, maxlen=0)


def cursor_over(entries: Sequence[object], items: list[Any], *, as_batches: bool) -> Cursor:
    """A cursor over `items`, which are batches and events; not `as_batches`: over their messages and the events."""
    if as_batches or not items:
        left: Iterator[Any] = iter(items)
        return Cursor(left, left, as_batches, entries)
    if len(items) == 1 and isinstance(items[0], Batch):
        batch, left = items[0], iter(items[0])
        return Cursor(batch.around(left), left, as_batches, entries, batch)
    left = iter(_to_messages(items))
    return Cursor(left, left, as_batches, entries)


def _to_messages(items: Iterable[Deliverable]) -> list[Deliverable]:
    """Batches as their messages."""
    single: list[Deliverable] = []
    for item in items:
        if isinstance(item, Batch):
            single.extend(item.messages())
        else:
            single.append(item)
    return single


def _to_batches(items: Iterable[Deliverable]) -> list[Deliverable]:
    """Messages of one record as a batch."""
    as_batches: list[Deliverable] = []
    for origin, run in groupby(enumerate(items), _origin):
        if origin is None:
            as_batches.extend(item for _, item in run)
        else:
            as_batches.append(_batch([item for _, item in run if isinstance(item, Message)]))
    return as_batches


def _origin(placed: tuple[int, Deliverable]) -> tuple[object, ...] | None:
    """What only messages of one record have in common; None for an item that is no message."""
    place, item = placed
    return (item.endpoint, item.epoch, item.received_at, item.number - place) if isinstance(item, Message) else None


def _batch(messages: list[Message]) -> Batch:
    first = messages[0]
    return Batch(
        first.endpoint,
        [message.data for message in messages],
        epoch=first.epoch,
        first_number=first.number,
        received_at=first.received_at,
        binary=[message.binary for message in messages],
        streams=[message.stream for message in messages],
    )
