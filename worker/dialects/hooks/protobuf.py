"""Protocol buffers on the wire (https://protobuf.dev/programming-guides/encoding/), read by a schema into JSON values. Pure.

Fields that are not in the schema are kept under "unknown", so that no field that an exchange adds is lost.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_WIDTHS: Final = {_FIXED_64: 8, _FIXED_32: 4}
_LONGEST_VARINT: Final = 10
UNKNOWN: Final = "unknown"


class Text(NamedTuple):
    """A field of type string."""

    name: str


class Integer(NamedTuple):
    """A field of type int32 or int64."""

    name: str


class Flag(NamedTuple):
    """A field of type bool."""

    name: str


class Message(NamedTuple):
    """A field that is a message."""

    name: str
    schema: Schema
    repeated: bool = False
    """It is a list, which is there also if it is empty."""


Field = Text | Integer | Flag | Message
Fields = Mapping[int, Field]
"""By their numbers."""


class BadMessage(ValueError):
    """It is no such message."""


class Schema:
    """What a message holds. Immutable."""

    def __init__(self, fields: Fields) -> None:
        self._by_tag = {
            number << 3 | (_BYTES if isinstance(field, Text | Message) else _VARINT): field for number, field in fields.items()
        }
        self._lists = [field.name for field in fields.values() if isinstance(field, Message) and field.repeated]

    def read(self, payload: bytes) -> dict[str, Any]:
        """A message: a table of its fields, by their names. A field that is not on the wire, as one with the value 0, false or
        "" is not, is left out; a list is empty. Raises `BadMessage`."""
        return self.read_range(payload, 0, len(payload))

    def read_range(self, payload: bytes, at: int, end: int) -> dict[str, Any]:
        found: dict[str, Any] = {name: [] for name in self._lists}
        while at < end:
            tag = payload[at]
            at += 1
            if tag > 0x7F:
                tag, at = _varint(payload, at - 1, end)
            field = self._by_tag.get(tag)
            if field is None:
                at = _keep_unknown(found, tag, payload, at, end)
                continue
            number, at = _varint(payload, at, end)  # of an integer its value, of anything else its length
            kind = type(field)
            if kind is Integer:
                found[field.name] = _signed(number)
                continue
            if kind is Flag:
                found[field.name] = number != 0
                continue
            stop = at + number
            if stop > end:
                raise BadMessage("it ends within a field")
            if isinstance(field, Message):
                value = field.schema.read_range(payload, at, stop)
                if field.repeated:
                    found[field.name].append(value)
                else:
                    found[field.name] = value
            else:
                found[field.name] = _text(payload[at:stop], field.name)
            at = stop
        return found


def _varint(payload: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at this position, and the position of its end."""
    if at < end and payload[at] < 0x80:
        return payload[at], at + 1
    value = shift = 0
    for place in range(at, at + _LONGEST_VARINT):
        if place >= end:
            raise BadMessage("it ends within a number")
        byte = payload[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise BadMessage("a number has more than ten bytes")


def _signed(value: int) -> int:
    """Numbers below 0 are written as 64 bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadMessage(f"{name} is not UTF-8 text") from None


def _keep_unknown(found: dict[str, Any], tag: int, payload: bytes, at: int, end: int) -> int:
    """A field that is not in the schema, by its number: an integer, or base64; and the position of its end."""
    number, wire = tag >> 3, tag & 7
    if wire == _VARINT:
        whole, stop = _varint(payload, at, end)
        value: int | str = _signed(whole)
    else:
        if wire == _BYTES:
            size, at = _varint(payload, at, end)
        elif wire in _WIDTHS:
            size = _WIDTHS[wire]
        else:
            raise BadMessage(f"the field {number} has the wire type {wire}, which no field has")
        stop = at + size
        if stop > end:
            raise BadMessage("it ends within a field")
        value = base64.b64encode(payload[at:stop]).decode()
    found.setdefault(UNKNOWN, {}).setdefault(str(number), []).append(value)
    return stop
