"""What a test has asked an exchange to do with streams, answers and logins. Used in the exchange's event loop only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.endpoint import Subscription


@dataclass(frozen=True, slots=True)
class StreamRefusal:
    """How a stream is refused."""

    text: str
    whole: bool = False
    """The frame that names the stream is refused as a whole, even if the dialect's answers could refuse the stream alone."""
    named: bool | None = None
    """Whether the answer names the stream. None: only if no other field identifies the request."""


@dataclass(slots=True)
class Answering:
    """How frames that subscribe and unsubscribe are answered, besides what the answer is."""

    after: float = 0.0
    """Seconds from the frame to its answer."""
    times: int = 1
    """How many times each answer is sent; 0: never."""
    reverse: int = 0
    """The number of frames that are collected and then answered, the last first; below 2: each frame is answered at once."""
    strays: int = 0
    """The number of answers to frames that no client sent before each answer."""
    padding: int = 0
    """The least number of bytes of an answer."""
    data_first: int = 0
    """The number of messages of each stream that are sent before the answer."""
    with_data: bool = False
    """An answer contains the stream's first message, if the dialect's [[ack]] has `data`."""
    repeats: bool | None = None
    """Whether a stream that is subscribed already is refused as such. None: if the dialect has [[already]]."""
    later: int = 0
    """The number of frames that subscribe which are still to be refused with [[later]]."""


@dataclass(slots=True)
class Overrides:
    """Streams by name: a string as it is, a table as JSON with sorted keys. Of a table that may be asked for in parts: each of
    them."""

    rejected: dict[str, StreamRefusal] = field(default_factory=dict)
    fatal: set[str] = field(default_factory=set)
    """The connection is closed instead of an answer."""
    ignored: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    left_out: list[frozenset[str]] = field(default_factory=list)
    """For each set, one message of one of its streams is still to be left out."""
    answering: Answering = field(default_factory=Answering)
    login_required: bool = False
    login_refusal: str = ""
    """The text that a login is refused with; empty: the login succeeds."""
    welcome_refusal: str = ""
    """The error that is sent instead of the dialect's [[ready]]; empty: the [[ready]]."""


def name_of(stream: Subscription) -> str:
    """The name that messages and events have for the stream."""
    return stream_name(dict(stream) if isinstance(stream, Mapping) else stream)
