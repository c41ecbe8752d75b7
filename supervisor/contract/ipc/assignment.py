"""The body of an ASSIGN: everything that an owner needs. The bodies of CUSTODY and HANDOFF, which describe a
connection that outlives its owner.

    owner:       Custody ──CUSTODY──> supervisor        the owner may die; the supervisor keeps the socket
    supervisor:  Resume, in an Assignment ──HANDOFF, ASSIGN──> the next owner
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wsadapter.contract.endpoint import Endpoint, endpoint_from_plain, to_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """The body of CUSTODY: how to count the streams of the connection whose socket comes with it. Positions of the streams
    count from the end of the WebSocket handshake, the kernel's counts from the beginning of the connection."""

    received: int
    """The kernel's count at position 0 of what the peer sends."""
    sent: int
    """The kernel's count at position 0 of what the owner sends from here on."""
    allowed_at: float = 0.0
    """From when on, in monotonic seconds, `limits.sends` allows the next frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """A connection that outlived its owner. The HANDOFF that carries its socket has as its body `rest` bytes that complete a
    half-sent frame, then the bytes of an unfinished message."""

    custody: Custody
    position: int
    """The position in the peer's stream up to which the previous owner has written everything to the pipe, with the unfinished
    message."""
    skip: int
    """Bytes before `position` that are still in the kernel."""
    sent: int
    """The position in the owners' stream."""
    rest: int
    """Bytes of the half-sent frame that are still to be sent."""
    ref: int
    """The ref of the half-sent frame; 0: nobody waits for its fate."""
    up: dict[str, Any]
    """The fields of the connection's "up" report."""
    unread: int = 0
    """Bytes after `position` that are in the kernel: the previous owner may have died while it parsed them."""
    allowed_at: float = 0.0
    """From when on, in monotonic seconds, `limits.sends` allows the next frame."""
    careful: bool = False
    """An owner has died while it parsed the unread bytes: parse them message by message, so that another death shows the
    message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Everything that an owner needs: the endpoint with its secrets, and the state that previous owners have left."""

    endpoint: Endpoint
    """The settings, with `${...}` replaced and files read."""
    epoch: int
    url: str
    """The URL of `endpoint.url` to connect to."""
    dialect: dict[str, Any] | None = None
    """The dialect's data, checked; None: the endpoint has no dialect."""
    wanted: tuple[Any, ...] = ()
    """The subscriptions to restore, as the user wrote them."""
    confirmed: tuple[Any, ...] = ()
    """The subscriptions that were confirmed to the previous owner; with `resume` they are not requested again."""
    identify: bool = False
    """Messages carry their identities from the beginning."""
    custody: bool = False
    """The supervisor takes the connection into custody if that is possible."""
    resume: Resume | None = None
    """Continue with this connection instead of opening one."""
    held: bool = False
    """A TLS holder does TLS: the HANDOFF before this ASSIGN carried the socket to the holder
    (`worker/connect/tls_holder.py`)."""
    channels: dict[str, Any] = field(default_factory=dict)
    """With `resume`: the subscription of each channel that the peer has assigned on this connection."""
    live: tuple[str, ...] = ()
    """With `resume`: the names of the streams in `confirmed` that have delivered on this connection."""
    rejected: dict[str, str] = field(default_factory=dict)
    """With `resume`: name = error of each subscription in `confirmed`, or part of one, that the peer refused on this
    connection."""
    blamed: dict[str, str] = field(default_factory=dict)
    """The subscriptions because of which the peer closed an earlier connection: name = error; "": it may have been another
    one. The least suspicious first."""
    retry_at: dict[str, float] = field(default_factory=dict)
    """When a subscription in `blamed` with an error is requested again on this connection, in monotonic seconds, by its name;
    those without an entry are not requested again."""
    paces: dict[str, float] = field(default_factory=dict)
    """The longest pause of each stream whose pace is known from this or earlier connections, in seconds, by its name."""
    opening: tuple[float, bool] | None = None
    """With `resume`, if nothing was sent on this connection yet: when its handshake was done, in monotonic seconds, and true
    if the peer's [[ready]] is still awaited. None: frames were sent."""
    login_at: float | None = None
    """With `resume`: monotonic seconds of the last login on this connection; None: there was none."""
    challenge: Any = None
    """With `resume`: the peer's challenge of that login, as JSON; None: there was none."""
    heartbeat_at: float | None = None
    """With `resume`: monotonic seconds of the last heartbeat sent on this connection; None: none is known."""
    token: Any = None
    """With `resume`: the token that the hook `before_connect` kept for this connection, as JSON."""
    requests: tuple[str, ...] = ()
    """With `resume`: the ids of the requests whose answers may still come."""
    last_number: int = 0
    """The number of the last accepted message; 0: there is none."""
    last_received_at: int | None = None
    """Wall-clock ns of the last accepted message."""
    quarantine: str = ""
    """The folder for messages on which the decode hook failed; empty: they are only counted."""
    busy_poll: float = 0.0
    """Seconds to poll without sleep before waiting."""
    sys_path: tuple[str, ...] = field(default=())
    """The folders from which the user's hooks are imported."""

    def to_body(self) -> dict[str, Any]:
        """The body of an ASSIGN."""
        return {f: to_plain(getattr(self, f)) for f in self.__slots__}

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Assignment:
        """The reverse of `to_body`."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in body.items()}
        values["endpoint"] = endpoint_from_plain(body["endpoint"])
        if (resume := body["resume"]) is not None:
            values["resume"] = Resume(**{**resume, "custody": Custody(**resume["custody"])})
        return cls(**values)
