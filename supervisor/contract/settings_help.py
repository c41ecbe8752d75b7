"""The text of `help(Endpoint)`: every field with its type, default, unit and meaning, made from the classes."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from wsadapter.contract.endpoint import RATIOS, SECTIONS, SIZES
from wsadapter.contract.meanings import meanings_of, types_of

_WIDTH: Final = 110
_QUANTITIES: Final = 'Durations are seconds, sizes bytes; both may be given as text too: "500ms", "64MiB".'


def describe(cls: type[Any], short: str) -> str:
    """The docstring of a class of settings; `short` comes first. Raises `OSError` if the source file is missing."""
    prefix = next((f"{name}." for name, section in SECTIONS.items() if section is cls), "")
    return "\n".join([inspect.cleandoc(short), "", _QUANTITIES, "", *_fields_of(cls, prefix)])


def _fields_of(cls: type[Any], prefix: str) -> Iterator[str]:
    meanings, types = meanings_of(cls), _types_of(cls)
    for f in fields(cls):
        section = None if prefix else SECTIONS.get(f.name)
        default = "" if f.default is MISSING and f.default_factory is MISSING else f" = {_default(f)}"
        yield f"{f.name}: {types[f.name]}{default}{_unit(prefix + f.name, types[f.name])}"
        yield from textwrap.wrap(meanings[f.name], _WIDTH, initial_indent="    ", subsequent_indent="    ")
        if section is not None:
            yield from (f"    {line}" for line in _fields_of(section, f"{f.name}."))


def _types_of(cls: type[Any]) -> dict[str, str]:
    """The types as they are written, but the choices themselves if the type is a `Literal`."""
    choices = {name: hint for name, hint in get_type_hints(cls).items() if get_origin(hint) is Literal}
    return types_of(cls) | {name: " | ".join(map(repr, get_args(hint))) for name, hint in choices.items()}


def _default(f: Field[Any]) -> str:
    return repr(f.default if f.default is not MISSING else {})


def _unit(key: str, written_type: str) -> str:
    if key in SIZES:
        return "  # bytes"
    return "  # seconds" if written_type == "float" and key not in RATIOS else ""
