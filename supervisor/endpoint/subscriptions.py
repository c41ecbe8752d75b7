"""Numbers and subscriptions for the next owner. The supervisor keeps them, so they outlive every owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.endpoint import Subscription
from wsadapter.endpoint.blame import Blame, BlameRecord
from wsadapter.status import SubscriptionStatus

_SNAPSHOT_WITHIN: Final = 10.0
"""Seconds from the request for a snapshot to the snapshot."""


key_of: Final = stream_name
"""One text for one subscription, the same in the supervisor and in its owners."""


@dataclass(slots=True)
class Numbers:
    """How far a stream has come: of one endpoint, or of all its replicas together."""

    epoch: int = 0
    """The last epoch."""
    last_number: int = 0
    last_received_at: int | None = None
    ever_up: bool = False
    """Whether there was a connection before: the next one then begins with a `Gap`."""

    def accept(self, count: int, received_at: int) -> int:
        """Number `count` messages. Returns the number of the first."""
        first = self.last_number + 1
        self.last_number += count
        self.last_received_at = received_at
        return first

    def next_epoch(self) -> int:
        """The epoch of a new owner."""
        self.epoch += 1
        return self.epoch


@dataclass(slots=True)
class ConnectionState:
    """The state of one connection, over all its owners. It ends with the connection."""

    confirmed: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    """Streams whose frames were sent, if the peer confirms nothing."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Rejected streams, with the peer's error; a part of a subscription is here by its own name."""
    live: set[str] = field(default_factory=set)
    """Streams of which a message has come."""
    parts: dict[str, str] = field(default_factory=dict)
    """The name of each rejected part of a subscription = the name of the subscription."""
    channels: dict[str, Subscription] = field(default_factory=dict)
    """The channels that the peer has assigned to subscriptions."""
    opening: tuple[float, bool] | None = None
    """See `Assignment.opening`."""
    login_at: float | None = None
    """Monotonic seconds of the last login; None: there was none."""
    challenge: Any = field(default=None, repr=False)
    """The peer's challenge of that login, which frames that subscribe may have to hold; None: there was none."""
    heartbeat_at: float | None = None
    """Monotonic seconds of the last heartbeat sent; None: none is known."""
    token: Any = field(default=None, repr=False)
    """What the hook `before_connect` kept for the connection: a secret."""
    expires_at: float | None = None
    """Monotonic seconds at which the connection reaches `watchdog.max_age`; None: it never does."""


@dataclass(frozen=True, slots=True)
class Lasting:
    """The state of an endpoint's streams over all its connections."""

    paces: dict[str, float]
    """As `Subscriptions.paces`."""
    blame: dict[str, BlameRecord]


@dataclass(slots=True)
class Subscriptions:
    """The streams that an endpoint wants, and the state of its present connection and of earlier ones."""

    wanted: dict[str, Subscription] = field(default_factory=dict)
    connection: ConnectionState = field(default_factory=ConnectionState)
    """The current one."""
    blame: Blame = field(default_factory=Blame)
    """Streams because of which the peer closed connections; outlives the connection."""
    paces: dict[str, float] = field(default_factory=dict)
    """The longest pause of each stream whose pace is known, in seconds; outlives the connection."""
    asked_anew: dict[str, float] = field(default_factory=dict)
    """When a new snapshot of a stream was requested, in monotonic seconds."""

    def add(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Want these streams. Returns those that are new."""
        new = [stream for stream in streams if key_of(stream) not in self.wanted]
        self.wanted.update((key_of(stream), stream) for stream in new)
        return new

    def remove(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Want these streams no more. Returns those that were wanted."""
        gone = [stream for stream in streams if self.wanted.pop(key_of(stream), None) is not None]
        for stream in gone:
            self.connection.confirmed.discard(key_of(stream))
            self.connection.asked.discard(key_of(stream))
            self.accept(key_of(stream))
            self.connection.live.discard(key_of(stream))
            self.paces.pop(key_of(stream), None)
            self.blame.clear(key_of(stream))
        return gone

    def refused(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Those of `streams` that are wanted and were rejected, as a whole or in part, or would not be requested because of an
        earlier connection."""
        wholes = {*self.connection.rejected, *self.connection.parts.values()}
        names = {key_of(stream): stream for stream in streams}
        return [stream for name, stream in names.items() if (name in wholes or name in self.blame) and name in self.wanted]

    def accept(self, name: str) -> None:
        """Nothing of this subscription counts as rejected any more."""
        rejected, parts = self.connection.rejected, self.connection.parts
        rejected.pop(name, None)
        for part in [part for part, whole in parts.items() if whole == name]:
            rejected.pop(part, None)
            del parts[part]

    def forgive(self, streams: Iterable[Subscription]) -> None:
        """Request these like any other stream, although the peer closed a connection because of them."""
        for stream in streams:
            self.blame.clear(key_of(stream))

    def is_answered(self, name: str) -> bool:
        """Whether the peer has confirmed or rejected it."""
        connection = self.connection
        return name in connection.confirmed or name in connection.rejected or name in connection.parts.values()

    def ask_anew(self, streams: Iterable[Subscription], now: float) -> list[Subscription]:
        """New snapshots of these are requested. Returns the streams that are wanted."""
        keys = [key for key in map(key_of, streams) if key in self.wanted]
        self.asked_anew.update(dict.fromkeys(keys, now))
        return [self.wanted[key] for key in keys]

    def still_asked(self, now: float) -> list[Subscription]:
        """The streams whose snapshot may not have come yet."""
        self.asked_anew = {key: at for key, at in self.asked_anew.items() if at > now - _SNAPSHOT_WITHIN}
        return [self.wanted[key] for key in self.asked_anew if key in self.wanted]

    def connection_lost(self) -> list[Subscription]:
        """No stream is confirmed any more. Returns those that were."""
        lost, self.connection = self.connection, ConnectionState()
        return [self.wanted[key] for key in sorted(lost.confirmed) if key in self.wanted]

    @property
    def lasting(self) -> Lasting:
        """For another supervisor."""
        return Lasting(dict(self.paces), self.blame.snapshot())

    @lasting.setter
    def lasting(self, lasting: Lasting) -> None:
        self.paces, self.blame = dict(lasting.paces), Blame(lasting.blame)

    def to_json(self) -> SubscriptionStatus:
        """For the status."""
        return {
            "wanted": len(self.wanted),
            "confirmed": len(self.connection.confirmed),
            "live": len(self.connection.live),
            "rejected": dict(self.connection.rejected),
        }
