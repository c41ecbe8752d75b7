"""Which messages are answers to frames that subscribe, and what they say: yes, no, later. Pure.

The rules are [[already]], [[later]], [[error]] and [[ack]] of dialects/README.md, tried in this order. A message that holds
none of the rules' texts is never parsed for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from functools import lru_cache
from itertools import permutations
from typing import Any, Final, NamedTuple

from wsadapter.contract.dialect.fields import Fields, as_text
from wsadapter.contract.dialect.paths import MISSING, PRESENT, getter, look_up, matches
from wsadapter.contract.dialect.text import Text

THE_ANSWER: Final = "{}"
"""`whole_set`: the answer itself is the set."""
_PAUSE: Final = 1.0
_PLAIN: Final = re.compile(r"[A-Za-z0-9_ .:-]+")
_ALREADY: Final = ("already subscribed", "already been subscribed", "duplicate subscription", "duplicated subscription")
_LATER: Final = (
    "too many requests", "too many messages", "too frequent", "too fast", "rate limit", "msg rate", "message rate",
    "try again later", "retry later", "system busy", "server busy", "temporarily unavailable", "frequency limit",
)  # fmt: skip
"""What exchanges write, in lower case. An [[error]] with such a text is no refusal, also if the dialect has no rule for it."""


class Says(Enum):
    """What an answer says."""

    YES = auto()
    NO = auto()
    LATER = auto()


_TABLES: Final = (("already", Says.YES), ("later", Says.LATER), ("error", Says.NO), ("ack", Says.YES))


class Rule:
    """One rule of a dialect. Immutable."""

    def __init__(self, says: Says, table: Mapping[str, Any], *, confirms: bool) -> None:
        """`confirms`: an [[ack]]; the others are errors by their form."""
        self.says, self.confirms = says, confirms
        self._match: Mapping[str, Any] = table["match"]
        self._texts = tuple(text.lower() for text in table.get("says", ()))
        self._text = getter(table.get("text", ""))
        self.needle = _needle(self._match)
        self.pause = float(table.get("pause", _PAUSE))
        self.accepted: str = table.get("accepted", "")
        self.whole_set: str = table.get("whole_set", "")
        self.args: str = table.get("args", "")
        self.channel: str = table.get("channel", "")
        self.id: str = table.get("id", "")
        self.stream: str = table.get("stream", "")
        self.fields = Fields(table["fields"]) if "fields" in table else None
        self._data: str = table.get("data", "")
        self.template = ""
        """The template whose frames it answers, "frame" or "unsubscribe"; empty: either."""

    @property
    def is_farewell(self) -> bool:
        """Whether it is the answer to a frame that unsubscribes, by what it asks for."""
        return any("unsub" in f"{path} {value}".lower() for path, value in self._match.items())

    @property
    def names(self) -> bool:
        """Whether such an answer says by itself which streams it is about; the arguments that it echoes are a frame's."""
        return bool(self.stream or self.whole_set or self.fields is not None)

    def fits(self, value: Any) -> bool:
        """Whether a parsed message has what the rule asks for, but for `says`."""
        return matches(value, self._match)

    def error(self, text: Text) -> str:
        """What to report of an error: its own text, or the whole message."""
        said = self._text(text.value)
        return said if isinstance(said, str) and said else text.payload.decode(errors="replace")

    def is_said(self, error: str) -> bool:
        """Whether one of `says` occurs, or there are none."""
        folded = error.lower() if self._texts else ""
        return not self._texts or any(one in folded for one in self._texts)

    def set_in(self, value: Any) -> WholeSet:
        """All that is subscribed now, by an answer with `whole_set`."""
        return WholeSet(value if self.whole_set == THE_ANSWER else look_up(value, self.whole_set))

    def has_data(self, value: Any) -> bool:
        """Whether the answer is to be delivered too."""
        return bool(self._data) and look_up(value, self._data) is not MISSING


class Answer(NamedTuple):
    """A message that a rule fits."""

    rule: Rule
    says: Says
    error: str
    """Empty for what an [[ack]] fits."""
    value: Any


class Rules:
    """The rules of one dialect. Immutable once made."""

    def __init__(self, dialect: Mapping[str, Any]) -> None:
        self._rules = [
            Rule(says, table, confirms=name == "ack") for name, says in _TABLES for table in dialect.get(name, [])
        ]
        farewells = any(rule.confirms and rule.is_farewell for rule in self._rules)
        for rule in self._rules:
            if rule.confirms and farewells and not (rule.whole_set or rule.accepted):
                rule.template = "unsubscribe" if rule.is_farewell else "frame"
        self._needles = tuple({rule.needle for rule in self._rules})
        self.confirm = any(rule.confirms for rule in self._rules)
        """Whether the exchange says yes at all."""
        self.answer_each = any(rule.confirms and rule.names and not rule.whole_set for rule in self._rules)
        """Whether the exchange answers each stream of a frame by itself."""

    def may_hold(self, data: bytes) -> bool:
        """A cheap test on all that was read at once: whether `judge` has to look at its messages."""
        return any(needle in data for needle in self._needles)

    def judge(self, text: Text) -> Answer | None:
        """What a text message says; None where no rule fits."""
        for rule in self._rules:
            if rule.needle not in text.payload or not rule.fits(text.value):
                continue
            if rule.confirms:
                return Answer(rule, rule.says, "", text.value)
            error = rule.error(text)
            if rule.is_said(error):
                return Answer(rule, _meaning(rule.says, error), error, text.value)
        return None


