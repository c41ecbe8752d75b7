"""Bytes of the connection in, messages and control frames out: RFC 6455 §5, without I/O.

One `feed` per read from the socket, one `Batch` per feed. A batch says where in the bytes its messages stand; it copies
nothing. Only a message that came in fragments is put together, in `Batch.joined`.

The walk over the frame headers is the hottest loop of an owner. Its fast path is an unmasked, final text or binary frame;
everything else is told apart only after that test has failed.
"""

from __future__ import annotations

import codecs
from typing import Final, NamedTuple

from wsadapter.worker.frames import BINARY, CLOSE, PING, PONG, TEXT

_FINAL_TEXT: Final = 0x81
_FINAL_BINARY: Final = 0x82
_NEVER: Final = -1
_MAX_CONTROL: Final = 125
_SMALLEST_HEADER: Final = 2


class Violation(NamedTuple):
    """How the peer broke the protocol."""

    code: int
    """The close code to answer with: 1002, 1007 or 1009."""
    text: str


class Control(NamedTuple):
    """A ping, pong or close frame."""

    opcode: int
    payload: bytes


class Batch:
    """What one read completed. Offsets count from the beginning of `data`."""

    __slots__ = ("binary", "consumed", "controls", "data", "ends", "joined", "starts", "violation")

    def __init__(self, data: bytes) -> None:
        self.data = data
        """The bytes of the read, with what was left over from the reads before it in front."""
        self.starts: list[int] = []
        self.ends: list[int] = []
        """Per message where its payload stands in `data`; for a joined one both are the end of its last frame."""
        self.binary: list[int] = []
        """Which of the messages are binary, by index."""
        self.joined: dict[int, bytes] = {}
        """Payloads of the messages that came in fragments, by index."""
        self.controls: list[Control] = []
        self.consumed = 0
        """Where the last complete frame ends."""
        self.violation: Violation | None = None
        """What came after the messages and can't be accepted. Nothing may be fed any more."""

    def payload(self, index: int) -> bytes:
        """One message."""
        joined = self.joined.get(index)
        return self.data[self.starts[index] : self.ends[index]] if joined is None else joined


class _Break(Exception):
    """The walk can't go on."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.violation = Violation(code, text)


class Reader:
    """Cuts a connection's byte stream into messages. Not thread-safe.

    It is linear in the bytes fed, whatever the size of messages and the number of their fragments, and holds no more than
    `max_message` and one read.
    """

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._pending = bytearray()
        self._wanted = 0
        self._opened = 0  # opcode of the fragmented message being received, 0 for none
        self._parts = bytearray()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("strict")
        self.closed = False
        """A close frame was received; what follows it is ignored (RFC 6455 §5.5.1)."""

    def feed(self, chunk: bytes) -> Batch:
        """What `chunk` completes. Nothing may be fed after a `violation`."""
        if self._pending:
            if len(self._pending) + len(chunk) < self._wanted:
                self._pending += chunk
                return Batch(b"")
            chunk = b"".join((self._pending, chunk))
            self._pending = bytearray()
        batch = Batch(chunk)
        if self.closed:
            batch.consumed = len(chunk)
            return batch
        try:
            self._walk(batch)
        except _Break as broken:
            batch.violation = broken.violation
        else:
            if batch.consumed < len(chunk):
                self._pending += memoryview(chunk)[batch.consumed :]
        return batch

    def _walk(self, batch: Batch) -> None:
        data = batch.data
        end = len(data)
        last_header = end - _SMALLEST_HEADER
        add_start, add_end = batch.starts.append, batch.ends.append
        text = _NEVER if self._opened else _FINAL_TEXT
        limit = self._max_message
        at = 0
        while at <= last_header:
            first = data[at]
            size = data[at + 1]
            if size < 126:
                start = at + 2
            elif size == 126:
                start = at + 4
                if start > end:
                    self._wanted = 4
                    break
                size = data[at + 2] << 8 | data[at + 3]
            else:
                start, size = self._long_header(data, at)
                if start > end:
                    self._wanted = start - at
                    break
            stop = start + size
            if first == text and size <= limit:
                if stop > end:
                    self._wanted = stop - at
                    break
                payload = data[start:stop]
                if not payload.isascii():
                    _check_utf8(payload)
                add_start(start)
                add_end(stop)
                batch.consumed = at = stop
                continue
            self._check_header(first, size)
            if stop > end:
                self._wanted = stop - at
                break
            batch.consumed = at = stop
            self._other_frame(batch, first, start, stop)
            if self.closed:
                batch.consumed = end
                break
            text = _NEVER if self._opened else _FINAL_TEXT
        else:
            self._wanted = _SMALLEST_HEADER

    def _long_header(self, data: bytes, at: int) -> tuple[int, int]:
        """Start and size of a payload longer than 64 KiB; a start behind the end of `data` where the header is not whole."""
        if data[at + 1] != 127:
            raise _Break(1002, "the server's frame is masked")
        size = int.from_bytes(data[at + 2 : at + 10], "big")
        if len(data) >= at + 10 and size >> 63:
            raise _Break(1002, "a frame length with its highest bit set")
        return at + 10, size

    def _check_header(self, first: int, size: int) -> None:
        """Refuses what can be refused on the header alone, before anything is buffered for it."""
        opcode = first & 0x0F
        if first & 0x70:
            raise _Break(1002, "a frame with reserved bits set")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise _Break(1002, f"a frame with the reserved opcode {opcode}")
            if not first & 0x80:
                raise _Break(1002, "a fragmented control frame")
            if size > _MAX_CONTROL:
                raise _Break(1002, f"a control frame of {size} bytes")
            return
        if opcode > BINARY:
            raise _Break(1002, f"a frame with the reserved opcode {opcode}")
        if opcode and self._opened:
            raise _Break(1002, "a new message before the fragmented one is complete")
        if not opcode and not self._opened:
            raise _Break(1002, "a continuation frame without a message to continue")
        if len(self._parts) + size > self._max_message:
            raise _Break(1009, f"a message of more than {self._max_message} bytes")

    def _other_frame(self, batch: Batch, first: int, start: int, stop: int) -> None:
        opcode = first & 0x0F
        if opcode >= CLOSE:
            batch.controls.append(Control(opcode, batch.data[start:stop]))
            self.closed = opcode == CLOSE
        elif first == _FINAL_BINARY:
            batch.binary.append(len(batch.starts))
            batch.starts.append(start)
            batch.ends.append(stop)
        else:
            self._fragment(batch, first, start, stop)

    def _fragment(self, batch: Batch, first: int, start: int, stop: int) -> None:
        final = bool(first & 0x80)
        self._opened = self._opened or first & 0x0F
        payload = memoryview(batch.data)[start:stop]
        if self._opened == TEXT:
            self._continue_utf8(payload, final=final)
        self._parts += payload
        if final:
            index = len(batch.starts)
            if self._opened == BINARY:
                batch.binary.append(index)
            batch.joined[index] = bytes(self._parts)
            batch.starts.append(stop)
            batch.ends.append(stop)
            self._opened = 0
            self._parts = bytearray()

    def _continue_utf8(self, payload: memoryview, *, final: bool) -> None:
        try:
            self._utf8.decode(payload, final)
        except UnicodeDecodeError:
            raise _Break(1007, "a text message that is not UTF-8") from None
        if final:
            self._utf8.reset()


def _check_utf8(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise _Break(1007, "a text message that is not UTF-8") from None


__all__ = ["CLOSE", "PING", "PONG", "Batch", "Control", "Reader", "Violation"]
