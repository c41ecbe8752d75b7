"""What a TLS holder reports to its owner until TLS is up: frames of a length and JSON on the loopback stream between the two.

The owner keeps the deadlines, so the holder reports each step of the connect. `opened` or `failed` is the last event; after
`opened` the stream carries the bytes of the connection.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

import orjson

from wsadapter.worker.websocket.byte_stream import EndOfStream

_LENGTH: Final = struct.Struct("<I")
_LONGEST: Final = 64 * 1024


def send_event(sock: socket.socket, event: dict[str, Any]) -> None:
    """Send one event, blocking. Raises `OSError`."""
    body = orjson.dumps(event)
    sock.sendall(_LENGTH.pack(len(body)) + body)


def read_event(sock: socket.socket) -> dict[str, Any]:
    """The next event, blocking. No byte after the event is read. Raises `EndOfStream`, and `OSError`, for a bad frame too."""
    (size,) = _LENGTH.unpack(_read_exactly(sock, _LENGTH.size))
    if size > _LONGEST:
        raise ConnectionError(f"the TLS holder announced an event of {size} bytes")
    body = _read_exactly(sock, size)
    try:
        event = orjson.loads(body)
    except ValueError as error:
        raise ConnectionError(f"the TLS holder sent an event that isn't JSON: {error}") from None
    if not isinstance(event, dict):
        raise ConnectionError("the TLS holder sent an event that isn't a JSON object")
    return event


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        chunk = sock.recv(size - len(found))
        if not chunk:
            raise EndOfStream
        found += chunk
    return found
