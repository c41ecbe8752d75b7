"""What begins and ends with one owner, and what an endpoint counts over all its owners."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wsadapter.contract.reasons import Reason


@dataclass(slots=True)
class Epoch:
    """One owner's tenure. A new one is made when an owner is acquired, and dropped as a whole when the owner is dead: nothing
    in it is ever set back."""

    number: int
    """From 1; 0: the endpoint has had no owner yet."""
    continues: bool = False
    """The connection continues the stream where the previous connection ended."""
    replaces: bool = False
    """The connection was opened to replace the one before."""
    assigned: bool = False
    """The owner has its assignment."""
    resuming: bool = False
    """The owner continues on a connection that it was given."""
    planned: str = ""
    """Why the owner is replaced, as planned; empty: it is not."""
    unwanted: bool = False
    """The connection is to be replaced: it must not outlive its owner."""
    last_words: Reason | None = None
    """Why the owner ends, as it reported."""
    up_fields: dict[str, Any] = field(default_factory=dict)
    """The report of the open connection, for an owner that continues on it."""
    up_since: float | None = None
    """Monotonic seconds; None: its connection is not open."""
    messages_before: int = 0
    """Messages that were delivered by the link before this epoch."""
    position: int = 0
    """Bytes of the connection that came through the owner's pipe, or that its predecessors had read."""
    streams: list[str | None] = field(default_factory=lambda: [None])
    """The names of its streams, by the index that the owner gave them."""
    rtt: float | None = None
    """Seconds of the last heartbeat's round trip; None: not measured yet."""


@dataclass(slots=True)
class Counters:
    """Of one connection, over all its owners, since the endpoint was added."""

    messages: int = 0
    """Messages that were received and numbered."""
    bytes: int = 0
    """Bytes that were received, after TLS."""
    filtered: int = 0
    """Messages that `filter` or a decode hook removed."""
    gaps: int = 0
    """`Gap` events."""
    handoffs: int = 0
    """Connections on which a new owner continued."""
    torn: int = 0
    """Owners that died while they wrote a record."""
    last_heard: float | None = None
    """Monotonic seconds of the last message, or of the last open connection; None before the first."""
    last_lost_at: int | None = None
    """Wall clock in ns of the last message before the last `Down`; None: there was none."""
