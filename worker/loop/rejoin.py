"""The owner's end of its rejoin socket, through which the next supervisor sends a control socket (contract/ipc/rejoin.py)."""

from __future__ import annotations

import socket
from typing import NamedTuple

from wsadapter.contract.ipc.command_socket import CommandSocket
from wsadapter.contract.ipc.commands import REJOIN


class Call(NamedTuple):
    """Another supervisor wants to continue."""

    number: int
    """To be repeated in the answer."""
    control: socket.socket
    """The control socket to that supervisor, non-blocking."""


class RejoinSocket:
    """Not thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock` must be non-blocking."""
        self._socket = CommandSocket(sock)

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._socket.fileno()

    @property
    def at_end(self) -> bool:
        """The other end is closed: no supervisor can follow."""
        return self._socket.at_end

    def receive(self) -> Call | None:
        """The last call that has come; None: none has. If there are several, the supervisors that made the others are dead."""
        found: Call | None = None
        while True:
            for command in self._socket.receive():
                descriptor = self._socket.take_descriptor()
                if command.kind != REJOIN or descriptor is None:  # None: this process has too many open files
                    continue
                if found is not None:
                    found.control.close()
                control = socket.socket(fileno=descriptor)
                control.setblocking(False)
                found = Call(int(command.json()["number"]), control)
            if self._socket.drained:
                return found
