"""A cheap test on parsed messages: whether one of a dialect's rules may match. Pure.

The test looks for one key of each rule, if possible a key that data do not have. To search the bytes of all messages for the
texts of all rules would cost more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from wsadapter.contract.dialect.paths import IN_BRACES, PRESENT

_SCALARS: Final = frozenset({str, int, float, bool})
_WORD: Final = 0
_ANYTHING: Final = 1
_NUMBER: Final = 2
_OF_DATA: Final = ("stream", "gap", "identity", "snapshot")


class _Mark(NamedTuple):
    """A key that every message has which a rule matches."""

    key: str
    word: Any
    """The value at the key; None: any value."""


class Prefilter:
    """Lets through every parsed message that one of the rules matches, and few others. Immutable."""

    def __init__(self, rules: Iterable[Mapping[str, Any]], common: frozenset[str]) -> None:
        """`rules`: the `match` of each rule. `common`: keys that data have too."""
        words: dict[str, set[Any] | None] = {}
        self._all = self._arrays = False
        for match in rules:
            self._all |= not match
            for mark in _marks(match, common):
                known = words.setdefault(mark.key, set())
                if mark.word is None or known is None:
                    words[mark.key] = None
                else:
                    known.add(mark.word)
                self._arrays |= mark.key.lstrip("-").isdecimal()
        self._keys = frozenset(words)
        self._words = tuple((key, None if known is None else frozenset(known)) for key, known in words.items())

    def may_match(self, value: Any) -> bool:
        """True if a rule may match a parsed message; `value` is None if the message is no JSON."""
        if value.__class__ is not dict:
            return self._all or (self._arrays and value.__class__ is list)
        if self._keys.isdisjoint(value):
            return self._all
        for key, words in self._words:
            if key in value:
                found = value[key]
                if words is None or (found.__class__ in _SCALARS and found in words):
                    return True
        return self._all


def _marks(match: Mapping[str, Any], common: frozenset[str]) -> Iterator[_Mark]:
    """The mark of one of the rule's paths. A key that data do not have is preferred; then a key with a word, then a key with
    any value, then a key with a number, which data often have too. A dotted path gives its first step, and the whole path,
    which may itself be a key."""
    if not match:
        return
    path = min(match, key=lambda path: (path.partition(".")[0] in common, _rank(path, match[path]), path))
    if _rank(path, match[path]) == _ANYTHING:
        yield from (_Mark(key, None) for key in {path, path.partition(".")[0]})
    else:
        yield _Mark(path, match[path])


def _rank(path: str, wanted: Any) -> int:
    if "." in path or wanted == PRESENT or wanted.__class__ not in _SCALARS:
        return _ANYTHING
    return _WORD if isinstance(wanted, str) else _NUMBER


def data_keys(dialect: Mapping[str, Any]) -> frozenset[str]:
    """The keys at the top of a message that the dialect reads in data."""
    return frozenset(path.partition(".")[0] for name in _OF_DATA for path in _paths(dialect.get(name, ())))


def _paths(value: Any) -> Iterator[str]:
    """All texts in a value that may be paths, and the keys of its tables."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _paths(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _paths(inner)
    elif isinstance(value, str):
        yield value
        yield from IN_BRACES.findall(value)
