"""permessage-deflate (RFC 7692): the offer, the agreement, and the compression of messages. No I/O."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

OFFER: Final = "permessage-deflate; client_max_window_bits"
"""The value of Sec-WebSocket-Extensions in the request."""
OFFER_WITHOUT_TAKEOVER: Final = "permessage-deflate; server_no_context_takeover; client_max_window_bits"
"""The value if the server is to compress each message separately. There is no second offer without the parameter: a server that
does not know it declines (RFC 7692 §7.1.1.1), and a connection without compression outlives its owner too."""

_FLUSHED: Final = b"\x00\x00\xff\xff"
"""The end of every compressed message; it is removed before sending and added after receiving (RFC 7692 §7.2)."""
_BITS: Final = frozenset(str(bits) for bits in range(8, 16))
_LARGEST_WINDOW: Final = 15
_SMALLEST_WINDOW: Final = 9  # zlib has no smaller one: asked for 8 it uses 9, and refers to bytes that the server has forgotten
_MEMORY_LEVEL: Final = 8
_RESTART: Final = 1024
_WORTH_IT: Final = 64
"""A message below this size is not compressed, because it would hardly become smaller."""

_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER: Final = re.compile(rf"""[ \t]*(?:;[ \t]*({_WORD})(?:[ \t]*=[ \t]*(?:({_WORD})|"({_WORD})"))?)""")
_NAME: Final = re.compile(rf"[ \t]*({_WORD})")


class BadAnswer(ValueError):
    """The server's Sec-WebSocket-Extensions is not a valid answer to the offer; the text gives the reason."""


class TooLong(Exception):
    """The inflated data are longer than the limit."""


class BadDeflate(ValueError):
    """The received bytes are not deflated data."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The parameters of permessage-deflate on one connection (RFC 7692 §7.1)."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15


def parse_answer(value: str) -> Agreement:
    """The parameters that the server agreed to. Raises `BadAnswer`; the connection must then be failed (RFC 7692 §7.1)."""
    name = _NAME.match(value)
    if name is None or name[1].lower() != "permessage-deflate":
        raise BadAnswer(f"an extension that was not offered: {value[:100]}")
    given: dict[str, str | None] = {}
    at = name.end()
    while found := _PARAMETER.match(value, at):
        key, at = found[1].lower(), found.end()
        if key in given:
            raise BadAnswer(f"permessage-deflate with {key} twice")
        given[key] = found[2] or found[3]
    if rest := value[at:].strip():
        raise BadAnswer(f"permessage-deflate with something behind it: {rest[:100]}")
    agreement = Agreement(
        server_no_context_takeover=_flag(given, "server_no_context_takeover"),
        client_no_context_takeover=_flag(given, "client_no_context_takeover"),
        server_max_window_bits=_bits(given, "server_max_window_bits"),
        client_max_window_bits=_bits(given, "client_max_window_bits"),
    )
    if given:
        raise BadAnswer(f"permessage-deflate with the unknown parameter {next(iter(given))[:50]}")
    return agreement


def _flag(given: dict[str, str | None], key: str) -> bool:
    if key not in given:
        return False
    value = given.pop(key)
    if value is not None:
        raise BadAnswer(f"permessage-deflate with {key}={value[:20]}, which has no value")
    return True


def _bits(given: dict[str, str | None], key: str) -> int:
    if key not in given:
        return _LARGEST_WINDOW
    value = given.pop(key) or ""
    if value not in _BITS:
        raise BadAnswer(f"permessage-deflate with {key}={value[:20]}, which is not 8 to 15")
    return int(value)


class Inflater:
    """Inflates the messages of one connection. Not thread-safe.

    A message may contain any kind of block (RFC 7692 §7.2.3), final blocks too: after a final block a new stream begins.
    """

    def __init__(self, agreement: Agreement) -> None:
        self._takeover = not agreement.server_no_context_takeover
        self._begun = False  # at least one byte of the present message has come
        self._stream = _inflate()

    def inflate(self, payload: bytes, *, final: bool, limit: int) -> bytes:
        """The inflated payload of a frame; `final`: the message ends with this frame.

        Raises `TooLong` if the result is longer than `limit` bytes; no more than these are ever in memory. Raises `BadDeflate`.
        After either error the inflater must not be used any more.
        """
        if not final:
            self._begun = self._begun or bool(payload)
        elif payload or self._begun:
            self._begun = False
            payload += _FLUSHED
        # otherwise: RFC 7692 §7.2.3.6 defines an empty message as one byte, but a message without a byte can only mean the
        # same.
        try:
            # One byte more than allowed: a result of at most `limit` bytes has been inflated to its end.
            inflated = self._stream.decompress(payload, limit + 1)
            if self._stream.eof:
                inflated = self._restarted(inflated, limit)
        except zlib.error as error:
            raise BadDeflate(str(error)) from None
        if len(inflated) > limit:
            raise TooLong
        if final and not self._takeover:
            self._stream = _inflate()
        return inflated

    def _restarted(self, inflated: bytes, limit: int) -> bytes:
        """`inflated`, and what follows a final block."""
        parts, size = [inflated], len(inflated)
        rest = memoryview(self._stream.unused_data)
        self._stream = _inflate()
        while rest and size <= limit:
            # In small pieces: zlib returns a copy of all unused input, and many streams may follow each other. With the whole
            # input the cost would be quadratic.
            piece, rest = rest[:_RESTART], rest[_RESTART:]
            while piece and size <= limit:
                parts.append(self._stream.decompress(piece, limit + 1 - size))
                size += len(parts[-1])
                piece = memoryview(self._stream.unused_data)
                if self._stream.eof:
                    self._stream = _inflate()
        return b"".join(parts)


def _inflate() -> zlib._Decompress:
    # Always the largest window: it reads the smaller ones too, and some servers use 9 when they agree to 8.
    return zlib.decompressobj(-_LARGEST_WINDOW)


class Deflater:
    """Deflates the messages of one connection, which must be sent in that order. Not thread-safe."""

    def __init__(self, agreement: Agreement) -> None:
        self._takeover = not agreement.client_no_context_takeover
        self._bits = agreement.client_max_window_bits
        self._stream: zlib._Compress | None = None

    def pays(self, payload: bytes) -> bool:
        """True if a message should be compressed; not to compress is always allowed (RFC 7692 §6)."""
        return len(payload) >= _WORTH_IT and self._bits >= _SMALLEST_WINDOW

    def begin(self) -> zlib._Compress:
        """The stream for the next message, which ends with a `Z_SYNC_FLUSH`."""
        if self._stream is None or not self._takeover:
            self._stream = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -self._bits, _MEMORY_LEVEL)
        return self._stream

    def restart(self) -> None:
        """The message that was begun last is not sent: the next message must not refer to it, so it begins with a new stream,
        which is always allowed."""
        self._stream = None
