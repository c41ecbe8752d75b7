"""Parses the bytes of a connection into messages and control frames: RFC 6455 §5, without I/O.

One `feed` per read from the socket returns one `ReadResult`. A result has the positions of its messages in the bytes, and
copies nothing. Only a message that came in fragments or compressed is put together, in `ReadResult.joined`.

The walk over the frame headers is the hottest loop of an owner. Its fast path is an unmasked, final text frame; all other
cases are distinguished only after that test has failed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast

from wsadapter.contract.ipc.record import field
from wsadapter.worker.websocket.deflate import BadDeflate, Inflater, TooLong
from wsadapter.worker.websocket.frames import BINARY, CLOSE, PING, PONG, RSV1, TEXT
from wsadapter.worker.websocket.payload_codec import Unpacks
from wsadapter.worker.websocket.utf8 import Utf8, is_utf8

_FINAL: Final = 0x80
_FINAL_TEXT: Final = _FINAL | TEXT
_FINAL_BINARY: Final = _FINAL | BINARY
_FINAL_COMPRESSED_TEXT: Final = _FINAL | RSV1 | TEXT
_FINAL_COMPRESSED: Final = (_FINAL_COMPRESSED_TEXT, _FINAL | RSV1 | BINARY)
_RESERVED: Final = 0x70
_NEVER: Final = -1
_MAX_CONTROL: Final = 125
_SMALLEST_HEADER: Final = 2
_SHORT_HEADER: Final = struct.Struct("!BBH")
_unpack_short_header: Final = cast("Callable[[bytes, int], tuple[int, int, int]]", _SHORT_HEADER.unpack_from)
_LARGEST_SHORT: Final = 0xFFFF
_GAP: Final = 64
"""The bit of a code at which the distance begins."""
_SIZE: Final = (1 << _GAP) - 1
_ADJACENT: Final = 1 << 2 * _GAP
"""A bit of a code: the distance is 0. Without the bit such a code would look like a code without a distance."""
_REMEMBERED: Final = 8192
"""The fields of sizes below this are remembered, which takes at most a megabyte."""
_MOST_OVERHEAD: Final = 4 << 20
"""Bytes of frame headers, and of control frames between fragments, that a message may have in addition to the size of its
payload. The supervisor keeps all bytes of an unfinished message, so that another owner can continue it: the bound limits its
memory."""
_SMALL: Final = 16 * 1024
"""A piece of an unfinished frame below this size is joined with its neighbours: a separate object would cost more."""


class Violation(NamedTuple):
    """How the peer broke the protocol."""

    code: int
    """The close code to answer with: 1002 (protocol error), 1007 (invalid payload) or 1009 (too big)."""
    text: str


_NOT_UTF8: Final = Violation(1007, "a text message that is not UTF-8")


class ControlFrame(NamedTuple):
    """A ping, pong or close frame."""

    opcode: int
    payload: bytes


def _header_size(size: int) -> int:
    """The size of the shortest header of a frame with a payload of less than 64 KiB (RFC 6455 §5.2)."""
    return 2 if size < 126 else 4


class _Fields(dict[int, str]):
    """The field of a record's layout for each code."""

    def __missing__(self, code: int) -> str:
        if code > _LARGEST_SHORT:
            return field(code >> _GAP & _SIZE, code & _SIZE)
        made = field(_header_size(code), code)
        if code < _REMEMBERED:
            self[code] = made
        return made


_field_of: Final = _Fields().__getitem__


