"""The supervisor's end of an owner's control socket (contract/ipc/command_socket.py), read and written by the loop."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from wsadapter.contract.ipc.command_socket import CommandSocket, Unfinished
from wsadapter.contract.ipc.commands import Command
from wsadapter.loop import poller
from wsadapter.loop.reactor import Reactor

logger = logging.getLogger("wsadapter.supervisor")

_MOST_READS: Final = 256
"""Reads of `read_all`, at most: a process that is alive may write on and on."""


class ControlChannel:
    """Commands to one owner process and from it. All methods under the reactor's lock."""

    def __init__(
        self, reactor: Reactor, on_command: Callable[[Command], None], on_corrupt: Callable[[ValueError], None]
    ) -> None:
        """`on_corrupt` is called once nothing more is read, because what came was no command."""
        self._reactor = reactor
        self._on_command = on_command
        self._on_corrupt = on_corrupt
        self._socket: CommandSocket | None = None
        self._writes = False
        """The loop waits until the socket takes more."""
        self.is_drained = False
        """`read_all` has read everything that the process had sent by then."""

    def open(self, sock: socket.socket, unfinished: Unfinished = Unfinished()) -> None:  # noqa: B008 - immutable
        """Use `sock` once `watch` is called. `unfinished`: how another supervisor left it."""
        sock.setblocking(False)
        self._socket = CommandSocket(sock, unfinished)

    @property
    def sock(self) -> CommandSocket:
        """The socket itself, to be given to another supervisor. It must be open."""
        assert self._socket is not None
        return self._socket

    def watch(self) -> None:
        """Read what comes, and write what waits."""
        if self._socket is not None:
            self._reactor.dispatcher.register(self._socket.fileno(), self._on_ready)
            self._writes = False
            self.flush()

    def unwatch(self) -> None:
        """Leave what comes unread, and what waits unwritten."""
        if self._socket is not None:
            self._reactor.dispatcher.unregister(self._socket.fileno())

    @property
    def unsent(self) -> int:
        """Bytes that wait for the socket to take them."""
        return self._socket.unsent if self._socket is not None else 0

    @property
    def is_watched(self) -> bool:
        """Whether the loop reads it: it is open, not at its end, and not left to another supervisor."""
        return self._socket is not None and self._reactor.dispatcher.is_registered(self._socket.fileno())

    def send(self, kind: int, ref: int, body: bytes | dict[str, Any]) -> None:
        """Send a command, now or when the socket takes it. The socket must be open."""
        self.sock.send(kind, ref, body)
        self._watch_writing()

    def send_descriptor(self, kind: int, body: bytes | dict[str, Any], sock: socket.socket) -> bool:
        """Send a command with a duplicate of `sock`; whether it is on its way."""
        try:
            self.sock.send_descriptor(kind, body, sock.fileno())
        except OSError as error:  # too many descriptors in flight (unix(7)), or it is dying
            logger.warning("a connection could not be handed on: %s", error)
            return False
        self._watch_writing()
        return True

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it."""
        if self._socket is not None:
            self._socket.flush()
            self._watch_writing()

    def read_all(self) -> bool:
        """Read what the process has sent so far; whether that was all."""
        self.is_drained = self._socket is not None and not all(self._read() for _ in range(_MOST_READS))
        return self.is_drained

    def close(self) -> None:
        """Close the socket, and let go of who is called."""
        self.unwatch()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        # Else the channel and its owner process keep each other until the garbage collector runs.
        self._on_command = self._on_corrupt = _ignore

    def _on_ready(self, events: int) -> None:
        if not self.is_watched:  # something else of this turn has ended it
            return
        if events & poller.WRITE:
            self.flush()
        self._read()

    def _read(self) -> bool:
        """One read; whether there may be more."""
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
    """Nobody is interested any more."""
