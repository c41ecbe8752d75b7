"""Checks an exchange's own sequence numbers: the [[gap]] rules of dialects/README.md. Pure.

Each rule keeps one count for each combination of values at the paths of its scope. A message follows the message before if:

    first, last        first == last of the message before + step
    value              the same, with first == last == value
    previous, value    previous == value of the message before

A number that does not follow is reported once, and the count continues from the higher of the two numbers: after missing
messages from the new number, after a message that came twice or late from the old number. If the exchange itself has gone back,
the next message follows the lower number; then the count continues from there.

Opaque numbers are strings that are only compared for equality, so missing messages look like a message that comes late. The
next message may therefore follow the old number as well as the new one, and the report does not name the expected number.

A message is parsed only if it contains the rule's text. Numbers are integers, in JSON or as a string of digits, so no number
above 2^53 is rounded.
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


class SequenceBreak(NamedTuple):
    """A message whose number does not follow."""

    expected: int | None
    got: int | None
    """More than `expected`: messages are missing. Less: one came twice, or late. Both are None if numbers are opaque."""
    of_connection: bool
    """The count is of the whole connection, so the stream of the missing messages is unknown."""


class _Count:
    """The last number of one scope."""

    __slots__ = ("last", "other")

    def __init__(self, last: Any) -> None:
        self.last = last
        """A number; a string if numbers are opaque."""
        self.other: Any = None
        """Another number that the next message may follow: a lower number that came later; if numbers are opaque, the number
        before `last`."""


class Rule:
    """One [[gap]] table, and its counts. Not thread-safe."""

    def __init__(self, rule: Mapping[str, Any], counts: dict[Hashable, _Count] | None = None) -> None:
        """`rule`: the [[gap]] table, checked. `counts`: shared with other rules that have the same `count`."""
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

    def check(self, text: Text, stream_of: StreamOf) -> SequenceBreak | None:
        """Counts a message that the rule matches; returns the gap before it, or another fault of its number."""
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
        """True if a message that the rule matches is a snapshot or a reset."""
        return any(matches(value, beginning) for beginning in self._beginnings)

    def numbers(self, value: Any) -> tuple[Any, Any]:
        """The number that must follow the message before, and the number that the next message must follow; None for a number
        that the message does not have."""
        last = self._read(self._last(value))
        return last if self._first is self._last else self._read(self._first(value)), last

    def last(self, scope: Hashable) -> Any:
        """The number that the next message of a scope must follow; None: any number may come."""
        count = self._counts.get(scope)
        return None if count is None else count.last

    def _begin(self, key: Hashable, last: Any) -> None:
        if last is None:
            self._counts.pop(key, None)
            return
        if len(self._counts) >= _MOST_COUNTS and key not in self._counts:
            self._counts.clear()  # the peer chooses the keys: without a bound it could fill the memory
        self._counts[key] = _Count(last)

    def _compare(self, count: _Count, first: Any, last: Any) -> SequenceBreak | None:
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
            return SequenceBreak(None, None, not self._scope)
        found = SequenceBreak(self._due(count.last), first, not self._scope)
        if last > count.last:
            count.last, count.other = last, None
        else:
            count.other = last
        return found

    def _due(self, last: Any) -> Any:
        """The number that follows `last`."""
        return last + self._step if self._step else last

    def scope_of(self, text: Text, stream_of: StreamOf) -> Hashable | None:
        """The key of the count that a message belongs to; None: no count."""
        value = text.value
        parts = [stream_of(text) if get is None else get(value) for get in self._scope]
        if len(parts) == 1:
            return _hashable(parts[0])
        key = tuple(map(_hashable, parts))
        return None if None in key else key


class SequenceChecker:
    """The rules of one connection and their counts. Not thread-safe."""

    def __init__(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """`rules`: the [[gap]] tables, checked."""
        shared: dict[str, dict[Hashable, _Count]] = {}
        self.rules = [Rule(rule, shared.setdefault(rule["count"], {})) if "count" in rule else Rule(rule) for rule in rules]
        self._needles = tuple({rule.needle: None for rule in self.rules})

    def may_count(self, data: bytes) -> bool:
        """A cheap test on the bytes of a read: false if `check` would find nothing in its messages."""
        for needle in self._needles:  # noqa: SIM110 - `any` costs twice as much
            if needle in data:
                return True
        return False

    def check(self, text: Text, stream_of: StreamOf) -> SequenceBreak | None:
        """The fault in the number of a message; None: there is none. Call it once for each message, in order. `stream_of`
        returns the stream of a message."""
        rule = self.rule_of(text)
        return None if rule is None else rule.check(text, stream_of)

    def rule_of(self, text: Text) -> Rule | None:
        """The first rule that matches a message."""
        payload = text.payload
        for rule in self.rules:
            if rule.needle in payload and (not rule.match or matches(text.value, rule.match)):
                return rule
        return None


def _number(found: Any) -> int | None:
    """An integer of at most 63 bits, also if it is written as a string of digits; None for any other value."""
    if type(found) is int:
        return found if -_LIMIT < found < _LIMIT else None
    if isinstance(found, str) and _DIGITS.fullmatch(found):
        return _number(int(found))
    return None


def _opaque(found: Any) -> str | None:
    """The value if it is a string and short enough to be kept, otherwise None."""
    return found if isinstance(found, str) and len(found) <= _LONGEST_OPAQUE else None


def _hashable(found: Any) -> Hashable | None:
    """A value as a part of a key; None if the message has no such value."""
    if isinstance(found, dict | list):
        return orjson.dumps(found)
    return None if found is MISSING else found
