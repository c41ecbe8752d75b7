"""What one client gets of an exchange's messages: those of its streams, by its own channels and numbers. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

import orjson

from wsadapter.contract.dialect.paths import MISSING, look_up, matches
from wsadapter.contract.dialect.streams import Streams
from wsadapter.contract.endpoint import Filter, Subscription
from wsadapter.testing.dialect.compose import put
from wsadapter.testing.dialect.market import NO_DATA, Market
from wsadapter.testing.dialect.orders import Orders, name_of
from wsadapter.testing.dialect.speech import Channels, Speech

_LAST: Final = "-1"


class Outlet:
    """One connection's share. Not thread-safe."""

    def __init__(self, speech: Speech, market: Market, orders: Orders) -> None:
        self._market = market
        self._orders = orders
        self._speech = speech
        rules = speech.dialect.get("stream")
        self._path = str(rules.get("path", "")) if rules else ""
        self._recorded: dict[str, Subscription] = {}
        """What the recording calls a stream."""
        self._own: dict[str, int] = {}
        """The same = what it is called on this connection."""
        self._streams = Streams(rules, Filter(), self._recorded) if rules else None
        self.current: dict[str, Subscription] = {}
        """What is subscribed, by name."""
        self._gaps = [rule for rule in speech.dialect.get("gap", []) if rule["scope"]]
        self._counts = [rule for rule in speech.dialect.get("gap", []) if not rule["scope"]]
        self._counted: set[Hashable] = set()
        """The counts of which something was sent."""
        self._number = 0

    def open(self, stream: Subscription, channels: Channels) -> None:
        """A stream is subscribed; `channels`: what its parts are called, where the dialect gives them a channel."""
        self.current[name_of(stream)] = stream
        if self._streams is None:
            return
        self._streams.know([stream])
        if not channels:
            return
        for part in self._speech.entries(stream):
            for channel in self._market.recorded_channels(part):
                self._recorded[channel] = stream
                self._own[channel] = channels[name_of(part)]

    def shut(self, name: str) -> None:
        """A stream is unsubscribed."""
        self.current.pop(name, None)

    def stream_of(self, payload: bytes) -> str | None:
        """The subscribed stream that a message belongs to. Where the dialect can't tell, that is the first of all."""
        value = self._market.value(payload)
        if value is NO_DATA:
            return None
        if self._streams is None:
            return next(iter(self.current), None)
        stream = self._streams.find(value)
        return stream.name if stream is not None and stream.name in self.current else None

    def take(self, payload: bytes, only: str | None) -> bytes | None:
        """A message as this client gets it; None where it does not. `only`: it must belong to this stream."""
        name = self.stream_of(payload)
        if name is None or (only is not None and name != only) or name in self._orders.silent:
            return None
        value = self._market.value(payload)
        sent = self.numbered(self._called(value))
        if self._orders.left_out[name] and self._may_be_missed(payload, value):
            self._orders.left_out[name] -= 1
            return None
        return payload if sent is value else orjson.dumps(sent)

    def _called(self, value: Any) -> Any:
        """With this connection's channel in it."""
        own = self._own.get(str(look_up(value, self._path))) if self._own else None
        return value if own is None else put(value, self._path, own)

    def _may_be_missed(self, payload: bytes, value: Any) -> bool:
        """Whether its lack can be told by a number, and one before it was sent; so it is where nothing is counted."""
        text = self._market.text(payload)
        fitting = (rule for rule in self._gaps if rule.get("contains", "").encode() in text)
        rule = next((rule for rule in fitting if matches(value, rule.get("match", {}))), None)
        if rule is None:
            return self._number > 1 if self._counts else not self._gaps
        scope = orjson.dumps([None if (found := look_up(value, path)) is MISSING else found for path in rule["scope"]])
        if any(matches(value, rule[key]) for key in ("snapshot", "reset") if key in rule) or scope not in self._counted:
            self._counted.add(scope)
            return False
        return look_up(value, rule.get("last") or rule["value"]) is not MISSING

    def numbered(self, frame: Any, *, composed: bool = False) -> Any:
        """A frame with this connection's next number, where the dialect counts all that a connection gets."""
        for rule in self._counts:
            path = rule.get("value", "")
            fits = isinstance(frame, list) if path == _LAST else isinstance(frame, dict)
            if path and fits and "previous" not in rule and matches(frame, rule.get("match", {})):
                self._number += int(rule.get("step", 1))
                return [*frame, self._number] if composed and path == _LAST else put(frame, path, self._number)
        return frame

    def heartbeat(self, frame: Any, channels: Mapping[str, int]) -> Any | None:
        """A heartbeat of the exchange's as this client gets it; None where there is nothing yet that it could be of."""
        if isinstance(frame, list):  # of a channel
            if not channels:
                return None
            frame = put(frame, self._path, next(iter(channels.values())))
        return self.numbered(frame, composed=True)
