"""A dialect's frames: JSON texts with placeholders for streams and other values. See dialects/README.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson

from wsadapter.contract.dialect.paths import IN_BRACES, MISSING, getter
from wsadapter.contract.endpoint import Subscription

_OUR_NUMBER = re.compile(r"(?<![0-9])[0-9]{1,18}$")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")
"""Bounded, because CPython refuses to convert more than 4,300 digits, and a peer may send any number of digits."""
_OURS = re.compile(r"\$(?:id_text|id|time_ms|time)")
_ELSEWHERE = re.compile(r"\$(?:stream|channel)")
_GLOB = re.compile(r"[*?\[]")


class BadStream(ValueError):
    """A stream does not fit the dialect's template."""


def fill(
    template: str, streams: Sequence[Subscription], number: int, wall: float = 0.0, channel: int | str | None = None
) -> bytes:
    """The frame, with its placeholders replaced: by `streams`, `number`, `wall` (seconds since 1970), and `channel`, which an
    ack has assigned to the stream. Raises `BadStream`."""
    return orjson.dumps(fill_in(template, streams, number, wall, {"$channel": channel}))


def fill_in(
    template: str,
    streams: Sequence[Subscription] = (),
    number: int = 0,
    wall: float = 0.0,
    words: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """As `fill`, but not encoded. `words`: further placeholders and their values; None: the value is not known. "$sign"
    stays."""
    if "$channel" in template and words.get("$channel") is None:
        raise BadStream("the peer has not assigned a channel to it")
    ours = {"$id": number, "$id_text": str(number), "$time": int(wall), "$time_ms": int(wall * 1000)}
    frame = _filled(orjson.loads(template), streams, {**ours, **words})
    return _composed(frame, streams[0]) if streams and paths_of(template) else frame


@lru_cache(maxsize=4096)
def paths_of(template: str) -> tuple[str, ...]:
    """The paths of the stream's fields that a frame is composed of: those in "{path}" in its texts. Empty if the frame has
    another placeholder for a stream."""
    return () if _ELSEWHERE.search(template) else tuple(_paths_in(orjson.loads(template)))


def _paths_in(frame: Any) -> Iterator[str]:
    if isinstance(frame, str):
        yield from IN_BRACES.findall(frame)
    elif isinstance(frame, dict | list):
        for item in [*frame, *frame.values()] if isinstance(frame, dict) else frame:
            yield from _paths_in(item)


def _composed(frame: Any, stream: Subscription) -> Any:
    if isinstance(frame, dict):
        return {_text_of(key, stream): _composed(value, stream) for key, value in frame.items()}
    if isinstance(frame, list):
        return [_composed(item, stream) for item in frame]
    if not isinstance(frame, str):
        return frame
    whole = IN_BRACES.fullmatch(frame)
    return _part(stream, whole[1]) if whole else _text_of(frame, stream)


def _text_of(text: str, stream: Subscription) -> str:
    def found(path: re.Match[str]) -> str:
        part = _part(stream, path[1])
        if isinstance(part, dict | list):
            raise BadStream(f"must have one word at {path[1]!r} for this dialect, not {orjson.dumps(part).decode()}")
        return part if isinstance(part, str) else orjson.dumps(part).decode()

    return IN_BRACES.sub(found, text)


def _part(stream: Subscription, path: str) -> Any:
    if not path:
        if not isinstance(stream, str):
            raise BadStream("must be a string for this dialect, not a table")
        return stream
    if isinstance(stream, str):
        raise BadStream(f"must be a table for this dialect, not the string {stream!r}")
    found = getter(path)(stream)
    if found is MISSING:
        raise BadStream(f"must have {path!r} for this dialect")
    return found


def needs_sign_hook(dialect: Mapping[str, Any]) -> bool:
    """True if an endpoint with a login needs the hook `sign`."""
    tables = [dialect.get("login", {}), *dialect.get("subscribe", {}).get("kind", [])]
    return any("$sign" in table.get(key, "") for table in tables for key in ("frame", "subscribe", "unsubscribe"))


def only_stream(kind: Mapping[str, Any]) -> str | None:
    """The stream that a table of [[subscribe.kind]] is for; None: it may be for several streams."""
    streams = kind.get("streams")
    if not isinstance(streams, list) or len(streams) != 1 or not isinstance(streams[0], str):
        return None
    return None if _GLOB.search(streams[0]) else streams[0]


def needs_login(template: str, dialect: Mapping[str, Any]) -> bool:
    """True if a frame has a placeholder of [login], whose value only an endpoint with a login has."""
    words = ("sign", "challenge", *dialect.get("login", {}).get("needs", ()))
    return any(f'"${word}"' in template for word in words)


def is_private(stream: Subscription, dialect: Mapping[str, Any]) -> bool:
    """True if a stream is requested by a frame of [[subscribe.kind]] that only an endpoint with a login can send."""
    name = stream_name(stream)
    kinds = dialect.get("subscribe", {}).get("kind", [])
    kind = next((kind for kind in kinds if any(fnmatchcase(name, glob) for glob in kind["streams"])), None)
    return kind is not None and needs_login(kind["frame"], dialect)


def needs_signature(frame: Any) -> bool:
    """True if a filled-in frame still contains "$sign"."""
    if isinstance(frame, dict):
        return "$sign" in frame or any(map(needs_signature, frame.values()))
    return any(map(needs_signature, frame)) if isinstance(frame, list) else bool(frame == "$sign")


def sign(frame: Any, signature: Any) -> Any:
    """The frame with its signature. Raises `BadStream` if the frame needs the fields of a table and the signature is none."""
    if isinstance(frame, dict):
        if "$sign" in frame and not isinstance(signature, dict):
            raise BadStream(f"the hook sign must return a table here, not {type(signature).__name__}")
        own = {key: sign(value, signature) for key, value in frame.items() if key != "$sign"}
        return {**own, **signature} if "$sign" in frame else own
    if isinstance(frame, list):
        return [sign(item, signature) for item in frame]
    return signature if frame == "$sign" else frame


def merge(frame: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The frame with more fields; two tables with the same key are merged."""
    result = dict(frame)
    for key, value in fields.items():
        own = result.get(key)
        result[key] = merge(own, value) if isinstance(own, dict) and isinstance(value, dict) else value
    return result


def _filled(value: Any, streams: Sequence[Subscription], own: Mapping[str, Any]) -> Any:
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
            return _filled_list(value, streams, own)
        case dict():
            return _filled_table(value, streams, own)
        case _:
            return value


def _filled_list(items: list[Any], streams: Sequence[Subscription], own: Mapping[str, Any]) -> list[Any]:
    result: list[Any] = []
    for item in items:
        if item == "$streams...":
            result += streams
        else:
            result.append(_filled(item, streams, own))
    return result


def _filled_table(table: dict[str, Any], streams: Sequence[Subscription], own: Mapping[str, Any]) -> dict[str, Any]:
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
    """The number that an answer carries: an integer, or up to 18 digits at the end of a string; None: there is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _OUR_NUMBER.search(value) if isinstance(value, str) else None
    return int(found[0]) if found else None


def as_number(text: str) -> int | None:
    """The integer that is written as this text; None for every other text."""
    return int(text) if _NUMBER.fullmatch(text) else None


def stream_name(stream: Subscription) -> str:
    """The name of a stream: the string itself, or the table as compact JSON with sorted keys."""
    return stream if isinstance(stream, str) else orjson.dumps(stream, option=orjson.OPT_SORT_KEYS).decode()


def is_same_stream(stream: Subscription, named: Any) -> bool:
    """True if `named`, a value in a message, is this stream: the same string, or an object with all fields of the table."""
    if isinstance(stream, str) or not isinstance(named, dict):
        return bool(stream == named)
    return all(key in named and named[key] == value for key, value in stream.items())


def raw_frame(stream: Subscription) -> bytes:
    """A stream as a separate frame, for endpoints without a dialect."""
    return stream.encode() if isinstance(stream, str) else orjson.dumps(stream)
