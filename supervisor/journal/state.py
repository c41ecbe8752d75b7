"""How far a journal has come: what its next row, and the supervisor that continues it, begin with. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from wsadapter.contract.items import Down, Dropped, Fatal, Started, Up
from wsadapter.journal.rows import Row, item_of


class Progress(NamedTuple):
    """How far one endpoint has come."""

    number: int
    """Of the last message; 0: none yet."""
    epoch: int
    at: int | None
    """When the last message was received; None: none was."""
    up: bool
    """Whether its last epoch has an `Up` and no `Down` yet."""


NOTHING: Final = Progress(0, 0, None, False)


@dataclass(slots=True)
class State:
    """At the end of a journal, or at some place in it."""

    run: str = ""
    seq: int = 1
    """Place of the next item."""
    bytes: int = 0
    """Payload bytes before it."""
    endpoints: dict[str, Progress] = field(default_factory=dict)

    def copy(self) -> State:
        return replace(self, endpoints=dict(self.endpoints))

    def advance(self, row: Row) -> None:
        """By a row that stands at this place."""
        self.seq = row.seq + (row.messages or 1)
        self.bytes += len(row.payload)
        if row.messages:
            before = self.endpoints.get(row.endpoint, NOTHING)
            up = before.up or row.epoch > before.epoch
            self.endpoints[row.endpoint] = Progress((row.number or 0) + row.messages - 1, row.epoch, row.at, up)
        else:
            self._advance_by_event(row)

    def _advance_by_event(self, row: Row) -> None:
        event = item_of(row)
        if isinstance(event, Started):
            self.run = event.run
        if not row.endpoint:
            return
        before = self.endpoints.get(row.endpoint, NOTHING)
        number, up = before.number, before.up
        if isinstance(event, Up):
            up = True
        elif isinstance(event, Down | Fatal) and row.epoch >= before.epoch:
            up = False
        elif isinstance(event, Dropped) and event.last is not None:
            number = event.last  # numbers are never given twice, be their messages in the journal or not
        self.endpoints[row.endpoint] = before._replace(number=number, epoch=max(before.epoch, row.epoch), up=up)


class Missing(NamedTuple):
    """Messages of one endpoint between two places of a journal that are not there."""

    endpoint: str
    epoch: int
    first: int
    last: int

    @property
    def total(self) -> int:
        return self.last - self.first + 1


def missing(before: Mapping[str, Progress], after: Mapping[str, Progress]) -> list[Missing]:
    """What lies between two places: of each endpoint, the messages behind `before` up to `after`."""
    found: list[Missing] = []
    for name, there in after.items():
        here = before.get(name, NOTHING)
        if there.number > here.number:
            found.append(Missing(name, there.epoch, here.number + 1, there.number))
    return found


class Stored(NamedTuple):
    """A segment that is complete, as the retention sees it."""

    first: int
    size: int
    """Bytes on disk."""
    newest_at: int
    """Wall-clock ns of its last item."""


def expired(stored: Iterable[Stored], live_bytes: int, now: int, *, retain: float, retain_bytes: int) -> list[int]:
    """The complete segments (oldest first) to remove, by their first places: all that is older than `retain` seconds, and of
    the rest so many that it fits into `retain_bytes` with the `live_bytes` of the segment that is written. 0 means no limit. A
    segment is removed only if all those before it are: a journal has no holes by retention."""
    kept = list(stored)
    total = live_bytes + sum(segment.size for segment in kept)
    gone: list[int] = []
    for segment in kept:
        is_old = retain > 0 and segment.newest_at < now - retain * 1e9
        if not is_old and not 0 < retain_bytes < total:
            break
        gone.append(segment.first)
        total -= segment.size
    return gone
