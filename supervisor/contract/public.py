"""Restricts `dir()`, `help()` and tab completion to the names for users: names that only the package needs are hidden."""

from __future__ import annotations

from abc import ABCMeta
from typing import ClassVar


class _Listed(ABCMeta):
    """The metaclass of classes with a `dir()` of their own, because completion also reads the class of an object."""

    PUBLIC: frozenset[str]

    def __dir__(cls) -> list[str]:
        return sorted({*(name for name in super().__dir__() if name.startswith("__")), *cls.PUBLIC})


class Public(metaclass=_Listed):
    """A base class whose `dir()` lists `PUBLIC` and the names that every object has."""

    __slots__ = ()
    PUBLIC: ClassVar[frozenset[str]] = frozenset()
    """The names of attributes and methods for users."""

    def __dir__(self) -> list[str]:
        return sorted({*(name for name in super().__dir__() if name.startswith("__")), *self.PUBLIC})
