"""Payloads that an exchange compresses itself, each separately ([payload] compression). Pure. permessage-deflate, which
belongs to the connection, is in deflate.py.
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

from wsadapter.worker.websocket.deflate import BadDeflate, TooLong

_WINDOWS: Final = {"gzip": 31, "zlib": 15, "deflate": -15}
"""zlib's `wbits` for RFC 1952, RFC 1950 and RFC 1951."""
_MOST_MEMBERS: Final = 16
"""Each member costs a copy of everything after it, so many members would cost quadratic time."""


class Unpacks(Protocol):
    """Decodes a binary message: `Unpacker`, or a dialect's hook `decode`."""

    def unpack(self, payload: bytes, limit: int) -> bytes:
        """As `Unpacker.unpack`."""
        ...


class Unpacker:
    """Inflates whole payloads."""

    def __init__(self, compression: str) -> None:
        """`compression`: "gzip", "zlib" or "deflate"."""
        self._window = _WINDOWS[compression]
        self._name = compression

    def unpack(self, payload: bytes, limit: int) -> bytes:
        """The inflated payload. Raises `TooLong` if it is longer than `limit` bytes, of which no more are ever in memory, and
        `BadDeflate` if the payload is no such data, is not complete, or has something after its end. Several gzip members form
        one payload (RFC 1952 §2.2)."""
        parts: list[bytes] = []
        size = 0
        for _ in range(_MOST_MEMBERS):
            stream = zlib.decompressobj(wbits=self._window)
            try:
                # One byte more than allowed: a result of at most `limit` bytes has been inflated to its end.
                part = stream.decompress(payload, limit + 1 - size)
            except zlib.error as error:
                raise BadDeflate(f"not {self._name}: {error}") from None
            parts.append(part)
            size += len(part)
            if size > limit:
                raise TooLong
            if not stream.eof:
                raise BadDeflate(f"its {self._name} is not complete")
            payload = stream.unused_data
            if not payload:
                return b"".join(parts)
            if self._name != "gzip":
                break
        raise BadDeflate(f"there are bytes after the end of its {self._name}")