def _meaning(says: Says, error: str) -> Says:
    folded = error.lower()
    if says is not Says.NO:
        return says
    if any(text in folded for text in _ALREADY):
        return Says.YES
    return Says.LATER if any(text in folded for text in _LATER) else Says.NO


def _needle(match: Mapping[str, Any]) -> bytes:
    """A piece of text that every message which `match` fits has in it: its longest plain string, else its longest key."""
    texts = [value for value in match.values() if isinstance(value, str) and value != PRESENT and _PLAIN.fullmatch(value)]
    keys = [key for path in match if _PLAIN.fullmatch(key := path.rpartition(".")[2]) and not key.lstrip("-").isdecimal()]
    chosen = max(texts or keys, key=len, default="")
    return f'"{chosen}"'.encode() if chosen else b""


# --- which streams an error names ---------------------------------------------------------------------------------------

_WORD: Final = re.compile(r"[\w-]+")
_LEAST_TOKEN: Final = 3
"""A shorter word of a stream's name occurs in any text."""
_JOINTS: Final = "-.:/@|_"
_ALIKE: Final = str.maketrans("/|", "::")
_MOST_JOINED: Final = 3
"""So many words of a stream are looked for as one: "v4_trades-BTC-USD" of a channel and an id."""


def named(streams: Sequence[Any], error: str) -> tuple[list[int], list[int]]:
    """Which of `streams` an error's text names, by their places: wholly (every word of it stands there as a word of its own,
    or all of them as one), and those of which it names more than of others. Both are empty where the text says nothing that
    tells them apart."""
    text = error.lower()
    found = frozenset(_WORD.findall(text))
    words = [tuple(_names_of(stream)) for stream in streams]
    whole = [place for place, own in enumerate(words) if _is_named(own, text)]
    if not whole:  # "ticker/3" may be called "ticker:3"
        alike = text.translate(_ALIKE)
        whole = [place for place, own in enumerate(words) if _is_named(tuple(word.translate(_ALIKE) for word in own), alike)]
    if whole:
        return whole, []
    counts = [sum(token in found for token in _tokens(own)) for own in words]
    most = max(counts, default=0)
    partly = [place for place, count in enumerate(counts) if count == most and most > min(counts)]
    return [], partly


def _is_named(words: tuple[str, ...], text: str) -> bool:
    if not words:
        return False
    return all(_stands_in(text, word.lower()) for word in words) or _is_named_as_one([word.lower() for word in words], text)


def _is_named_as_one(words: list[str], text: str) -> bool:
    if not 1 < len(words) <= _MOST_JOINED or not all(word in text for word in words):
        return False
    return any(_stands_in(text, joint.join(order)) for joint in _JOINTS for order in permutations(words))


def _stands_in(text: str, word: str) -> bool:
    return word in text and _as_word(word).search(text) is not None


@lru_cache(maxsize=4096)
def _as_word(word: str) -> re.Pattern[str]:
    """The word where it is no part of a longer one: "BTC-USDT" is not in "BTC-USDT-SWAP", "a@trade" not in "aa@trade"."""
    return re.compile(r"(?<![\w-])(?<![\w-][@/.])" + re.escape(word) + r"(?![\w-]|[@/.:~][\w-])")


def _tokens(words: tuple[str, ...]) -> set[str]:
    return {token for word in words for token in _WORD.findall(word.lower()) if len(token) >= _LEAST_TOKEN}


def _names_of(stream: Any) -> Iterator[str]:
    """The words of a stream that a text may name it by: a flag is none."""
    if isinstance(stream, Mapping):
        stream = [value for value in stream.values() if not isinstance(value, bool)]
    return words_of(stream)


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


# --- the whole set ------------------------------------------------------------------------------------------------------


class WholeSet:
    """All that is subscribed now, as an answer lists it: `whole_set` of dialects/README.md. Immutable."""

    def __init__(self, value: Any) -> None:
        """`value`: a table whose keys are channels, or an array of entries."""
        if isinstance(value, Mapping):
            entries: list[Any] = [[key, inner] for key, inner in value.items()]
        else:
            entries = list(value) if isinstance(value, list | tuple) else []
        self._entries = [frozenset(words_of(entry, keys=True)) for entry in entries]

    def has(self, stream: Any) -> bool:
        """Whether a stream is in the set: each combination of its values (of a list, one) stands in one entry."""
        return all(any(one <= entry for entry in self._entries) for one in _combinations(stream))


_MOST_COMBINATIONS: Final = 100_000


def _combinations(stream: Any) -> Iterator[frozenset[str]]:
    values = list(stream.values()) if isinstance(stream, Mapping) else [stream]
    lists = [list(words_of(value)) if isinstance(value, list | tuple) else [as_text(value)] for value in values]
    sizes = 1
    for words in lists:
        sizes *= max(1, len(words))
    if sizes > _MOST_COMBINATIONS:  # then each word by itself
        yield from (frozenset([word]) for words in lists for word in words)
        return
    found: list[frozenset[str]] = [frozenset()]
    for words in lists:
        found = [one | {word} for one in found for word in words] if words else found
    yield from found
