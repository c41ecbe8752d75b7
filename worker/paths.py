"""Dotted paths into JSON values, as dialects use them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MISSING: Final = object()
"""What `look_up` gives where there is nothing; None is a value (JSON null)."""
PRESENT: Final = "*"

_INDEX: Final = re.compile("-?[0-9]+")


def look_up(value: Any, path: str) -> Any:
    """What stands at `path` ("arg.instId", "events.0.type", "-1" for the last of an array), or `MISSING`.

    A key that itself has dots is found first, so `path` may also be such a key.
    """
    if not path:
        return MISSING
    if isinstance(value, dict) and path in value:
        return value[path]
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and _INDEX.fullmatch(step) and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            return MISSING
    return value


def matches(value: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether at every path of `wanted` stands its value; "*" is any value that is there at all."""
    for path, expected in wanted.items():
        found = look_up(value, path)
        if found is MISSING or (expected != PRESENT and found != expected):
            return False
    return True
