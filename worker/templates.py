"""A dialect's frames: JSON text with placeholders, filled in with streams. See dialects/README.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from wsadapter.contract.endpoint import Subscription

_OUR_NUMBER = re.compile(r"(\d+)$")


class BadStream(ValueError):
    """A stream does not fit the dialect's template."""


def fill(template: str, streams: Sequence[Subscription], number: int) -> bytes:
    """The frame that names `streams` and carries `number`. Raises `BadStream`."""
    return orjson.dumps(_filled(orjson.loads(template), streams, number))


def _filled(value: Any, streams: Sequence[Subscription], number: int) -> Any:
    match value:
        case "$streams":
            return list(streams)
        case "$stream":
            return streams[0]
        case "$id":
            return number
        case str():
            return value.replace("$id", str(number))
        case list():
            return [_filled(item, streams, number) for item in value]
        case dict():
            return _filled_table(value, streams, number)
        case _:
            return value


def _filled_table(table: dict[str, Any], streams: Sequence[Subscription], number: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in table.items():
        if key != "$stream":
            result[key] = _filled(value, streams, number)
        elif isinstance(streams[0], str):
            raise BadStream(f"must be a table for this dialect, not the string {streams[0]!r}")
        else:
            result.update(streams[0])
    return result


def number_in(value: Any) -> int | None:
    """The number an answer carries back: an integer, or the digits at the end of a string."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _OUR_NUMBER.search(value) if isinstance(value, str) else None
    return int(found[1]) if found else None


def stream_name(stream: Subscription) -> str:
    """How a stream is called: the string itself, or the table as compact JSON, sorted as in the supervisor's ledger."""
    return stream if isinstance(stream, str) else orjson.dumps(stream, option=orjson.OPT_SORT_KEYS).decode()


def is_meant(stream: Subscription, named: Any) -> bool:
    """Whether what a message names is this stream: the same string, or an object with all fields of the table."""
    if isinstance(stream, str) or not isinstance(named, dict):
        return bool(stream == named)
    return all(key in named and named[key] == value for key, value in stream.items())


def raw_frame(stream: Subscription) -> bytes:
    """A stream as a frame of its own, where there is no dialect."""
    return stream.encode() if isinstance(stream, str) else orjson.dumps(stream)
