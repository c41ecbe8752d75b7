"""The merge of a link's old connection with the new one, in a planned change.

the old owner identifies its messages ──> both are connected ──> the old one is gone: what is held of the new one comes,
without what was delivered ──> the new one may still repeat something ──> dropped as a whole
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time_ns
from typing import Any, Final

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.record import NO_IDENTITY, SNAPSHOT, Record
from wsadapter.endpoint.dedup import Batch, FirstArrival, Part, selected
from wsadapter.endpoint.identities import may_repeat, span_for
from wsadapter.endpoint.overlap import Overlap, overlap
from wsadapter.endpoint.successor import Successor

NOTHING_FOUND: Final = Overlap(continues=False)
_OLD, _NEW = 0, 1
"""Members of the merge."""


class OverlapMerge:
    """The merge of one planned change. All methods under the reactor's lock."""

    def __init__(
        self,
        endpoint: Endpoint,
        dialect: dict[str, Any] | None,
        accept: Callable[[Record, list[str | None] | None], None],
    ) -> None:
        """`accept` lets messages into the stream. From here on the old connection's messages are remembered."""
        self._accept = accept
        self._repeats = may_repeat(endpoint, dialect)
        self._began_at = monotonic()
        self._merge: FirstArrival[Batch] = FirstArrival(span=span_for(endpoint, dialect), repeats=self._repeats)
        self._merge.join(_OLD, self._began_at)
        self._member = _OLD
        self._cut_at = 0
        """Wall clock of the last message of the old connection while held records are delivered; otherwise 0."""
        self.found = NOTHING_FOUND
        """How the new connection continues the old one, while held records are delivered."""

    @property
    def has_new(self) -> bool:
        """Whether the new connection is the one that delivers."""
        return self._member == _NEW

    def take(self, received: Record, streams: list[str | None] | None) -> None:
        """Accept of a record the messages that were not delivered yet."""
        if received.identities is None and self._member == _OLD:  # it was read before identities were asked for
            self._accept(received, streams)
            return
        identities = received.identities or [NO_IDENTITY] * received.count
        late = bool(self._cut_at) and received.received_at > self._cut_at
        batch = (received, streams)
        self._deliver(self._merge.take(self._member, batch, identities, streams, monotonic(), unidentified=late))

    def _deliver(self, parts: list[Part[Batch]]) -> None:
        for part in parts:
            received, streams = part.shown
            if received.received_at < self.found.due:
                part.places = [place for place in part.places if self._is_due(received, streams, place)]
            if part.places:
                self._accept(*selected(part))

    def _is_due(self, received: Record, streams: list[str | None] | None, place: int) -> bool:
        """Whether a message is to be delivered that the old connection had the time to bring, and that is not known from it."""
        stream = None if streams is None else streams[place]
        identified = received.identities is not None and received.identities[place] not in (NO_IDENTITY, SNAPSHOT)
        return stream in self.found.interrupted or not identified

    def compare(self, successor: Successor, *, in_order: bool) -> Overlap:
        """How the successor's connection continues the old one. `in_order`: the old one was read to its end."""
        held = successor.held
        if held.subscribed_at is None:
            return NOTHING_FOUND
        shown = held.shown()
        if self._repeats:  # an identity repeats, so two equal messages prove nothing
            unidentified = frozenset(stream for stream, identity, _, _ in shown if identity == NO_IDENTITY)
            return Overlap(continues=in_order, interrupted=unidentified - {None})
        left_at = (successor.ready_at or time_ns()) if in_order else None
        return overlap(self._merge.delivered, shown, subscribed_at=held.subscribed_at, left_at=left_at)

    def join(self, found: Overlap, last_received_at: int | None) -> None:
        """The successor's messages come next, merged with what the old connection brought since it identifies its messages.
        `last_received_at`: when the old one brought its last message, in wall-clock ns."""
        now = monotonic()
        self._merge.join(_NEW, self._began_at)
        if self._repeats:
            self._merge.mark_aligned(_NEW, now)
        for stream in found.interrupted:
            self._merge.begin_anew(stream, _NEW)
        self._merge.align(_NEW, found.apart, now)
        self._member, self._cut_at, self.found = _NEW, last_received_at or 1, found

    def held_delivered(self) -> None:
        """All that was held has been taken: only what the new connection repeats is left out from here on."""
        self.found, self._cut_at = NOTHING_FOUND, 0
        self._deliver(self._merge.mark_aligned(_NEW, monotonic()))
        self._merge.leave(_OLD)
