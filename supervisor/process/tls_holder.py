"""A process that holds the TLS of one connection, seen from the supervisor (`tls.holder`; its code:
worker/connect/tls_holder.py).

    starting ──warm──> HOLD is sent ──> serves ──its connection is over──> asked to exit ──> gone
        └──────────────────┴──── it died: `lost`; its owner sees the end of the stream ────────^

It belongs to a connection, not to an owner: it goes with the connection from one owner to the next. Between the owner and the
holder is a loopback connection. Both its ends are made here at once, so that no port stays open that another program could use.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from wsadapter.contract.endpoint import Endpoint, Tls
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import LEFT, Command
from wsadapter.contract.reasons import Reason
from wsadapter.process.lifecycle import ProcessState
from wsadapter.process.owner_process import IgnoreOwnerEvents, OwnerListener, OwnerProcess

logger = logging.getLogger("wsadapter.supervisor")

_OF_A_LOST_HOLDER: Final = ("closed_by_peer", "connect_failed", "handshake_rejected", "send_failed", "holder_lost")
"""What an owner sees when the process that holds its TLS ends."""
_ATTEMPTS: Final = 8
"""Attempts to accept our own connection, if other programs connect first."""


def loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, because only TCP has the counters of the kernel that the handoff needs. Raises
    `OSError`."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        near = socket.create_connection(listener.getsockname(), timeout=1.0)
        try:
            listener.settimeout(1.0)
            for _ in range(_ATTEMPTS):
                far, address = listener.accept()
                if address == near.getsockname():
                    near.settimeout(None)
                    far.settimeout(None)
                    for end in (near, far):
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return near, far
                far.close()  # another program has found the port
        except BaseException:
            near.close()
            raise
        near.close()
        raise ConnectionError("other programs keep connecting to a port that was opened for one moment")


class TlsHolder(IgnoreOwnerEvents):
    """One holder. All methods under the reactor's lock."""

    process: OwnerProcess

    def __init__(self, gone: Callable[[TlsHolder], None], said: Callable[[str], None]) -> None:
        """`start` or `adopt` must follow. `gone` is called when its process has ended, `said` with each line that
        the process prints."""
        self._gone = gone
        self._said = said
        self._assignment: Assignment | None = None
        """What it is to hold, until that is sent."""
        self._far: socket.socket | None = None
        self.owners_end: socket.socket | None = None
        """The owner's end of the loopback connection, to be sent to the owner and closed here."""
        self._lost: Reason | None = None
        self._unwanted = False
        """Whether its connection is over, so that its end is no loss."""

    def start(self, acquire: Callable[[OwnerListener, Endpoint], OwnerProcess], assignment: Assignment) -> TlsHolder:
        """Use a new process, which opens a connection. Raises `OSError`."""
        endpoint = assignment.endpoint
        only = Endpoint(
            endpoint.name, tls=endpoint.tls, proxy=endpoint.proxy, bind=endpoint.bind, timeouts=endpoint.timeouts,
            watchdog=endpoint.watchdog,
        )  # fmt: skip
        self._assignment = Assignment(endpoint=only, epoch=assignment.epoch, url=assignment.url)
        self.owners_end, self._far = loopback_pair()
        self.process = acquire(self, endpoint)
        if self.process.state is ProcessState.WARM:
            self.on_ready(self.process)
        return self

    def adopt(self, take: Callable[[OwnerListener], OwnerProcess]) -> TlsHolder:
        """Use a process that serves already, and comes from another supervisor; `take` returns the process."""
        self.process = take(self)
        return self

    @property
    def pid(self) -> int | None:
        """None before the process is started."""
        return self.process.pid

    def lost(self, owners: Reason) -> Reason | None:
        """Why the holder ended, if that is what its owner saw. None: the holder lives, or was asked to end, or the owner's
        reason is another one.

        `owners`: the reason that the owner reported. The owner may see the end of its stream before the end of the holder's
        process can be seen here."""
        if not self._unwanted and self._lost is None:
            self.process.control.read_all()
        if self._unwanted or owners.kind not in _OF_A_LOST_HOLDER:
            return None
        if self._lost is None and (owners.broke_off or self.process.exit.has_ended):
            # A holder reports the end of its connection before it closes the stream. Without a report it has died.
            return Reason(kind="crashed", text="it ended")  # its exit status is not known yet
        return self._lost

    def for_owner(self, assignment: Assignment) -> Assignment:
        """The assignment of the owner, without TLS."""
        return replace(assignment, held=True, endpoint=replace(assignment.endpoint, tls=Tls(holder=True)))

    def let_go(self) -> None:
        """Its connection is over."""
        self._unwanted = True
        self._close_ends()
        if self.process.state is not ProcessState.DEAD:
            self.process.stop()

    def _close_ends(self) -> None:
        for end in (self.owners_end, self._far):
            if end is not None:
                end.close()
        self.owners_end = self._far = None

    # -- what its process reports ----------------------------------------------------------------------------------------

    def on_ready(self, process: OwnerProcess) -> None:
        if self._far is not None and self._assignment is not None:
            process.hold(self._assignment, self._far)
            self._far.close()
            self._far = self._assignment = None

    def on_command(self, process: OwnerProcess, command: Command) -> None:
        """Only LEFT concerns the supervisor: the connection is over."""
        del process
        if command.kind == LEFT:
            self._unwanted = True

    def on_log(self, process: OwnerProcess, line: str) -> None:
        del process
        self._said(line)

    def on_dead(self, process: OwnerProcess, reason: Reason) -> None:
        del process
        if not self._unwanted:
            self._lost = reason
        self._close_ends()
        self._gone(self)
