"""The phase between the assignment and an open connection. A thread connects (connect_thread.py). This module has the
deadlines of its steps, and handles commands that come meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import RESUBSCRIBE, SUBSCRIBE
from wsadapter.contract.ipc.reports import Change, StageReached
from wsadapter.contract.reasons import Reason
from wsadapter.worker.owner.connect_thread import Connector, Failed, Opened, Step
from wsadapter.worker.owner.leaving import Draining
from wsadapter.worker.owner.phase import Host, InFlight, Phase, Stop
from wsadapter.worker.owner.serving import Serving
from wsadapter.worker.subscription.subscriptions import without, without_blame


class Steps:
    """The deadlines of the steps of a connect. Times are monotonic seconds. Pure."""

    def __init__(self, endpoint: Endpoint) -> None:
        timeouts = endpoint.timeouts
        self._limits = {
            "importing": endpoint.watchdog.startup or inf,
            "preparing": timeouts.handshake,
            "resolving": timeouts.resolve,
            "connecting": timeouts.connect,
            "tls": timeouts.handshake,
            "handshake": timeouts.handshake,
        }
        self.current = ""
        self._limit = inf
        self.deadline = inf

    def begin(self, name: str, now: float) -> None:
        """The step of this name begins. TLS and the WebSocket handshake share one deadline."""
        if not (self.current == "tls" and name == "handshake"):
            self._limit = self._limits[name]
            self.deadline = now + self._limit
        self.current = name

    def overdue(self, now: float) -> Reason | None:
        """Why the attempt is given up; None: the current step has time left."""
        if now < self.deadline:
            return None
        kind = "config" if self.current == "importing" else "connect_failed"
        return Reason(kind=kind, text=f"{self.current} took longer than {self._limit:g} s")


def with_change(assignment: Assignment, kind: int, streams: Sequence[Subscription]) -> Assignment:
    """The assignment after a SUBSCRIBE, UNSUBSCRIBE or RESUBSCRIBE that came before the connection is open: once it is open,
    everything that is wanted is requested."""
    if kind == RESUBSCRIBE:
        return assignment
    wanted = without(assignment.wanted, streams)
    wanted = (*wanted, *streams) if kind == SUBSCRIBE else wanted
    return replace(assignment, wanted=wanted, blamed=without_blame(assignment.blamed, streams))


class Connecting(Phase):
    """A thread opens the connection."""

    def __init__(self, host: Host, assignment: Assignment, sock: socket.socket | None, body: bytes) -> None:
        """`sock`: the connection to continue with, or the socket of the TLS holder; None: a new connection is opened. `body`:
        the unsent rest of a frame, `assignment.resume.rest` bytes, then the bytes of an unfinished message."""
        super().__init__(host)
        self._assignment = assignment
        self._steps = Steps(assignment.endpoint)
        rest = assignment.resume.rest if assignment.resume is not None else len(body)
        self._unsent = body[:rest]
        self._owed: list[Change] = []
        """The changes of subscriptions that came while connecting."""
        self._connector = Connector(assignment, host.wakeup, sock, body[rest:])
        self._connector.start()

    def deadline(self) -> float:
        return self._steps.deadline

    def tick(self, now: float) -> None:
        for event in self._connector.events():
            match event:
                case Step(name):
                    self._steps.begin(name, now)
                    self.host.output.report(StageReached(name))
                case Opened():
                    self._serve(event, now)
                    return
                case Failed(reason):
                    self.host.enter(Draining(self.host, reason))
                    return
        if (too_late := self._steps.overdue(now)) is not None:
            self.host.enter(Draining(self.host, too_late))

    def _serve(self, opened: Opened, now: float) -> None:
        serving = Serving(self.host, self._assignment, opened, self._owed)
        self.host.enter(serving)
        serving.start(self._assignment, opened, self._unsent, now)

    def rejoin(self) -> InFlight | None:
        return InFlight(self._owed)

    def probe_answer(self) -> dict[str, Any]:
        return super().probe_answer() | {"stage": self._steps.current}

    def change_subscriptions(self, kind: int, streams: Sequence[Subscription], ref: int, now: float) -> None:  # noqa: ARG002
        self._assignment = with_change(self._assignment, kind, streams)
        self._owed.append((ref, kind, tuple(streams)))

    def identify(self, ref: int, *, on: bool) -> None:
        self._assignment = replace(self._assignment, identify=on)
        super().identify(ref, on=on)

    def stop(self, stop: Stop, now: float) -> None:
        self.host.end.closing_time(stop, now)
        reason = Reason(kind=stop.kind, code=stop.code, text=stop.text or "while connecting")
        self.host.enter(Draining(self.host, reason))
