"""Payloads that an exchange compresses itself ([payload] compression), each for itself. Pure. Not permessage-deflate: that is
the connection's (deflate.py).
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

from wsadapter.worker.websocket.deflate import BadDeflate, TooLong

_WINDOWS: Final = {"gzip": 31, "zlib": 15, "deflate": -15}
"""zlib's word for RFC 1952, RFC 1950 and RFC 1951."""
_MOST_MEMBERS: Final = 16
"""Each costs a copy of all that stands behind it."""


class Unpacks(Protocol):
    """What makes of a binary message what is in it."""

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
        """What is in it. Raises `TooLong` where that is more than `limit` bytes, of which no more are ever held; `BadDeflate`
        where it is something else, is not complete, or has something behind it. Several gzip members are one (RFC 1952 §2.2).
        """
        parts: list[bytes] = []
        size = 0
        for _ in range(_MOST_MEMBERS):
            stream = zlib.decompressobj(wbits=self._window)
            try:
                # One byte more than may come: a shorter result has been inflated to its end.
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
        raise BadDeflate(f"something stands behind its {self._name}")
