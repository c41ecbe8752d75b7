"""Several connections of one endpoint become one stream: the first to show a message wins, what the others repeat is left out.

A message is known by its identity (`contract.record.Record.identities`), within its stream. A connection may show the same
identity more than once; then so does the merged stream, as often as the connection that showed it most often. As each
connection keeps the order of its stream and leaves nothing out, what one of them shows first comes behind all that the others
had shown of that stream: the order is kept.

Two kinds can't be recognised: messages without an identity, and snapshots, which are different on each connection though they
say the same. Both are taken of one connection only, the one that leads. A snapshot of the lead begins its stream anew: changes
that were delivered before it may have to come again behind it.

Pure; what is remembered is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.record import NO_IDENTITY, SNAPSHOT

REMEMBERED: Final = 100_000
"""Identities, over all streams: so far may one connection be behind another."""
_SPAN: Final = 300.0
"""Seconds, the same. Shorter where an identity may come again by itself, as where a message's bytes are it."""


_BYTES_SPAN: Final = 5.0


def merge_for(endpoint: Endpoint, dialect: Mapping[str, Any] | None) -> Merge | None:
    """How the connections of an endpoint are merged; None where its messages have no identity."""
    return Merge(span=span_for(endpoint, dialect)) if identity_rule(endpoint, dialect) else None


def are_alike(
    one: Endpoint, its_dialect: Mapping[str, Any] | None, other: Endpoint, others_dialect: Mapping[str, Any] | None
) -> bool:
    """Whether connections by either settings get the same messages, and tell them apart alike."""
    return (one.urls, one.identity, its_dialect) == (other.urls, other.identity, others_dialect)


def identity_rule(endpoint: Endpoint, dialect: Mapping[str, Any] | None) -> Any:
    """The endpoint's own, else the dialect's; something false where there is neither."""
    return endpoint.identity or (dialect or {}).get("identity")


def span_for(endpoint: Endpoint, dialect: Mapping[str, Any] | None) -> float:
    """Seconds for which a message that was delivered is remembered."""
    return _BYTES_SPAN if may_repeat(endpoint, dialect) else _SPAN


def may_repeat(endpoint: Endpoint, dialect: Mapping[str, Any] | None) -> bool:
    """Whether two messages may have one identity, for it is their bytes."""
    rule = identity_rule(endpoint, dialect)
    rules = rule if isinstance(rule, list) else ()
    return rule == "bytes" or any(isinstance(each, Mapping) and each.get("bytes") for each in rules)


class _Window:
    """The identities of one stream."""

    __slots__ = ("before", "begun_by", "delivered", "shown")

    def __init__(self) -> None:
        self.delivered: dict[int, int] = {}
        """How often each was delivered, since the snapshot."""
        self.before: dict[int, int] = {}
        """The same of what was delivered before it."""
        self.begun_by: int | None = None
        """Whose snapshot it was: what that member shows from there on belongs behind it. What another one shows of `before`
        does not."""
        self.shown: dict[int, dict[int, int]] = {}
        """Per member how often it showed each."""

    def is_new(self, member: int, identity: int) -> bool:
        """Notes that a member showed it; whether it is to be delivered."""
        shown = self.shown.setdefault(member, {})
        times = shown[identity] = shown.get(identity, 0) + 1
        times -= self.before.get(identity, 0) if member != self.begun_by else 0
        if times <= self.delivered.get(identity, 0):
            return False
        self.delivered[identity] = times
        return True

    def begin_anew(self, member: int) -> None:
        """It showed a snapshot that was delivered."""
        for identity, times in self.delivered.items():
            self.before[identity] = self.before.get(identity, 0) + times
        self.delivered, self.shown, self.begun_by = {}, {}, member

    def knows(self, identity: int) -> bool:
        """Whether it was delivered."""
        return identity in self.delivered or identity in self.before

    def forget(self, identity: int) -> None:
        """One delivery of it."""
        if identity in self.before:
            self.before[identity] -= 1
            if self.before[identity] <= 0:
                del self.before[identity]
            return
        left = self.delivered.get(identity, 0) - 1
        for counts in (self.delivered, *self.shown.values()):
            if identity not in counts:
                continue
            counts[identity] -= 1
            if counts[identity] <= 0 or left <= 0:
                del counts[identity]


class Merge:
    """What the members of one endpoint have shown. Not thread-safe."""

    def __init__(self, *, span: float = _SPAN, remembered: int = REMEMBERED) -> None:
        """What was delivered `span` seconds ago, or `remembered` identities ago, is forgotten."""
        self._span = span
        self._remembered = remembered
        self._windows: dict[str | None, _Window] = {}
        self._order: deque[tuple[float, _Window, int]] = deque()
        self.lead: int | None = None
        """The member whose snapshots and messages without identity are delivered."""
        self.unidentified = 0
        """Messages without an identity that were delivered."""

    def leave(self, member: int) -> None:
        """Its connection is gone; its next one begins with nothing shown."""
        for window in self._windows.values():
            window.shown.pop(member, None)

    def new(
        self,
        member: int,
        identities: Sequence[int],
        streams: Sequence[str | None] | None,
        now: float,
        *,
        leads: bool | None = None,
    ) -> list[int]:
        """The places of the messages of a record that are to be delivered. `leads` overrules `lead` for messages without
        identity."""
        self._forget(now)
        leading = member == self.lead
        unidentified = leading if leads is None else leads
        kept = []
        for place, identity in enumerate(identities):
            stream = None if streams is None else streams[place]
            if identity == NO_IDENTITY:
                if unidentified:
                    self.unidentified += 1
                    kept.append(place)
            elif identity == SNAPSHOT:
                if leading:
                    self._window(stream).begin_anew(member)
                    kept.append(place)
            elif self._is_new(member, stream, identity, now):
                kept.append(place)
        return kept

    def knows(self, stream: str | None, identity: int) -> bool:
        """Whether a message of that identity was delivered, as far as that is remembered."""
        window = self._windows.get(stream)
        return window is not None and window.knows(identity)

    def _forget(self, now: float) -> None:
        order = self._order
        while order and (len(order) > self._remembered or order[0][0] < now - self._span):
            _, window, identity = order.popleft()
            window.forget(identity)

    def _is_new(self, member: int, stream: str | None, identity: int, now: float) -> bool:
        window = self._window(stream)
        if not window.is_new(member, identity):
            return False
        self._order.append((now, window, identity))
        return True

    def _window(self, stream: str | None) -> _Window:
        window = self._windows.get(stream)
        if window is None:
            window = self._windows[stream] = _Window()
        return window
