"""Protocol buffers, written: the other direction of what MEXC's dialect reads, by field numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Fields = Iterable[tuple[int, Any]]


def varint(value: int) -> bytes:
    """A whole number; one below 0 as 64 bits."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def written(fields: Fields) -> bytes:
    """A message: of each field its number, and a text, a whole number, or the fields of a message."""
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: int | str | bytes | Sequence[tuple[int, Any]]) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else written(value)
    return varint(number << 3 | 2) + varint(len(data)) + data
