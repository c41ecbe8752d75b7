"""One read, taken apart: which of its messages go up, in which pieces, as what. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from wsadapter.contract.record import NO_IDENTITY
from wsadapter.worker.actions import Deliver
from wsadapter.worker.reader import Batch


class Sieve:
    """The pieces of one read. A piece ends where something has to be said or sent between two messages."""

    def __init__(self, batch: Batch, *, streams: bool, identities: bool) -> None:
        """`streams`, `identities`: whether messages have one."""
        self._batch = batch
        self._first = self._filtered = 0
        self._skipped: set[int] = set()
        self.indexes = [0] * batch.count if streams else None
        """Of the stream of each message."""
        self.identities = [NO_IDENTITY] * batch.count if identities else None
        """Of each message."""

    def leave_out(self, at: int, *, filtered: bool = False) -> None:
        """A message does not go up; `filtered`: it is data that nobody wants."""
        self._skipped.add(at)
        self._filtered += filtered

    def mark(self, at: int, index: int) -> None:
        """A message is of this stream."""
        if self.indexes is None:
            self.indexes = [0] * self._batch.count
        self.indexes[at] = index

    def cut(self, end: int) -> Iterator[Deliver]:
        """The piece up to the message `end`, exclusive, if there is one."""
        if self._first < end:
            skipped = frozenset(self._skipped)
            yield Deliver(self._batch, self._first, end, skipped, self._filtered, self.indexes, self.identities)
            self._first, self._filtered, self._skipped = end, 0, set()
