"""What an exchange does to one client, as values: a `Conversation` decides, a `ClientDriver` carries the steps out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send a frame, JSON or a text as it is. `answer`: it answers a client's frame, so a test may hold it back."""

    frame: Any
    answer: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """Send a message of a stream besides its feed."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a protocol ping."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Disconnect:
    """End the connection, with a close frame; without a code only TCP is closed."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The client did something wrong."""

    text: str


@dataclass(frozen=True, slots=True)
class HeartbeatSeen:
    """A sign that the client is alive: its own "heartbeat", an "answer" to the exchange's, or a "pong"."""

    kind: str


@dataclass(frozen=True, slots=True)
class OpenFeed:
    """Begin a feed: the messages of the streams that one table or string of the client's frame named."""

    feed: str
    sent: tuple[bytes, ...] = ()
    """Messages of the feed that were sent already."""


@dataclass(frozen=True, slots=True)
class CloseFeed:
    """End a feed."""

    feed: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The dialect has no rule for this frame."""

    text: str


Step = SendFrame | Data | Ping | Disconnect | Violation | HeartbeatSeen | OpenFeed | CloseFeed | Unknown
