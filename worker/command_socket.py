"""The owner's end of the control socket: commands in, answers out, never blocking."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from wsadapter.contract.ipc.commands import Command, CommandReader, command_head, encode_command

_READ_SIZE: Final = 64 * 1024
_AT_ONCE: Final = 1 << 20
"""Bytes that one `flush` gives the socket at most: a supervisor that reads fast would keep the loop here."""
_BUFFERS: Final = 64
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Control:
    """Not thread-safe. After `gone` has become true nothing is received or sent any more."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock` must be non-blocking."""
        self._sock = sock
        self._reader = CommandReader()
        self._waiting: deque[memoryview] = deque()
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
        self._put(frame[sent:])
        return True

    def say(self, kind: int, ref: int = 0, body: dict[str, Any] | bytes | None = None) -> None:
        """Sends an answer, now or when the socket takes it."""
        if not self.gone:
            self._put(encode_command(kind, ref, body or b""))
            self.flush()

    def say_large(self, kind: int, ref: int, begin: bytes, rest: bytes | bytearray) -> None:
        """The same with a body of two parts, of which `rest` is not copied: it must not be changed any more."""
        if not self.gone:
            self._put(command_head(kind, ref, len(begin) + len(rest)) + begin)
            self._put(rest)
            self.flush()

    def _put(self, data: bytes | bytearray) -> None:
        if data:
            self._waiting.append(memoryview(data))

    def flush(self) -> None:
        """Sends what waits, as far as the socket takes it, up to `_AT_ONCE`."""
        left = _AT_ONCE
        try:
            while self._waiting and left > 0:
                left -= self._sent(self._sock.sendmsg([part[:_AT_ONCE] for part in islice(self._waiting, _BUFFERS)]))
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True

    def _sent(self, size: int) -> int:
        """So many bytes of what waits are sent."""
        left = size
        while left:
            part = self._waiting.popleft()
            if len(part) > left:
                self._waiting.appendleft(part[left:])
            left -= min(left, len(part))
        return size
