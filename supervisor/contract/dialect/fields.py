"""Tables of subscriptions found again in what an exchange says in other words: `fields` of dialects/README.md. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from wsadapter.contract.dialect.paths import MISSING, getter

Words = tuple[str, ...]
Said = tuple[Words, ...]
"""What a message says of each field; () where it says nothing."""

_MOST_WORDS: Final = 1000


class Fields:
    """Where a message says what the keys of a subscription say. Immutable."""

    def __init__(self, fields: Mapping[str, str | list[str]], aliases: Mapping[str, str | list[str]] | None = None) -> None:
        """`fields`: key of a subscription = path, or paths of which the first that is there counts. `aliases`: word of a
        message = the subscription's word for it, or words."""
        self._fields = [(key, [getter(path) for path in _listed(paths)]) for key, paths in fields.items()]
        self._aliases = {word: _listed(meant) for word, meant in (aliases or {}).items()}

    def said(self, value: Any) -> Said | None:
        """What a parsed message says of each field; None where it says nothing of any."""
        found = tuple([self._words(value, getters) for _, getters in self._fields])
        return found if any(found) else None

    def _words(self, value: Any, getters: list[Callable[[Any], Any]]) -> Words:
        for get in getters:
            found = get(value)
            if found is not MISSING:
                words = tuple(map(as_text, found[:_MOST_WORDS])) if isinstance(found, list) else (as_text(found),)
                return self._translated(words) if self._aliases else words
        return ()

    def _translated(self, words: Words) -> Words:
        return tuple(meant for word in words for meant in self._aliases.get(word, (word,)))

    def fits(self, subscription: Any, said: Said) -> bool:
        """Whether a subscription is meant: a table, of which each field that is named here has a word in common."""
        if not isinstance(subscription, Mapping):
            return False
        return all(
            not {as_text(word) for word in _listed(subscription[key])}.isdisjoint(words)
            for (key, _), words in zip(self._fields, said, strict=True)
            if key in subscription
        )


def as_text(word: Any) -> str:
    """As it is compared: the number 100 and the string "100" are the same."""
    return word if isinstance(word, str) else repr(word)


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)
