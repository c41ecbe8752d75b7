"""Writes messages and reports into the pipe to the supervisor, as records with sequence numbers. No write blocks.

A record is written with one `os.writev`: header and tables, then the bytes of the read as they are; messages that came
compressed or in fragments are written put together. Bytes that the pipe does not accept at once wait here. While bytes wait
(`backlog`), the owner reads no more data from its connection, because an owner never drops a message. If the endpoint has a
decode hook, the stage in worker/hooks/decode_stage.py stands in front of the outbox.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from wsadapter.contract.ipc.record import BATCH, REPORT, encode_head, encode_single_head, field
from wsadapter.contract.ipc.reports import Report
from wsadapter.worker.session.actions import Deliver
from wsadapter.worker.websocket.reader import ReadResult

_REPEATED: Final = 64 * 1024
"""Up to so many bytes of an unfinished message are written again in front of the new bytes; a longer beginning is not
repeated, and the reader of the record joins it."""

_MOST_PARTS: Final = 16
"""A record with more pieces is joined before it is written: that costs less than many vectors."""
_MOST_VECTORS: Final = 1024
"""The most pieces that `writev` takes (IOV_MAX)."""


class _Place(NamedTuple):
    """The bytes of a read's data that a record carries."""

    begin: int
    end: int
    tail: int = 0
    shift: int = 0
    """The number to add to an offset in the data to get the offset in the record."""
    continues: bool = False
    """The record continues the tail that the supervisor has kept."""


class Output(Protocol):
    """The destination of messages and reports, in order: the outbox, or the decode stage in front of the outbox."""

    @property
    def full(self) -> bool:
        """True if no more data should be read, because too much waits."""

    @property
    def drained(self) -> bool:
        """True if everything is in the pipe."""

    def report(self, report: Report) -> None:
        """Writes a report at this place in the stream."""

    def deliver(self, what: Deliver, received_at: int, position: int) -> None:
        """Writes messages at this place in the stream; `position`: the stream position at the beginning of the read's data."""

    def flush(self) -> bool:
        """Writes the waiting bytes that the pipe accepts; true if nothing is left for the pipe."""

    def stuck_for(self, now: float) -> float:
        """Seconds since the decode hook was called with the message that it has not returned yet; 0 if there is none."""


