"""What a test has told an exchange to do to streams, answers and logins. Changed and read in the exchange's event loop only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.endpoint import Subscription


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a stream is refused."""

    text: str
    whole: bool = False
    """The frame that names it is refused as a whole, also where the dialect's answers could refuse it alone."""
    named: bool | None = None
    """Whether the answer says which stream is refused. None: where nothing else says what the answer is about."""


@dataclass(slots=True)
class Answering:
    """How frames that subscribe and unsubscribe are answered, besides what the answer is."""

    after: float = 0.0
    """Seconds from the frame to its answer."""
    times: int = 1
    """How often each answer is sent; 0: not at all."""
    reverse: int = 0
    """So many frames are awaited and then answered, the last first; below 2: each frame is answered at once."""
    strays: int = 0
    """So many answers to frames that no client sent come before each answer."""
    padding: int = 0
    """Bytes that each answer has at least."""
    data_first: int = 0
    """So many messages of each stream are sent before the answer."""
    with_data: bool = False
    """An answer carries the stream's first message, where the dialect's [[ack]] has `data`."""
    repeats: bool | None = None
    """Whether a stream that is subscribed already is refused as such. None: where the dialect has [[already]]."""
    later: int = 0
    """So many frames that subscribe are still to be told: later."""


@dataclass(slots=True)
class Orders:
    """Streams by name: a string as it is, a table as JSON with sorted keys. Of a table that may be asked for in parts: each of
    them."""

    rejected: dict[str, Refusal] = field(default_factory=dict)
    fatal: set[str] = field(default_factory=set)
    """The connection is closed instead of an answer."""
    ignored: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    left_out: list[frozenset[str]] = field(default_factory=list)
    """Each: one message of one of these streams is still to be left out."""
    answering: Answering = field(default_factory=Answering)
    login_required: bool = False
    login_refusal: str = ""
    """What to say to a login; empty: yes."""
    welcome_refusal: str = ""
    """What to say instead of the dialect's [[ready]]; empty: the [[ready]]."""


def name_of(stream: Subscription) -> str:
    """As messages and events name it."""
    return stream_name(dict(stream) if isinstance(stream, Mapping) else stream)
