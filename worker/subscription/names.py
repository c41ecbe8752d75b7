"""The words of streams: which streams an error's text names, and which stand in a set that an answer lists. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import permutations
from typing import Any, Final

from wsadapter.contract.dialect.fields import as_text
from wsadapter.contract.dialect.paths import MISSING

_WORD: Final = re.compile(r"[\w-]+")
_LEAST_TOKEN: Final = 3
"""A shorter word of a stream's name occurs in any text."""
_JOINTS: Final = "-.:/@|_"
_ALIKE: Final = str.maketrans("/|", "::")
_MOST_JOINED: Final = 3
"""So many words of a stream are looked for as one: "v4_trades-BTC-USD" of a channel and an id."""
_MOST_COMBINATIONS: Final = 100_000


class Words:
    """What one stream may be called by, found out when it is needed first: a thousand errors may come, and each could be about
    each of a thousand streams."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """What a text may name it by, in lower case: a flag is no such word."""
        stream = self._stream
        if isinstance(stream, Mapping):
            stream = [value for value in stream.values() if not isinstance(value, bool)]
        return tuple(word.lower() for word in words_of(stream))

    @cached_property
    def _tokens(self) -> frozenset[str]:
        return frozenset(token for word in self._names for token in _WORD.findall(word) if len(token) >= _LEAST_TOKEN)

    @cached_property
    def _combinations(self) -> Sequence[frozenset[str]]:
        return tuple(_combinations(self._stream))

    @cached_property
    def _alike(self) -> tuple[str, ...]:
        return tuple(name.translate(_ALIKE) for name in self._names)

    def stand_in(self, text: str) -> bool:
        """Whether a text in lower case names the stream: by all of its words, or by all of them as one."""
        return _stand_in(text, self._names)

    def stand_alike_in(self, text: str) -> bool:
        """The same of a text in which the joints are made alike: "ticker/3" may be called "ticker:3"."""
        return _stand_in(text, self._alike)

    def common(self, words: frozenset[str]) -> int:
        """How many of the parts of its words are among these."""
        return len(self._tokens & words)

    def are_in(self, entries: Sequence[frozenset[str]]) -> bool:
        """Whether each combination of its values (of a list, one) stands in one entry."""
        return all(any(one <= entry for entry in entries) for one in self._combinations)


def named(streams: Sequence[Words], error: str) -> tuple[list[int], list[int]]:
    """Which of `streams` an error's text names, by their places: wholly (every word of it stands there as a word of its own,
    or all of them as one), and those of which it names more than of others. Both are empty where the text says nothing that
    tells them apart."""
    text = error.lower()
    whole = [place for place, words in enumerate(streams) if words.stand_in(text)]
    if not whole:
        alike = text.translate(_ALIKE)
        whole = [place for place, words in enumerate(streams) if words.stand_alike_in(alike)]
    if whole:
        return whole, []
    found = frozenset(_WORD.findall(text))
    counts = [words.common(found) for words in streams]
    most, least = max(counts, default=0), min(counts, default=0)
    return [], [place for place, count in enumerate(counts) if count == most > least]


def _stand_in(text: str, names: Sequence[str]) -> bool:
    if not names or not all(name in text for name in names):
        return False
    return all(_stands_in(text, name) for name in names) or _stands_as_one(names, text)


def _stands_as_one(words: Sequence[str], text: str) -> bool:
    if not 1 < len(words) <= _MOST_JOINED:
        return False
    return any(_stands_in(text, joint.join(order)) for joint in _JOINTS for order in permutations(words))


def _stands_in(text: str, word: str) -> bool:
    return word in text and _as_word(word).search(text) is not None


@lru_cache(maxsize=4096)
def _as_word(word: str) -> re.Pattern[str]:
    """The word where it is no part of a longer one: "BTC-USDT" is not in "BTC-USDT-SWAP", "a@trade" not in "aa@trade"."""
    return re.compile(r"(?<![\w-])(?<![\w-][@/.])" + re.escape(word) + r"(?![\w-]|[@/.:~][\w-])")


def words_of(value: Any, *, keys: bool = False) -> Iterator[str]:
    """All scalars in a value as text; with `keys` the keys of tables too."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if keys:
                yield key
            yield from words_of(inner, keys=keys)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from words_of(inner, keys=keys)
    elif value is not MISSING:
        yield as_text(value)


class WholeSet:
    """All that is subscribed now, as an answer lists it: `whole_set` of dialects/README.md. Immutable."""

    def __init__(self, value: Any) -> None:
        """`value`: a table whose keys are channels, or an array of entries."""
        if isinstance(value, Mapping):
            entries: list[Any] = [[key, inner] for key, inner in value.items()]
        else:
            entries = list(value) if isinstance(value, list | tuple) else []
        self._entries = [frozenset(words_of(entry, keys=True)) for entry in entries]

    def has(self, stream: Words) -> bool:
        """Whether a stream is in the set."""
        return stream.are_in(self._entries)


def _combinations(stream: Any) -> Iterator[frozenset[str]]:
    """One of each value of a stream, where that is a list; all there are. Where these are too many, each word by itself."""
    values = list(stream.values()) if isinstance(stream, Mapping) else [stream]
    lists = [list(words_of(value)) if isinstance(value, list | tuple) else [as_text(value)] for value in values]
    sizes = 1
    for words in lists:
        sizes *= max(1, len(words))
    if sizes > _MOST_COMBINATIONS:
        yield from (frozenset([word]) for words in lists for word in words)
        return
    found: list[frozenset[str]] = [frozenset()]
    for words in lists:
        found = [one | {word} for one in found for word in words] if words else found
    yield from found
