"""The ways to find the stream of a message: the forms of [stream] in dialects/README.md, each a class. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

import orjson

from wsadapter.contract.dialect.fields import Fields, Tables
from wsadapter.contract.dialect.paths import MISSING, PRESENT, getter
from wsadapter.contract.dialect.templates import is_same_stream, stream_name
from wsadapter.contract.dialect.words import Composition, Vocabulary, as_text, listed
from wsadapter.contract.endpoint import Subscription

_MOST_REMEMBERED: Final = 1 << 16


@dataclass(slots=True, eq=False)
class Stream:
    """One subscription, as the source of messages."""

    name: str
    wanted: bool
    """The endpoint's filter lets the stream through."""
    index: int = 0
    """The index of the stream in records; 0: not announced yet."""


class Form(Protocol):
    """One way to find the stream of a message. Not thread-safe."""

    def add(self, subscription: Subscription, stream: Stream) -> None:
        """Adds a subscription."""
        ...

    def find(self, value: Any) -> Stream | None:
        """The stream of a parsed message; None: the message belongs to none of the subscriptions."""
        ...


class _Seen(dict[Hashable, Stream | None]):
    """The result for each key, so that it is searched once."""

    def keep(self, key: Hashable, found: Stream | None) -> Stream | None:
        if len(self) >= _MOST_REMEMBERED:  # the peer chooses the keys: without a bound it could fill the memory
            self.clear()
        self[key] = found
        return found


class ByPath:
    """`path`: the message contains the stream there, or the channel that an ack has assigned to the stream."""

    def __init__(self, path: str, channels: Mapping[str, Subscription] = MappingProxyType({})) -> None:
        """`channels`: the subscription of each channel; the caller may add to it."""
        self._get = getter(path)
        self._channels = channels
        self._strings: dict[str, Stream] = {}
        self._tables: dict[str, tuple[Mapping[str, Any], Stream]] = {}
        self._seen = _Seen()

    def add(self, subscription: Subscription, stream: Stream) -> None:
        self._seen.clear()
        if isinstance(subscription, str):
            self._strings[stream.name] = stream
        else:
            self._tables[stream.name] = subscription, stream

    def find(self, value: Any) -> Stream | None:
        named = self._get(value)
        if isinstance(named, str):
            found = self._strings.get(named)
            return self._by_channel(named) if found is None and self._channels else found
        if isinstance(named, dict):
            key = orjson.dumps(named)
            try:
                return self._seen[key]
            except KeyError:
                return self._seen.keep(key, self._table(named))
        return self._by_channel(as_text(named)) if isinstance(named, int) and self._channels else None

    def _table(self, named: Mapping[str, Any]) -> Stream | None:
        """The stream whose table has the most fields, of equal ones the first."""
        fitting = [(table, stream) for table, stream in self._tables.values() if is_same_stream(table, named)]
        return max(fitting, key=lambda one: len(one[0]))[1] if fitting else None

    def _by_channel(self, channel: str) -> Stream | None:
        subscription = self._channels.get(channel)
        if subscription is None:
            return None
        name = stream_name(subscription)
        return self._strings.get(name) or (self._tables[name][1] if name in self._tables else None)


class _Composed:
    """Composes a text from the message, and looks it up."""

    def __init__(self, texts: str | list[str], vocabulary: Vocabulary) -> None:
        self._texts = [Composition(text, vocabulary).of_message for text in listed(texts)]
        self._streams: dict[str, Stream] = {}

    def find(self, value: Any) -> Stream | None:
        for texts in self._texts:
            for text in texts(value):
                if (stream := self._streams.get(text)) is not None:
                    return stream
        return None


class ByText(_Composed):
    """`text`: the name of a stream that is a string, composed from the message."""

    def __init__(self, texts: str | list[str], vocabulary: Vocabulary) -> None:
        super().__init__(texts, vocabulary)
        self._vocabulary = vocabulary

    def add(self, subscription: Subscription, stream: Stream) -> None:
        if isinstance(subscription, str):
            self._streams.setdefault(self._vocabulary.folded(subscription), stream)


