"""The messages that one client gets: those of its streams, with its own channels and numbers. Pure."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import count, islice
from typing import Any, Final, NamedTuple

import orjson

from wsadapter.contract.dialect.paths import MISSING, look_up, matches
from wsadapter.contract.dialect.streams import Streams
from wsadapter.contract.endpoint import Filter, Subscription
from wsadapter.testing.dialect.answers import Channels
from wsadapter.testing.dialect.compose import put
from wsadapter.testing.dialect.dialect_rules import DialectRules
from wsadapter.testing.dialect.overrides import Overrides, name_of
from wsadapter.testing.dialect.recorded_market import NO_DATA, RecordedMarket
from wsadapter.testing.dialect.understanding import stream_rules

_LAST: Final = "-1"


class Carried(NamedTuple):
    """The data of an answer that carries data."""

    value: Any = NO_DATA
    messages: Sequence[bytes] = ()
    """The messages that the answer sends."""


class ClientView:
    """The view of one connection. Not thread-safe.

    Subscriptions are kept in parts, because a table may be subscribed in some parts and unsubscribed in others.
    """

    def __init__(self, dialect_rules: DialectRules, market: RecordedMarket, overrides: Overrides) -> None:
        self._market = market
        self._overrides = overrides
        self._dialect_rules = dialect_rules
        self._rules = dialect_rules.dialect.get("stream")
        self._contain = any("contains" in rule for rule in stream_rules(dialect_rules.dialect))
        self._recorded: dict[str, Subscription] = {}
        """What the recording calls a stream."""
        self._own: dict[str, int] = {}
        """The same = its name on this connection."""
        self._streams = self._streams_anew()
        self.current: dict[str, Subscription] = {}
        """The parts that are subscribed, by name."""
        self._feeds: dict[str, str] = {}
        """A part's name = the feed that it is sent with."""
        self._numbering = _Numbering(dialect_rules.dialect.get("gap", []))
        self._counted: set[Hashable] = set()
        """The counts of which something was sent."""

    def _streams_anew(self) -> Streams | None:
        return Streams(self._rules, Filter(), self._recorded) if self._rules else None

    @property
    def feeds(self) -> set[str]:
        """The feeds that have a subscribed part."""
        return set(self._feeds.values())

    def open(self, stream: Subscription, units: Sequence[Subscription], channels: Channels) -> str:
        """Units of a stream are subscribed. Returns the feed that sends them; "": all their parts were subscribed before.
        `channels`: the names of units, if the dialect assigns channels."""
        parts = {name_of(part): part for unit in units for part in self._dialect_rules.parts(unit)}
        fresh = [name for name in parts if name not in self.current]
        feed = self._unused(name_of(stream)) if fresh else ""
        self.current.update(parts)
        self._feeds.update(dict.fromkeys(fresh, feed))
        if self._streams is None:
            return feed
        self._streams.add(parts.values())
        for unit in units if channels else ():
            for channel in self._market.recorded_channels(unit):
                self._recorded[channel] = unit
                self._own[channel] = channels[name_of(unit)]
        return feed

    def _unused(self, name: str) -> str:
        names = (name if number == 1 else f"{name}#{number}" for number in count(1))
        return next(name for name in names if name not in self.feeds)

    def shut(self, parts: Iterable[Subscription]) -> list[str]:
        """Unsubscribe parts. Returns the feeds that end with them."""
        before = self.feeds
        for name in map(name_of, parts):
            self.current.pop(name, None)
            self._feeds.pop(name, None)
        self._streams = self._streams_anew()
        if self._streams is not None:
            self._streams.add(self.current.values())
        return sorted(before - self.feeds)

    def stream_of(self, payload: bytes) -> str | None:
        """The subscribed part that a message belongs to. If the dialect has no rule for that, the first part."""
        value = self._market.value(payload)
        return None if value is NO_DATA else self._part_of(payload, value)

    def _part_of(self, payload: bytes, value: Any) -> str | None:
        if self._streams is None:
            return next(iter(self.current), None)
        stream = self._streams.find(value, self._market.text(payload) if self._contain else None)
        return stream.name if stream is not None and stream.name in self.current else None

    def feed_of(self, payload: bytes) -> str | None:
        """The feed that a message is sent with; None: this client does not get the message."""
        name = self.stream_of(payload)
        return None if name is None else self._feeds.get(name)

    def first_of(self, parts: Collection[str], most: int) -> list[bytes]:
        """The first messages of some parts, as many as are known beforehand and wanted."""
        return list(islice((payload for payload in self._market.listed if self.stream_of(payload) in parts), most))

    def carried(self, parts: Collection[str]) -> Carried:
        """The data in an answer about some parts: those of a recorded answer, otherwise their first message; none of a silent
        one."""
        if not self._overrides.silent.isdisjoint(parts):
            return Carried()
        for payload, value in self._market.told.items():
            if self._part_of(payload, value) in parts:
                return Carried(value)
        first = self.first_of(parts, 1)
        return Carried(self._market.value(first[0]), first) if first else Carried()

    def take(self, payload: bytes, only: str | None) -> bytes | None:
        """A message as this client gets it; None: it does not get the message. `only`: the message must be of this feed."""
        name = self.stream_of(payload)
        if name is None or (only is not None and self._feeds.get(name) != only) or name in self._overrides.silent:
            return None
        value = self._market.value(payload)
        sent = self.numbered(self._called(value))
        change = next((change for change in self._overrides.left_out if name in change), None)
        if change is not None and self._may_be_missed(payload, value):
            self._overrides.left_out.remove(change)
            return None
        return payload if sent is value else orjson.dumps(sent)

    def _called(self, value: Any) -> Any:
        """With this connection's channel in it."""
        path = self._dialect_rules.channel_path
        own = self._own.get(str(look_up(value, path))) if self._own else None
        return value if own is None else put(value, path, own)

    def _may_be_missed(self, payload: bytes, value: Any) -> bool:
        """Whether its loss would be noticed by a number, and a message before it was sent; also true if nothing is counted."""
        text = self._market.text(payload)
        rules = self._dialect_rules.dialect.get("gap", [])
        fitting = (rule for rule in rules if rule["scope"] and rule.get("contains", "").encode() in text)
        rule = next((rule for rule in fitting if matches(value, rule.get("match", {}))), None)
        if rule is None:
            return self._numbering.begun if self._numbering.counts else not rules
        scope = orjson.dumps([None if (found := look_up(value, path)) is MISSING else found for path in rule["scope"]])
        if any(matches(value, rule[key]) for key in ("snapshot", "reset") if key in rule) or scope not in self._counted:
            self._counted.add(scope)
            return False
        return look_up(value, rule.get("last") or rule["value"]) is not MISSING

    def numbered(self, frame: Any, *, composed: bool = False) -> Any:
        """A frame with this connection's next number, if the dialect counts everything that a connection gets."""
        return self._numbering.put_in(frame, composed=composed)

    def heartbeat(self, frame: Any, channels: Mapping[str, int]) -> Any | None:
        """A heartbeat of the exchange as this client gets it; None: it belongs to a channel, and the client has none yet."""
        if isinstance(frame, list):  # of a channel
            if not channels:
                return None
            frame = put(frame, self._dialect_rules.channel_path, next(iter(channels.values())))
        return self.numbered(frame, composed=True)


