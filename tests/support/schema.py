"""Whether a value matches a `TypedDict` exactly: every key, no other, each of its type."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict


def deviations(value: Any, kind: Any, place: str = "status") -> list[str]:
    """Each place where the value differs."""
    return list(_deviations(value, kind, place))


def _deviations(value: Any, kind: Any, place: str) -> Iterator[str]:
    arms, origin = get_args(kind), get_origin(kind)
    if is_typeddict(kind):
        yield from _of_table(value, kind, place)
    elif origin is UnionType:
        if all(deviations(value, arm, place) for arm in arms):
            yield f"{place}: {value!r} is not {kind}"
    elif origin is Literal:
        if value not in arms:
            yield f"{place}: {value!r} is not one of {arms}"
    elif origin is dict:
        for name, item in value.items():
            yield from _deviations(item, arms[1], f"{place}.{name}")
    elif origin is list:
        for at, item in enumerate(value):
            yield from _deviations(item, arms[0], f"{place}[{at}]")
    elif type(value) is not kind and not (kind is float and type(value) is int):
        yield f"{place}: {value!r} is not {kind}"


def _of_table(value: Any, kind: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: {value!r} is no table"
        return
    hints = get_type_hints(kind, include_extras=True)
    optional = {key for key, hint in hints.items() if get_origin(hint) is NotRequired}
    yield from (f"{place}.{key}: missing" for key in hints.keys() - optional - value.keys())
    yield from (f"{place}.{key}: not in the schema" for key in value.keys() - hints.keys())
    for key in hints.keys() & value.keys():
        hint = get_args(hints[key])[0] if key in optional else hints[key]
        yield from _deviations(value[key], hint, f"{place}.{key}")