class ByKey(_Composed):
    """`key` and `of`: a text composed from the message, and the same text composed from the subscription."""

    def __init__(self, keys: str | list[str], of: str | list[str], vocabulary: Vocabulary) -> None:
        super().__init__(keys, vocabulary)
        self._of = [Composition(text or "{}", vocabulary) for text in listed(of)]

    def add(self, subscription: Subscription, stream: Stream) -> None:
        for composition in self._of:
            for text in composition.of_subscription(subscription):
                self._streams.setdefault(text, stream)


class ByFields:
    """`fields`: the message contains the values of a table in several places."""

    def __init__(self, fields: Fields) -> None:
        self._said = fields.words_in
        self._tables: Tables[Stream] = Tables(fields)
        self._seen = _Seen()

    def add(self, subscription: Subscription, stream: Stream) -> None:
        self._seen.clear()
        if not isinstance(subscription, str):
            self._tables.add(subscription, stream)

    def find(self, value: Any) -> Stream | None:
        said = self._said(value)
        if said is None:
            return None
        try:
            return self._seen[said]
        except KeyError:
            return self._seen.keep(said, self._tables.find(said))


class Rule:
    """One of several [[stream]] tables: its form, and the messages that it is for."""

    def __init__(self, rule: Mapping[str, Any], channels: Mapping[str, Subscription]) -> None:
        self.form = make_form(rule, channels)
        self._needle: bytes = rule.get("contains", "").encode()
        match = rule.get("match", {})
        self._match = [(getter(path), wanted) for path, wanted in match.items()]
        words = {path: wanted for path, wanted in match.items() if isinstance(wanted, str) and wanted != PRESENT}
        self.words = {path: wanted for path, wanted in words.items() if _is_key(path)}
        """The words that its messages have, by their keys."""
        self.selects = bool(self._needle or self._match)
        """The rule is for some messages only."""

    def fits(self, value: Any, payload: bytes | None) -> bool:
        """True if the rule is for a message. Without the `payload` only `match` is tested."""
        if self._needle and payload is not None and self._needle not in payload:
            return False
        for get, wanted in self._match:
            found = get(value)
            if found is MISSING or (wanted != PRESENT and found != wanted):
                return False
        return True


def _is_key(path: str) -> bool:
    """True if a path is one key of a table, and no index of an array."""
    return "." not in path and not path.lstrip("-").isdecimal()


class Choice:
    """Selects the rules that may be for a message by the word at one key, so that few of many are tested."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        keys = Counter(key for rule in rules for key in rule.words)
        self._key = keys.most_common(1)[0][0] if keys else ""
        words = {rule.words[self._key] for rule in rules if self._key in rule.words}
        self._by_word = {word: [rule for rule in rules if rule.words.get(self._key, word) == word] for word in words}
        self._others = [rule for rule in rules if self._key not in rule.words]

    def of(self, value: Any) -> Sequence[Rule]:
        """The rules that may be for a parsed message, in their order."""
        if not self._by_word or value.__class__ is not dict:
            return self._others
        word = value.get(self._key)
        return self._by_word.get(word, self._others) if word.__class__ is str else self._others


def make_form(rule: Mapping[str, Any], channels: Mapping[str, Subscription]) -> Form:
    """The form of a [stream] table, which must be checked."""
    aliases, fold = rule.get("aliases", {}), bool(rule.get("fold"))
    if "fields" in rule:
        return ByFields(Fields(rule["fields"], aliases, fold=fold))
    if "key" in rule:
        return ByKey(rule["key"], rule["of"], Vocabulary(aliases, fold=fold))
    if "text" in rule:
        return ByText(rule["text"], Vocabulary(aliases, fold=fold))
    return ByPath(rule["path"], channels)
