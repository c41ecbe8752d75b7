"""RFC 6455 framing as a server does it: frames out, and a client's frames in. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
_RSV1: Final = 0x40

MAX_MESSAGE: Final = 64 * 1024 * 1024
"""Bytes of a client's message, fragments together."""


class ProtocolViolation(Exception):
    """The client broke the protocol; `code` is the close code for that (RFC 6455 §7.4.1)."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


class ClientFrame(NamedTuple):
    """A whole message (opcode TEXT or BINARY) or a control frame of a client, unmasked."""

    opcode: int
    payload: bytes


def encode_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """One unmasked frame (RFC 6455 §5.2)."""
    first, size = opcode | (0x80 if fin else 0), len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def encode_message(payload: str | bytes) -> bytes:
    """A str as a text frame, bytes as a binary frame."""
    return encode_frame(TEXT, payload.encode()) if isinstance(payload, str) else encode_frame(BINARY, payload)


def payload_of(frame: bytes) -> bytes:
    """Of a whole unmasked frame."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def encode_close(code: int | None, reason: str = "") -> bytes:
    """A close frame; None: without a code. Any code is encoded, valid or not, because tests need both."""
    body = b"" if code is None else struct.pack("!H", code) + reason.encode()
    return encode_frame(CLOSE, body)


def close_code(payload: bytes) -> int:
    """The code in a close frame's payload; 1005 if it has none (RFC 6455 §7.1.5)."""
    return int.from_bytes(payload[:2]) if len(payload) >= 2 else 1005


class ClientFrames:
    """Cuts a client's byte stream into messages and control frames. Not thread-safe."""

    def __init__(self, inflate: Callable[[bytes], bytes] | None = None) -> None:
        """`inflate` takes a whole compressed message, where permessage-deflate was agreed."""
        self._inflate = inflate
        self._pending = bytearray()
        self._fragments: list[bytes] = []
        self._opcode = CONTINUATION  # of the fragmented message under way
        self._compressed = False  # it is

    def feed(self, data: bytes) -> Iterator[ClientFrame]:
        """Yields what `data` completes. Raises `ProtocolViolation` after what came before the violation."""
        self._pending += data
        while (cut := self._cut_frame()) is not None:
            fin, opcode, payload = cut
            if opcode & 0x0F >= CLOSE:
                yield _checked_control(fin, opcode, payload)
            elif (message := self._assemble(fin, opcode, payload)) is not None:
                yield message

    def _cut_frame(self) -> tuple[bool, int, bytes] | None:
        pending = self._pending
        if len(pending) < 2:
            return None
        first, second = pending[0], pending[1]
        if first & 0x70 and (first & 0x70 != _RSV1 or self._inflate is None):
            raise ProtocolViolation(1002, "a reserved bit is set and no extension was agreed")
        if not second & 0x80:
            raise ProtocolViolation(1002, "a client's frame must be masked (RFC 6455 §5.1)")
        size, at = second & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            at += width
            if len(pending) < at:
                return None
            size = int.from_bytes(pending[2:at])
        if size > MAX_MESSAGE:
            raise ProtocolViolation(1009, f"a frame of {size} bytes")
        end = at + 4 + size
        if len(pending) < end:
            return None
        payload = _unmask(bytes(pending[at : at + 4]), bytes(pending[at + 4 : end]))
        del pending[:end]
        return bool(first & 0x80), first & (_RSV1 | 0x0F), payload

    def _assemble(self, fin: bool, opcode: int, payload: bytes) -> ClientFrame | None:
        if self._opcode == CONTINUATION and opcode & 0x0F != CONTINUATION:
            self._compressed, opcode = bool(opcode & _RSV1), opcode & 0x0F
        if opcode == CONTINUATION and self._opcode == CONTINUATION:
            raise ProtocolViolation(1002, "a continuation of nothing")
        if opcode != CONTINUATION and self._opcode != CONTINUATION:
            raise ProtocolViolation(1002, "a new message before the fragmented one has ended")
        if opcode not in (CONTINUATION, TEXT, BINARY):
            raise ProtocolViolation(1002, f"unknown opcode {opcode}")
        self._opcode = self._opcode or opcode
        self._fragments.append(payload)
        if sum(map(len, self._fragments)) > MAX_MESSAGE:
            raise ProtocolViolation(1009, "the fragments together are too long")
        if not fin:
            return None
        whole = b"".join(self._fragments)
        message = ClientFrame(self._opcode, self._inflate(whole) if self._inflate and self._compressed else whole)
        self._opcode, self._fragments = CONTINUATION, []
        if message.opcode == TEXT:
            _check_utf8(message.payload)
        return message


def _checked_control(fin: bool, opcode: int, payload: bytes) -> ClientFrame:
    if opcode not in (CLOSE, PING, PONG):
        raise ProtocolViolation(1002, f"unknown opcode {opcode}")
    if not fin or len(payload) > 125:
        raise ProtocolViolation(1002, "a control frame is fragmented or longer than 125 bytes (RFC 6455 §5.5)")
    if opcode == CLOSE:
        if len(payload) == 1:
            raise ProtocolViolation(1002, "a close frame with half a code")
        _check_utf8(payload[2:])
    return ClientFrame(opcode, payload)


def _check_utf8(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise ProtocolViolation(1007, f"text that is not UTF-8: {error}") from error


def _unmask(mask: bytes, payload: bytes) -> bytes:
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)  # one big XOR: no loop over bytes
