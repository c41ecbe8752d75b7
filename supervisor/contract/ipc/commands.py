"""The frames of the control socket, both ways.

    +-----------+---------+---------+------+
    | length u32| kind u8 | ref u64 | body |
    +-----------+---------+---------+------+

`length` counts what follows it. `ref` pairs an answer with its question; 0 where there is none. Bodies are JSON objects,
except for SEND_TEXT and SEND_BINARY, whose body is the payload, REQUEST, ANNOUNCE, READING and HANDOFF. Only the socket's two
ends ever read it: it carries secrets (login, headers), which therefore stand in no command line, no environment and no log.

Supervisor to owner                              Owner to supervisor
    ASSIGN       the endpoint, see `Assignment`      READY      warm: imported, waiting for an ASSIGN
    SEND_TEXT    payload                             TAKEN      ref: the kernel has all bytes of it
    SEND_BINARY  payload                             REFUSED    ref, {"text", "fate": "not_sent" | "unknown"}
    SUBSCRIBE    {"streams": [...]}                  PROBED     ref, {"rtt", "received", "stage"}
    UNSUBSCRIBE  {"streams": [...]}                  CUSTODY    a duplicate of the socket, see `Custody`
    RESUBSCRIBE  {"streams": [...]}, of which each is unsubscribed and subscribed again
    PROBE        answer from the receive loop itself ANNOUNCE   ref, `AnnounceCommand`: it is to be sent now
    STOP         {"code": 1000, "kind": "stopped"}   BEGUN      ref: as ANNOUNCE, where the connection is not in custody
    HANDOFF       a live connection's socket, before its ASSIGN, see `Resume`
                                                     LEFT       of a TLS holder: its connection is over, nothing is wrong
    IDENTIFY     {"on": ...}: messages carry their identities from now on, or no more; its ref is answered by TAKEN
    REQUEST      see `RequestCommand`: as a SEND_TEXT, and its answer is looked for
    WITHDRAW     the REQUEST of that ref, unless it is begun; it is REFUSED then
    FORGET       {"ids": [...]}: answers to these are not looked for any more
    HOLD         instead of an ASSIGN: be a TLS holder; an Assignment, and the socket that leads to the owner

                                                     READING    u64 position: parses what the last owner left unread, from
                                                                there on; an empty body: that is over

CUSTODY, HANDOFF and HOLD carry a file descriptor (SCM_RIGHTS, unix(7)) with their first byte.

The owner's other words (Up, Down, Subscribed ...) must stand at their place between the messages, so they travel through the
pipe as REPORT records, see reports.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, NamedTuple

import orjson

from wsadapter.contract.endpoint import Endpoint, endpoint_from_plain, to_plain

ASSIGN: Final = 1
SEND_TEXT: Final = 2
SEND_BINARY: Final = 3
SUBSCRIBE: Final = 4
UNSUBSCRIBE: Final = 5
PROBE: Final = 6
STOP: Final = 7
HANDOFF: Final = 8
IDENTIFY: Final = 9
REQUEST: Final = 10
WITHDRAW: Final = 11
FORGET: Final = 12
HOLD: Final = 13
RESUBSCRIBE: Final = 14

READY: Final = 65
TAKEN: Final = 66
REFUSED: Final = 67
PROBED: Final = 68
CUSTODY: Final = 69
ANNOUNCE: Final = 70
BEGUN: Final = 71
LEFT: Final = 72
READING: Final = 73

_HEAD: Final = struct.Struct("<IBQ")
_REQUEST_HEAD: Final = struct.Struct("<dI")
_ANNOUNCE_HEAD: Final = struct.Struct("<Qd")
_BEHIND_LENGTH: Final = _HEAD.size - 4
MAX_COMMAND: Final = 256 * 1024 * 1024


class Command(NamedTuple):
    """One frame of the control socket."""

    kind: int
    ref: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object; {} where it is empty. Raises `ValueError` where it is neither."""
        data = orjson.loads(self.body) if self.body else {}
        if not isinstance(data, dict):
            raise ValueError(f"a command's body must be an object, not {data!r:.100}")  # noqa: TRY004
        return data


