"""The kernel's counters of a TCP connection's two byte streams, which both sides of a handoff rely on (Linux).

Offsets in `struct tcp_info` are those of linux/tcp.h, which only grows at its end.
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
    """The positions of a connection's streams, in bytes since the connection was opened."""

    state: int
    """`ESTABLISHED`, `CLOSE_WAIT`, or another state of the kernel."""
    read: int
    """Bytes of the peer that were read from the socket."""
    unread: int
    """Bytes of the peer that the kernel has received and that were not read."""
    written: int
    """Bytes of ours that the kernel has taken."""


def counters(sock: socket.socket) -> Counters | None:
    """The positions of the streams; None if the kernel does not report them, or if bytes arrived at every attempt.

    Received and unread bytes need two system calls, between which segments may arrive: both are repeated until nothing arrived
    in between. `read` is exact only while nobody reads the socket.
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
    except OSError:  # the kernel or a sandbox does not support it
        return None
    return None


def _counted(info: bytes, waiting: int) -> Counters:
    state = info[0]
    received = _u64(info, _RECEIVED) - (state == CLOSE_WAIT)  # the kernel counts a FIN as a byte
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
