"""Splits the messages of one read into pieces to deliver. Pure.

Messages that came in one frame stay in one piece. If only a part of a frame was delivered and the owner died, the next owner
could not deliver the rest, because it continues at the end of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator

from wsadapter.contract.ipc.record import NO_IDENTITY
from wsadapter.worker.session.actions import Deliver
from wsadapter.worker.websocket.reader import ReadResult


class ReadSplitter:
    """The pieces of one read. A piece ends where a report or a frame comes between two messages."""

    def __init__(self, read: ReadResult, *, streams: bool, identities: bool) -> None:
        """`streams`, `identities`: true if messages may have one."""
        self._read = read
        self._first = 0
        self._skipped: set[int] = set()
        self._filtered: set[int] = set()
        self.indexes = [0] * read.count if streams else None
        """The index of the stream of each message; None: no message has a stream yet."""
        self.identities = [NO_IDENTITY] * read.count if identities else None
        """The identity of each message; None: identities are not wanted."""

    def skip(self, at: int, *, filtered: bool = False) -> None:
        """A message is not delivered; `filtered`: because the endpoint's filter removes its stream."""
        self._skipped.add(at)
        if filtered:
            self._filtered.add(at)

    def mark(self, at: int, index: int) -> None:
        """A message belongs to the stream with this index."""
        if self.indexes is None:
            self.indexes = [0] * self._read.count
        self.indexes[at] = index

    def emit_up_to(self, end: int) -> Iterator[Deliver]:
        """The messages before `end` that were not emitted yet, as one piece, if there are any. Call it before `skip` or `mark`
        of a message from `end` on. The piece ends earlier if the frame of message `end` brought other messages before it."""
        place = self._read.first_of.get(end, end)
        if self._first < place:
            skipped, filtered = self._skipped, self._filtered
            if skipped:
                self._skipped, self._filtered = set(), set()
            if place < end:
                skipped, self._skipped = _divide(skipped, place)
                filtered, self._filtered = _divide(filtered, place)
            yield Deliver(self._read, self._first, place, frozenset(skipped), len(filtered), self.indexes, self.identities)
            self._first = place


def _divide(messages: set[int], place: int) -> tuple[set[int], set[int]]:
    """The messages before `place`, and the others."""
    return {at for at in messages if at < place}, {at for at in messages if at >= place}
