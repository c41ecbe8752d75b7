"""Finds the id in the payload of a request, or adds one. Pure.

A payload that is text is sent as the user gave it, digit for digit, because the text may be signed. If an id must be added at
the top level, the id is written in front of the first field. Only for an id below the top level the JSON is encoded again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from wsadapter.arguments import Data, as_json_text
from wsadapter.config.files import parse_json
from wsadapter.contract.errors import UsageError
from wsadapter.contract.ipc.commands import id_text

Payload = Data | Mapping[str, Any]
"""A JSON object, or its text."""

_BEGINNING: Final = re.compile(rb"\s*\{\s*(\}?)")


def with_id(payload: Payload, path: str, fresh: Callable[[], int | str]) -> tuple[str, bytes]:
    """Returns the id as text, and the text to send. `path`: where the id is, with dots. `fresh` makes an id, if the payload has
    none or null.

    The payload itself is not changed. Raises `WrongType` if the payload is neither a table nor text, `UsageError` if the
    payload is no JSON object or its id is neither a string nor a whole number.
    """
    payload = as_json_text("request", payload)
    if isinstance(payload, Mapping):
        value, text = payload, b""
    else:
        value, text = _parsed(payload), payload
    steps = path.split(".")
    found = _found(value, steps)
    if found is not None:
        known = id_text(found)
        if known is None:
            raise UsageError(f"a request's id is a string or a whole number, not {found!r:.100} (at {path!r})")
        return known, text or _dumped(value)
    made = fresh()
    if text and len(steps) == 1 and path not in value:
        return str(made), _in_front(text, path, made)
    if text:
        return str(made), _exact(text, steps, made)
    return str(made), _dumped(_put(value, steps, made))


def _exact(text: bytes, steps: list[str], made: int | str) -> bytes:
    """Add the id with `json`, because orjson rejects integers above 64 bits."""
    try:
        return json.dumps(_put(parse_json(text), steps, made), separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # orjson accepts deeper nesting than `json`
        raise UsageError(f"a request is a JSON object: {error}") from None


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"a request is a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"a request is a JSON object, not {value!r:.100}")
    return value


def _found(value: Mapping[str, Any], steps: list[str]) -> Any:
    """The value at this path; None if there is none."""
    found: Any = value
    for step in steps:
        if not isinstance(found, Mapping):
            raise UsageError(f"a request's id is expected at {'.'.join(steps)!r}, but {found!r:.100} has no fields")
        found = found.get(step)
        if found is None:
            return None
    return found


def _put(value: Mapping[str, Any], steps: list[str], made: int | str) -> dict[str, Any]:
    """A copy with the id. Values beside the path are shared with the original."""
    step, *rest = steps
    return {**value, step: _put(value.get(step) or {}, rest, made) if rest else made}


def _in_front(text: bytes, key: str, made: int | str) -> bytes:
    beginning = _BEGINNING.match(text)
    assert beginning is not None  # it was parsed as an object
    rest = text[beginning.start(1) :]
    return b"".join((b"{", orjson.dumps(key), b":", orjson.dumps(made), b"" if beginning[1] else b",", rest))


def _dumped(value: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(value if isinstance(value, dict) else dict(value))
    except TypeError as error:
        raise UsageError(f"a request's payload can't be written as JSON: {error}; give it as text") from None
