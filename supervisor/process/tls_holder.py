"""A process that holds the TLS of one connection, seen from the supervisor (`tls.holder`; inside: connect/tls_holder.py).

    hired ──warm──> told what to hold ──> serves ──its connection is over──> asked to go ──> gone
       └─────────────────┴──── it died: `lost`; its owner sees the end of the stream ────────^

It belongs to a connection, not to an owner: with the connection it goes from one owner to the next. The way between the two is
a loopback connection that is made here, both ends at once: no port stays open that anybody else could use.
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
from wsadapter.process.lifecycle import State
from wsadapter.process.owner_process import IgnoreOwnerEvents, OwnerListener, OwnerProcess

logger = logging.getLogger("wsadapter.supervisor")

_OF_A_LOST_HOLDER: Final = ("closed_by_peer", "connect_failed", "handshake_rejected", "send_failed", "holder_lost")
"""What an owner sees when the process that holds its TLS ends."""
_ATTEMPTS: Final = 8
"""To connect to ourselves, where somebody else keeps coming first."""


def loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection. The kernel's counters, which the handoff goes by, are TCP's alone. Raises `OSError`."""
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
                far.close()  # a stranger who found the port
        except BaseException:
            near.close()
            raise
        near.close()
        raise ConnectionError("strangers keep connecting to a port that was opened for one moment")


class TlsHolder(IgnoreOwnerEvents):
    """One holder. All methods under the reactor's lock."""

    child: OwnerProcess

    def __init__(self, gone: Callable[[TlsHolder], None], said: Callable[[str], None]) -> None:
        """It gets its process by `hired` or `of`. `gone` is called when that has ended, `said` with what it prints."""
        self._gone = gone
        self._said = said
        self._order: Assignment | None = None
        """What it is to hold, until it is told."""
        self._far: socket.socket | None = None
        self.owners_end: socket.socket | None = None
        """To be handed to the owner, and closed here."""
        self._lost: Reason | None = None
        self._unwanted = False
        """Its connection is over."""

    def hired(self, hire: Callable[[OwnerListener, Endpoint], OwnerProcess], assignment: Assignment) -> TlsHolder:
        """With a process that opens a connection. Raises `OSError`."""
        endpoint = assignment.endpoint
        only = Endpoint(
            endpoint.name, tls=endpoint.tls, proxy=endpoint.proxy, bind=endpoint.bind, timeouts=endpoint.timeouts,
            watchdog=endpoint.watchdog,
        )  # fmt: skip
        self._order = Assignment(endpoint=only, epoch=assignment.epoch, url=assignment.url)
        self.owners_end, self._far = loopback_pair()
        self.child = hire(self, endpoint)
        if self.child.state is State.WARM:
            self.on_ready(self.child)
        return self

    def of(self, take: Callable[[OwnerListener], OwnerProcess]) -> TlsHolder:
        """With one that serves already, and comes from another supervisor; `take` returns the process."""
        self.child = take(self)
        return self

    @property
    def pid(self) -> int | None:
        """None before it is there."""
        return self.child.pid

    def lost(self, owners: Reason) -> Reason | None:
        """Why it ended, where nobody had asked it to and that is what its owner saw; None where it is not.

        `owners`: what the owner says that it ended of. The end of its stream may come before that of the process can be seen.
        """
        if not self._unwanted and self._lost is None:
            self.child.control.read_all()
        if self._unwanted or owners.kind not in _OF_A_LOST_HOLDER:
            return None
        if self._lost is None and (owners.broke_off or self.child.exit.has_ended):
            # A holder that lives reports the end before it breaks off.
            return Reason(kind="crashed", text="it ended")  # its exit status is on the way
        return self._lost

    def for_owner(self, assignment: Assignment) -> Assignment:
        """What is left for the owner to know: of TLS nothing."""
        return replace(assignment, held=True, endpoint=replace(assignment.endpoint, tls=Tls(holder=True)))

    def let_go(self) -> None:
        """Its connection is over."""
        self._unwanted = True
        self._close_ends()
        if self.child.state is not State.DEAD:
            self.child.stop()

    def _close_ends(self) -> None:
        for end in (self.owners_end, self._far):
            if end is not None:
                end.close()
        self.owners_end = self._far = None

    # -- what its process says -------------------------------------------------------------------------------------------

    def on_ready(self, child: OwnerProcess) -> None:
        if self._far is not None and self._order is not None:
            child.hold(self._order, self._far)
            self._far.close()
            self._far = self._order = None

    def on_command(self, child: OwnerProcess, command: Command) -> None:
        """Its last word."""
        del child
        if command.kind == LEFT:
            self._unwanted = True

    def on_log(self, child: OwnerProcess, line: str) -> None:
        del child
        self._said(line)

    def on_dead(self, child: OwnerProcess, reason: Reason) -> None:
        del child
        if not self._unwanted:
            self._lost = reason
        self._close_ends()
        self._gone(self)
