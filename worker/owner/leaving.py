"""The end of an owner: the connection is closed, then the reason is written; it is the last report."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from wsadapter.contract.ipc.reports import ConnectionDown
from wsadapter.contract.reasons import Reason
from wsadapter.worker.owner.phase import Host, InFlight, Phase, Stop
from wsadapter.worker.owner.sending import Sending
from wsadapter.worker.session.actions import Disconnect
from wsadapter.worker.websocket.connection import Connection

_LINGER: Final = 1.0
"""Seconds to wait for the peer to end the connection too, see `Disconnect.linger`."""


class Leaving(Phase):
    """The connection is over: waiting frames are sent if `Disconnect.flush` is set, then the connection is closed."""

    name = "leaving"

    def __init__(
        self, host: Host, leave: Disconnect, connection: Connection, sending: Sending, rtt: float | None, now: float
    ) -> None:
        super().__init__(host)
        self.fd = connection.fileno()
        self._leave = leave
        self._connection = connection
        self.sending = self._sending = sending
        self._rtt = rtt
        self._deadline = host.end.close_by(now)

    def mask(self) -> int:
        # Until the connection is half closed nothing is read; then reading only detects that the peer has ended it too.
        return self._connection.mask(reading=self._connection.half_closed)

    def deadline(self) -> float:
        return 0.0 if self._connection.sender.wants_flush else self._deadline

    def readable(self, now: float) -> None:  # noqa: ARG002
        self.host.changed = True  # `tick` reads

    def writable(self, now: float) -> None:
        self._sending.flush(now)

    def tick(self, now: float) -> None:
        if not self.host.outbox.backlog:  # everything that was read is in the pipe, so it may leave the kernel
            with suppress(OSError):  # the connection is over in any case
                self._connection.byte_stream.discard()
        if self._is_down(now):
            self.host.enter(Draining(self.host, self._leave.reason, self._rtt))

    def _is_down(self, now: float) -> bool:
        """Closes the connection as far as possible now; true once it is closed."""
        connection, sender = self._connection, self._connection.sender
        if not sender.idle and now < self._deadline and self._leave.flush:
            self._sending.flush(now)
            if not sender.idle:
                return False
        if self._leave.linger and not connection.half_closed:
            connection.half_close()
            self._deadline = min(self._deadline, now + _LINGER)
        if self._leave.linger and not connection.peer_left() and now < self._deadline:
            return False
        # The poller must forget the descriptor before it is closed: while the supervisor holds a duplicate of the socket, epoll
        # would still report a closed descriptor.
        self.host.poller.watch(self.fd, 0)
        self._sending.abandon()
        connection.close()
        return True

    def probe_answer(self) -> dict[str, Any]:
        return super().probe_answer() | {"rtt": self._rtt, "received": self._connection.received}

    def stop(self, stop: Stop, now: float) -> None:
        self._deadline = min(self._deadline, now + self.host.end.closing_time(stop, now))


class Draining(Phase):
    """The connection is closed. The reason is reported; the process ends once everything is written."""

    name = "leaving"

    def __init__(self, host: Host, reason: Reason, rtt: float | None = None) -> None:
        super().__init__(host)
        self._rtt = rtt
        host.output.report(ConnectionDown(reason))

    def deadline(self) -> float:
        return self.host.end.drain_until

    def tick(self, now: float) -> None:
        host = self.host
        host.output.flush()
        written = host.output.drained and not host.control.backlog
        if written or host.outbox.closed or now >= host.end.drain_until:
            host.end.code = 0 if host.output.drained else 1

    def probe_answer(self) -> dict[str, Any]:
        return super().probe_answer() | {"rtt": self._rtt}

    def rejoin(self) -> InFlight | None:
        return None

    def stop(self, stop: Stop, now: float) -> None:
        self.host.end.closing_time(stop, now)
