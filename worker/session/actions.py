"""What a session decides, as values. The owner performs the actions in their order.

The testing exchange has steps of its own (`wsadapter.testing.dialect.steps`): a client and its peer do different things, and
the test peer must not share code with the client that it tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsadapter.contract.ipc.reports import Report
from wsadapter.contract.reasons import Reason
from wsadapter.worker.websocket.reader import ReadResult


@dataclass(frozen=True, slots=True)
class Send:
    """Send a frame. An urgent frame is sent before the frames that wait, but never in the middle of another frame."""

    frame: bytes
    urgent: bool = False
    once: bool = False
    """The next owner of the connection would not send this frame again, so the connection is not handed off before it is
    out."""
    then: Report | None = None
    """The report to write when the kernel has the whole frame, if the connection may outlive its owner."""


@dataclass(frozen=True, slots=True)
class Notify:
    """Write a report at this place in the stream."""

    report: Report


@dataclass(frozen=True, slots=True)
class Deliver:
    """Deliver the messages `first` to `last` (exclusive) of the read, except `skipped`."""

    read: ReadResult
    first: int
    last: int
    skipped: frozenset[int] = frozenset()
    filtered: int = 0
    """How many of the skipped messages the endpoint's filter removed."""
    streams: Sequence[int] | None = None
    """The index of the stream of each message of the whole read, 0 for none; None: no message has one."""
    identities: Sequence[int] | None = None
    """The identity of each message of the whole read; None: identities are not wanted."""


@dataclass(frozen=True, slots=True)
class StopReading:
    """Stop reading. The user's messages are still sent, until a `Disconnect`."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The connection is over: close it and end the process."""

    reason: Reason
    flush: bool = False
    """Send first the frames that wait; the last of them is a close frame."""
    linger: bool = False
    """Wait a moment for the peer to end the connection. Bytes of the peer may be unread, and closing at once would make the
    kernel send an RST, which can destroy our close frame at the peer."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Let the hook `sign` complete this frame; the results go to `Subscribing.signed`, in the same order."""

    frame: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Renew:
    """Call the hook `renew`; its outcome goes to `Subscribing.renewed`."""


Action = Send | Notify | Deliver | Sign | Renew | StopReading | Disconnect
