"""One end of a control socket: commands out, commands in, never blocking. The supervisor and its owners use the same class.

    send ──> waiting ──flush──> socket ··· socket ──receive──> CommandReader ──> Command
                                   └── descriptor (SCM_RIGHTS, unix(7)) ──> take_descriptor

Bytes that the socket does not take at once wait here, in order. While bytes wait (`backlog`), the loop of either side also
watches the socket for writing, and calls `flush`. This class registers nothing with a loop.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from wsadapter.contract.ipc.commands import Command, CommandReader, command_head, encode_command
from wsadapter.contract.ipc.descriptors import receive_descriptors

_READ_SIZE: Final = 64 * 1024
_AT_ONCE: Final = 1 << 20
"""The most bytes that one `flush` sends: a peer that reads fast could otherwise keep the loop here."""
_BUFFERS: Final = 64


class Unfinished(NamedTuple):
    """The unfinished work at one end of a control socket, with which a process continues that takes over the socket."""

    unread: bytes = b""
    """The beginning of a command whose rest has not come."""
    unsent: bytes = b""
    """The bytes that the socket has not taken."""
    descriptor: int | None = None
    """A descriptor whose command has not come completely."""


class CommandSocket:
    """One end of a control socket. Not thread-safe."""

    def __init__(self, sock: socket.socket, unfinished: Unfinished = Unfinished()) -> None:  # noqa: B008 - immutable
        """`sock` must be non-blocking; `close` closes it."""
        self._sock = sock
        self._reader = CommandReader(unfinished.unread)
        self._waiting: deque[memoryview] = deque()
        self._descriptor = unfinished.descriptor
        self.unsent = 0
        """Bytes that wait for the socket to take them."""
        self.peer_closed = False
        """The other end is closed or broken: nothing more is sent. Bytes that the peer had written before can still be
        received."""
        self.drained = False
        """The last `receive` found nothing, or the end."""
        self.at_end = False
        """`receive` found the end of the stream."""
        self._put(unfinished.unsent)

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._sock.fileno()

    @property
    def backlog(self) -> bool:
        """True if bytes wait for the socket to take them."""
        return bool(self._waiting) and not self.peer_closed

    @property
    def unfinished(self) -> Unfinished:
        """See `Unfinished`. The descriptor stays open here."""
        return Unfinished(self._reader.pending, b"".join(self._waiting), self._descriptor)

    def receive(self) -> Iterator[Command]:
        """The commands of one read; an iterator, so that each command is executed before a later one is found to be corrupt.

        Raises `ValueError` if the bytes are no command, or if a descriptor came before the command of the last descriptor.
        """
        self.drained = True
        try:
            chunk, descriptors, _ = receive_descriptors(self._sock, _READ_SIZE, 1)
        except BlockingIOError:
            return
        except OSError:  # the peer died and had not read everything that we had sent
            chunk, descriptors = b"", []
        for descriptor in descriptors:
            self._keep(descriptor)
        if not chunk:
            self.at_end = True
            self._stop_sending()
            return
        self.drained = False
        yield from self._reader.feed(chunk)

    def _keep(self, descriptor: int) -> None:
        if self._descriptor is not None:
            os.close(descriptor)
            raise ValueError("a second descriptor came before the command of the first")
        self._descriptor = descriptor

    def take_descriptor(self) -> int | None:
        """The descriptor that came with the present command; the caller must close it. None: it did not arrive, because this
        process has too many open files."""
        descriptor, self._descriptor = self._descriptor, None
        return descriptor

    def send(self, kind: int, ref: int = 0, body: bytes | dict[str, Any] = b"") -> None:
        """Sends a command, now or when the socket takes it. Does nothing if the peer has closed its end."""
        if not self.peer_closed:
            self._put(encode_command(kind, ref, body))
            self.flush()

    def send_large(self, kind: int, ref: int, begin: bytes, rest: bytes | bytearray) -> None:
        """As `send`, with a body of two parts. `rest` is not copied, so the caller must not change it any more."""
        if not self.peer_closed:
            self._put(command_head(kind, ref, len(begin) + len(rest)) + begin)
            self._put(rest)
            self.flush()

    def send_descriptor(self, kind: int, body: bytes | dict[str, Any], descriptor: int) -> None:
        """Sends a command together with a duplicate of `descriptor`.

        Raises `OSError` if this is not possible now, because the socket is full, too many descriptors are in flight, or the
        peer is gone. Then nothing of the command is sent.
        """
        self.flush()
        if self._waiting or self.peer_closed:
            raise BlockingIOError("earlier commands wait to be sent" if self._waiting else "the other end is closed")
        frame = encode_command(kind, 0, body)
        sent = socket.send_fds(self._sock, [frame], [descriptor])
        self._put(memoryview(frame)[sent:])
        self.flush()

    def flush(self) -> None:
        """Sends the bytes that wait, as far as the socket takes them, up to `_AT_ONCE` bytes."""
        left = _AT_ONCE
        try:
            while self._waiting and left > 0:
                left -= self._sent(self._sock.sendmsg([part[:_AT_ONCE] for part in islice(self._waiting, _BUFFERS)]))
        except BlockingIOError:
            pass  # the loop calls `flush` again when the socket is writable
        except OSError:  # the peer is gone or dying: `receive` finds the end of the stream, or the supervisor detects the death
            self._stop_sending()

    def replace(self, sock: socket.socket) -> None:
        """Continues with `sock`, whose other end another process has, and closes the socket before. What was received of an
        unfinished command, and what was not sent, is dropped. `sock` must be non-blocking."""
        self.close()
        self._sock = sock
        self._reader = CommandReader()
        self._stop_sending()
        self.peer_closed = self.drained = self.at_end = False

    def close(self) -> None:
        """Closes the socket, and a descriptor that was not taken."""
        if (descriptor := self.take_descriptor()) is not None:
            os.close(descriptor)
        self._sock.close()

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            self._waiting.append(memoryview(data))
            self.unsent += len(data)

    def _sent(self, size: int) -> int:
        """Removes `size` sent bytes from those that wait."""
        left = size
        while left:
            part = self._waiting.popleft()
            if len(part) > left:
                self._waiting.appendleft(part[left:])
            left -= min(left, len(part))
        self.unsent -= size
        return size

    def _stop_sending(self) -> None:
        self.peer_closed = True
        self._waiting.clear()
        self.unsent = 0