class Outbox:
    """The write end of the pipe. Not thread-safe. Nothing raises if the supervisor has closed its end: see `closed`."""

    def __init__(self, fd: int) -> None:
        """`fd` must be non-blocking."""
        self._fd = fd
        self._sequence = 0
        self.backlog: deque[memoryview] = deque()
        """The bytes that the pipe has not taken yet. Public and not a property, because the loop tests it after every read."""
        self.closed = False
        """The supervisor no longer reads. Everything that is written is ignored."""
        self._filtered = 0
        self._corks = 0
        self._every_byte = False
        self._position = 0
        self._tail = 0

    def report_every_byte(self, position: int, tail: int) -> None:
        """From stream `position` on every byte goes through the pipe, so that the next owner can continue at any byte. The
        supervisor has `tail` bytes of an unfinished message before `position`."""
        self._every_byte, self._position, self._tail = True, position, tail

    @property
    def full(self) -> bool:
        """True if no more data should be read, because the pipe has not taken everything."""
        return bool(self.backlog)

    @property
    def drained(self) -> bool:
        """True if everything is in the pipe."""
        return not self.backlog

    def stuck_for(self, now: float) -> float:  # noqa: ARG002  a decode stage needs it
        """0: there is no decode hook that could be stuck."""
        return 0.0

    def close(self) -> None:
        """From now on everything is ignored, also bytes that wait."""
        self.closed = True
        self.backlog.clear()

    def cork(self) -> None:
        """Holds back everything that is written until `uncork` was called as often, and then writes it at once. An owner that
        dies in between has written nothing of it; an owner that dies later has written all of it."""
        self._corks += 1

    def uncork(self) -> None:
        """See `cork`."""
        self._corks -= 1
        if not self._corks:
            self.flush()

    def filtered(self, count: int) -> None:
        """Counts messages that a filter or hook removed; the next record carries the number."""
        self._filtered += count

    def report_filtered(self) -> None:
        """Writes the number of removed messages if no record has carried it yet."""
        if self._filtered:
            self._write(
                self._head(
                    kind=BATCH, received_at=time.time_ns(), position=self._position, size=0, tail=self._tail,
                    continues=self._tail > 0,
                )
            )  # fmt: skip

    def report(self, report: Report) -> None:
        """Writes a report at this place in the stream."""
        body = report.encode()
        self._write(self._head(kind=REPORT, received_at=time.time_ns(), size=len(body)), body)

    def messages(
        self,
        read: ReadResult,
        received_at: int,
        position: int,
        first: int,
        last: int,
        skipped: Collection[int] = (),
        streams: Sequence[int] | None = None,
        identities: Sequence[int] | None = None,
    ) -> None:
        """Writes the messages `first` to `last` (exclusive) of a read, except `skipped`.

        `position` is the stream position at the beginning of the read's data. `streams` has an index, or 0, for each message
        of the whole read, `identities` an identity.
        """
        place = self._place(read, position, first, last)
        if not skipped and not read.joined and first == 0 and last == read.count and not place.shift:
            self._whole(read, place, received_at, position, streams, identities)
            return
        kept = [i for i in range(first, last) if i not in skipped]
        if not kept:
            return
        binary = set(read.binary)
        kinds = _kinds([i in binary for i in kept])
        indexes = None if streams is None else _indexes([streams[i] for i in kept])
        identities = None if identities is None else [identities[i] for i in kept]
        if read.joined and not self._every_byte:
            # Otherwise a message that came compressed or in fragments would be written twice, as it came and put together.
            self._stacked([read.payload(i) for i in kept], kinds, received_at, position + place.end, indexes, identities)
            return
        self._carry(
            place, _pieces(read, place, kept), received_at=received_at, position=position, count=len(kept),
            layout=_layout(read, place, first, last, skipped), binary=kinds, streams=indexes, identities=identities,
        )  # fmt: skip

    def deliver(self, what: Deliver, received_at: int, position: int) -> None:
        """Writes what a session delivers; `position` is the stream position at the beginning of the read's data."""
        self._filtered += what.filtered
        self.messages(
            what.read, received_at, position, what.first, what.last, what.skipped, what.streams, what.identities
        )  # fmt: skip

    def single_text(self, frame: bytes, size: int, received_at: int, position: int) -> None:
        """Writes a read that is exactly one text message of `size` bytes, as `messages` would, with fewer calls."""
        self._sequence += 1
        filtered, self._filtered = self._filtered, 0
        self._position, self._tail = position + len(frame), 0
        head = encode_single_head(
            sequence=self._sequence, received_at=received_at, position=self._position, size=size, frame=len(frame),
            filtered=filtered,
        )  # fmt: skip
        self._write(head, frame)

    def _whole(
        self,
        read: ReadResult,
        place: _Place,
        received_at: int,
        position: int,
        streams: Sequence[int] | None,
        identities: Sequence[int] | None,
    ) -> None:
        binary: bool | Sequence[bool] = False
        if read.binary:
            marked = set(read.binary)
            binary = _kinds([i in marked for i in range(read.count)])
        self._carry(
            place, _pieces(read, place), received_at=received_at, position=position,
            layout=read.layout(), count=read.count, binary=binary, streams=_indexes(streams), identities=identities,
        )  # fmt: skip

    def cover_rest(self, read: ReadResult, received_at: int, position: int) -> None:
        """Writes the bytes of a read that no record of a message has carried, if every byte is reported: they must not be lost
        either. Call it after the last message of the read."""
        if self._every_byte and self._position < position + len(read.data):
            place = self._place(read, position, read.count, read.count)
            self._carry(place, _pieces(read, place), received_at=received_at, position=position)

    def _carry(self, place: _Place, pieces: Sequence[bytes | memoryview], *, position: int, **fields: object) -> None:
        self._position, self._tail = position + place.end, place.tail
        size = sum(map(len, pieces))
        head = self._head(
            kind=BATCH, position=self._position, size=size, tail=place.tail, continues=place.continues, **fields
        )  # fmt: skip
        self._write(head, *pieces)

    def _place(self, read: ReadResult, position: int, first: int, last: int) -> _Place:
        all_told = last == read.count
        if not self._every_byte:
            begin = read.end_of(first - 1) if first else 0
            return _Place(begin, read.consumed if all_told else read.end_of(last - 1), shift=-begin)
        end, tail = read.end_of(last - 1) if not all_told else len(read.data), 0
        if all_told:
            tail = end - read.unfinished
        told = self._position - position
        if told > read.fresh:  # a second record of the same read
            return _Place(told, end, tail, -told)
        if told <= _REPEATED and read.unfinished >= 0:
            return _Place(0, end, tail)
        if read.unfinished < told or (first < last and first not in read.joined and read.starts[first] < told):
            return _Place(told, end, tail, self._tail - told, continues=True)
        return _Place(told, end, tail, -told)

    def payloads(
        self,
        payloads: Sequence[bytes],
        binary: Sequence[bool],
        received_at: int,
        position: int,
        streams: Sequence[int] | None = None,
        identities: Sequence[int] | None = None,
    ) -> None:
        """Writes messages that are not a slice of the bytes that were read."""
        self._stacked(payloads, _kinds(binary), received_at, position, _indexes(streams), identities)

    def _stacked(
        self,
        payloads: Sequence[bytes],
        binary: bool | Sequence[bool],
        received_at: int,
        position: int,
        streams: Sequence[int] | None,
        identities: Sequence[int] | None,
    ) -> None:
        self._position = position
        head = self._head(
            kind=BATCH, received_at=received_at, position=position, count=len(payloads), size=sum(map(len, payloads)),
            layout="".join([field(0, len(payload)) for payload in payloads]), binary=binary, streams=streams,
            identities=identities,
        )  # fmt: skip
        self._write(head, *payloads)

    def flush(self) -> bool:
        """Writes the waiting bytes that the pipe accepts; true if nothing is left."""
        while self.backlog:
            try:
                written = os.writev(self._fd, list(islice(self.backlog, _MOST_VECTORS)))
            except BlockingIOError:
                return False
            except BrokenPipeError:
                self.close()
                return True
            while self.backlog and written >= len(self.backlog[0]):
                written -= len(self.backlog.popleft())
            if written:
                self.backlog[0] = self.backlog[0][written:]
        return True

    def _head(self, **fields: object) -> bytes:
        self._sequence += 1
        filtered, self._filtered = self._filtered, 0
        return encode_head(sequence=self._sequence, filtered=filtered, **fields)  # type: ignore[arg-type]

    def _write(self, *parts: bytes | memoryview) -> None:
        if self.closed:
            return
        if self.backlog or self._corks:
            self.backlog.extend(memoryview(part) for part in parts if part)
            return
        if len(parts) > _MOST_PARTS:
            parts = (b"".join(parts),)
        try:
            written = os.writev(self._fd, parts)
        except BlockingIOError:
            written = 0
        except BrokenPipeError:
            self.close()
            return
        for part in parts:
            size = len(part)
            if written < size:
                self.backlog.append(memoryview(part)[written:])
            written = max(0, written - size)


