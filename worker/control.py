"""The owner's end of the control socket: commands in, answers out, never blocking."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from typing import Any

from wsadapter.contract.commands import Command, CommandReader, encode_command

_READ_SIZE = 64 * 1024
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Control:
    """Not thread-safe. After `gone` has become true nothing is received or sent any more."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock` must be non-blocking."""
        self._sock = sock
        self._reader = CommandReader()
        self._waiting = bytearray()
        self._fds: deque[int] = deque()
        self.gone = False
        """The supervisor closed its end, or broke it."""

    def fileno(self) -> int:
        """Of the socket."""
        return self._sock.fileno()

    @property
    def backlog(self) -> bool:
        """Whether answers wait for the socket to take them."""
        return bool(self._waiting) and not self.gone

    def receive(self) -> Iterator[Command]:
        """The commands that have come in. Raises `ValueError` where it is no command."""
        try:
            chunk, fds, _, _ = socket.recv_fds(self._sock, _READ_SIZE, 1, _CLOSE_ON_EXEC)
        except BlockingIOError:
            return
        except OSError:
            chunk, fds = b"", []
        self._fds += fds
        if not chunk:
            self.gone = True
            return
        yield from self._reader.feed(chunk)

    def take_fd(self) -> int | None:
        """The oldest descriptor that came in and was not taken; it belongs to the caller then."""
        return self._fds.popleft() if self._fds else None

    def hand(self, kind: int, body: dict[str, Any], fd: int) -> bool:
        """Sends a duplicate of `fd` with a command; false where the socket does not take it now."""
        self.flush()
        if self.gone or self._waiting:
            return False
        frame = encode_command(kind, 0, body)
        try:
            sent = socket.send_fds(self._sock, [frame], [fd])
        except OSError:  # full, too many descriptors in flight, or gone: the next read tells
            return False
        self._waiting += frame[sent:]
        return True

    def say(self, kind: int, ref: int = 0, body: dict[str, Any] | bytes | None = None) -> None:
        """Sends an answer, now or when the socket takes it."""
        if self.gone:
            return
        self._waiting += encode_command(kind, ref, body or b"")
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as the socket takes it."""
        try:
            while self._waiting:
                sent = self._sock.send(self._waiting)
                del self._waiting[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True
