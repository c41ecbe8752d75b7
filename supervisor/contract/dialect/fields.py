"""Finds the subscription, a table, whose values a message contains in other words: `fields` of dialects/README.md. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from wsadapter.contract.dialect.paths import MISSING, getter
from wsadapter.contract.dialect.words import Vocabulary, as_text, listed

__all__ = ["Closeness", "Fields", "FieldWords", "Tables", "as_text", "closeness"]

Words = tuple[str, ...]
FieldWords = tuple[Words, ...]
"""The words of a message for each field; () for a field that the message does not have."""

_MOST_WORDS: Final = 1000

T = TypeVar("T")


class Fields:
    """Where a message contains the values of a subscription's keys. Not thread-safe."""

    def __init__(
        self,
        fields: Mapping[str, str | list[str]],
        aliases: Mapping[str, str | list[str]] | None = None,
        *,
        fold: bool = False,
    ) -> None:
        """`fields`: key of a subscription = path in a message, or several paths of which the first that exists counts.
        `aliases`, `fold`: see `Vocabulary`."""
        self.keys = tuple(fields)
        self._getters = [[getter(path) for path in listed(paths)] for paths in fields.values()]
        self._vocabulary = Vocabulary(aliases, fold=fold)

    def words_in(self, value: Any) -> FieldWords | None:
        """The words of a parsed message for each field; None: the message has no word for any field."""
        found = tuple([self._words(value, getters) for getters in self._getters])
        return found if any(found) else None

    def _words(self, value: Any, getters: list[Callable[[Any], Any]]) -> Words:
        for get in getters:
            found = get(value)
            if found is not MISSING:
                words = tuple(map(as_text, found[:_MOST_WORDS])) if isinstance(found, list) else (as_text(found),)
                return words if self._vocabulary.plain else self._translated(words)
        return ()

    def _translated(self, words: Words) -> Words:
        meant = self._vocabulary.meant
        return meant(words[0]) if len(words) == 1 else tuple([one for word in words for one in meant(word)])

    def named(self, subscription: Mapping[str, Any]) -> Sequence[frozenset[str] | None]:
        """The words of a subscription for each field; None for a key that it does not have."""
        fold = self._vocabulary.folded
        return [
            frozenset(fold(as_text(word)) for word in listed(subscription[key])) if key in subscription else None
            for key in self.keys
        ]

    def fits(self, subscription: Any, found: FieldWords, *, partly: bool = False) -> bool:
        """Whether a subscription is meant: a table, of which each field that is named here has a word in common. `partly`: a
        field of which nothing is found is not compared."""
        if not isinstance(subscription, Mapping):
            return False
        fold = self._vocabulary.folded
        return all(
            not {fold(as_text(word)) for word in listed(subscription[key])}.isdisjoint(words)
            for key, words in zip(self.keys, found, strict=True)
            if key in subscription and (words or not partly)
        )


class Closeness(NamedTuple):
    """How well a subscription fits the words of a message: the greater the better."""

    exact: int
    """The number of fields of which the message has every word of the subscription."""
    common: int
    """The number of words that both have."""
    early: int
    """Minus the place of the first common word among the message's words, because the likeliest meaning comes first."""


def closeness(named: Sequence[frozenset[str] | None], found: FieldWords) -> Closeness | None:
    """None if it does not fit: a field that the subscription names has no word in common with the message."""
    exact = common = early = 0
    for words, heard in zip(named, found, strict=True):
        if words is None:
            continue
        shared = words.intersection(heard)
        if not shared:
            return None
        exact += len(shared) == len(words)
        common += len(shared)
        early -= next(place for place, word in enumerate(heard) if word in shared)
    return Closeness(exact, common, early)


class Entry(NamedTuple, Generic[T]):
    """One subscription."""

    number: int
    named: Sequence[frozenset[str] | None]
    meant: T


class Tables(Generic[T]):
    """Subscriptions, indexed by the words of their fields so that few of many are compared. Not thread-safe."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._count = 0
        self._by_word: list[dict[str, list[Entry[T]]]] = [{} for _ in fields.keys]
        self._without: list[list[Entry[T]]] = [[] for _ in fields.keys]

    def add(self, subscription: Mapping[str, Any], meant: T) -> None:
        """Adds a subscription; `find` returns `meant` for it."""
        entry = Entry(self._count, self._fields.named(subscription), meant)
        self._count += 1
        for by_word, without, words in zip(self._by_word, self._without, entry.named, strict=True):
            for word in words or ():
                by_word.setdefault(word, []).append(entry)
            if words is None:
                without.append(entry)

    def find(self, found: FieldWords) -> T | None:
        """The value of the subscription that fits best, of equal ones the first; None: no subscription fits."""
        fitting = ((closeness(entry.named, found), -entry.number, entry.meant) for entry in self._candidates(found))
        best = max(((close, number, meant) for close, number, meant in fitting if close), key=lambda one: one[:2], default=None)
        return None if best is None else best[2]

    def _candidates(self, found: FieldWords) -> Sequence[Entry[T]]:
        """The entries with a word of one field: the field that leaves the fewest entries."""
        groups = [
            [without, *(by_word[word] for word in heard if word in by_word)]
            for by_word, without, heard in zip(self._by_word, self._without, found, strict=True)
        ]
        return [entry for group in min(groups, key=lambda group: sum(map(len, group))) for entry in group]