def encode_command(kind: int, ref: int = 0, body: bytes | dict[str, Any] = b"") -> bytes:
    """One frame, ready to be written."""
    payload = orjson.dumps(body) if isinstance(body, dict) else body
    return command_head(kind, ref, len(payload)) + payload


def command_head(kind: int, ref: int, size: int) -> bytes:
    """What stands before a body of `size` bytes."""
    return _HEAD.pack(_BEHIND_LENGTH + size, kind, ref)


class CommandReader:
    """Cuts the control socket's byte stream into commands. Not thread-safe."""

    def __init__(self, pending: bytes = b"") -> None:
        """`pending`: the beginning of a command that another reader has read."""
        self._pending = bytearray(pending)

    @property
    def pending(self) -> bytes:
        """The beginning of a command, whose rest has not come."""
        return bytes(self._pending)

    def feed(self, chunk: bytes) -> Iterator[Command]:
        """Yields the commands that `chunk` completes. Raises `ValueError` on a length no command has."""
        self._pending += chunk
        while len(self._pending) >= _HEAD.size:
            length, kind, ref = _HEAD.unpack_from(self._pending)
            if not _BEHIND_LENGTH <= length <= MAX_COMMAND:
                raise ValueError(f"a command claims {length} bytes")
            if len(self._pending) < 4 + length:
                return
            body = bytes(memoryview(self._pending)[_HEAD.size : 4 + length])
            del self._pending[: 4 + length]
            yield Command(kind, ref, body)


class RequestCommand(NamedTuple):
    """The body of a REQUEST."""

    until: float
    """Monotonic seconds, which all processes of a machine share: it must not be begun any more after that."""
    id: str
    """As `id_text`."""
    payload: bytes

    def encode(self) -> bytes:
        """As the body."""
        name = self.id.encode()
        return b"".join((_REQUEST_HEAD.pack(self.until, len(name)), name, self.payload))

    @classmethod
    def decode(cls, body: bytes) -> RequestCommand:
        """The reverse of `encode`."""
        until, size = _REQUEST_HEAD.unpack_from(body)
        end = _REQUEST_HEAD.size + size
        return cls(until, body[_REQUEST_HEAD.size : end].decode(), body[end:])


class AnnounceCommand(NamedTuple):
    """The body of an ANNOUNCE."""

    position: int
    """Of the frame's first byte in the owners' stream."""
    allowed_at: float
    """From when on, in monotonic seconds, `limits.sends` allows the frame behind it."""
    frame: bytes = b""

    def head(self) -> bytes:
        """As the body, without the frame, which may be large."""
        return _ANNOUNCE_HEAD.pack(self.position, self.allowed_at)

    @classmethod
    def decode(cls, body: bytes) -> AnnounceCommand:
        """The reverse. Raises `ValueError` where it is none."""
        try:
            position, allowed_at = _ANNOUNCE_HEAD.unpack_from(body)
        except struct.error as error:
            raise ValueError(f"not an ANNOUNCE: {error}") from error
        if not isfinite(allowed_at):
            raise ValueError(f"not a time: {allowed_at}")
        return cls(position, allowed_at, body[_ANNOUNCE_HEAD.size :])


