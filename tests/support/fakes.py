"""Fakes of an owner process and of a supervisor, with the parts that an endpoint uses, for tests without processes."""

from __future__ import annotations

import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast

from tests.support.records import read
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment, Custody, Resume
from wsadapter.contract.ipc.commands import RESUBSCRIBE, SUBSCRIBE
from wsadapter.contract.ipc.record import REPORT
from wsadapter.contract.ipc.reports import ConnectionUp
from wsadapter.contract.reasons import Reason
from wsadapter.delivery.inbox import Inbox
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.link import Link
from wsadapter.endpoint.restart_policy import ConnectBudget, Decision
from wsadapter.handoff.held_connection import HeldConnection, Resumption
from wsadapter.loop.reactor import Reactor
from wsadapter.process.lifecycle import ProcessEvent, ProcessState, step
from wsadapter.process.owner_process import OwnerListener, OwnerProcess

RESUME: Final = Resume(custody=Custody(received=0, sent=0), position=0, skip=0, sent=0, rest=0, ref=0, up={})
"""A connection on which nothing was received or sent before its owner died."""


class FakeProcess:
    """A fake of an owner process with the parts that an endpoint uses. It keeps the commands that it gets."""

    def __init__(self) -> None:
        self.state = ProcessState.WARM
        self.pid = 1
        self.is_frozen = False
        self.listener: Any = None
        """The owner of the link, to which it reports."""
        self.data = SimpleNamespace(torn=0, pause=lambda: None, resume=lambda: None)
        self.control = SimpleNamespace(is_drained=False, called=None)
        self.connection: Any = SimpleNamespace(in_custody=False, holder=None, reading=None)
        self.exit = SimpleNamespace(pidfd=None, has_ended=False)
        self.sent: list[tuple[int, int, bytes | dict[str, Any]]] = []
        """Commands: kind, ref, body."""
        self.aborted: list[Reason] = []
        self.subscribed: list[Any] = []
        self.resubscribed: list[Any] = []

    def assign(self, assignment: Assignment, resumption: Resumption | None = None, holder: None = None) -> None:
        del assignment, resumption, holder
        self.state = ProcessState.SERVING

    def abort(self, reason: Reason) -> None:
        self.aborted.append(reason)

    def step(self, event: ProcessEvent) -> None:
        self.state, _ = step(self.state, event)

    def stop(self, **_order: object) -> None:
        self.state = ProcessState.ASKED

    def send(self, kind: int, ref: int, body: bytes | dict[str, Any]) -> None:
        self.sent.append((kind, ref, body))
        if kind in (SUBSCRIBE, RESUBSCRIBE):
            assert isinstance(body, dict)
            (self.subscribed if kind == SUBSCRIBE else self.resubscribed).extend(body["streams"])


class FakeSupervisor:
    """A supervisor of one endpoint; it keeps all owners that it hired."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.budget = ConnectBudget()
        self.busy_poll = 0.0
        self.inbox = Inbox()
        self.processes: list[FakeProcess] = []

    def acquire_owner(self, listener: OwnerListener, endpoint: Endpoint) -> OwnerProcess:
        del endpoint
        self.processes.append(self.new_process())
        self.process.listener = listener
        return cast("OwnerProcess", self.process)

    def new_process(self) -> FakeProcess:
        return FakeProcess()

    @property
    def process(self) -> FakeProcess:
        """The last that was hired."""
        return self.processes[-1]

    def inbox_of(self, name: str) -> Inbox:
        del name
        return self.inbox

    def on_decision(self, endpoint: EndpointRuntime, decision: Decision) -> None:
        """There are no others."""

    def on_ended(self, endpoint: EndpointRuntime) -> None:
        """Nobody waits for it."""


class Holding(FakeProcess):
    """An owner whose connection outlives it."""

    def __init__(self, ours: socket.socket) -> None:
        super().__init__()
        self.connection = SimpleNamespace(in_custody=True, holder=None, reading=None, resumption=self.resumption)
        self.handed: Any = None
        self._ours = ours

    def assign(self, assignment: Any, resumption: Any = None, holder: None = None) -> None:
        super().assign(assignment, None, holder)
        self.handed = resumption

    def resumption(self, up: dict[str, Any]) -> Resumption:
        resume = replace(RESUME, position=7, up=up)
        return Resumption(HeldConnection(self._ours.dup(), resume.custody), resume, b"", b"", 0, 0)


class FakeHoldingSupervisor(FakeSupervisor):
    """A supervisor whose owners have connections that outlive them."""

    def __init__(self, ours: socket.socket) -> None:
        super().__init__()
        self.ours = ours

    def new_process(self) -> Holding:
        return Holding(self.ours)

    def kill_owner(self) -> None:
        """The owner is killed; the next one has its place."""
        process = self.process
        die(process, Reason(kind="crashed", signal="SIGKILL"))
        if process.handed is not None:
            process.handed.held.sock.close()

    @property
    def handed(self) -> Resumption:
        assert self.process.handed is not None
        return cast("Resumption", self.process.handed)


def connected(supervisor: FakeSupervisor, **settings: Any) -> Link:
    """A link whose owner has its assignment."""
    supervisor.inbox, supervisor.budget = Inbox(), ConnectBudget()
    supervisor.reactor.dispatcher.timers.clear()
    supervisor.processes.clear()
    endpoint = EndpointRuntime(supervisor, Endpoint("a", url="ws://127.0.0.1/", subscribe=("s",), **settings), None)
    endpoint.start()
    return endpoint.link


def say(process: FakeProcess, body: bytes) -> None:
    """The owner reports this."""
    process.listener.on_record(process, read(body, kind=REPORT, received_at=1))


def up(process: FakeProcess) -> None:
    say(process, ConnectionUp({}, None).encode())


def die(process: FakeProcess, reason: Reason = Reason(kind="crashed")) -> None:  # noqa: B008 - immutable
    process.listener.on_dead(process, reason)
