"""A decoder of server frames written from RFC 6455 §5 and RFC 7692 §6-7 alone: byte by byte, slow, and obviously right.

It holds all that was ever fed and starts anew with each call of `decode`. Every rule stands where the RFC's text has it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final

FIN: Final = 0x80
RSV1: Final = 0x40
RSV2_RSV3: Final = 0x30
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Failed(Exception):
    """_Fail the WebSocket Connection_ with this code (RFC 6455 §7.1.7)."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


class NeedsMore(Exception):
    """The stream ends in the middle of a frame."""


@dataclass
class Decoded:
    """What a stream holds."""

    messages: list[tuple[int, bytes]] = field(default_factory=list)
    """(TEXT or BINARY, payload)."""
    controls: list[tuple[int, bytes]] = field(default_factory=list)
    failure: int | None = None
    """The close code of the first violation."""


@dataclass
class _Message:
    opcode: int
    compressed: bool
    wire: bytearray = field(default_factory=bytearray)


class _Stream:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        if self.at == len(self.data):
            raise NeedsMore
        self.at += 1
        return self.data[self.at - 1]

    def number(self, width: int) -> int:
        value = 0
        for _ in range(width):
            value = value * 256 + self.byte()
        return value


def decode(data: bytes, *, max_message: int, deflate: bool = False, takeover: bool = True) -> Decoded:
    """Everything in `data`, the whole stream from its first byte.

    `deflate`: permessage-deflate was agreed; `takeover`: without server_no_context_takeover.
    """
    return _Decoder(data, max_message, deflate=deflate, takeover=takeover).decode()


class _Decoder:
    def __init__(self, data: bytes, max_message: int, *, deflate: bool, takeover: bool) -> None:
        self._stream = _Stream(data)
        self._max_message = max_message
        self._deflate, self._takeover = deflate, takeover
        self._result = Decoded()
        self._message: _Message | None = None
        self._history = b""  # all compressed messages before this one, as one DEFLATE stream
        self._inflated_before = 0

    def decode(self) -> Decoded:
        try:
            while self._frame():
                pass
        except NeedsMore:
            pass
        except Failed as failed:
            self._result.failure = failed.code
        return self._result

    def _frame(self) -> bool:
        """One frame; False after a close frame (§5.5.1)."""
        first = self._stream.byte()
        opcode = first & 0x0F
        second = self._stream.byte()
        if second & 0x80:
            raise Failed(1002)  # §5.1: a server must not mask
        size = second
        if size == 126:
            size = self._stream.number(2)
        elif size == 127:
            size = self._stream.number(8)
            if size >= 1 << 63:
                raise Failed(1002)  # §5.2: the most significant bit must be 0
        self._check(first, opcode, size)
        if opcode >= CLOSE:
            payload = bytes(self._stream.byte() for _ in range(size))
            self._result.controls.append((opcode, payload))
            return opcode != CLOSE
        self._data_frame(first, opcode, size)
        return True

    def _check(self, first: int, opcode: int, size: int) -> None:
        if first & RSV2_RSV3:
            raise Failed(1002)  # §5.2: without an extension that defines them
        if first & RSV1 and (not self._deflate or opcode not in (TEXT, BINARY)):
            raise Failed(1002)  # RFC 7692 §6.1: only on a message's first frame
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise Failed(1002)  # §5.2: reserved opcodes
        if opcode >= CLOSE and (not first & FIN or size > 125):
            raise Failed(1002)  # §5.5
        if opcode in (TEXT, BINARY) and self._message is not None:
            raise Failed(1002)  # §5.4: fragments of different messages must not be interleaved
        if opcode == CONTINUATION and self._message is None:
            raise Failed(1002)  # §5.4
        so_far = 0 if self._message is None else len(self._message.wire)
        if opcode < CLOSE and so_far + size > self._max_message:
            raise Failed(1009)  # §7.4.1

    def _data_frame(self, first: int, opcode: int, size: int) -> None:
        if opcode != CONTINUATION:
            self._message = _Message(opcode, bool(first & RSV1))
        message = self._message
        assert message is not None
        for _ in range(size):
            message.wire.append(self._stream.byte())
            if message.opcode == TEXT and not message.compressed:
                _check_text(bytes(message.wire), final=False)
        final = bool(first & FIN)
        payload = self._inflated(message, final=final) if message.compressed else bytes(message.wire)
        if message.opcode == TEXT:
            _check_text(payload, final=final)
        if final:
            self._message = None
            self._result.messages.append((message.opcode, payload))

    def _inflated(self, message: _Message, *, final: bool) -> bytes:
        """The message so far, with all that came before it inflated once more (RFC 7692 §7.2.2)."""
        stream = self._history + bytes(message.wire)
        if final and message.wire:
            stream += b"\x00\x00\xff\xff"
        inflater = zlib.decompressobj(-15)
        inflated = b""
        try:
            while stream:
                inflated += inflater.decompress(stream)
                stream = inflater.unused_data
                inflater = zlib.decompressobj(-15) if inflater.eof else inflater
        except zlib.error:
            raise Failed(1007) from None  # §7.4.1: data not consistent with the type of the message
        payload = inflated[self._inflated_before :]
        if len(payload) > self._max_message:
            raise Failed(1009)
        if final and self._takeover:
            self._history += bytes(message.wire) + (b"\x00\x00\xff\xff" if message.wire else b"")
            self._inflated_before = len(inflated)
        return payload


def _check_text(payload: bytes, *, final: bool) -> None:
    """§8.1. A character that is torn at the end may still become right."""
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        if final or error.reason != "unexpected end of data":
            raise Failed(1007) from None