class ReadResult:
    """The messages and control frames that one read completed. Offsets count from the beginning of `data`."""

    __slots__ = (
        "_offsets", "_payloads", "binary", "codes", "consumed", "controls", "data", "end", "first_of", "frame_ends", "fresh",
        "joined", "unfinished", "violation",
    )  # fmt: skip

    def __init__(self, data: bytes, fresh: int = 0) -> None:
        self.data = data
        """The unfinished bytes of earlier reads, then those of this read; while a large frame only grows, the latter alone."""
        self.fresh = fresh
        """Where the bytes of this read begin."""
        self.codes: list[int] = []
        """Per message the size of its payload and, `_GAP` bits higher, the distance from the end of the message before (of the
        first: from the beginning). If the distance is the shortest header of a frame below 64 KiB, the code is the size alone,
        so the usual code is one small number: to write it down costs as much as to find the message. A joined message has the
        size 0, and its place is the end of its last frame."""
        self.end = 0
        """Where the last message ends."""
        self.binary: list[int] = []
        """The indexes of the binary messages."""
        self.joined: dict[int, bytes] = {}
        """Payloads of the messages that came in fragments or compressed, by index."""
        self.controls: list[ControlFrame] = []
        self.consumed = 0
        """Where the last complete frame ends."""
        self.unfinished = 0
        """From where on the bytes belong to an unfinished message or frame, a close frame, or a violation. Negative if that
        began before `data`: so many bytes of earlier reads, and all of `data`, are needed to continue with a new `Reader`.
        Equal to the end of `data` if everything is complete."""
        self.violation: Violation | None = None
        """A violation that came after the messages. Nothing may be fed any more."""
        self.first_of: dict[int, int] = {}
        """For a message that came in one frame with messages before it: the index of the first of these."""
        self.frame_ends: dict[int, int] = {}
        """For the last of several messages that came in one frame: where that frame ends."""
        self._offsets: tuple[list[int], list[int]] | None = None
        self._payloads: Sequence[bytes] | None = None

    @property
    def count(self) -> int:
        """Number of messages."""
        return len(self.codes)

    def add(self, start: int, stop: int) -> None:
        """Appends a message whose payload is at `start` to `stop`."""
        gap, size = start - self.end, stop - start
        short = size <= _LARGEST_SHORT and gap == _header_size(size)
        self.codes.append(size if short else (gap << _GAP or _ADJACENT) | size)
        self.end = stop

    def fields(self, first: int, last: int) -> list[str]:
        """The messages `first` to `last` (exclusive) as fields of a record's layout."""
        return list(map(_field_of, self.codes[first:last]))

    def layout(self) -> str:
        """All messages as a record's layout."""
        return "".join(map(_field_of, self.codes))

    @property
    def starts(self) -> list[int]:
        """Per message where its payload begins in `data`; of a joined message where its last frame ends."""
        return self._found()[0]

    @property
    def ends(self) -> list[int]:
        """Per message where its payload ends in `data`; of a joined message where its last frame ends."""
        return self._found()[1]

    def end_of(self, index: int) -> int:
        """Where the frame that completed a message ends."""
        return self.frame_ends.get(index, self.ends[index])

    def _found(self) -> tuple[list[int], list[int]]:
        if self._offsets is None:
            at, starts, ends = 0, [], []
            for code in self.codes:
                if code <= _LARGEST_SHORT:
                    at += 2 if code < 126 else 4
                    size = code
                else:
                    at += code >> _GAP & _SIZE
                    size = code & _SIZE
                starts.append(at)
                at += size
                ends.append(at)
            self._offsets = starts, ends
        return self._offsets

    def payload(self, index: int) -> bytes:
        """One message."""
        if self._payloads is None:
            self._payloads = self._all_payloads()
        return self._payloads[index]

    def _all_payloads(self) -> Sequence[bytes]:
        if len(self.codes) == 1 and not self.joined:
            return (self.data[self.end - (self.codes[0] & _SIZE) : self.end],)
        found = struct.Struct(self.layout()).unpack_from(self.data)
        if not self.joined:
            return found
        every = list(found)
        for index, payload in self.joined.items():
            every[index] = payload
        return every


