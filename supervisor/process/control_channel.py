"""The supervisor's end of an owner's control socket (contract/ipc/command_socket.py), read and written by the loop."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from wsadapter.contract.ipc.command_socket import CommandSocket, Unfinished
from wsadapter.contract.ipc.commands import Command
from wsadapter.contract.ipc.rejoin import call_owner
from wsadapter.loop import poller
from wsadapter.loop.reactor import Reactor

logger = logging.getLogger("wsadapter.supervisor")

_MOST_READS: Final = 256
"""The most reads of one `read_all`: a process that is alive may write without end."""


class ControlChannel:
    """Commands to one owner process and from it. All methods under the reactor's lock."""

    def __init__(
        self, reactor: Reactor, on_command: Callable[[Command], None], on_corrupt: Callable[[ValueError], None]
    ) -> None:
        """`on_corrupt` is called if invalid bytes came; nothing more is read then."""
        self._reactor = reactor
        self._on_command = on_command
        self._on_corrupt = on_corrupt
        self._socket: CommandSocket | None = None
        self._writes = False
        """Whether the loop waits until the socket accepts more."""
        self.is_drained = False
        """Whether the last `read_all` has read everything that the process had sent by then."""
        self.rejoin: socket.socket | None = None
        """Our end of the rejoin socket of the process (contract/ipc/rejoin.py); None: the process has none."""
        self.called: int | None = None
        """The number of our call through the rejoin socket; None: this supervisor has not called the process."""

    def open(self, sock: socket.socket, unfinished: Unfinished = Unfinished()) -> None:  # noqa: B008 - immutable
        """Use `sock` once `watch` is called. `unfinished`: what another supervisor has half read and half written."""
        sock.setblocking(False)
        if self._socket is not None:
            self._socket.close()
        self._socket = CommandSocket(sock, unfinished)

    def call(self, number: int) -> None:
        """Take the place of a supervisor that died, whose control socket the process drops. The process must have a rejoin
        socket. `number`: one that no supervisor has called the process with. Raises `OSError`."""
        assert self.rejoin is not None
        self.unwatch()
        self.open(call_owner(self.rejoin, number))
        self.called = number

    @property
    def sock(self) -> CommandSocket:
        """The socket itself, to be given to another supervisor. It must be open."""
        assert self._socket is not None
        return self._socket

    def watch(self) -> None:
        """Read commands, and write those that wait."""
        if self._socket is not None:
            self._reactor.dispatcher.register(self._socket.fileno(), self._on_ready)
            self._writes = False
            self.flush()

    def unwatch(self) -> None:
        """Stop reading and writing."""
        if self._socket is not None:
            self._reactor.dispatcher.unregister(self._socket.fileno())

    @property
    def unsent(self) -> int:
        """Bytes that wait until the socket accepts them."""
        return self._socket.unsent if self._socket is not None else 0

    @property
    def is_watched(self) -> bool:
        """Whether the loop reads it: it is open, not at its end, and not passed to another supervisor."""
        return self._socket is not None and self._reactor.dispatcher.is_registered(self._socket.fileno())

    def send(self, kind: int, ref: int, body: bytes | dict[str, Any]) -> None:
        """Send a command, now or when the socket accepts it. The socket must be open."""
        self.sock.send(kind, ref, body)
        self._watch_writing()

    def send_descriptor(self, kind: int, body: bytes | dict[str, Any], sock: socket.socket) -> bool:
        """Send a command with a duplicate of `sock`. Returns whether the kernel accepted it."""
        try:
            self.sock.send_descriptor(kind, body, sock.fileno())
        except OSError as error:  # too many descriptors in flight (unix(7)), or it is dying
            logger.warning("a connection could not be passed to an owner: %s", error)
            return False
        self._watch_writing()
        return True

    def flush(self) -> None:
        """Write what waits, as much as the socket accepts."""
        if self._socket is not None:
            self._socket.flush()
            self._watch_writing()

    def read_all(self) -> bool:
        """Read what the process has sent so far. Returns whether everything was read."""
        self.is_drained = self._socket is not None and not all(self._read() for _ in range(_MOST_READS))
        return self.is_drained

    def close(self) -> None:
        """Close the socket, and drop the references to callbacks."""
        self.unwatch()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self.rejoin is not None:
            self.rejoin.close()
            self.rejoin = None
        # No cycle: otherwise the channel and its owner process are freed only when the garbage collector runs.
        self._on_command = self._on_corrupt = _ignore

    def _on_ready(self, events: int) -> None:
        if not self.is_watched:  # another handler of this turn has closed it
            return
        if events & poller.WRITE:
            self.flush()
        self._read()

    def _read(self) -> bool:
        """Read once. Returns whether there may be more."""
        sock = self._socket
        if sock is None or not self.is_watched:
            return False
        try:
            for command in sock.receive():
                self._on_command(command)
        except ValueError as error:
            self.unwatch()
            self._on_corrupt(error)
            return False
        if sock.at_end:
            self.unwatch()
        return not sock.drained

    def _watch_writing(self) -> None:
        backlog = self.sock.backlog
        if backlog is not self._writes and self.is_watched:
            self._writes = backlog
            self._reactor.dispatcher.modify(self.sock.fileno(), poller.READ | (poller.WRITE if backlog else 0))


def _ignore(_what: object) -> None:
    """For calls after `close`."""
