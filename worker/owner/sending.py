"""Sends frames to the peer, and reports to the supervisor what became of each."""

from __future__ import annotations

import time
from math import inf
from typing import Final

from wsadapter.contract.ipc.commands import TAKEN, RequestCommand
from wsadapter.contract.ipc.reports import Change
from wsadapter.worker.owner.handoff import Handoff
from wsadapter.worker.owner.phase import NOT_UP, Host
from wsadapter.worker.owner.receipts import Receipts, is_ours
from wsadapter.worker.session.actions import Send
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.connection import Connection
from wsadapter.worker.websocket.frames import TEXT

_TOO_LATE: Final = "its deadline passed before it could be sent"


class Sending:
    """The outgoing frames of one connection. Not thread-safe."""

    def __init__(
        self, host: Host, connection: Connection, session: Session, handoff: Handoff, owed: list[Change], timeout: float
    ) -> None:
        """`owed`: changes of subscriptions that came before the connection was open. `timeout`: seconds for the kernel
        to take a frame (`timeouts.send`)."""
        self._host = host
        self._connection = connection
        self._session = session
        self._handoff = handoff
        self._receipts = Receipts()
        self.owed = owed
        """Changes of subscriptions whose frames still wait."""
        self._timeout = timeout
        connection.sender.announce = handoff.announce

    def put(self, action: Send) -> None:
        """Queues a frame of the session; `flush` sends it."""
        # Without a handoff the sending need not be reported, because the next owner opens a new connection.
        ref = self._receipts.ref(action.then) if action.then is not None and self._handoff.every_byte else 0
        self._connection.sender.put(action.frame, ref=ref, urgent=action.urgent, once=action.once)

    def send(self, ref: int, opcode: int, payload: bytes) -> None:
        """Sends a message of the user's, or refuses it."""
        if not self._possible:
            self._host.refuse(ref, NOT_UP)
            return
        self._connection.put_message(opcode, payload, ref=ref)
        self.flush(time.monotonic())

    def request(self, ref: int, request: RequestCommand) -> None:
        """Sends a request of the user's, or refuses it."""
        now = time.monotonic()
        if not self._possible or not self._session.ending.open:
            self._host.refuse(ref, NOT_UP)
        elif now >= request.until:
            self._host.refuse(ref, _TOO_LATE)
        elif not self._session.inspector.expect(request.id):
            self._host.refuse(ref, f"a frame that subscribes has the id {request.id!r} now")
        else:
            self._connection.put_message(TEXT, request.payload, ref=ref, until=request.until)
            self.flush(now)

    @property
    def _possible(self) -> bool:
        return self._session.ending.answerable and not self._connection.sender.broken

    def withdraw(self, ref: int) -> None:
        """Withdraws a message or request whose first byte is not sent, and refuses it."""
        if self._connection.sender.withdraw(ref):
            self._host.refuse(ref, "it was withdrawn")

    def owe(self, change: Change) -> None:
        """The frames of this change of subscriptions are queued: once they are sent, `flush` answers with TAKEN."""
        self.owed.append(change)

    def flush(self, now: float) -> None:
        """Sends what the kernel accepts, and reports the frames that were sent and those whose deadline is over."""
        sender, control = self._connection.sender, self._host.control
        sender.urgent_only = self._session.subscribing.not_ready
        for ref in sender.flush(now):
            if not is_ours(ref):
                control.send(TAKEN, ref)
            elif (report := self._receipts.taken(ref)) is not None:
                self._host.output.report(report)
        for ref in sender.overdue():
            self._host.refuse(ref, _TOO_LATE)
        if sender.idle:
            self._handoff.forget_announced()
        if self.owed and not sender.has_waiting and not self._session.subscribing.awaits_signature:
            for ref, _, _ in self.owed:
                control.send(TAKEN, ref)
            self.owed.clear()

    def deadline(self) -> float:
        """When to call `flush` and `overdue`, monotonic seconds; 0: at once."""
        sender = self._connection.sender
        if sender.wants_flush:
            return 0.0
        until = inf if sender.stuck_since is None else sender.stuck_since + self._timeout
        return min(until, sender.paced_until() or inf)

    def overdue(self, now: float) -> str:
        """Why nothing can be sent on the connection any more; empty: frames can be sent."""
        sender = self._connection.sender
        if sender.stuck_since is None or now < sender.stuck_since + self._timeout:
            return ""
        return sender.broken or f"not sent within {self._timeout:g} s"

    def abandon(self) -> None:
        """The connection has ended: refuses every frame that is not sent."""
        for ref, fate in self._connection.sender.abandon():
            if not is_ours(ref):
                self._host.refuse(ref, "the connection is gone", fate)