class _Violated(Exception):
    """The peer broke the protocol; ends the walk over the frames."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.text)
        self.violation = violation


def _violated(code: int, text: str) -> _Violated:
    return _Violated(Violation(code, text))


class _Pieces:
    """Collects the pieces of an unfinished frame, in time linear in its bytes, whatever the size of the pieces."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Appends a piece."""
        self.size += len(piece)
        if len(piece) >= _SMALL:
            self._pieces.append(piece)
        elif self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += piece
        else:
            self._pieces.append(bytearray(piece))

    def take(self, last: bytes) -> bytes:
        """All pieces followed by `last`, as one; no piece is left."""
        whole = b"".join((*self._pieces, last))
        self._pieces.clear()
        self.size = 0
        return whole


class _Message:
    """The message whose frames are being received."""

    __slots__ = ("at", "compressed", "opcode", "parts", "wire_size")

    def __init__(self, opcode: int = 0, at: int = 0, *, compressed: bool = False) -> None:
        self.opcode = opcode
        """0: there is no message."""
        self.at = at
        """Where in the stream it began."""
        self.compressed = compressed
        self.wire_size = 0
        """The payload bytes of its frames, as they came."""
        self.parts = bytearray()
        """Its payload so far, inflated."""


class Reader:
    """Cuts a connection's byte stream into messages. Not thread-safe.

    The time is linear in the bytes fed, whatever the size of messages and the number of their fragments. The memory is bounded
    by `max_message`, as received and inflated, and one read. A message in too many small fragments is refused.
    """

    def __init__(
        self,
        max_message: int,
        inflater: Inflater | None = None,
        unpacker: Unpacks | None = None,
        *,
        text_in_binary: bool = False,
    ) -> None:
        """`inflater`: if permessage-deflate was agreed. `unpacker`: if the peer compresses payloads itself. `text_in_binary`: a
        binary message that is valid UTF-8 counts as a text; always so with an unpacker."""
        self._max_message = max_message
        self._inflater = inflater
        self._unpacker = unpacker
        self._text_in_binary = text_in_binary or unpacker is not None
        self._fast = max_message > _LARGEST_SHORT
        self._fed = 0  # bytes of the whole stream
        self._tail = b""  # the beginning of a frame, at the end of the last read
        self._pieces = _Pieces()  # the same, if several reads have not completed the frame
        self._wanted = 0  # bytes of the unfinished frame that are needed to continue the walk
        self._frame_at = 0  # where in the stream the unfinished frame began
        self._message = _Message()
        self._utf8 = Utf8()
        self._checked = _NEVER  # bytes of the unfinished frame's payload that are valid UTF-8; _NEVER: it is not checked
        self._between = self._fast  # nothing is unfinished, and nothing was wrong
        self.closed = False
        """A close frame was received; bytes after it are ignored (RFC 6455 §5.5.1)."""

    def single_text(self, chunk: bytes) -> int:
        """If `chunk` is exactly one text message and nothing before it is unfinished: accepts it, and returns the size of its
        payload. Otherwise returns -1, and the caller must call `feed`, which finds the same in a slower way."""
        if not self._between or len(chunk) < _SHORT_HEADER.size:
            return -1
        first, size, long = _unpack_short_header(chunk, 0)
        start = 2
        if size == 126:
            start, size = 4, long
        if first != _FINAL_TEXT or len(chunk) - start != size or (start == 4) is not (size > 125):
            return -1
        payload = chunk[start:]
        if not payload.isascii() and not is_utf8(payload):
            return -1
        self._fed += len(chunk)
        self._frame_at = self._fed
        return size

    def feed(self, chunk: bytes) -> ReadResult:
        """The messages and control frames that `chunk` completes. Nothing may be fed after a `violation`."""
        self._fed += len(chunk)
        fresh = len(self._tail) or self._pieces.size
        if self.closed:
            read = ReadResult(chunk)
            read.consumed = len(chunk)
        elif not fresh:
            read = ReadResult(chunk)
            self._parse(read)
        elif fresh + len(chunk) < self._wanted:
            read = ReadResult(chunk)
            self._grow(read)
        else:
            read = ReadResult(self._tail + chunk if self._tail else self._pieces.take(chunk), fresh)
            self._tail = b""
            self._parse(read)
        begun = self._message.at if self._message.opcode else self._frame_at
        read.unfinished = begun - self._fed + len(read.data)
        whole = read.unfinished == len(read.data) and read.violation is None
        self._between = self._fast and whole and not self.closed
        return read

    def _grow(self, read: ReadResult) -> None:
        """The frame is still unfinished: keeps the bytes, and checks a text."""
        if self._tail:
            self._pieces.add(self._tail)
            self._tail = b""
        self._pieces.add(read.data)
        if self._checked >= 0:
            self._checked += len(read.data)
            if not self._utf8.accepts(read.data, final=False):
                read.violation = _NOT_UTF8

    def _parse(self, read: ReadResult) -> None:
        data = read.data
        try:
            self._walk(read)
        except _Violated as broken:
            read.violation = broken.violation
        self._frame_at = self._fed - len(data) + read.consumed
        if self.closed:
            read.consumed = len(data)
        elif read.violation is None and read.consumed < len(data):
            self._tail = data[read.consumed :]

    def _walk(self, read: ReadResult) -> None:
        """Parses frame by frame; `consumed` is the end of the last complete frame, also if it raises `_Violated`."""
        data = read.data
        last_header = len(data) - _SMALLEST_HEADER
        while read.consumed <= last_header:
            if self._fast and not self._message.opcode and self._checked < 0:
                if data[read.consumed] == _FINAL_TEXT:
                    self._texts(read)
                    if self._checked >= 0:
                        return
                elif data[read.consumed] == _FINAL_BINARY and self._unpacker is None:
                    self._binaries(read)
                elif data[read.consumed] in _FINAL_COMPRESSED and self._inflater is not None:
                    self._compressed_messages(read)
                if read.consumed > last_header:
                    break
            if not self._frame(read, read.consumed):
                return
        self._wanted = _SMALLEST_HEADER

    def _texts(self, read: ReadResult) -> None:
        """Parses a row of unfragmented text frames with short headers: the hottest loop of an owner."""
        data, codes = read.data, read.codes
        count, end = len(codes), len(data)
        last_header = end - _SHORT_HEADER.size
        at = read.consumed
        while at <= last_header:
            # One `unpack_from` for both possible lengths costs less than two or four subscripts.
            first, short, size = _unpack_short_header(data, at)
            if first != _FINAL_TEXT:
                break
            if short < 126:
                start = at + 2
                size = short
            elif short == 126 <= size:
                start = at + 4
            else:
                break
            stop = start + size
            payload = data[start:stop]
            if not payload.isascii():
                if stop > end:
                    break
                if not is_utf8(payload):
                    _end_row(read, count, at)
                    raise _Violated(_NOT_UTF8)
            codes.append(size)
            at = stop
        if at > end:
            self._checked = end - start  # the last, unfinished text is ASCII so far
        _end_row(read, count, at)
        if at > end:
            self._wanted = at - read.consumed

    def _binaries(self, read: ReadResult) -> None:
        """Parses a row of unfragmented binary frames with short headers."""
        data, codes = read.data, read.codes
        count = len(codes)
        last_header = len(data) - _SHORT_HEADER.size
        begin = at = read.consumed
        while at <= last_header:
            first, short, size = _unpack_short_header(data, at)
            if first != _FINAL_BINARY:
                break
            if short < 126:
                codes.append(short)
                at += 2 + short
            elif short == 126 <= size:
                codes.append(size)
                at += 4 + size
            else:
                break
        _end_row(read, count, at)
        row = range(count, len(codes))
        if self._text_in_binary:
            for index in row:
                size = codes[index] & _SIZE
                begin += _header_size(size) + size
                self._note_kind(read, index, data[begin - size : begin])
        else:
            read.binary.extend(row)

    def _compressed_messages(self, read: ReadResult) -> None:
        """Parses a row of unfragmented compressed messages with short headers."""
        data, codes = read.data, read.codes
        end = len(data)
        last_header = end - _SHORT_HEADER.size
        at = read.consumed
        while at <= last_header:
            first, short, size = _unpack_short_header(data, at)
            if first not in _FINAL_COMPRESSED or short > 126:
                break
            start = at + 2 if short < 126 else at + 4
            at = start + (short if short < 126 else size)
            if at > end:
                break
            payload = self._inflated(data[start:at], final=True)
            if first == _FINAL_COMPRESSED_TEXT:
                if not payload.isascii() and not is_utf8(payload):
                    raise _Violated(_NOT_UTF8)
            else:
                payload = self._unpacked(read, payload)
            read.joined[len(codes)] = payload
            codes.append((at - read.end) << _GAP)
            read.end = read.consumed = at

    def _frame(self, read: ReadResult, at: int) -> bool:
        """Parses any frame; true if it was complete and something can follow it."""
        data = read.data
        end = len(data)
        first, size = data[at], data[at + 1]
        start = at + 2
        if size >= 126:
            start += 2 if size == 126 else 8
            if size > 127:
                raise _violated(1002, "the server's frame is masked")
            if start > end:
                self._wanted = start - at
                return False
            size = int.from_bytes(data[at + 2 : start], "big")
        self._check_header(first, size)
        stop = start + size
        if stop > end:
            self._wanted = stop - at
            self._check_early(first, data[start:])
            return False
        self._take(read, at, start, stop)
        if self.closed:
            return False
        if self._message.opcode:
            self._check_overhead(self._fed - len(data) + stop)
        read.consumed = stop
        return True

    def _check_overhead(self, position: int) -> None:
        """Refuses an unfinished message that consists mostly of frame headers; `position`: how far the stream is."""
        size = self._message.wire_size
        overhead = position - self._message.at - size
        if overhead > _MOST_OVERHEAD + size:
            raise _violated(1009, f"a message of {size} bytes in fragments with {overhead} bytes of headers and control frames")

    def _check_header(self, first: int, size: int) -> None:
        """Refuses a frame by its header, before anything is buffered for the frame."""
        if size >> 63:
            raise _violated(1002, "a frame length with its highest bit set")
        opcode = first & 0x0F
        reserved = first & _RESERVED
        if reserved and (reserved != RSV1 or self._inflater is None or opcode not in (TEXT, BINARY)):
            raise _violated(1002, "a frame with reserved bits set")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise _violated(1002, f"a frame with the reserved opcode {opcode}")
            if not first & _FINAL:
                raise _violated(1002, "a fragmented control frame")
            if size > _MAX_CONTROL:
                raise _violated(1002, f"a control frame of {size} bytes")
            return
        if opcode > BINARY:
            raise _violated(1002, f"a frame with the reserved opcode {opcode}")
        if opcode and self._message.opcode:
            raise _violated(1002, "a new message before the fragmented one is complete")
        if not opcode and not self._message.opcode:
            raise _violated(1002, "a continuation frame without a message to continue")
        if self._message.wire_size + size > self._max_message:
            raise _violated(1009, f"a message of more than {self._max_message} bytes")

    def _take(self, read: ReadResult, at: int, start: int, stop: int) -> None:
        """Adds a complete frame whose header was checked."""
        first = read.data[at]
        opcode = first & 0x0F
        if opcode >= CLOSE:
            read.controls.append(ControlFrame(opcode, read.data[start:stop]))
            self.closed = opcode == CLOSE
        elif first == _FINAL_BINARY and self._unpacker is not None:
            read.joined[read.count] = self._unpacked(read, read.data[start:stop])
            read.add(stop, stop)
        elif first == _FINAL_BINARY:
            self._note_kind(read, read.count, read.data[start:stop])
            read.add(start, stop)
        elif first == _FINAL_TEXT:
            self._continue_text(read.data[start:stop], final=True)
            read.add(start, stop)
        else:
            if opcode:
                self._message = _Message(opcode, self._fed - len(read.data) + at, compressed=bool(first & RSV1))
            self._message.wire_size += stop - start
            self._part(read, start, stop, final=bool(first & _FINAL))

    def _part(self, read: ReadResult, start: int, stop: int, *, final: bool) -> None:
        """Adds a frame of a message that came in fragments or compressed."""
        payload = read.data[start:stop]
        if self._message.compressed:
            payload = self._inflated(payload, final=final)
        if self._message.opcode == TEXT:
            self._continue_text(payload, final=final)
        if not final:
            self._message.parts += payload
            return
        whole = b"".join((self._message.parts, payload)) if self._message.parts else payload
        read.joined[read.count] = self._unpacked(read, whole) if self._message.opcode == BINARY else whole
        read.add(stop, stop)
        self._message = _Message()

    def _unpacked(self, read: ReadResult, payload: bytes) -> bytes:
        """The decoded payload of a binary message, which is the next of the read; notes whether it is binary or a text."""
        if not payload:
            read.binary.append(read.count)
            return payload
        try:
            unpacked = payload if self._unpacker is None else self._unpacker.unpack(payload, self._max_message)
        except TooLong:
            raise _violated(1009, f"a compressed payload of more than {self._max_message} bytes") from None
        except BadDeflate as bad:
            raise _violated(1007, f"a payload that can't be inflated: {bad}") from None
        if not self._text_in_binary or not is_utf8(unpacked):
            read.binary.append(read.count)
        return unpacked

    def _note_kind(self, read: ReadResult, index: int, payload: bytes) -> None:
        """Notes a message as binary, unless `text_in_binary` is set and the payload is a text."""
        if not self._text_in_binary or not payload or not is_utf8(payload):
            read.binary.append(index)

    def _inflated(self, payload: bytes, *, final: bool) -> bytes:
        assert self._inflater is not None
        try:
            return self._inflater.inflate(payload, final=final, limit=self._max_message - len(self._message.parts))
        except TooLong:
            raise _violated(1009, f"a compressed message of more than {self._max_message} bytes") from None
        except BadDeflate as bad:
            raise _violated(1007, f"a compressed message that can't be inflated: {bad}") from None

    def _continue_text(self, payload: bytes, *, final: bool) -> None:
        """Checks the next bytes of a text, except those at the beginning of the frame that were checked early."""
        if self._checked >= 0:
            payload = payload[self._checked :]
            self._checked = _NEVER
        if not self._utf8.accepts(payload, final=final):
            raise _Violated(_NOT_UTF8)

    def _check_early(self, first: int, payload: bytes) -> None:
        """Checks a text before its frame is complete, because the peer may wait with the rest (RFC 6455 §8.1)."""
        opcode, compressed = first & 0x0F, first & RSV1
        if not opcode:
            opcode, compressed = self._message.opcode, self._message.compressed
        if opcode == TEXT and not compressed:
            self._continue_text(payload, final=False)
            self._checked = len(payload)


def _end_row(read: ReadResult, count: int, at: int) -> None:
    """Ends a row of frames whose first message has the index `count`; removes the last message if it is not complete."""
    codes, begin = read.codes, read.consumed
    if at > len(read.data):
        size = codes.pop()
        at -= _header_size(size) + size
    if len(codes) > count:
        if begin != read.end:
            size = codes[count]
            codes[count] = (begin - read.end + _header_size(size)) << _GAP | size
        read.end = at
    read.consumed = at


__all__ = ["CLOSE", "PING", "PONG", "ReadResult", "ControlFrame", "Reader", "Violation"]
