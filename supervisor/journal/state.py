"""How far a journal has come: what its next row, and the supervisor that continues it, begin with. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

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
    record: int | None = None
    """The last record of the owner of the last epoch that a row is of; None: there is no such row. What follows is about it."""
    events: int = 0
    """Rows of it that are events."""
    messages: bool = False
    """Whether its messages are there, of which one row has all."""


NOTHING: Final = Progress(0, 0, None, False)
_make: Callable[[type[Progress], tuple[Any, ...]], Progress] = tuple.__new__


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
        if row.messages:
            self.advance_by_messages(row)
        else:
            self.seq = row.seq + 1
            self.bytes += len(row.payload)
            self._advance_by_event(row)

    def advance_by_messages(self, row: Row) -> int:
        """As `advance`, by a row that has messages; the number of its last one."""
        seq, name, epoch, record, first, messages, at, _, _, _, payload, _ = row
        self.seq = seq + messages
        self.bytes += len(payload)
        before = self.endpoints.get(name, NOTHING)
        number = (first or 0) + messages - 1
        events = before.events if record == before.record and epoch == before.epoch else 0
        self.endpoints[name] = _make(Progress, (number, epoch, at, before.up or epoch > before.epoch, record, events, True))
        return number

    def follows(self, row: Row) -> bool:
        """Whether the messages of a row are the next ones of their endpoint, of which something is known."""
        before = self.endpoints.get(row.endpoint)
        return before is not None and row.number == before.number + 1

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
        after = before._replace(number=number, epoch=max(before.epoch, row.epoch), up=up)
        if row.record is not None and row.epoch >= before.epoch:
            is_same = (row.record, row.epoch) == (before.record, before.epoch)
            events, messages = (before.events, before.messages) if is_same else (0, False)
            after = after._replace(record=row.record, events=events + 1, messages=messages)
        elif row.epoch > before.epoch:
            after = after._replace(record=None, events=0, messages=False)
        self.endpoints[row.endpoint] = after


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
