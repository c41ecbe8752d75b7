"""What the kernel knows of a TCP connection's two byte streams: the word that both sides of a handoff go by (Linux).

Offsets within `struct tcp_info` are those of linux/tcp.h, which only ever grows at its end.
"""

from __future__ import annotations

import array
import fcntl
import socket
import sys
import termios
from typing import Final, NamedTuple

ESTABLISHED: Final = 1
CLOSE_WAIT: Final = 8
"""The peer has ended its stream (FIN)."""

_NOT_SENT: Final = 144
_RECEIVED: Final = 128
_SENT: Final = 200
_SENT_AGAIN: Final = 208
_SIZE: Final = 216
_MOST_LOOKS: Final = 1000


class Counters(NamedTuple):
    """How far a connection's streams are, in bytes since it was opened."""

    state: int
    """`ESTABLISHED`, `CLOSE_WAIT`, or another number of the kernel's."""
    read: int
    """Of the peer's bytes: how many were read from the socket."""
    unread: int
    """... and how many were received and not read."""
    written: int
    """Of ours: how many the kernel was given."""


def counters(sock: socket.socket) -> Counters | None:
    """Where the streams are; None where the kernel does not tell, or where bytes came in at every look.

    Received and waiting bytes are two calls, between which segments may arrive: they are read until they agree. What is taken
    is exact only while nobody reads the socket.
    """
    if sys.platform != "linux":
        return None
    try:
        info = _info(sock)
        if len(info) < _SIZE:
            return None
        for _ in range(_MOST_LOOKS):
            waiting = _waiting(sock)
            again = _info(sock)
            if _u64(info, _RECEIVED) == _u64(again, _RECEIVED) and info[0] == again[0]:
                return _counted(again, waiting)
            info = again
    except OSError:  # a kernel, or a sandbox, that knows none of this
        return None
    return None


def _counted(info: bytes, waiting: int) -> Counters:
    state = info[0]
    received = _u64(info, _RECEIVED) - (state == CLOSE_WAIT)  # a FIN counts as a byte
    not_sent = int.from_bytes(info[_NOT_SENT : _NOT_SENT + 4], sys.byteorder)
    return Counters(state, received - waiting, waiting, _u64(info, _SENT) - _u64(info, _SENT_AGAIN) + not_sent)


def _info(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)


def _waiting(sock: socket.socket) -> int:
    answer = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, answer)
    return answer[0]


def _u64(info: bytes, at: int) -> int:
    return int.from_bytes(info[at : at + 8], sys.byteorder)
