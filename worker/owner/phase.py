"""What a phase of an owner's life is, and what all phases share.

    Idle ──ASSIGN──> Connecting ──opened──> Serving ──Disconnect──> Leaving ──closed──> Draining ──written──> the process ends
                          └────────────────── failed, STOP ────────────────────────────^

A phase has everything that it needs from its beginning on: an object that exists in one phase only (a connection, a session)
is an attribute of that phase's class. The loop (loop.py) asks the current phase for its deadline, calls it when its descriptor
is ready, and calls `tick`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any, NamedTuple, Protocol

from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.command_socket import CommandSocket
from wsadapter.contract.ipc.commands import REFUSED, TAKEN, RequestCommand
from wsadapter.contract.ipc.reports import Change
from wsadapter.worker.connect.tls_holder import Hold
from wsadapter.worker.loop.alarm import Alarm
from wsadapter.worker.loop.poller import Poller, make_poller
from wsadapter.worker.loop.rejoin import RejoinSocket
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.outbox import Outbox, Output
from wsadapter.worker.owner.demands import Demands

NOT_UP = "the connection is not up"
WITHOUT_SUPERVISOR = 1.0
"""Seconds for closing the connection once the supervisor has ended."""


class Stop(NamedTuple):
    """Close the connection and end the process."""

    code: int
    kind: str
    """The kind of the reason that is reported."""
    text: str = ""
    within: float | None = None
    """Seconds for the connection; None: the endpoint's `timeouts.close`."""


class End:
    """How long the end of the process may take, and its exit code."""

    def __init__(self) -> None:
        self.code: int | None = None
        """The exit code; None: the process continues."""
        self.drain_until = inf
        """When the process ends even if not everything is written, monotonic seconds."""
        self.close_timeout = 0.0
        """Seconds for closing a connection."""
        self.supervisor_gone = False
        """The supervisor closed its ends, or died: there is nobody to report to."""

    def closing_time(self, stop: Stop, now: float) -> float:
        """Seconds for closing the connection as `stop` demands; writing the rest to the pipe may take as long again."""
        closing_time = self.close_timeout if stop.within is None else stop.within
        self.drain_until = min(self.drain_until, now + 2 * closing_time)
        return closing_time

    def close_by(self, now: float) -> float:
        """When a connection that is over must be closed."""
        return now + (WITHOUT_SUPERVISOR if self.supervisor_gone else self.close_timeout)


class Host:
    """What all phases share: the pipe and the control socket to the supervisor, the poller, the current phase. Main thread
    only."""

    def __init__(self, pipe_fd: int, control: socket.socket, wakeup: Wakeup, rejoin: RejoinSocket | None = None) -> None:
        """`pipe_fd` and `control` must be non-blocking. Without `rejoin` the process ends with its supervisor."""
        self.outbox = Outbox(pipe_fd)
        self.output: Output = self.outbox
        """Where reports go: the outbox, or the decode stage in front of it."""
        self.control = CommandSocket(control)
        self.rejoin = rejoin
        self.demands = None if rejoin is None else Demands()
        """What supervisors have demanded; only for a supervisor that comes after the present one."""
        self.wakeup = wakeup
        self.poller: Poller = make_poller()
        self.alarm = Alarm()
        self.end = End()
        self.phase = Phase(self)
        self.changed = True
        """Something other than messages has happened: deadlines and the descriptors to watch may have changed."""
        self.hold: Hold | None = None
        """Set if the process is to become a TLS holder instead."""
        self.busy_poll = 0.0
        """Seconds to poll without sleep before waiting."""
        self.progress = 0.0
        """Seconds within which a probe is answered (`watchdog.progress`); 0: whenever it can be."""

    def assigned(self, assignment: Assignment) -> None:
        """Copies what the loop needs from an assignment."""
        self.busy_poll = assignment.busy_poll
        self.progress = assignment.endpoint.watchdog.progress
        self.end.close_timeout = assignment.endpoint.timeouts.close
        self.alarm.follow(self.progress)
        if self.demands is not None:
            self.demands.assigned(assignment.wanted)

    @property
    def abandoned(self) -> bool:
        """True if there is no supervisor any more, and none can come."""
        none_comes = self.rejoin is None or self.rejoin.at_end
        return self.outbox.closed or (self.control.peer_closed and none_comes)

    def enter(self, phase: Phase) -> None:
        """From now on this is the current phase."""
        self.phase = phase
        self.changed = True

    def refuse(self, ref: int, text: str, fate: str = "not_sent") -> None:
        """Reports that a message or request of the supervisor is not sent, or may not be."""
        self.control.send(REFUSED, ref, {"text": text, "fate": fate})


