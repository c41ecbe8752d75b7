"""Translates words of a message to words of a subscription, and composes texts of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any, Final, TypeVar

from wsadapter.contract.dialect.paths import IN_BRACES, MISSING, getter

_MOST_REMEMBERED: Final = 1 << 16
_MOST_TEXTS: Final = 1 << 16
"""Texts of one subscription: its lists may be long, and every combination is a text."""
_ANYTHING: Final = "*"

K = TypeVar("K", bound=Hashable)


def as_text(word: Any) -> str:
    """The word as it is compared: the number 100 and the string "100" are equal."""
    return word if isinstance(word, str) else repr(word)


def listed(value: Any) -> tuple[Any, ...]:
    """The entries of a list; any other value as the only entry."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class _Remembered(dict[K, tuple[str, ...]]):
    """A cache of the meanings of a word or of several words."""

    def __init__(self, look_for: Callable[[K], tuple[str, ...]]) -> None:
        super().__init__()
        self._look_for = look_for

    def __missing__(self, said: K) -> tuple[str, ...]:
        if len(self) >= _MOST_REMEMBERED:  # the peer chooses the words: without a bound it could fill the memory
            self.clear()
        found = self[said] = self._look_for(said)
        return found


class Vocabulary:
    """The subscription's words for the words of a message. Not thread-safe."""

    def __init__(self, aliases: Mapping[str, str | list[str]] | None = None, *, fold: bool = False) -> None:
        """`aliases`: word of a message = word of the subscription, or several. Each "*" in the first matches any text, and in
        the second stands for the same text, in this order. `fold`: capitals make no difference."""
        self.fold = fold
        self._exact: dict[str, tuple[str, ...]] = {}
        self._wild: list[tuple[re.Pattern[str], tuple[str, ...]]] = []
        for said, meant in (aliases or {}).items():
            word, words = self.folded(said), tuple(map(self.folded, listed(meant)))
            if _ANYTHING in word:
                pattern = "(.*?)".join(map(re.escape, word.split(_ANYTHING)))
                self._wild.append((re.compile(pattern, re.DOTALL), words))
            else:
                self._exact[word] = words
        self.plain = not fold and not aliases
        """Each word means itself."""
        self.meant = _Remembered(self._meant).__getitem__
        """The words of a subscription that a message's word may mean, the likeliest first."""

    def folded(self, word: str) -> str:
        """A subscription's word, as it is compared."""
        return word.casefold() if self.fold else word

    def _meant(self, word: str) -> tuple[str, ...]:
        folded = self.folded(word)
        return self._exact.get(folded) or self._by_pattern(folded) or (folded,)

    def _by_pattern(self, word: str) -> tuple[str, ...] | None:
        """The words of the first alias with a "*" that matches."""
        for pattern, words in self._wild:
            if (found := pattern.fullmatch(word)) is not None:
                return tuple(_with_kept(meant, found.groups()) for meant in words)
        return None


def _with_kept(word: str, kept: Sequence[str]) -> str:
    """The word with each "*" replaced by the kept texts, in this order."""
    stars = iter(kept)
    return "".join(next(stars) if letter == _ANYTHING else letter for letter in word)


class Composition:
    """A text with paths in braces: "{table}:{data.0.symbol}". Not thread-safe."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        parts = IN_BRACES.split(text)
        self._format = "%s".join(vocabulary.folded(part).replace("%", "%%") for part in parts[::2])
        self._paths = [(path, getter(path)) for path in parts[1::2]]
        self._getters = [get for _, get in self._paths]
        self._vocabulary = vocabulary
        self._translated: Callable[[tuple[str, ...]], tuple[str, ...]] = _Remembered(self._texts).__getitem__

    def _texts(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self._each(map(self._vocabulary.meant, words)))

    def of_message(self, value: Any) -> Iterable[str]:
        """The texts composed from a message: none if a value is missing, several if an alias has several words."""
        words: list[str] = []
        for get in self._getters:
            found = get(value)
            if isinstance(found, str):
                words.append(found)
            elif found is MISSING or isinstance(found, dict | list):
                return ()
            else:
                words.append(repr(found))
        if self._vocabulary.plain:
            return (self._format % tuple(words),)
        return self._translated(tuple(words))

    def of_subscription(self, subscription: Mapping[str, Any] | str) -> Iterable[str]:
        """The texts composed from a subscription: of a list, one per entry. "{}" is the subscription itself, if it is a
        string."""
        words: list[Sequence[str]] = []
        for path, get in self._paths:
            found = get(subscription) if path else subscription if isinstance(subscription, str) else MISSING
            if found is MISSING or isinstance(found, dict):
                return ()
            words.append([self._vocabulary.folded(as_text(word)) for word in listed(found)])
        return islice(self._each(words), _MOST_TEXTS)

    def _each(self, words: Iterable[Sequence[str]]) -> Iterator[str]:
        return (self._format % chosen for chosen in product(*words))
