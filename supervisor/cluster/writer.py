"""Appends what the journal has of one endpoint, under one term, to the endpoint's subject.

    claim ──the server has it──> append, append, ... ──refused: another writer──> lost

The lease is not asked before an append: a host that was frozen does not know that its lease has moved on. The server refuses
it, because the claim of the new holder is the last message by then. The states are those of `Fence`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Final, Protocol

from wsadapter.cluster.fence import Claim, Fence
from wsadapter.cluster.message import EMPTY, Message, Tenure, Writer, headers_of, read_headers
from wsadapter.cluster.numbering import Numbering, Point, last_down
from wsadapter.cluster.store import StoreUnavailable
from wsadapter.outputs.lines import event_line
from wsadapter.sinks.base import SinkRecord
from wsadapter.sinks.lines import pieces

_AGAIN: Final = 0.1
"""Seconds between two tries."""
_PATIENCE: Final = 10.0
"""Seconds of tries, after which the process ends, and another one begins with what the server has."""


class Log(Protocol):
    """The cluster's stream: one subject for each endpoint."""

    limit: int
    """Bytes of a message, at most."""

    async def last(self, endpoint: str) -> tuple[int, Mapping[str, str]] | None:
        """Sequence and headers of the last message; None: there is none. Raises `StoreUnavailable`, `StoreRefused`."""
        ...

    async def append(self, endpoint: str, body: bytes, headers: Mapping[str, str], expected: int) -> int | None:
        """Append behind the message with the sequence `expected`; the new sequence, or None if another one is the last. Raises
        as `last`; after `StoreUnavailable` it is not known whether the message is there."""
        ...


class TermLost(Exception):
    """This writer may not write: another writer, or a higher term, is in the subject; or the claim of the term is gone."""


class EndpointWriter:
    """One endpoint under one lease. In the loop of the agent."""

    def __init__(
        self, log: Log, endpoint: str, lease: Tenure, writer: Writer, start: int, *, was_claimed: bool = False
    ) -> None:
        """`start`: the place in the journal behind which the records of the term are. `was_claimed`: by an earlier process, so
        that the claim has to be there."""
        self.endpoint = endpoint
        self.lease = lease
        self.start = start
        self.refused = 0
        """Appends that the server refused."""
        self.appended_at = monotonic()
        self.highest_term = lease.term
        """That was seen in the subject."""
        self._log = log
        self._writer = writer
        self._was_claimed = was_claimed
        self._fence: Fence | None = None
        self._numbering = Numbering(Point())
        self._lock = asyncio.Lock()

    @property
    def is_lost(self) -> bool:
        """Whether nothing more can be written under this term."""
        return self._fence is not None and self._fence.state is Claim.LOST

    @property
    def is_writing(self) -> bool:
        """Whether the claim is in the subject."""
        return self._fence is not None and self._fence.state is Claim.WRITING

    async def claim(self) -> None:
        """Be the last writer of the subject. Raises `TermLost`, `StoreUnavailable`, `StoreRefused`."""
        async with self._lock:
            await self._claim()

    async def write(self, records: Iterable[SinkRecord]) -> None:
        """Append what belongs to this term; the server has it afterwards. Raises as `claim`."""
        async with self._lock:
            await self._claim()
            point = self._numbering.point
            for piece in pieces(self._numbering.translate(records), self._log.limit):
                for record in piece.records:
                    point = point.behind(record)
                point = replace(point, offsets=self._numbering.point.offsets)  # of the first Up, which may be in this piece
                await self._append(piece.body, headers_of(self.endpoint, self._writer, self.lease, point, piece), point)

    async def touch(self) -> None:
        """Append a message without lines, so that the last one of a quiet endpoint is never too old for the stream."""
        async with self._lock:
            await self._claim()
            point = self._numbering.point
            await self._append(b"", headers_of(self.endpoint, self._writer, self.lease, point), point)

    # -- under the lock --------------------------------------------------------------------------------------------------

    async def _claim(self) -> None:
        if self.is_writing:
            return
        if self.is_lost:
            raise TermLost
        give_up_at = monotonic() + _PATIENCE
        while True:
            try:
                if await self._try_to_claim():
                    return
                self.refused += 1  # the previous holder has written again: the claim is made behind that message
            except StoreUnavailable:
                if monotonic() >= give_up_at:
                    raise
                await asyncio.sleep(_AGAIN)

    async def _try_to_claim(self) -> bool:
        message = await self._last()
        if self._was_claimed and message.tail.lease != self.lease.id and message.tail.term <= self.lease.term:
            # Somebody has purged the subject: the numbers of this term are not known any more.
            self._fence = Fence(self._writer.id, self.lease.term, self.lease.id, message.tail)
            self._fence.state = Claim.LOST
            raise TermLost
        if self._fence is None:
            self._fence = Fence(self._writer.id, self.lease.term, self.lease.id, message.tail)
        else:
            self._fence.refused(message.tail)
        if self.is_lost:
            raise TermLost
        if self._fence.state is Claim.WRITING:  # the answer to the claim was lost
            self._numbering = Numbering(message.point)
            return True
        goes_on = message.tail.lease == self.lease.id  # an earlier process wrote it
        point = message.point if goes_on else message.point.claimed(self.start)
        down = None if goes_on else last_down(self.endpoint, message.point, self._writer.host)
        body = b"" if down is None else event_line(down)
        headers = headers_of(self.endpoint, self._writer, self.lease, point)
        sequence = await self._log.append(self.endpoint, body, headers, message.tail.sequence)
        if sequence is None:
            return False
        self._fence.appended(sequence, point.number)
        self._numbering = Numbering(point)
        self.appended_at = monotonic()
        return True

    async def _append(self, body: bytes, headers: Mapping[str, str], after: Point) -> None:
        """One append. Without an answer it is repeated with the same expectation: so the server accepts it once at most, and
        refuses it if another writer goes on meanwhile, also if this process was frozen in between."""
        assert self._fence is not None
        give_up_at = monotonic() + _PATIENCE
        while True:
            before, began_at = self._fence.tail.sequence, monotonic()
            try:
                sequence = await self._log.append(self.endpoint, body, headers, before)
                if sequence is not None:
                    self._fence.appended(sequence, after.number)
                    break
                self._fence.refused((await self._last()).tail)
            except StoreUnavailable:
                if began_at >= give_up_at:
                    raise
                await asyncio.sleep(_AGAIN)
                await self._last()  # no answer to this either: the process ends at once, and another one connects anew
                continue
            if self.is_lost:
                self.refused += 1
                raise TermLost
            if self._fence.tail.sequence != before:
                break  # the answer to this append was lost: the writer has one append in flight, so it is this one
            if began_at >= give_up_at:
                raise StoreUnavailable(f"no append to {self.endpoint} within {_PATIENCE:g} s")
            await asyncio.sleep(_AGAIN)  # refused, and no other message is there: a server that has just become the leader
        self.appended_at = monotonic()

    async def _last(self) -> Message:
        found = await self._log.last(self.endpoint)
        message = EMPTY if found is None else read_headers(*found, self.lease.id)
        self.highest_term = max(self.highest_term, message.tail.term)
        return message
