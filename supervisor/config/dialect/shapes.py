"""Checks of single values of a dialect. Each check returns the text of a problem, or ""."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wsadapter.config import values
from wsadapter.config.schema import got
from wsadapter.contract.dialect.paths import IN_BRACES

Check = Callable[[Any], str]


def text(value: Any) -> str:
    """Any string."""
    return "" if isinstance(value, str) else f"expected a string, got {got(value)}"


def string(value: Any) -> str:
    """One that is not empty."""
    return text(value) or ("" if value else "expected a string that is not empty")


def urls(value: Any) -> str:
    """One or more, in the order to try them."""
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(url, str) for url in found):
        return f"expected a URL or a list of URLs, got {got(value)}"
    return next(filter(None, map(values.websocket_url, found)), "")


def path(value: Any) -> str:
    """Of a field, dotted."""
    return string(value) or values.json_path(value)


def path_or_all(value: Any) -> str:
    """One, or "{}" for all of the message."""
    return "" if value == "{}" else path(value)


def paths(value: Any) -> str:
    """One text or several."""
    good = isinstance(value, list) and value and not any(map(path, value))
    return "" if good else f"expected a list of dotted paths, got {got(value)}"


def scope(value: Any) -> str:
    """A list of them, perhaps empty; "$stream" is one."""
    good = isinstance(value, list) and not any(map(path, value))
    return "" if good else f"expected a list of dotted paths, [] for the whole connection, got {got(value)}"


def path_or_paths(value: Any) -> str:
    """One, or a list of which the first that is there counts."""
    return paths(value) if isinstance(value, list) else path(value)


def texts_of_paths(value: Any) -> str:
    """A text with "{path}" for a value of a message, or a list of such texts."""
    return _texts(value, whole=False)


def texts_of_a_stream(value: Any) -> str:
    """The same for values of a subscription; "{}" is the subscription itself if it is a string, and so is ""."""
    return "" if value == "" else _texts(value, whole=True)


def _texts(value: Any, *, whole: bool) -> str:
    texts = value if isinstance(value, list) and value else [value]
    return next(filter(None, (_text(one, whole=whole) for one in texts)), "")


def _text(value: Any, *, whole: bool) -> str:
    if wrong := string(value):
        return wrong
    if {"{", "}"}.intersection(IN_BRACES.sub("", value)):
        return f"expected text with paths in braces, such as {{data.s}}, got {got(value)}"
    found = IN_BRACES.findall(value)
    return next((wrong for inner in found if (inner or not whole) and (wrong := values.field_path(inner))), "")


def strings(value: Any) -> str:
    """A list of them, not empty."""
    good = isinstance(value, list) and value and not any(map(string, value))
    return "" if good else f"expected a list of strings, got {got(value)}"


def fields(value: Any) -> str:
    """Key of a stream = the path of its value in a message."""
    if not isinstance(value, Mapping) or not value:
        return f"expected a table of key of a stream = path in a message, got {got(value)}"
    return next((f"{key}: {wrong}" for key, item in value.items() if (wrong := path_or_paths(item))), "")


def aliases(value: Any) -> str:
    """Word of a message = the subscription's word for it, or a list of such words. Each "*" in the first stands for anything,
    and for the same in the second."""
    good = isinstance(value, Mapping) and value and all(
        (isinstance(item, str) and item) or (isinstance(item, list) and not strings(item)) for item in value.values()
    )  # fmt: skip
    if not good:
        return f"expected a table of word in a message = word in a subscription, got {got(value)}"
    for word, item in value.items():
        words = [item] if isinstance(item, str) else item
        if "*" in word and any(one.count("*") > word.count("*") for one in words):
            return f'{word}: expected no more "*" in a word of the subscription than in the message\'s'
    return ""


def streams(value: Any) -> str:
    """One stream, or a list of them: strings or tables."""
    some = value if isinstance(value, list) else [value]
    good = some and all(one and isinstance(one, str | Mapping) for one in some)
    return "" if good else f"expected a stream, a string or a table, or a list of streams, got {got(value)}"


def true(value: Any) -> str:
    """A flag that is left out if it is false."""
    return "" if value is True else f"expected true, or leave it out, got {got(value)}"


def false(value: Any) -> str:
    """The opposite of the default."""
    return "" if value is False else f"expected false, or leave it out, got {got(value)}"


def count(value: Any) -> str:
    """From 1 on."""
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return "" if good else f"expected a whole number from 1 on, got {got(value)}"


def seconds(value: Any) -> str:
    """More than none."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    return "" if good else f"expected seconds, more than 0, got {got(value)}"


def no_or_seconds(value: Any) -> str:
    """The same, or 0, which turns something off."""
    none = value == 0 and not isinstance(value, bool)
    return "" if none or not seconds(value) else f"expected seconds, or 0 for none, got {got(value)}"


def match(value: Any) -> str:
    """What a frame must hold."""
    return "" if isinstance(value, Mapping) and value else f"expected a table of path = value, got {got(value)}"


def hook(value: Any) -> str:
    """Importable in the owner."""
    return string(value) or values.importable(value)


def one_of(*choices: str) -> Check:
    """One of some words."""
    known = ", ".join(f'"{choice}"' for choice in choices)
    return lambda value: "" if value in choices and isinstance(value, str) else f"expected one of {known}, got {got(value)}"
