"""The phase before the assignment: the process is started and waits for an endpoint."""

from __future__ import annotations

import socket

from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.reasons import Reason
from wsadapter.worker.owner.connecting import Connecting
from wsadapter.worker.owner.leaving import Draining
from wsadapter.worker.owner.phase import Host, Phase, Stop

_NOT_ARRIVED = "the connection to continue with did not arrive; the process may have too many open files"


class Idle(Phase):
    """There is no endpoint yet."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._handed: tuple[socket.socket | None, bytes] = (None, b"")
        """The connection of a previous owner, or to a TLS holder, for the assignment that follows; None: there is none."""

    def take_connection(self, sock: socket.socket, body: bytes) -> None:
        self._handed = sock, body

    def assign(self, assignment: Assignment) -> None:
        self.host.assigned(assignment)
        sock, body = self._handed
        if (assignment.resume is not None or assignment.held) and sock is None:
            self.host.enter(Draining(self.host, Reason(kind="connect_failed", text=_NOT_ARRIVED)))
            return
        self.host.enter(Connecting(self.host, assignment, sock, body))

    def stop(self, stop: Stop, now: float) -> None:  # noqa: ARG002
        self.host.end.code = 0