def _layout(read: ReadResult, place: _Place, first: int, last: int, skipped: Collection[int]) -> str:
    """The layout of the messages `first` to `last` (exclusive); those in `skipped` are bytes that belong to no message."""
    fields = read.fields(first, last)
    for i in (first, *read.joined):
        if first <= i < last:
            before = read.ends[i - 1] if i > first else -place.shift
            payload = read.joined.get(i) if i not in skipped else None
            size = read.ends[i] - read.starts[i] if payload is None else len(payload)
            fields[i - first] = field(read.starts[i] - before, size)
    for i in skipped:
        if first <= i < last:
            fields[i - first] = fields[i - first].replace("s", "x")
    return "".join(fields)


def _pieces(read: ReadResult, place: _Place, kept: Sequence[int] = ()) -> list[bytes | memoryview]:
    """The bytes that a record carries: the bytes of the read and, after its last frame, each joined message of `kept`."""
    pieces: list[bytes | memoryview] = []
    begin = place.begin
    for i in kept if read.joined else ():
        if i in read.joined:
            pieces += (_piece(read.data, begin, read.ends[i]), read.joined[i])
            begin = read.ends[i]
    pieces.append(_piece(read.data, begin, place.end))
    return pieces


def _piece(data: bytes, begin: int, end: int) -> bytes | memoryview:
    return data if end - begin == len(data) else memoryview(data)[begin:end]


def _kinds(binary: Sequence[bool]) -> bool | Sequence[bool]:
    """One flag for all messages if all are the same, otherwise one per message."""
    if all(binary):
        return True
    return binary if any(binary) else False


def _indexes(streams: Sequence[int] | None) -> Sequence[int] | None:
    """None if no message has a stream: then the record needs no table."""
    return streams if streams is not None and any(streams) else None
