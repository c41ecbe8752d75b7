"""Whether an exchange's own numbers run on: the [[gap]] rules of dialects/README.md. Pure.

Each rule keeps one count for each combination of values at the paths of its scope. What follows and what does not:

    first, last        first == last of the message before + step
    value              the same, with first and last in one
    previous, value    previous == value of the message before

A number that does not follow is told, once, and the count goes on from the higher one: behind a hole from the new number,
behind a message that came twice or late from where it was. Should the exchange itself have gone back, the next message
follows the lower number, and so the count goes on from there.

Opaque numbers are strings that are only compared for equality, so nothing tells a hole from a message that comes late: the next
message may follow the number before as well as the new one, and what was expected is not told.

A message is looked into where it holds the rule's text. Numbers are whole, in JSON or as a string of digits, so none above
2^53 is ever rounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from wsadapter.contract.dialect.paths import MISSING, getter, matches
from wsadapter.contract.dialect.text import Text

STREAM: Final = "$stream"
"""In a scope: the stream that the message belongs to."""

_MOST_COUNTS: Final = 1 << 16
_DIGITS: Final = re.compile("-?[0-9]{1,19}")
_LIMIT: Final = 1 << 63
_LONGEST_OPAQUE: Final = 256
"""Characters; the last one of each scope is kept."""

StreamOf = Callable[[Text], str | None]


class Break(NamedTuple):
    """A message whose number does not follow."""

    expected: int | None
    got: int | None
    """More than `expected`: messages are missing. Less: one came twice, or late. Both are None where numbers are opaque."""
    whole: bool
    """Whether the count is the connection's: then it is not known of which stream something is missing."""


class _Count:
    """How far one scope has come."""

    __slots__ = ("last", "other")

    def __init__(self, last: Any) -> None:
        self.last = last
        """A number, or a string where numbers are opaque."""
        self.other: Any = None
        """Another one that the next message may follow: a number below it that came since; the one before it where numbers are
        opaque."""


class Rule:
    """One [[gap]] table, and its counts. Not thread-safe."""

    def __init__(self, rule: Mapping[str, Any], counts: dict[Hashable, _Count] | None = None) -> None:
        """`rule` is checked. `counts`: those of other rules that count the same."""
        self.needle: bytes = rule.get("contains", "").encode()
        self.match: Mapping[str, Any] = rule.get("match", {})
        self._scope = [None if path == STREAM else getter(path) for path in rule["scope"]]
        self._by_previous = "previous" in rule
        self._first = getter(rule.get("first") or rule.get("previous") or rule["value"])
        self._last = getter(rule.get("last") or rule["value"])
        self._step = 0 if self._by_previous else int(rule.get("step", 1))
        self._beginnings = [rule[key] for key in ("snapshot", "reset") if key in rule]
        self._ignores_equal = bool(rule.get("ignore_equal"))
        self._opaque = bool(rule.get("opaque"))
        self._read: Callable[[Any], Any] = _opaque if self._opaque else _number
        self._counts: dict[Hashable, _Count] = {} if counts is None else counts

    def check(self, text: Text, stream_of: StreamOf) -> Break | None:
        """Counts a message that it is for."""
        key = self.scope_of(text, stream_of)
        if key is None:
            return None
        value = text.value
        first, last = self.numbers(value)
        if self.begins(value):
            self._begin(key, last)
            return None
        if last is None or first is None:
            return None
        count = self._counts.get(key)
        if count is None:
            self._begin(key, last)
            return None
        return self._compare(count, first, last)

    def begins(self, value: Any) -> bool:
        """Whether a message that fits is a snapshot or a reset."""
        return any(matches(value, beginning) for beginning in self._beginnings)

    def numbers(self, value: Any) -> tuple[Any, Any]:
        """What must follow the message before, and what the next one must follow; None where it is not there."""
        last = self._read(self._last(value))
        return last if self._first is self._last else self._read(self._first(value)), last

    def last(self, scope: Hashable) -> Any:
        """The number that the next one of a scope must follow; None where any may come."""
        count = self._counts.get(scope)
        return None if count is None else count.last

    def _begin(self, key: Hashable, last: Any) -> None:
        if last is None:
            self._counts.pop(key, None)
            return
        if len(self._counts) >= _MOST_COUNTS and key not in self._counts:  # the peer chooses what it names
            self._counts.clear()
        self._counts[key] = _Count(last)

    def _compare(self, count: _Count, first: Any, last: Any) -> Break | None:
        if first == self._due(count.last):
            count.last, count.other = last, None
            return None
        if count.other is not None and first == self._due(count.other):
            count.last, count.other = last, count.last if self._opaque else None
            return None
        if self._ignores_equal and last == count.last:
            return None
        if self._opaque:
            count.last, count.other = last, count.last
            return Break(None, None, not self._scope)
        found = Break(self._due(count.last), first, not self._scope)
        if last > count.last:
            count.last, count.other = last, None
        else:
            count.other = last
        return found

    def _due(self, last: Any) -> Any:
        """What follows a number."""
        return last + self._step if self._step else last

    def scope_of(self, text: Text, stream_of: StreamOf) -> Hashable | None:
        """Which count a message belongs to; None where it belongs to none."""
        value = text.value
        parts = [stream_of(text) if get is None else get(value) for get in self._scope]
        if len(parts) == 1:
            return _hashable(parts[0])
        key = tuple(map(_hashable, parts))
        return None if None in key else key


class Gaps:
    """The rules of one connection and how far each count has come. Not thread-safe."""

    def __init__(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """`rules`: the [[gap]] tables, checked."""
        shared: dict[str, dict[Hashable, _Count]] = {}
        self.rules = [Rule(rule, shared.setdefault(rule["count"], {})) if "count" in rule else Rule(rule) for rule in rules]
        self._needles = tuple({rule.needle: None for rule in self.rules})

    def may_count(self, data: bytes) -> bool:
        """A cheap test on all that was read at once: whether `check` has to look at its messages."""
        for needle in self._needles:  # noqa: SIM110 - as a loop it costs half
            if needle in data:
                return True
        return False

    def check(self, text: Text, stream_of: StreamOf) -> Break | None:
        """To be called for each message, in order; what is wrong with its number. `stream_of` gives the message's stream."""
        rule = self.rule_of(text)
        return None if rule is None else rule.check(text, stream_of)

    def rule_of(self, text: Text) -> Rule | None:
        """The first rule that is for a message."""
        payload = text.payload
        for rule in self.rules:
            if rule.needle in payload and (not rule.match or matches(text.value, rule.match)):
                return rule
        return None


def _number(found: Any) -> int | None:
    """A whole number, or a string of digits, of at most 63 bits; None where it is neither."""
    if type(found) is int:
        return found if -_LIMIT < found < _LIMIT else None
    if isinstance(found, str) and _DIGITS.fullmatch(found):
        return _number(int(found))
    return None


def _opaque(found: Any) -> str | None:
    """A string; None where it is none, or too long to be kept."""
    return found if isinstance(found, str) and len(found) <= _LONGEST_OPAQUE else None


def _hashable(found: Any) -> Hashable | None:
    """As a part of a key; None where there is nothing."""
    if isinstance(found, dict | list):
        return orjson.dumps(found)
    return None if found is MISSING else found