class _Numbering:
    """The numbers of those [[gap]] rules whose scope is the connection: one count over everything that it gets."""

    def __init__(self, rules: Sequence[Mapping[str, Any]]) -> None:
        self._rules = [rule for rule in rules if not rule["scope"]]
        self._number = 0

    @property
    def counts(self) -> bool:
        """Whether there is such a count."""
        return bool(self._rules)

    @property
    def begun(self) -> bool:
        """Whether something before the message at hand had a number."""
        return self._number > 1

    def put_in(self, frame: Any, *, composed: bool) -> Any:
        """`composed`: a frame that was made up here, which has no place for a number yet."""
        for rule in self._rules:
            path = rule.get("last") or rule["value"]
            form = isinstance(frame, list) if path == _LAST else isinstance(frame, dict)
            if form and matches(frame, rule.get("match", {})):
                before = self._number
                self._number += int(rule.get("step", 1))
                if composed and path == _LAST:
                    return [*frame, self._number]
                if "previous" in rule:
                    frame = put(frame, rule["previous"], _number(rule, before))
                elif "first" in rule:
                    frame = put(frame, rule["first"], self._number)
                return put(frame, path, _number(rule, self._number))
        return frame


def _number(rule: Mapping[str, Any], number: int) -> int | str:
    """The number, or a string without order if the dialect's numbers are `opaque`."""
    return f"n{number:x}" if rule.get("opaque") else number
