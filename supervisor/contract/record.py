"""The record that travels through the pipe, owner to supervisor: one per read from the socket, not one per message.

    +--------+---------------------------+---------------------------------------------+
    | header | tables                    | body                                        |
    | 64 B   | starts, ends: u32 x count | raw bytes as read from the socket ... tail  |
    |        | binary: u8 x count (MIXED)| extra: payloads that are not a slice of raw |
    |        | stream: u16 x count       |                                             |
    +--------+---------------------------+---------------------------------------------+

`starts` and `ends` are offsets into the body, so the owner writes the bytes it read without copying them, frame headers and
all, and the supervisor slices the payloads out.

`position` and `tail` are what a lossless handoff needs: the stream position behind `raw`, and how many bytes before it belong
to a message that is not complete yet. The reader keeps that tail. A record either brings it again, in front of what is new, or,
where it is long, says CONTINUES: then its offsets count from the beginning of the tail that is kept, and `raw` is its rest.
So a message of many reads goes through the pipe once.

Two checksums: one of the header (checked before its lengths are believed) and one of the tables. The payload has none: it
can't misalign what follows, and CRC32 of it would cost both sides more than the rest of the work. The sequence number finds a
record that was lost or written twice.

A REPORT record has no messages; its body is JSON: something the owner has to say at this place in the stream.

Integers are little-endian. Nothing is pickled: what comes out of a pipe is data from a process that parses the internet.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

BATCH: Final = 1
REPORT: Final = 2

BINARY: Final = 1
"""Flag: all messages are binary."""
MIXED: Final = 2
"""Flag: a table says for each message whether it is binary."""
STREAMS: Final = 4
"""Flag: a table holds for each message the index of its stream, 0 for none."""
CONTINUES: Final = 8
"""Flag: the tail that is kept stands in front of the body."""

_MAGIC: Final = b"wsR1"
_HEADER: Final = struct.Struct("<4sIQQQIIIIHH4xII")
HEADER_SIZE: Final = _HEADER.size
_CHECKED: Final = HEADER_SIZE - 4  # the header's checksum covers all of it but itself
_ROOM_LEAST: Final = 1 << 15
_ROOM_MOST: Final = 5 << 16
"""Bytes of a reader's buffer. Most records of a busy connection fit with their tables, and stay in the processor's cache."""
MAX_RECORD: Final = (1 << 32) - 1
_U32: Final = next(code for code in "IL" if array(code).itemsize == 4)


class CorruptRecord(ValueError):
    """What came through the pipe is not what an owner writes. Nothing after it can be believed."""


@dataclass(slots=True, eq=False)  # not frozen: that would more than double the cost of making one
class Record:
    """One decoded record. `body` holds its payloads; `payloads()` slices them out."""

    kind: int
    sequence: int
    """1, 2, 3 ... for the life of the pipe."""
    received_at: int
    """Wall-clock ns of the read."""
    position: int
    """Bytes received from the peer since the handshake, up to the end of `raw`."""
    raw: int
    """How many bytes of the body are raw socket bytes."""
    tail: int
    """How many bytes before `position` belong to a message that is not complete."""
    filtered: int
    """Messages the owner removed since the last record (filters, decode hook)."""
    count: int
    """Number of messages."""
    starts: Sequence[int]
    ends: Sequence[int]
    binary: bool | list[bool]
    streams: Sequence[int] | None
    """Per message the index of its stream, 0 for none; None where no message has one."""
    body: bytes
    base: int
    """Where the body begins within `body`."""

    def payloads(self) -> list[bytes]:
        """The messages, in order."""
        if self.count == 1:
            return [self.body[self.base + self.starts[0] : self.base + self.ends[0]]]
        body = self.body[self.base :] if self.base else self.body  # one copy is cheaper than an addition per message
        return [body[a:b] for a, b in zip(self.starts, self.ends, strict=True)]

    def raw_bytes(self) -> bytes:
        """The socket bytes it carries."""
        return self.body[self.base : self.base + self.raw]

    def report(self) -> bytes:
        """The JSON text of a REPORT."""
        return self.body[self.base :]


def encode_head(
    *,
    kind: int,
    sequence: int,
    received_at: int,
    position: int = 0,
    starts: Sequence[int] = (),
    ends: Sequence[int] = (),
    raw: int,
    extra: int = 0,
    tail: int = 0,
    filtered: int = 0,
    binary: bool | Sequence[bool] = False,
    streams: Sequence[int] | None = None,
    continues: bool = False,
) -> bytes:
    """Header and tables of a record whose body of `raw + extra` bytes is written right behind it.

    Raises `ValueError` where the record would be longer than `MAX_RECORD` bytes.
    """
    flags = CONTINUES if continues else 0
    tables = array(_U32, starts).tobytes() + array(_U32, ends).tobytes() if starts else b""
    if isinstance(binary, bool):
        flags |= BINARY if binary else 0
    else:
        flags |= MIXED
        tables += bytes(binary)
    if streams is not None:
        flags |= STREAMS
        tables += array("H", streams).tobytes()
    length = HEADER_SIZE + len(tables) + raw + extra
    if length > MAX_RECORD:
        raise ValueError(f"a record of {length} bytes does not fit; the limit is {MAX_RECORD}")
    head = _HEADER.pack(
        _MAGIC, length, sequence, received_at, position, len(starts), raw, tail, filtered, kind, flags, crc32(tables), 0
    )[:_CHECKED]
    return head + crc32(head).to_bytes(4, "little") + tables


def encode(body: bytes, **fields: object) -> bytes:
    """A whole record in one piece, for tests and small reports; `fields` as for `encode_head`."""
    fields.setdefault("raw", len(body))
    return encode_head(**fields) + body  # type: ignore[arg-type]


class RecordReader:
    """Cuts a byte stream into records. It never blocks and never reads by itself: whoever reads the pipe feeds it.

    At the end of the stream `torn` tells how many bytes of an unfinished record are left: its writer died writing it.
    `position` and `tail()` then tell a next owner where to go on. Not thread-safe.
    """

    def __init__(self, *, limit: int = MAX_RECORD, position: int = 0, tail: bytes = b"") -> None:
        """`limit`: bytes that no record, and no tail, is longer than. `position` and `tail`: what the predecessor left."""
        self.limit = limit
        self._sequence = 0
        self._buffer = bytearray(_ROOM_LEAST)
        self._filled = 0
        self._kept = [tail] if tail else []
        self._kept_size = len(tail)
        self.position = position
        """Of the last record."""

    @property
    def torn(self) -> int:
        """Bytes of an unfinished record."""
        return self._filled

    def tail(self) -> bytes:
        """The bytes before `position` that belong to an unfinished message."""
        return b"".join(self._kept)

    def room(self) -> memoryview:
        """Where the next bytes of the pipe belong; `advance` tells how many came."""
        return memoryview(self._buffer)[self._filled :]

    def feed(self, chunk: bytes) -> Iterator[Record]:
        """Yields the records that `chunk` completes, and keeps the rest."""
        view = memoryview(chunk)
        while view:
            room = self.room()[: len(view)]
            room[:] = view[: len(room)]
            yield from self.advance(len(room))
            view = view[len(room) :]

    def advance(self, size: int) -> Iterator[Record]:
        """Yields the records that `size` more bytes complete.

        Raises `CorruptRecord` where the bytes are no record; the reader is of no use after it.
        """
        view, position, end = memoryview(self._buffer), 0, self._filled + size
        needed = min(2 * len(view), _ROOM_MOST) if end == len(view) else 0
        while end - position >= HEADER_SIZE:
            header = self._check_header(bytes(view[position : position + HEADER_SIZE]))
            length = header[1]
            if end - position < length:
                needed = max(needed, length)
                break
            yield self._decode(header, view, position)
            position += length
        self._filled = end - position
        self._keep_room(view, view[position:end], needed)

    def _keep_room(self, view: memoryview, rest: memoryview, needed: int) -> None:
        """Move an unfinished record to the front of a buffer of `needed` bytes; one that is far too large is given back."""
        if needed > len(view) or len(view) > _ROOM_MOST >= max(needed, len(rest)):
            self._buffer = bytearray(max(needed, len(rest), _ROOM_LEAST))
            memoryview(self._buffer)[: len(rest)] = rest
        elif rest:
            view[: len(rest)] = rest

    def _check_header(self, header: bytes) -> tuple[Any, ...]:
        """Its fields."""
        fields = _HEADER.unpack(header)
        if crc32(header[:_CHECKED]) != fields[-1]:
            raise CorruptRecord("the checksum of a record's header is wrong")
        if not HEADER_SIZE <= fields[1] <= self.limit:
            raise CorruptRecord(f"a record claims {fields[1]} bytes; the limit is {self.limit}")
        return fields

    def _decode(self, header: tuple[Any, ...], chunk: memoryview, at: int) -> Record:
        magic, length, sequence, received_at, position, count, raw, tail, filtered, kind, flags, tables_crc, _ = header
        if magic != _MAGIC or kind not in (BATCH, REPORT):
            raise CorruptRecord("not a record of this version")
        if sequence != self._sequence + 1:
            raise CorruptRecord(f"record {sequence} came after record {self._sequence}")
        width = 8 + bool(flags & MIXED) + 2 * bool(flags & STREAMS)
        tables_size = count * width
        body_size = length - HEADER_SIZE - tables_size
        before = self._kept_size if flags & CONTINUES else 0
        if body_size < 0 or raw > body_size or tail > before + raw or before + raw > self.limit:
            raise CorruptRecord("a record's lengths contradict each other")
        base = at + HEADER_SIZE + tables_size
        tables = bytes(chunk[at + HEADER_SIZE : base])
        if crc32(tables) != tables_crc:
            raise CorruptRecord("the checksum of a record's tables is wrong")
        self._sequence = sequence
        offsets = array(_U32, tables[: 8 * count])
        starts, ends = offsets[:count], offsets[count:]
        if count and max(ends) > before + body_size:
            raise CorruptRecord("a message lies outside its record")
        binary: bool | list[bool] = bool(flags & BINARY)
        if flags & MIXED:
            binary = [bool(value) for value in tables[8 * count : 9 * count]]
        streams = array("H", tables[-2 * count :]) if flags & STREAMS and count else None
        if before and count:
            body, base = b"".join((*self._kept, chunk[base : at + length])), 0
        else:
            body, base = bytes(chunk[base : at + length]), 0
        in_body = before + raw if before and count else raw
        if kind == BATCH:
            self.position = position
            self._keep(body, base + in_body, in_body, tail)
        return Record(
            kind, sequence, received_at, position, in_body, tail, filtered, count, starts, ends, binary, streams, body, base
        )

    def _keep(self, body: bytes, end: int, raw: int, tail: int) -> None:
        """Of the tail kept so far and the `raw` bytes before `end` in `body`, keep the last `tail`."""
        if tail <= raw:
            self._kept = [body[end - tail : end]] if tail else []
        else:
            self._kept.append(body[end - raw : end])
            if tail < self._kept_size + raw:
                self._kept = [b"".join(self._kept)[-tail:]]
        self._kept_size = tail
