"""A dialect's frames: JSON text with placeholders, filled in with streams. See dialects/README.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from wsadapter.contract.endpoint import Subscription

_OUR_NUMBER = re.compile(r"(\d+)$")
_OURS = re.compile(r"\$(?:id_text|id|time_ms|time)")


class BadStream(ValueError):
    """A stream does not fit the dialect's template."""


def fill(
    template: str, streams: Sequence[Subscription], number: int, wall: float = 0.0, channel: int | str | None = None
) -> bytes:
    """The frame that names `streams`, carries `number` and, where asked for, `wall`, seconds since 1970, and `channel`, what an
    ack said stands for the stream. Raises `BadStream`."""
    if channel is None and "$channel" in template:
        raise BadStream("the peer has not said which channel it is")
    own: dict[str, int | str] = {
        "$id": number, "$id_text": str(number), "$time": int(wall), "$time_ms": int(wall * 1000), "$channel": channel or "",
    }  # fmt: skip
    return orjson.dumps(_filled(orjson.loads(template), streams, own))


def _filled(value: Any, streams: Sequence[Subscription], own: Mapping[str, int | str]) -> Any:
    match value:
        case "$streams":
            return list(streams)
        case "$stream":
            return streams[0]
        case str() if value in own:
            return own[value]
        case str():
            return _OURS.sub(lambda found: str(own[found[0]]), value)
        case list():
            return [_filled(item, streams, own) for item in value]
        case dict():
            return _filled_table(value, streams, own)
        case _:
            return value


def _filled_table(table: dict[str, Any], streams: Sequence[Subscription], own: Mapping[str, int | str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in table.items():
        if key != "$stream":
            result[key] = _filled(value, streams, own)
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
