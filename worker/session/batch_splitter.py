"""One read, taken apart: which of its messages go up, in which pieces, as what. Pure.

Messages that came in one frame stay in one piece: of a frame that was told in part a next owner could not tell the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

from wsadapter.contract.ipc.record import NO_IDENTITY
from wsadapter.worker.session.actions import Deliver
from wsadapter.worker.websocket.reader import Batch


class Sieve:
    """The pieces of one read. A piece ends where something has to be said or sent between two messages."""

    def __init__(self, batch: Batch, *, streams: bool, identities: bool) -> None:
        """`streams`, `identities`: whether messages have one."""
        self._batch = batch
        self._first = 0
        self._skipped: set[int] = set()
        self._filtered: set[int] = set()
        self.indexes = [0] * batch.count if streams else None
        """Of the stream of each message."""
        self.identities = [NO_IDENTITY] * batch.count if identities else None
        """Of each message."""

    def leave_out(self, at: int, *, filtered: bool = False) -> None:
        """A message does not go up; `filtered`: it is data that nobody wants."""
        self._skipped.add(at)
        if filtered:
            self._filtered.add(at)

    def mark(self, at: int, index: int) -> None:
        """A message is of this stream."""
        if self.indexes is None:
            self.indexes = [0] * self._batch.count
        self.indexes[at] = index

    def cut(self, end: int) -> Iterator[Deliver]:
        """The piece up to the message `end`, exclusive, if there is one; none from `end` on was left out yet. It ends earlier
        where the frame that brought that message brought others before it."""
        place = self._batch.first_of.get(end, end)
        if self._first < place:
            skipped, filtered = self._skipped, self._filtered
            if skipped:
                self._skipped, self._filtered = set(), set()
            if place < end:
                skipped, self._skipped = _parted(skipped, place)
                filtered, self._filtered = _parted(filtered, place)
            yield Deliver(self._batch, self._first, place, frozenset(skipped), len(filtered), self.indexes, self.identities)
            self._first = place


def _parted(messages: set[int], place: int) -> tuple[set[int], set[int]]:
    """Those before a place, and the others."""
    return {at for at in messages if at < place}, {at for at in messages if at >= place}