def id_text(value: object) -> str | None:
    """A request's id as text: some peers give back a number as a string. None where it is neither a whole number nor a string
    of one character or more."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """The body of CUSTODY: how to count the connection whose socket comes with it. Positions of the streams count from the end
    of the WebSocket handshake, the kernel's from the beginning of the connection."""

    received: int
    """The kernel's count at position 0 of what the peer sends."""
    sent: int
    """The kernel's count at position 0 of what the owner sends from here on."""
    allowed_at: float = 0.0
    """From when on, in monotonic seconds, `limits.sends` allows the next frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """A connection that outlived its owner. The body of the HANDOFF that carries its socket is `rest` bytes that complete a
    frame which was half sent, then the bytes of an unfinished message."""

    custody: Custody
    position: int
    """Of the peer's stream: all before it was handed over, the unfinished message with it."""
    skip: int
    """Bytes before `position` that are in the kernel still."""
    sent: int
    """Position of the owners' stream."""
    rest: int
    ref: int
    """Of the half-sent frame; 0 where nobody waits to hear of it."""
    up: dict[str, Any]
    """The fields of the connection's "up" report."""
    unread: int = 0
    """Bytes behind `position` that are in the kernel: the last owner may have died while it parsed them."""
    allowed_at: float = 0.0
    """From when on, in monotonic seconds, `limits.sends` allows the next frame."""
    careful: bool = False
    """An owner has died while it parsed them: parse them message by message, so that the next death names the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """All that an owner needs to know: the endpoint with its secrets filled in, and the ledger of its predecessors."""

    endpoint: Endpoint
    """With `${...}` filled in and files read."""
    epoch: int
    url: str
    """The one of `endpoint.url` to try."""
    dialect: dict[str, Any] | None = None
    """The dialect's data, checked; None where the endpoint has none."""
    wanted: tuple[Any, ...] = ()
    """The subscriptions to restore, as the user wrote them."""
    confirmed: tuple[Any, ...] = ()
    """Those of them that the last owner had confirmed; with `resume` those that need not be asked for again."""
    identify: bool = False
    """Messages carry their identities from the beginning."""
    custody: bool = False
    """The supervisor takes the connection into custody where it can be."""
    resume: Resume | None = None
    """Go on with this connection instead of opening one."""
    held: bool = False
    """TLS is a holder's: the socket of the HANDOFF before it leads there, see `worker/connect/tls_holder.py`."""
    channels: dict[str, Any] = field(default_factory=dict)
    """With `resume`: the subscriptions by what stands for them on this connection, as the peer said."""
    live: tuple[str, ...] = ()
    """With `resume`: the names of those of `confirmed` that have delivered on this connection."""
    rejected: dict[str, str] = field(default_factory=dict)
    """With `resume`: name = error of what the peer refused on this connection: a subscription of `confirmed`, or a part of
    one."""
    blamed: dict[str, str] = field(default_factory=dict)
    """What the peer closed an earlier connection because of: name of a subscription = its error; "": or because of another. The
    least suspicious first."""
    retry_at: dict[str, float] = field(default_factory=dict)
    """When one of those with an error is asked for again on this connection, in monotonic seconds, by its name; others are
    not."""
    paces: dict[str, float] = field(default_factory=dict)
    """The longest pause of each stream whose pace is known from this connection or earlier ones, in seconds, by its name."""
    opening: tuple[float, bool] | None = None
    """With `resume`, where nothing was sent on this connection yet: when its handshake was done, in monotonic seconds, and
    whether the peer's [[ready]] is awaited still. None: its opening is over."""
    login_at: float | None = None
    """With `resume`: monotonic seconds of the last login on this connection; None: it has none."""
    challenge: Any = None
    """With `resume`: the peer's challenge of that login, as JSON; None: there was none."""
    heartbeat_at: float | None = None
    """With `resume`: monotonic seconds of the last heartbeat sent on this connection; None: none is known."""
    token: Any = None
    """With `resume`: what the hook `before_connect` kept for this connection, as JSON."""
    requests: tuple[str, ...] = ()
    """With `resume`: the ids of the requests whose answers may still come."""
    last_number: int = 0
    """Of the last message accepted; 0 for none."""
    last_received_at: int | None = None
    """Wall-clock ns of the last message accepted."""
    quarantine: str = ""
    """Folder for messages the decode hook failed on; empty: they are only counted."""
    busy_poll: float = 0.0
    """Seconds to go on polling before sleeping."""
    sys_path: tuple[str, ...] = field(default=())
    """Where the user's hooks are importable from."""

    def to_body(self) -> dict[str, Any]:
        """As the body of an ASSIGN."""
        return {f: to_plain(getattr(self, f)) for f in self.__slots__}

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Assignment:
        """The reverse of `to_body`."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in body.items()}
        values["endpoint"] = endpoint_from_plain(body["endpoint"])
        if (resume := body["resume"]) is not None:
            values["resume"] = Resume(**{**resume, "custody": Custody(**resume["custody"])})
        return cls(**values)
