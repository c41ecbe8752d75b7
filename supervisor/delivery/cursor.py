"""What a consumer took and has not used up.

Iterators written in C hand it out, so that an interrupt falls between two items and never within one. How much is left can be
told at any time without taking any of it; so it can be turned from messages into batches, and back, at any place.
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
class Hand:
    """Items in hand: messages and events, or, where it is `whole`, batches and events."""

    items: Iterator[Any]
    """For the consumer."""
    left: Iterator[Any]
    """A list's iterator that `items` draws on, one for one: it knows how many are left."""
    whole: bool
    entries: Sequence[object]
    """Of the queue: what it was made of."""
    batch: Batch | None = None
    """Whose messages are made one by one, around its payloads that are `left`."""

    def has_items(self) -> bool:
        """Whether something is left."""
        return length_hint(self.left) > 0

    def regrouped(self, *, whole: bool) -> Hand:
        """The same in the other shape. This one still has all that is left; see `empty`."""
        rest = list(copy(self.left))
        if self.batch is not None:
            return hand_of(self.entries, [self.batch.after(len(self.batch) - len(rest))] if rest else [], whole=whole)
        return hand_of(self.entries, _whole(rest) if whole else rest, whole=whole)

    def empty(self) -> None:
        """Let nothing be left, for whoever iterates over it still."""
        deque(self.left, maxlen=0)


def hand_of(entries: Sequence[object], items: list[Any], *, whole: bool) -> Hand:
    """A hand of `items`, batches and events, for a consumer that wants it `whole` or not."""
    if whole or not items:
        left: Iterator[Any] = iter(items)
        return Hand(left, left, whole, entries)
    if len(items) == 1 and isinstance(items[0], Batch):
        batch, left = items[0], iter(items[0])
        return Hand(batch.around(left), left, whole, entries, batch)
    left = iter(_single(items))
    return Hand(left, left, whole, entries)


def _single(items: Iterable[Deliverable]) -> list[Deliverable]:
    """Batches as their messages."""
    single: list[Deliverable] = []
    for item in items:
        if isinstance(item, Batch):
            single.extend(item.messages())
        else:
            single.append(item)
    return single


def _whole(items: Iterable[Deliverable]) -> list[Deliverable]:
    """Messages of one record as a batch."""
    whole: list[Deliverable] = []
    for origin, run in groupby(enumerate(items), _origin):
        if origin is None:
            whole.extend(item for _, item in run)
        else:
            whole.append(_batch([item for _, item in run if isinstance(item, Message)]))
    return whole


def _origin(placed: tuple[int, Deliverable]) -> tuple[object, ...] | None:
    """What the messages of one record have in common, and those of two do not; None for what is no message."""
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
