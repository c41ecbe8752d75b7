"""As much of an owner process, and of a supervisor, as an endpoint sees: for what is tested without processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.commands import Assignment
from wsadapter.contract.ipc.record import REPORT, RecordReader, encode
from wsadapter.contract.ipc.reports import ConnectionUp
from wsadapter.contract.reasons import Reason
from wsadapter.delivery.inbox import Inbox
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.link import Link
from wsadapter.endpoint.restart_policy import ConnectBudget, Decision
from wsadapter.handoff.held_connection import Resumption
from wsadapter.loop.reactor import Reactor
from wsadapter.process.lifecycle import Event, State, step
from wsadapter.process.owner_process import OwnerListener, OwnerProcess


class FakeChild:
    """As much of an owner process as an endpoint sees."""

    def __init__(self) -> None:
        self.state = State.WARM
        self.pid = 1
        self.data = SimpleNamespace(torn=0, pause=lambda: None, resume=lambda: None)
        self.control = SimpleNamespace(is_drained=False)
        self.connection: Any = SimpleNamespace(in_custody=False, holder=None, reading=None)
        self.exit = SimpleNamespace(pidfd=None, has_ended=False)
        self.aborted: list[Reason] = []

    def assign(self, assignment: Assignment, resumption: Resumption | None = None, holder: None = None) -> None:
        del assignment, resumption, holder
        self.state = State.SERVING

    def abort(self, reason: Reason) -> None:
        self.aborted.append(reason)

    def step(self, event: Event) -> None:
        self.state, _ = step(self.state, event)

    def stop(self, **_order: object) -> None:
        self.state = State.ASKED

    def send(self, kind: int, ref: int, body: bytes | dict[str, Any]) -> None:
        """It takes everything."""


class FakeOffice:
    """A supervisor of one endpoint."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.budget = ConnectBudget()
        self.busy_poll = 0.0
        self.inbox = Inbox()
        self.child = FakeChild()

    def hire(self, listener: OwnerListener, endpoint: Endpoint) -> OwnerProcess:
        del listener, endpoint
        self.child = FakeChild()
        return cast("OwnerProcess", self.child)

    def inbox_of(self, name: str) -> Inbox:
        del name
        return self.inbox

    def on_verdict(self, endpoint: EndpointRuntime, decision: Decision) -> None:
        """There are no others."""

    def on_settled(self, endpoint: EndpointRuntime) -> None:
        """Nobody waits for it."""


def connected(office: FakeOffice, **settings: Any) -> Link:
    """A link whose owner has its assignment."""
    office.inbox, office.budget = Inbox(), ConnectBudget()
    office.reactor.timers.clear()
    endpoint = EndpointRuntime(office, Endpoint("a", url="ws://127.0.0.1/", subscribe=("s",), **settings), None)
    endpoint.start()
    return endpoint.link


def say(office: FakeOffice, link: Link, body: bytes) -> None:
    (record,) = RecordReader().feed(encode(body, kind=REPORT, sequence=1, received_at=1))
    link.on_record(cast("OwnerProcess", office.child), record)


def up(office: FakeOffice, link: Link) -> None:
    say(office, link, ConnectionUp({}, None).encode())


def die(link: Link) -> None:
    link.on_dead(cast("OwnerProcess", FakeChild()), Reason(kind="crashed"))
