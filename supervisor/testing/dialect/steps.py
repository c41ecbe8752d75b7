"""What an exchange does to one client, as values: a conversation decides, a `Line` carries out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Say:
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
class Leave:
    """End the connection; without a code, that of TCP alone."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """The client did something wrong."""

    text: str


@dataclass(frozen=True, slots=True)
class Beat:
    """The client showed that it is there: by a "heartbeat" of its own, an "answer" or a "pong"."""

    kind: str


@dataclass(frozen=True, slots=True)
class Open:
    """A feed begins: the messages of the streams that one table or string of the client named."""

    feed: str
    sent: tuple[bytes, ...] = ()
    """Messages of it that were sent already."""


@dataclass(frozen=True, slots=True)
class Shut:
    """A feed ends."""

    feed: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The dialect does not know this frame."""

    text: str


Step = Say | Data | Ping | Leave | Note | Beat | Open | Shut | Unknown
