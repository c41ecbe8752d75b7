"""What goes through the control socket at a takeover: lines, and a state with descriptors. Blocking, with deadlines."""

from __future__ import annotations

import os
import socket
import struct
from time import monotonic
from typing import Any, Final

import orjson

from wsadapter.contract.errors import TakeoverError
from wsadapter.contract.ipc.descriptors import receive_descriptors

_AT_ONCE: Final = 200
"""Descriptors with one message; the kernel takes 253 (unix(7), SCM_MAX_FD)."""
_CHUNK: Final = 1 << 18
_MOST: Final = 1 << 30
_LONGEST_LINE: Final = 1 << 16
_HEAD: Final = struct.Struct("<QI")


def send_state(sock: socket.socket, body: bytes, fds: list[int], deadline: float) -> None:
    """Send a state, encoded, and its descriptors. Raises `OSError`, `TimeoutError`."""
    _set_deadline(sock, deadline)
    sock.sendall(_HEAD.pack(len(body), len(fds)) + body)
    for at in range(0, len(fds), _AT_ONCE):
        _set_deadline(sock, deadline)
        socket.send_fds(sock, [b"\0"], fds[at : at + _AT_ONCE])


def receive_state(sock: socket.socket, deadline: float) -> tuple[bytes, list[int]]:
    """Receive a state and its descriptors, which the caller has to close. Raises `TakeoverError`, `OSError`."""
    size, count = _HEAD.unpack(_exactly(sock, _HEAD.size, deadline))
    if size > _MOST:
        raise TakeoverError(f"a state of {size} bytes was announced")
    state = _exactly(sock, size, deadline)
    fds: list[int] = []
    try:
        while len(fds) < count:
            _set_deadline(sock, deadline)
            byte, some, flags = receive_descriptors(sock, 1, _AT_ONCE)
            fds += some
            if not byte or not some or flags & socket.MSG_CTRUNC:
                break
    except OSError:
        close_all(fds)
        raise
    if len(fds) < count:
        close_all(fds)
        raise TakeoverError(f"{len(fds)} of {count} descriptors arrived: raise the limit of open files (ulimit -n)")
    return state, fds


def send_line(sock: socket.socket, message: dict[str, Any], deadline: float) -> None:
    """Send one JSON object. Raises `OSError`, `TimeoutError`."""
    _set_deadline(sock, deadline)
    sock.sendall(orjson.dumps(message) + b"\n")


def receive_line(sock: socket.socket, deadline: float) -> dict[str, Any] | None:
    """Read one JSON object, and no byte behind it; None at the end of the stream. Raises `TakeoverError`, `OSError`."""
    line = bytearray()
    while not line.endswith(b"\n"):
        _set_deadline(sock, deadline)
        byte = sock.recv(1)
        if not byte:
            return None
        line += byte
        if len(line) > _LONGEST_LINE:
            raise TakeoverError(f"a line of more than {_LONGEST_LINE} bytes")
    return _object(line)


def _object(text: bytes | bytearray) -> dict[str, Any]:
    try:
        message = orjson.loads(text)
    except ValueError as error:
        raise TakeoverError(f"no JSON: {error}: {bytes(text[:200])!r}") from None
    if not isinstance(message, dict):
        raise TakeoverError(f"not a JSON object: {bytes(text[:200])!r}")
    return message


def close_all(fds: list[int]) -> None:
    """Close all descriptors."""
    for fd in fds:
        os.close(fd)


def _exactly(sock: socket.socket, size: int, deadline: float) -> bytes:
    found = bytearray()
    while len(found) < size:
        _set_deadline(sock, deadline)
        chunk = sock.recv(min(_CHUNK, size - len(found)))
        if not chunk:
            raise TakeoverError("the running supervisor closed the connection")
        found += chunk
    return bytes(found)


def _set_deadline(sock: socket.socket, deadline: float) -> None:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    sock.settimeout(left)