class InFlight(NamedTuple):
    """What a supervisor had demanded that has not ended when another supervisor follows."""

    changes: Sequence[Change] = ()
    """The changes of subscriptions that are still to be answered with TAKEN."""
    requests: Sequence[str] = ()
    """The ids of the requests whose answers may still come."""


class UserFrames(Protocol):
    """Sends what the supervisor wants sent."""

    def send(self, ref: int, opcode: int, payload: bytes) -> None:
        """Sends a message of the user's, or refuses it."""

    def request(self, ref: int, request: RequestCommand) -> None:
        """Sends a request of the user's, whose answer is recognised by its id, or refuses it."""

    def withdraw(self, ref: int) -> None:
        """Withdraws a message or request whose first byte is not sent, and refuses it."""


class NoConnection:
    """The `UserFrames` of a phase in which no connection is up: everything is refused."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def send(self, ref: int, opcode: int, payload: bytes) -> None:  # noqa: ARG002
        """Refuses it."""
        self._host.refuse(ref, NOT_UP)

    def request(self, ref: int, request: RequestCommand) -> None:  # noqa: ARG002
        """Refuses it."""
        self._host.refuse(ref, NOT_UP)

    def withdraw(self, ref: int) -> None:
        """Does nothing: the message with this ref was refused before."""


class Phase:
    """One phase of an owner's life. The methods here are those of an owner without a connection; a phase overrides those that
    are different for it."""

    name = "idle"
    """As it is reported in the answer to a probe."""
    fd = -1
    """The descriptor of the connection; -1: none is to be watched. An attribute and not a property, because the loop compares
    it with each descriptor that is ready."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.sending: UserFrames = NoConnection(host)

    # --- what the loop calls

    def mask(self) -> int:
        """What to watch `fd` for: READ, WRITE, both, or 0."""
        return 0

    def deadline(self) -> float:
        """When to call `tick` at the latest, monotonic seconds."""
        return inf

    def readable(self, now: float) -> None:
        """`fd` can be read."""

    def writable(self, now: float) -> None:
        """`fd` can be written."""

    def tick(self, now: float) -> None:
        """Does what is due. Called at the deadline, and after everything that happens except messages."""

    def probe_answer(self) -> dict[str, Any]:
        """The answer to a probe."""
        return {"rtt": None, "received": 0, "stage": self.name}

    # --- what the supervisor demands

    def rejoin(self) -> InFlight | None:
        """Another supervisor has the other end of the control socket from now on. None: the last report is written."""
        return InFlight()

    def take_connection(self, sock: socket.socket, body: bytes) -> None:  # noqa: ARG002
        """HANDOFF: the connection to continue with, which the next ASSIGN is about; `body`: unsent and unparsed bytes."""
        sock.close()

    def assign(self, assignment: Assignment) -> None:
        """ASSIGN: connect."""

    def forget(self, ids: Iterable[str]) -> None:
        """FORGET: nobody waits for the answers to these requests any more."""

    def change_subscriptions(self, kind: int, streams: Sequence[Subscription], ref: int, now: float) -> None:
        """SUBSCRIBE, UNSUBSCRIBE or RESUBSCRIBE. The answer is TAKEN once the frames are sent."""

    def identify(self, ref: int, *, on: bool) -> None:  # noqa: ARG002
        """IDENTIFY: messages carry their identities from now on, or no longer."""
        self.host.control.send(TAKEN, ref)

    def stop(self, stop: Stop, now: float) -> None:
        """STOP: close the connection, report the reason, and end the process."""
