"""What `dir()`, `help()` and tab completion show: what users may call, and nothing of what the package itself needs."""

from __future__ import annotations

from abc import ABCMeta
from typing import ClassVar


class _Listed(ABCMeta):
    """Of classes whose `dir()` is chosen; completion looks at the class of an object too."""

    PUBLIC: frozenset[str]

    def __dir__(cls) -> list[str]:
        return sorted({*(name for name in super().__dir__() if name.startswith("__")), *cls.PUBLIC})


class Public(metaclass=_Listed):
    """A base class: `dir()` lists `PUBLIC`, besides what every object has."""

    __slots__ = ()
    PUBLIC: ClassVar[frozenset[str]] = frozenset()
    """The names of attributes and methods for users."""

    def __dir__(self) -> list[str]:
        return sorted({*(name for name in super().__dir__() if name.startswith("__")), *self.PUBLIC})
