"""Checks tables of a dialect, each key with its own check: unknown, wrong and missing keys. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from wsadapter.config.dialect.shapes import Check
from wsadapter.config.schema import got, unknown_key

Found = Iterator[tuple[str, str]]
"""(path, message) of a problem."""


def check_keys(name: str, table: Any, checks: Mapping[str, Check], *, required: Collection[str] = ()) -> Found:
    """One table."""
    if not isinstance(table, Mapping):
        yield name, f"expected a table, got {got(table)}"
        return
    for key, value in table.items():
        message = checks[key](value) if key in checks else unknown_key(key, checks)
        if message:
            yield f"{name}.{key}", message
    for key in required:
        if key not in table:
            yield f"{name}.{key}", "this key is required"


def check_list(name: str, tables: Any, checks: Mapping[str, Check], *, required: Collection[str] = ()) -> Found:
    """An array of tables."""
    if not isinstance(tables, list):
        yield name, f"expected [[{name}]] tables, got {got(tables)}"
        return
    for place, table in enumerate(tables):
        yield from check_keys(f"{name}[{place}]", table, checks, required=required)


def each_table(name: str, tables: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Path and table of each of [[name]] that is one."""
    for place, table in enumerate(tables if isinstance(tables, list) else ()):
        if isinstance(table, Mapping):
            yield f"{name}[{place}]", table


def checked_elsewhere(_value: Any) -> str:
    """For a key that is known and checked by somebody else."""
    return ""
