"""Finds the stream of a message, and whether the endpoint's filter lets the stream through. Pure.

The dialect says where a message contains the name of its stream. Records name a stream by an index, which is announced in
front of its first message, so that a record needs only two bytes per message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final

from wsadapter.contract.dialect.stream_rules import Choice, Rule, Stream
from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.endpoint import Filter, Subscription
from wsadapter.contract.ipc.record import ANSWER
from wsadapter.contract.ipc.reports import StreamNamed

__all__ = ["Stream", "Streams"]

_MOST_INDEXES: Final = ANSWER - 1


class Streams:
    """The streams of one connection. Not thread-safe."""

    def __init__(
        self,
        rules: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        filters: Filter,
        channels: Mapping[str, Subscription] = MappingProxyType({}),
    ) -> None:
        """`rules`: the table [stream] of dialects/README.md, or the tables [[stream]]. `channels`: the subscription of each
        channel that acks have assigned; the caller may add to it."""
        self._filters = filters
        self._announced = 0
        self._known: dict[str, tuple[Subscription, Stream]] = {}
        tables = [rules] if isinstance(rules, Mapping) else rules
        self._rules = [Rule(table, channels) for table in tables]
        self._choice = Choice(self._rules)
        self._find_by_the_only_rule = None if len(self._rules) > 1 or self._rules[0].selects else self._rules[0].form.find

    def add(self, subscriptions: Iterable[Subscription]) -> None:
        """Adds subscriptions. They are never removed, because a peer may continue to send after an unsubscribe."""
        for subscription in subscriptions:
            name = stream_name(subscription)
            if name in self._known:
                continue
            stream = self._stream(name)
            self._known[name] = subscription, stream
            for rule in self._rules:
                rule.form.add(subscription, stream)

    def _stream(self, name: str) -> Stream:
        include, exclude = self._filters.include, self._filters.exclude
        included = not include or any(fnmatchcase(name, glob) for glob in include)
        return Stream(name, included and not any(fnmatchcase(name, glob) for glob in exclude))

    def named(self, name: str) -> Stream | None:
        """The stream with this name; None: it was not added."""
        return self._known[name][1] if name in self._known else None

    def subscription(self, stream: Stream) -> Subscription:
        """The subscription of a stream, as the user wrote it."""
        return self._known[stream.name][0]

    def find(self, value: Any, payload: bytes | None = None) -> Stream | None:
        """The stream of a parsed message; None: the message belongs to none of the subscriptions. `payload`: the bytes of the
        message; without them the `contains` of a rule is not tested."""
        if self._find_by_the_only_rule is not None:
            return self._find_by_the_only_rule(value)
        for rule in self._choice.of(value):
            if (not rule.selects or rule.fits(value, payload)) and (found := rule.form.find(value)) is not None:
                return found
        return None

    def announce(self, stream: Stream) -> StreamNamed | None:
        """Assigns an index to a stream; returns the report to write before its first message. None: there are no more
        indexes."""
        if self._announced == _MOST_INDEXES:
            return None
        self._announced += 1
        stream.index = self._announced
        return StreamNamed(stream.index, stream.name)
