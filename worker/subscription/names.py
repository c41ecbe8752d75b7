"""The words of streams: which streams an error's text names, and which are in a set that an answer lists. Pure."""

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
"""A shorter word could occur in any text, so it names nothing."""
_JOINTS: Final = "-.:/@|_"
_ALIKE: Final = str.maketrans("/|", "::")
_MOST_JOINED: Final = 3
"""A stream with at most this many words may be named by all words joined: "v4_trades-BTC-USD" of a channel and an id."""
_MOST_COMBINATIONS: Final = 100_000


class Words:
    """The words that name one stream. They are computed at the first use, because a thousand errors may come, and each could be
    about each of a thousand streams."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """The words in lower case. A boolean is no such word: every text could contain "true"."""
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
        """True if a text in lower case names the stream, by all of its words, separately or joined."""
        return _stand_in(text, self._names)

    def stand_alike_in(self, text: str) -> bool:
        """As `stand_in`, for a text in which the joints are replaced by one character: "ticker/3" may be called "ticker:3"."""
        return _stand_in(text, self._alike)

    def common(self, words: frozenset[str]) -> int:
        """How many parts of the stream's words are in `words`."""
        return len(self._tokens & words)

    def are_in(self, entries: Sequence[frozenset[str]]) -> bool:
        """True if each combination of the stream's values (one value of each list) is in one of the entries."""
        return all(any(one <= entry for entry in entries) for one in self._combinations)


def named(streams: Sequence[Words], error: str) -> tuple[list[int], list[int]]:
    """The places of the streams that an error's text names: those that it names completely (every word stands in the text as a
    word of its own, or all words joined), and those of which it contains more words than of the others. Both are empty if the
    text does not distinguish the streams."""
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
    """Matches the word if it is not a part of a longer one: "BTC-USDT" is not in "BTC-USDT-SWAP", "a@trade" not in
    "aa@trade"."""
    return re.compile(r"(?<![\w-])(?<![\w-][@/.])" + re.escape(word) + r"(?![\w-]|[@/.:~][\w-])")


def words_of(value: Any, *, keys: bool = False) -> Iterator[str]:
    """All scalars in a value as text; with `keys` also the keys of tables."""
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
    """Everything that is subscribed now, as an answer lists it: `whole_set` of dialects/README.md. Immutable."""

    def __init__(self, value: Any) -> None:
        """`value`: a table whose keys are channels, or an array of entries."""
        if isinstance(value, Mapping):
            entries: list[Any] = [[key, inner] for key, inner in value.items()]
        else:
            entries = list(value) if isinstance(value, list | tuple) else []
        self._entries = [frozenset(words_of(entry, keys=True)) for entry in entries]

    def has(self, stream: Words) -> bool:
        """True if a stream is in the set."""
        return stream.are_in(self._entries)


def _combinations(stream: Any) -> Iterator[frozenset[str]]:
    """All combinations of one word of each value of a stream, whose values may be lists. If there are too many combinations,
    each word alone."""
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
