"""One row of a journal: the messages of a record, or an event, to and fro. Pure."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import accumulate
from typing import Any, Final, NamedTuple, cast
from zlib import crc32

import orjson

from wsadapter.contract.items import EVENT_NAMES, AnyEvent, Batch, Event, LateAnswer
from wsadapter.contract.reasons import Reason

_PIECE: Final = 5000
"""`crc32` releases the GIL for more than 5,120 bytes, and would then wait for the GIL up to 5 ms beside a busy thread."""
_CLASSES: Final = {name: cls for cls, name in EVENT_NAMES.items()}


class Row(NamedTuple):
    """As the columns of the table `records`."""

    seq: int
    endpoint: str
    epoch: int
    record: int | None
    number: int | None
    messages: int
    """The column `count`: 0 for an event."""
    at: int
    layout: str | None
    streams: str | None
    binary: int | str
    payload: bytes
    crc: int

    @property
    def end(self) -> int:
        """`seq` of the row behind it."""
        return self.seq + (self.messages or 1)


_make_row: Callable[[type[Row], tuple[Any, ...]], Row] = tuple.__new__


class DamagedRow(ValueError):
    """A row whose checksum is wrong: no part of it can be used."""


def message_row(
    seq: int,
    endpoint: str,
    payloads: Sequence[bytes],
    *,
    epoch: int,
    record: int | None,
    number: int,
    at: int,
    binary: bool | Sequence[bool] = False,
    streams: Sequence[str | None] | None = None,
) -> Row:
    """The row of the messages of one record."""
    count = len(payloads)
    if count == 1:
        layout, payload = None, payloads[0]
    else:
        sizes = list(map(len, payloads))
        layout, payload = (
            orjson.dumps(list(zip(accumulate(sizes, initial=0), sizes, strict=False))).decode(),
            b"".join(payloads),
        )
    kinds: int | str = int(binary) if isinstance(binary, bool) else _flags(binary)
    return _sealed(seq, endpoint, epoch, record, number, count, at, layout, _names(streams), kinds, payload)


def event_row(seq: int, event: Event, record: int | None = None) -> Row:
    """The row of an event."""
    return _sealed(seq, event.endpoint, event.epoch, record, None, 0, event.at, None, None, 0, _event_json(event))


def _sealed(*values: Any) -> Row:
    return _make_row(Row, (*values, _checksum(values[:-1], values[-1])))


def _checksum(columns: tuple[Any, ...], payload: bytes) -> int:
    """`columns`: those before the payload."""
    checksum = crc32(repr(columns).encode("utf-8", "surrogatepass"))
    if len(payload) <= _PIECE:
        return crc32(payload, checksum)
    with memoryview(payload) as view:
        for at in range(0, len(view), _PIECE):
            checksum = crc32(view[at : at + _PIECE], checksum)
    return checksum


def checked(values: tuple[Any, ...]) -> Row:
    """The row with these columns, as SQLite returns them. Raises `DamagedRow`."""
    try:
        checksum = _checksum(values[:-2], values[-2])
    except TypeError:  # a payload that is no BLOB: the bytes that give the types of the columns are damaged too
        checksum = None
    if values[-1] != checksum:
        raise DamagedRow(f"the checksum of row {values[0]} is wrong")
    return _make_row(Row, values)


def _flags(binary: Sequence[bool]) -> int | str:
    if all(binary):
        return 1
    return orjson.dumps([int(each) for each in binary]).decode() if any(binary) else 0


def _names(streams: Sequence[str | None] | None) -> str | None:
    if streams is None:
        return None
    first = streams[0]
    if all(name == first for name in streams):
        return None if first is None else _dumps(first)
    return _dumps(list(streams))


def item_of(row: Row) -> Batch | AnyEvent:
    """What the consumer of the stream gets for a row. Raises `DamagedRow` for a row that no version of this format writes."""
    try:
        return _batch(row) if row.messages else _event(row)
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedRow(f"row {row.seq} is invalid: {error!r}") from error


def _batch(row: Row) -> Batch:
    _, name, epoch, _, number, messages, at, layout, named, kinds, payload, _ = row
    payloads = (payload,) if layout is None else [payload[a : a + size] for a, size in orjson.loads(layout)]
    if len(payloads) != messages or number is None:
        raise ValueError("its layout is of another count")
    streams = None if named is None else _loads(named)
    if isinstance(streams, str):
        streams = [streams] * messages
    binary = bool(kinds) if isinstance(kinds, int) else [bool(each) for each in orjson.loads(kinds)]
    return Batch(name, payloads, epoch=epoch, first_number=number, received_at=at, binary=binary, streams=streams)


def _event_json(event: Event) -> bytes:
    said = event.to_json()
    if isinstance(event, LateAnswer):
        said["data"] = b64encode(event.data).decode()
    return _dumps(said).encode()


def _event(row: Row) -> AnyEvent:
    said: dict[str, Any] = _loads(row.payload)
    cls = _CLASSES[said["event"]]
    values = {field.name: said[field.name] for field in fields(cls) if field.name in said}
    values |= {"endpoint": row.endpoint, "epoch": row.epoch, "at": row.at}
    if "reason" in values:
        values["reason"] = Reason(**values["reason"])
    if "failed" in values:
        values["failed"] = tuple(values["failed"])
    if cls is LateAnswer:
        values["data"] = b64decode(values["data"])
    return cast("AnyEvent", cls(**values))


def _dumps(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # a lone surrogate, from a header or a path that is not UTF-8
        return json.dumps(value)


def _loads(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)
