"""The numbers and epochs of an endpoint in the cluster's stream: by position, whichever host writes. Pure.

    journal of host a:  Up 7   #901 #902   Down 7            offsets of the term of a: numbers -900, epochs -6
    stream:             Up 1   #1   #2     Down 1 | Up 2  Gap 2  #3 #4 ...
    journal of host b:                              Up 1         #1 #2 ...   offsets of the term of b: numbers +2, epochs +1

A host that takes an endpoint over continues behind the last message of the subject. The numbers and epochs of its own journal
are shifted by two offsets, which are constant for the whole term and are in the headers of each message, so that another agent
process of this term continues with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from time import time_ns
from typing import NamedTuple

from wsadapter.contract.items import AnyEvent, Batch, Down, Dropped, Fatal, Gap, Up
from wsadapter.contract.reasons import Reason
from wsadapter.sinks.base import SinkRecord

LOST = "host_lost"
"""The kind of the `Down`, and the cause of the `Gap`, if another host, or another term, continues with an endpoint."""


class Offsets(NamedTuple):
    """The values that are added to the numbers and epochs of a journal."""

    number: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Point:
    """The end of the stream of an endpoint, from the headers of its last message."""

    number: int = 0
    """Of the last message of the endpoint; 0: there is none."""
    epoch: int = 0
    is_up: bool = False
    """Whether its last epoch has an `Up` and no `Down` yet."""
    at: int | None = None
    """When its last message was received (wall-clock ns)."""
    end: int = 0
    """Place in the journal of its writer: items before it are in the stream, or belong to no term of this host."""
    offsets: Offsets | None = None
    """Offsets of the present term; None: the term has no `Up` yet."""

    def claimed(self, start: int) -> Point:
        """The point at which a new term begins. `start`: place in the journal behind which the records of the term are."""
        return replace(self, is_up=False, end=start, offsets=None)

    def behind(self, record: SinkRecord) -> Point:
        """The point behind a record of the stream."""
        item = record.item
        is_up, at = self.is_up, self.at
        match item:
            case Up():
                is_up = True
            case Down(live=live):
                is_up = is_up and bool(live)
            case Fatal():
                is_up = False
            case Batch():
                at = record.at
        return replace(
            self, number=record.number, epoch=max(self.epoch, item.epoch), is_up=is_up, at=at, end=max(self.end, record.end)
        )


def last_down(endpoint: str, point: Point, host: str) -> Down | None:
    """The `Down` that ends the epoch that the previous writer left open; None: no epoch is open."""
    if not point.is_up:
        return None
    return Down(endpoint, point.epoch, time_ns(), Reason(kind=LOST, text=f"host {host} continues with the endpoint"))


class Numbering:
    """One endpoint under one term."""

    def __init__(self, point: Point) -> None:
        self.point = point
        """The point behind the last translated record."""
        self._first_epoch = 0
        """In the journal, of the first `Up`, until something else than the journal's own `Gap` follows it."""

    def translate(self, records: Iterable[SinkRecord]) -> list[SinkRecord]:
        """The records of the endpoint as they are in the stream: with their place there, without those that are there already,
        or that are of no connection of this term."""
        return [shown for record in records for shown in self._translated(record)]

    def _translated(self, record: SinkRecord) -> Iterator[SinkRecord]:
        place = self.point.end
        if record.begin < place:
            if record.end <= place or not isinstance(record.item, Batch):
                return
            record = record.part(place - record.begin, len(record.item))
        offsets = self.point.offsets
        if offsets is None:
            if not isinstance(record.item, Up):
                return  # of a connection from before this term
            yield from self._begin(record, record.item)
            return
        first, self._first_epoch = self._first_epoch, 0
        if isinstance(record.item, Gap) and record.item.stream is None and record.item.epoch == first:
            return  # the gap of the whole stream is there already
        yield self._shifted(record, offsets)

    def _begin(self, record: SinkRecord, up: Up) -> Iterator[SinkRecord]:
        before = self.point
        offsets = Offsets(before.number - record.number, before.epoch + 1 - up.epoch)
        self.point = replace(before, offsets=offsets)
        self._first_epoch = up.epoch
        yield self._shifted(record._replace(item=replace(up, resumed=False)), offsets)
        if before.epoch:
            gap = Gap(up.endpoint, up.epoch + offsets.epoch, up.at, LOST, before.at, up.at)
            shown = record._replace(item=gap, begin=record.end, number=before.number)
            self.point = self.point.behind(shown)
            yield shown

    def _shifted(self, record: SinkRecord, offsets: Offsets) -> SinkRecord:
        shown = record._replace(item=_shift(record.item, offsets), number=record.number + offsets.number)
        self.point = self.point.behind(shown)
        return shown


def _shift(item: Batch | AnyEvent, offsets: Offsets) -> Batch | AnyEvent:
    if isinstance(item, Batch):
        return Batch(
            item.endpoint, list(item), epoch=item.epoch + offsets.epoch, first_number=item.first_number + offsets.number,
            received_at=item.received_at, binary=item.binary, streams=item.streams,
        )  # fmt: skip
    shifted = replace(item, epoch=item.epoch + offsets.epoch)
    if isinstance(shifted, Dropped) and shifted.first is not None and shifted.last is not None:
        shifted = replace(shifted, first=shifted.first + offsets.number, last=shifted.last + offsets.number)
    return shifted
