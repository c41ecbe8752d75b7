"""What a session wants done. Values; the owner carries them out in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsadapter.contract.ipc.reports import Report
from wsadapter.contract.reasons import Reason
from wsadapter.worker.websocket.reader import Batch


@dataclass(frozen=True, slots=True)
class Send:
    """Put a frame on the wire. An urgent one goes before those that wait, never into the middle of one."""

    frame: bytes
    urgent: bool = False
    once: bool = False
    """The next owner of the connection would not send it."""
    then: Report | None = None
    """To be reported when the kernel has all of it, if the connection may outlive its owner."""


@dataclass(frozen=True, slots=True)
class Say:
    """Report at this place in the stream."""

    report: Report


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand on the messages `first` to `last` (exclusive) of the batch, but those `skipped`."""

    batch: Batch
    first: int
    last: int
    skipped: frozenset[int] = frozenset()
    filtered: int = 0
    """How many of those skipped were not wanted by the endpoint's filter."""
    streams: Sequence[int] | None = None
    """The index of the stream of each message of the whole batch, 0 for none; None: no message has one."""
    identities: Sequence[int] | None = None
    """The identity of each message of the whole batch; None: they are not asked for."""


@dataclass(frozen=True, slots=True)
class StopReading:
    """Read nothing more. The user's messages are still sent, until a `Leave`."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The connection is over: drop it."""

    reason: Reason
    flush: bool = False
    """Put on the wire first what waits for it: the last is a close frame."""
    linger: bool = False
    """Wait a moment for the peer to end the connection: bytes of it may be unread, and closing at once would make the kernel
    send an RST, which can destroy our close frame at the peer."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Let the hook `sign` fill this in; what it gives goes to `signed`, in the same order."""

    frame: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Renew:
    """Call the hook `renew`; its outcome goes to `renewed`."""


Action = Send | Say | Deliver | Sign | Renew | StopReading | Leave
