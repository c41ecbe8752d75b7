"""The record that an owner writes into the pipe to the supervisor: one per read from the socket, not one per message.

    +--------+---------------------------+--------------------------------------------+
    | header | tables                    | body                                       |
    | 64 B   | layout: text              | bytes as read from the socket ... tail     |
    |        | binary: u8 x count (MIXED)| with payloads that are no slice of them in |
    |        | stream: u16 x count       | their places                               |
    |        | identity: u64 x count     |                                            |
    +--------+---------------------------+--------------------------------------------+

The layout gives, in the notation of `struct`, the places of the payloads in the body: "2x5s4x200s" means two bytes to skip, a
payload of 5 bytes, four bytes to skip, a payload of 200 bytes. So the owner writes the bytes of a read without copying them,
with their frame headers, and one call of C code returns all payloads. Only digits, "x" and "s" are passed to `struct`.

A lossless handoff needs `position` and `tail`: the stream position at the end of the body, and how many bytes at the end of
the body belong to a message that is not complete yet. The reader keeps this tail. The next record either repeats the tail in
front of the new bytes or, if the tail is long, has the flag CONTINUES: then its layout begins at the beginning of the kept
tail, and its body is the rest. So a message of many reads goes through the pipe once.

There are two checksums: one of the header, which is checked before its lengths are used, and one of the tables. The payload
has no checksum: a wrong payload can't misalign the records after it, and its CRC32 would cost both sides more than the rest of
the work. The sequence number detects a record that was lost or written twice.

A REPORT record has no messages; its body is a report as JSON (reports.py).

Integers are little-endian. Nothing is pickled, because the data come from a process that parses bytes of the internet.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zlib import crc32

BATCH: Final = 1
REPORT: Final = 2

BINARY: Final = 1
"""Flag: all messages are binary."""
MIXED: Final = 2
"""Flag: a table has for each message whether it is binary."""
STREAMS: Final = 4
"""Flag: a table holds for each message the index of its stream, 0 for none."""
CONTINUES: Final = 8
"""Flag: the kept tail comes before the body."""
IDENTITIES: Final = 16
"""Flag: a table holds for each message its identity, see `Record.identities`."""

ANSWER: Final = 0xFFFF
"""In the table of streams: the message is the answer to the request of the first AnswerFollows whose message has not come
yet."""

NO_IDENTITY: Final = 0
SNAPSHOT: Final = 1
"""The identity of a snapshot: if another connection has delivered the stream up to now, the snapshot contains nothing new."""

_MAGIC: Final = b"wsR1"
_HEADER: Final = struct.Struct("<4sIQQQIIIIHH4xII")
_UNSEALED: Final = struct.Struct("<4sIQQQIIIIHH4xI")
"""A header without the checksum over it."""
HEADER_SIZE: Final = _HEADER.size
_CHECKED: Final = HEADER_SIZE - 4  # the header's checksum covers the header except the checksum itself
_ROOM_LEAST: Final = 1 << 15
_ROOM_MOST: Final = 5 << 16
"""Bytes of a reader's buffer: most records of a busy connection fit into it, and it fits into the processor's cache."""
MAX_RECORD: Final = (1 << 32) - 1
_NOTATION: Final = b"0123456789xs"
"""The characters of a layout. Other letters of `struct` would return values that are no bytes."""
_TABLES: Final = MIXED | STREAMS | IDENTITIES
_PER_MESSAGE: Final = tuple(
    bool(flags & MIXED) + 2 * bool(flags & STREAMS) + 8 * bool(flags & IDENTITIES) for flags in range(2 * IDENTITIES)
)
"""Bytes per message of the tables other than the layout, by flags."""
_SHORTEST_FIELD: Final = len("0x0s")
_unpack_cached: Final = struct.unpack_from
"""`struct.unpack_from` caches recent formats, which pays off for short layouts that repeat."""
_KIND: Final = slice(32, _CHECKED)
"""The part of the header after the position."""
_SINGLE: Final = "<4sIQQQ28sI"
"""The format of a header, with the part `_KIND` as one field."""
_LONGEST_SINGLE: Final = 1 << 14
"""Bytes of a record above which the short way is not faster."""
_LONGEST_LAYOUT: Final = 16
"""More bytes than the layout of such a record has."""
_MOST_SHAPES: Final = 512
"""Sizes of such records that a reader remembers; if there are more, it forgets all."""


class CorruptRecord(ValueError):
    """The bytes of the pipe are no record of an owner, so nothing after them can be read either."""


@dataclass(slots=True, eq=False)  # not frozen: that would more than double the cost of making one
class Record:
    """One decoded record."""

    kind: int
    sequence: int
    """1, 2, 3 ... for the life of the pipe."""
    received_at: int
    """Wall-clock ns of the read."""
    position: int
    """Bytes received from the peer since the handshake, up to the end of the body."""
    tail: int
    """How many bytes before `position` belong to a message that is not complete."""
    filtered: int
    """Messages the owner removed since the last record (filters, decode hook)."""
    count: int
    """Number of messages."""
    payloads: tuple[bytes, ...]
    """The messages, in order."""
    size: int
    """Bytes of the body, and of the kept tail if messages begin in it."""
    binary: bool | list[bool]
    streams: Sequence[int] | None
    """Per message the index of its stream; 0: no stream; `ANSWER`: the answer to a request, which is not delivered in the
    stream. None: no message has a stream."""
    report: bytes
    """The JSON text of a REPORT."""
    identities: Sequence[int] | None = None
    """Per message a digest that is equal on every connection of the endpoint, `NO_IDENTITY` or `SNAPSHOT`; None: identities
    were not wanted."""

    @classmethod
    def of_single(cls, single: SingleMessage) -> Record:
        """The record of a single message."""
        return cls(
            BATCH, single.sequence, single.received_at, single.position, 0, 0, 1, (single.data,), single.size, False,
            None, b"",
        )  # fmt: skip

    def only(self, places: Sequence[int]) -> Record:
        """The record with only the messages at `places`; at least one, in order."""
        binary, streams, identities = self.binary, self.streams, self.identities
        payloads = tuple(self.payloads[place] for place in places)
        return replace(
            self,
            count=len(places),
            payloads=payloads,
            size=sum(map(len, payloads)),
            binary=binary if isinstance(binary, bool) else [binary[place] for place in places],
            streams=None if streams is None else [streams[place] for place in places],
            identities=None if identities is None else [identities[place] for place in places],
        )


class SingleMessage(NamedTuple):
    """A record of exactly one short text message, the usual record of a connection without a flood; the fields are those of
    `Record`."""

    data: bytes
    sequence: int
    received_at: int
    position: int
    size: int


def field(gap: int, size: int) -> str:
    """A message in a layout: `size` bytes, `gap` bytes after the message before, or after the beginning of the body."""
    return f"{gap}x{size}s"


def encode_head(
    *,
    kind: int,
    sequence: int,
    received_at: int,
    position: int = 0,
    layout: str = "",
    count: int = 0,
    size: int,
    tail: int = 0,
    filtered: int = 0,
    binary: bool | Sequence[bool] = False,
    streams: Sequence[int] | None = None,
    identities: Sequence[int] | None = None,
    continues: bool = False,
) -> bytes:
    """Header and tables of a record, to be followed by its body of `size` bytes. `layout`: a `field` for each of the `count`
    messages; "5x" skips 5 bytes that belong to no message.

    Raises `ValueError` if the record would be longer than `MAX_RECORD` bytes.
    """
    flags = CONTINUES if continues else 0
    tables = layout.encode("ascii")
    if isinstance(binary, bool):
        flags |= BINARY if binary else 0
    else:
        flags |= MIXED
        tables += bytes(binary)
    if streams is not None:
        flags |= STREAMS
        tables += array("H", streams).tobytes()
    if identities is not None:
        flags |= IDENTITIES
        tables += array("Q", identities).tobytes()
    length = HEADER_SIZE + len(tables) + size
    if length > MAX_RECORD:
        raise ValueError(f"a record of {length} bytes does not fit; the limit is {MAX_RECORD}")
    head = _UNSEALED.pack(
        _MAGIC, length, sequence, received_at, position, count, len(layout), tail, filtered, kind, flags, crc32(tables)
    )
    return head + crc32(head).to_bytes(4, "little") + tables


def encode_single_head(*, sequence: int, received_at: int, position: int, size: int, frame: int, filtered: int) -> bytes:
    """As `encode_head`, but faster, for a single message: one text message of `size` bytes at the end of a body of `frame`
    bytes."""
    layout = b"%dx%ds" % (frame - size, size)
    head = _UNSEALED.pack(
        _MAGIC, HEADER_SIZE + len(layout) + frame, sequence, received_at, position, 1, len(layout), 0, filtered, BATCH, 0,
        crc32(layout),
    )  # fmt: skip
    return head + crc32(head).to_bytes(4, "little") + layout


def encode(body: bytes, **fields: object) -> bytes:
    """A whole record, for tests; `fields` as of `encode_head`."""
    fields.setdefault("size", len(body))
    return encode_head(**fields) + body  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSnapshot:
    """How far a `RecordReader` has read, perhaps in the middle of a record."""

    limit: int
    sequence: int
    """The sequence number of the last record."""
    position: int
    """The position of the last record."""
    unfinished: bytes
    """The beginning of the next record."""
    tail: bytes
    """As `RecordReader.tail`."""


class RecordReader:
    """Cuts a byte stream into records. It does no I/O: the reader of the pipe feeds it.

    At the end of the stream `torn` is the number of bytes of an unfinished record, whose writer died while it wrote.
    `position` and `tail()` then say where the next owner continues. Not thread-safe.
    """

    def __init__(
        self, *, limit: int = MAX_RECORD, position: int = 0, tail: bytes = b"", sequence: int = 0, unfinished: bytes = b""
    ) -> None:
        """`limit`: the most bytes of a record, and of a tail. `position` and `tail`: those of the previous owner. `sequence`
        and `unfinished`: how far another reader of the same pipe has read."""
        self.limit = limit
        self._sequence = sequence
        self._buffer = bytearray(max(_ROOM_LEAST, 2 * len(unfinished)))
        self._buffer[: len(unfinished)] = unfinished
        self._filled = len(unfinished)
        self.room = memoryview(self._buffer)[self._filled :]
        """The buffer for the next bytes of the pipe; the caller then passes their number to `advance` or `single`."""
        self._kept = [tail] if tail else []
        self._kept_size = len(tail)
        self._shapes: dict[int, _Shape] = {}
        """The shapes of single messages, by the size of their records."""
        self.position = position
        """The position of the last record."""

    @property
    def torn(self) -> int:
        """Bytes of an unfinished record."""
        return self._filled

    def snapshot(self) -> ReaderSnapshot:
        """For another reader of the same pipe, see `from_snapshot`."""
        unfinished = bytes(self._buffer[: self._filled])
        return ReaderSnapshot(
            limit=self.limit, sequence=self._sequence, position=self.position, unfinished=unfinished, tail=self.tail()
        )

    @classmethod
    def from_snapshot(cls, snapshot: ReaderSnapshot) -> RecordReader:
        """A reader that continues where the other reader was."""
        return cls(
            limit=snapshot.limit,
            position=snapshot.position,
            tail=snapshot.tail,
            sequence=snapshot.sequence,
            unfinished=snapshot.unfinished,
        )

    def tail(self) -> bytes:
        """The bytes before `position` that belong to an unfinished message."""
        return b"".join(self._kept)

    def feed(self, chunk: bytes) -> Iterator[Record]:
        """Yields the records that `chunk` completes, and keeps the rest."""
        view = memoryview(chunk)
        while view:
            room = self.room[: len(view)]
            room[:] = view[: len(room)]
            yield from self.advance(len(room))
            view = view[len(room) :]

    def advance(self, size: int) -> Iterator[Record]:
        """The records that `size` more bytes complete; an iterator.

        Raises `CorruptRecord` if the bytes are no record; the reader must not be used after that.
        """
        view, position, end = memoryview(self._buffer), 0, self._filled + size
        needed = min(2 * len(view), _ROOM_MOST) if end == len(view) else 0
        while end - position >= HEADER_SIZE:
            header = self._check_header(bytes(view[position : position + HEADER_SIZE]))
            length = header[1]
            if end - position < length:
                needed = max(needed, length)
                break
            record = self._decode(header, view, position)
            if length == end:
                self._remember(header, view)
            yield record
            position += length
        self._filled = end - position
        self._keep_room(view, view[position:end], needed)

    def single(self, size: int) -> SingleMessage | None:
        """If `size` more bytes are exactly one record of one text message, of a shape that was seen before: accepts and
        returns it. Otherwise returns None, also for a corrupt record, and the caller must call `advance`, which is slower."""
        shape = self._shapes.get(size)
        if shape is None or self._filled or self._kept:
            return None
        buffer = self._buffer
        unpack_from, its_kind, its_layout, body = shape
        magic, length, sequence, received_at, position, kind, checksum, layout, data = unpack_from(buffer)
        if sequence != self._sequence + 1 or crc32(buffer[:_CHECKED]) != checksum:
            return None
        if magic != _MAGIC or length != size or kind != its_kind or layout != its_layout:
            return None
        self._sequence, self.position = sequence, position
        return tuple.__new__(SingleMessage, (data, sequence, received_at, position, body))

    def _remember(self, header: tuple[Any, ...], record: memoryview) -> None:
        """Notes that records of this size may be single messages of this shape."""
        _, length, _, _, _, count, layout_size, tail, filtered, kind, flags, _, _ = header
        if kind != BATCH or count != 1 or flags or tail or filtered:
            return
        if length <= _LONGEST_SINGLE and layout_size <= _LONGEST_LAYOUT:
            head = bytes(record[: HEADER_SIZE + layout_size])
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[length] = _shape(head[_KIND], head[HEADER_SIZE:], length - len(head))

    def _keep_room(self, view: memoryview, rest: memoryview, needed: int) -> None:
        """Moves an unfinished record to the front of a buffer of `needed` bytes, and replaces a buffer that is far too
        large."""
        if needed > len(view) or len(view) > _ROOM_MOST >= max(needed, len(rest)):
            self._buffer = bytearray(max(needed, len(rest), _ROOM_LEAST))
            memoryview(self._buffer)[: len(rest)] = rest
        elif rest:
            view[: len(rest)] = rest
        self.room = memoryview(self._buffer)[self._filled :]

    def _check_header(self, header: bytes | bytearray) -> tuple[Any, ...]:
        """The fields of a header, checked."""
        fields = _HEADER.unpack(header)
        if crc32(header[:_CHECKED]) != fields[-1]:
            raise CorruptRecord("the checksum of a record's header is wrong")
        if not HEADER_SIZE <= fields[1] <= self.limit:
            raise CorruptRecord(f"a record claims {fields[1]} bytes; the limit is {self.limit}")
        return fields

    def _decode(self, header: tuple[Any, ...], chunk: memoryview, at: int) -> Record:
        magic, length, sequence, received_at, position, count, layout_size, tail, filtered, kind, flags, tables_crc, _ = header
        if magic != _MAGIC or kind not in (BATCH, REPORT):
            raise CorruptRecord("not a record of this version")
        if sequence != self._sequence + 1:
            raise CorruptRecord(f"record {sequence} came after record {self._sequence}")
        tables_size = layout_size + count * _PER_MESSAGE[flags & _TABLES]
        size = length - HEADER_SIZE - tables_size
        before = self._kept_size if flags & CONTINUES else 0
        if size < 0 or tail > min(before + size, self.limit) or layout_size < count * _SHORTEST_FIELD:
            raise CorruptRecord("a record's lengths contradict each other")
        base = at + HEADER_SIZE + tables_size
        tables = bytes(chunk[at + HEADER_SIZE : base])
        if crc32(tables) != tables_crc:
            raise CorruptRecord("the checksum of a record's tables is wrong")
        self._sequence = sequence
        body = chunk[base : at + length]
        if before and count:
            body = memoryview(b"".join((*self._kept, body)))
        payloads = _payloads(tables[:layout_size], count, body) if layout_size else ()
        binary: bool | list[bool] = bool(flags & BINARY)
        streams = identities = None
        if flags & _TABLES and count:
            mixed, streams, identities = _tables(tables, layout_size, count, flags)
            binary = binary if mixed is None else mixed
        if kind == BATCH:
            self.position = position
            if tail or self._kept:
                self._keep(body, tail)
        report = bytes(body) if kind == REPORT else b""
        return Record(
            kind, sequence, received_at, position, tail, filtered, count, payloads, len(body), binary, streams, report,
            identities,
        )  # fmt: skip

    def _keep(self, body: memoryview, tail: int) -> None:
        """Keeps the last `tail` bytes of the tail kept so far and `body`."""
        size = len(body)
        if tail <= size:
            self._kept = [bytes(body[size - tail :])] if tail else []
        else:
            self._kept.append(bytes(body))
            if tail < self._kept_size + size:
                self._kept = [b"".join(self._kept)[-tail:]]
        self._kept_size = tail


class _Shape(NamedTuple):
    """How to unpack a record of a single message of one size in one call."""

    unpack_from: Callable[[bytearray], tuple[Any, ...]]
    kind: bytes
    """The part of the header that is equal in all such records: count, lengths, flags, the checksum of the layout."""
    layout: bytes
    body: int
    """Bytes of the body."""


@lru_cache(4096)
def _shape(kind: bytes, layout: bytes, body: int) -> _Shape:
    """The shape of a record that was checked."""
    form = struct.Struct(f"{_SINGLE}{len(layout)}s{layout.decode('ascii')}")
    return _Shape(form.unpack_from, kind, layout, body)


def _tables(
    tables: bytes, at: int, count: int, flags: int
) -> tuple[list[bool] | None, Sequence[int] | None, Sequence[int] | None]:
    """The tables after the layout: binary flags, streams, identities; None for a table that the record does not have."""
    binary, streams, identities = None, None, None
    if flags & MIXED:
        binary = [bool(value) for value in tables[at : at + count]]
        at += count
    if flags & STREAMS:
        streams = array("H", tables[at : at + 2 * count])
        at += 2 * count
    if flags & IDENTITIES:
        identities = array("Q", tables[at : at + 8 * count])
    return binary, streams, identities


def _payloads(layout: bytes, count: int, body: memoryview) -> tuple[bytes, ...]:
    """The payloads of a layout. The layout must not be longer than the body, because the bytes after it belong to the next
    record."""
    if layout.translate(None, _NOTATION) or layout.count(b"s") != count:
        raise CorruptRecord("a record's layout is invalid")
    try:
        return _unpack_cached(layout, body) if count == 1 else struct.Struct(layout).unpack_from(body)
    except struct.error as error:
        raise CorruptRecord("a message lies outside its record") from error
