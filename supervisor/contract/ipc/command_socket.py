"""One end of a control socket: commands out, commands in, never blocking. The supervisor and its owners use the same class.

    send ──> waiting ──flush──> socket ··· socket ──receive──> CommandReader ──> Command
                                   └── descriptor (SCM_RIGHTS, unix(7)) ──> take_descriptor

What the socket does not take at once waits here, in order. While something waits (`backlog`), the loop of either side watches
the socket for writing too, and calls `flush`. No registration with a loop happens here.
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
"""Bytes that one `flush` gives the socket at most: a peer that reads fast would keep the loop here."""
_BUFFERS: Final = 64


class Unfinished(NamedTuple):
    """What is half done at one end of a control socket; a process that takes the socket over goes on with it."""

    unread: bytes = b""
    """The beginning of a command, whose rest has not come."""
    unsent: bytes = b""
    """Commands that the socket has not taken."""
    descriptor: int | None = None
    """A descriptor whose command has not come."""


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
        """The other end is closed, or broken: nothing more is sent. What the peer had written before can still be received."""
        self.drained = False
        """The last `receive` found nothing, or the end."""
        self.at_end = False
        """`receive` found the end: there is nothing more to receive."""
        self._put(unfinished.unsent)

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._sock.fileno()

    @property
    def backlog(self) -> bool:
        """Whether something waits for the socket to take it."""
        return bool(self._waiting) and not self.peer_closed

    @property
    def unfinished(self) -> Unfinished:
        """See `Unfinished`. The descriptor stays open here."""
        return Unfinished(self._reader.pending, b"".join(self._waiting), self._descriptor)

    def receive(self) -> Iterator[Command]:
        """The commands that one read brings; an iterator, so that each is acted on before a later one is found to be corrupt.

        Raises `ValueError` if what came is no command, or if a descriptor came before the command of the last one.
        """
        self.drained = True
        try:
            chunk, descriptors, _ = receive_descriptors(self._sock, _READ_SIZE, 1)
        except BlockingIOError:
            return
        except OSError:  # the peer died with something of ours unread
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
        """The descriptor that came with the present command; the caller has to close it. None if none came: the receiver has
        too many open files."""
        descriptor, self._descriptor = self._descriptor, None
        return descriptor

    def send(self, kind: int, ref: int = 0, body: bytes | dict[str, Any] = b"") -> None:
        """Send a command, now or when the socket takes it. Nothing happens if the peer has closed its end."""
        if not self.peer_closed:
            self._put(encode_command(kind, ref, body))
            self.flush()

    def send_large(self, kind: int, ref: int, begin: bytes, rest: bytes | bytearray) -> None:
        """As `send`, with a body of two parts. `rest` is not copied: it must not be changed any more."""
        if not self.peer_closed:
            self._put(command_head(kind, ref, len(begin) + len(rest)) + begin)
            self._put(rest)
            self.flush()

    def send_descriptor(self, kind: int, body: bytes | dict[str, Any], descriptor: int) -> None:
        """Send a command together with a duplicate of `descriptor`.

        Raises `OSError` if that can't be done now: the socket is full, too many descriptors are in flight, or the peer is gone.
        Then nothing of the command is sent.
        """
        self.flush()
        if self._waiting or self.peer_closed:
            raise BlockingIOError("earlier commands wait to be sent" if self._waiting else "the other end is closed")
        frame = encode_command(kind, 0, body)
        sent = socket.send_fds(self._sock, [frame], [descriptor])
        self._put(memoryview(frame)[sent:])
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it, up to `_AT_ONCE` bytes."""
        left = _AT_ONCE
        try:
            while self._waiting and left > 0:
                left -= self._sent(self._sock.sendmsg([part[:_AT_ONCE] for part in islice(self._waiting, _BUFFERS)]))
        except BlockingIOError:
            pass  # the loop calls again when the socket is writable
        except OSError:  # the peer is gone, or dying: its end of the stream, or its death, is seen elsewhere
            self._stop_sending()

    def close(self) -> None:
        """Close the socket, and a descriptor that nobody has taken."""
        if (descriptor := self.take_descriptor()) is not None:
            os.close(descriptor)
        self._sock.close()

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            self._waiting.append(memoryview(data))
            self.unsent += len(data)

    def _sent(self, size: int) -> int:
        """So many bytes of what waits are sent."""
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
