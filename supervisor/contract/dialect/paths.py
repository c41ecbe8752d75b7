"""Dotted paths into JSON values, as dialects use them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

MISSING: Final = object()
"""The result of `look_up` if there is no value; None is a value (JSON null)."""
PRESENT: Final = "*"
IN_BRACES: Final = re.compile(r"\{([^{}]*)\}")
"""A path in a text with placeholders: "{data.s}"; an empty path is the value itself."""

_INDEX: Final = re.compile("-?[0-9]{1,9}")
"""No array is so long that an index has more digits, and CPython refuses to convert more than 4,300."""


def look_up(value: Any, path: str) -> Any:
    """The value at `path` ("arg.instId", "events.0.type", "-1" for the last of an array), or `MISSING`.

    If the value has a key that is equal to the whole path, dots included, its value is returned.
    """
    if path and isinstance(value, dict) and path in value:
        return value[path]
    return getter(path)(value)


@lru_cache(maxsize=4096)
def getter(path: str) -> Callable[[Any], Any]:
    """`look_up` for one path, prepared for many calls."""
    if not path:
        return lambda _value: MISSING
    steps = [(step, int(step) if _INDEX.fullmatch(step) else None) for step in path.split(".")]
    dotted = len(steps) > 1

    def get(value: Any) -> Any:
        if dotted and isinstance(value, dict) and path in value:
            return value[path]
        for step, index in steps:
            if isinstance(value, dict):
                value = value.get(step, MISSING)
                if value is MISSING:
                    return MISSING
            elif index is not None and isinstance(value, list) and -len(value) <= index < len(value):
                value = value[index]
            else:
                return MISSING
        return value

    return get


def matches(value: Any, wanted: Mapping[str, Any]) -> bool:
    """True if `value` has the wanted value at every path of `wanted`; "*" matches any value."""
    for path, expected in wanted.items():
        found = look_up(value, path)
        if found is MISSING or (expected != PRESENT and found != expected):
            return False
    return True
