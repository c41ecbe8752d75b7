"""The frames of the control socket, both ways.

    +-----------+---------+---------+------+
    | length u32| kind u8 | ref u64 | body |
    +-----------+---------+---------+------+

`length` counts the bytes after it. `ref` pairs an answer with its command; 0: there is none. Bodies are JSON objects, except
those of SEND_TEXT and SEND_BINARY (the payload), REQUEST, ANNOUNCE, READING and HANDOFF. Only the two ends of the socket read
the commands. They carry secrets (login, headers), which therefore are in no command line, no environment and no log.

Supervisor to owner                              Owner to supervisor
    ASSIGN       see `assignment.Assignment`         READY      started, waiting for an ASSIGN
    SEND_TEXT    payload                             TAKEN      ref: the kernel has all bytes of it
    SEND_BINARY  payload                             REFUSED    ref, {"text", "fate": "not_sent" | "unknown"}
    SUBSCRIBE    {"streams": [...]}                  PROBED     ref, {"rtt", "received", "stage"}
    UNSUBSCRIBE  {"streams": [...]}                  CUSTODY    a duplicate of the socket, see `assignment.Custody`
    RESUBSCRIBE  {"streams": [...]}: unsubscribes and subscribes each again
    PROBE        to be answered by the receive loop  ANNOUNCE   ref, `AnnounceCommand`: the frame is to be sent now
    STOP         {"code": 1000, "kind": "stopped"}   BEGUN      ref: as ANNOUNCE, if the connection is not in custody
    HANDOFF      a live connection's socket, before its ASSIGN, see `assignment.Resume`
                                                     LEFT       from a TLS holder: its connection is over, without a fault
    IDENTIFY     {"on": ...}: messages carry their identities from now on, or no longer; answered by TAKEN
    REQUEST      see `RequestCommand`: as SEND_TEXT, and the owner recognises the answer
    WITHDRAW     withdraws the REQUEST of that ref if its first byte is not sent; it is REFUSED then
    FORGET       {"ids": [...]}: answers to these requests are no longer recognised
    HOLD         instead of an ASSIGN: be a TLS holder; an Assignment, and the socket to the owner
    REJOIN       {"number": ...}, only through the rejoin socket (rejoin.py): the control socket of another supervisor

                                                     READING    u64 position: the owner parses what the previous owner left
                                                                unread, from there on; an empty body: it has parsed all of it

CUSTODY, HANDOFF, HOLD and REJOIN carry a file descriptor (SCM_RIGHTS, unix(7)) with their first byte.

The owner's other reports (Up, Down, Subscribed ...) belong to a place between the messages, so they go through the pipe as
REPORT records, see reports.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import isfinite
from typing import Any, Final, NamedTuple

import orjson

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
REJOIN: Final = 15

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
        """The body as an object; {} if it is empty. Raises `ValueError` if it is no object."""
        data = orjson.loads(self.body) if self.body else {}
        if not isinstance(data, dict):
            raise ValueError(f"a command's body must be an object, not {data!r:.100}")  # noqa: TRY004
        return data


def encode_command(kind: int, ref: int = 0, body: bytes | dict[str, Any] = b"") -> bytes:
    """One frame, as bytes."""
    payload = orjson.dumps(body) if isinstance(body, dict) else body
    return command_head(kind, ref, len(payload)) + payload


def command_head(kind: int, ref: int, size: int) -> bytes:
    """The head of a frame whose body has `size` bytes."""
    return _HEAD.pack(_BEHIND_LENGTH + size, kind, ref)


class CommandReader:
    """Cuts the control socket's byte stream into commands. Not thread-safe."""

    def __init__(self, pending: bytes = b"") -> None:
        """`pending`: the beginning of a command that the other side of a takeover has read."""
        self._pending = bytearray(pending)

    @property
    def pending(self) -> bytes:
        """The beginning of a command whose rest has not come."""
        return bytes(self._pending)

    def feed(self, chunk: bytes) -> Iterator[Command]:
        """Yields the commands that `chunk` completes. Raises `ValueError` if a length is invalid."""
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
    """Monotonic seconds after which the request must not be begun. All processes of a machine have the same monotonic clock."""
    id: str
    """The id as `id_text` returns it."""
    payload: bytes

    def encode(self) -> bytes:
        """The body."""
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
    """The position of the frame's first byte in the owners' stream."""
    allowed_at: float
    """From when on, in monotonic seconds, `limits.sends` allows the next frame."""
    frame: bytes = b""

    def head(self) -> bytes:
        """The body without the frame, which may be large and is sent without a copy."""
        return _ANNOUNCE_HEAD.pack(self.position, self.allowed_at)

    @classmethod
    def decode(cls, body: bytes) -> AnnounceCommand:
        """The reverse of `head` and the frame. Raises `ValueError` if the body is invalid."""
        try:
            position, allowed_at = _ANNOUNCE_HEAD.unpack_from(body)
        except struct.error as error:
            raise ValueError(f"not an ANNOUNCE: {error}") from error
        if not isfinite(allowed_at):
            raise ValueError(f"not a time: {allowed_at}")
        return cls(position, allowed_at, body[_ANNOUNCE_HEAD.size :])


def id_text(value: object) -> str | None:
    """A request's id as text, because some peers return a number as a string. None if it is neither an integer nor a string of
    at least one character."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
