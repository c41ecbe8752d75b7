"""Finds the ends of messages in a server's byte stream, by the headers of its frames (RFC 6455 §5.2)."""

from __future__ import annotations

from typing import Final

_FIN: Final = 0x80
_CONTROL: Final = 0x08
_MASKED: Final = 0x80
_SHORT: Final = 126


def message_end(data: bytes) -> int | None:
    """Where the first message in `data` ends, with control frames between its fragments; None if it is not complete, or the
    bytes are no frames of a server."""
    at = 0
    while at + 2 <= len(data):
        first, second = data[at], data[at + 1]
        size, at = second & 0x7F, at + 2
        if size >= _SHORT:
            width = 2 if size == _SHORT else 8
            size, at = int.from_bytes(data[at : at + width]), at + width
        at += size
        if second & _MASKED or at > len(data):
            return None
        if first & _FIN and not first & _CONTROL:
            return at
    return None
