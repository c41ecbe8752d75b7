"""An endpoint at run time: one numbered stream, fed by one link, or with `replicas` by several at the same time.

EndpointRuntime ── settings, NumberedStream ── what users ask for
    │
    ├── Link 1 ── one connection over all its owners ──┐
    ├── Link 2                                         ├──> Alone, or ReplicaSet ──> NumberedStream ──> inbox
    └── Link 3 ────────────────────────────────────────┘    (each message once, in order)
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from time import time_ns
from typing import Any, Protocol

from wsadapter.contract import items
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.ipc.record import Record
from wsadapter.contract.reasons import Reason
from wsadapter.delivery.inbox import Inbox
from wsadapter.endpoint.backpressure import Backpressure, Waiting
from wsadapter.endpoint.dialer import SupervisorHost
from wsadapter.endpoint.identities import have_same_messages
from wsadapter.endpoint.link import Link, LinkGroup
from wsadapter.endpoint.link_output import LinkOutput
from wsadapter.endpoint.link_status import status_of
from wsadapter.endpoint.monitor import Watcher
from wsadapter.endpoint.numbered_stream import NumberedStream
from wsadapter.endpoint.rates import Count
from wsadapter.endpoint.replicas import ReplicaSet
from wsadapter.endpoint.request_id import Payload
from wsadapter.endpoint.requests import Pending
from wsadapter.endpoint.restart_policy import Decision, RestartAction
from wsadapter.endpoint.subscriptions import Numbers, Subscriptions, key_of
from wsadapter.loop.reactor import Reactor
from wsadapter.status import SUMMED, EndpointState, EndpointStatus, exit_status


class EndpointHost(SupervisorHost, Protocol):
    """What an endpoint needs of the supervisor."""

    def inbox_of(self, name: str) -> Inbox:
        """The inbox for the items of the endpoint of this name."""
        ...

    def on_decision(self, endpoint: EndpointRuntime, decision: Decision) -> None:
        """The endpoint decided about its next owner. The decision may concern other endpoints (strategy, stop of the
        supervisor)."""
        ...

    def on_ended(self, endpoint: EndpointRuntime) -> None:
        """The endpoint has no process any more and will get none by itself."""
        ...


class Alone:
    """The only link of its endpoint."""

    is_replicated = False

    def __init__(self, stream: NumberedStream, reactor: Reactor, links: list[Link]) -> None:
        self.last_exit: Reason | None = None
        self._backpressure = Backpressure(stream, reactor, lambda: links, lambda: None)

    def deliver(self, output: LinkOutput, received: Record, streams: list[str | None] | None) -> None:
        output.accept(received, streams)

    def link_up(self, _output: LinkOutput) -> bool:
        return False

    def link_down(self, _link: Link, reason: Reason, *, goes_on: bool) -> None:
        del goes_on
        self.last_exit = reason
        self._backpressure.forget()

    def connection_lost(self, link: Link) -> None:
        """Ignored: there is no other link."""

    def is_news(self, _output: LinkOutput, _event: items.Event) -> bool:
        return True

    def standing(self, _output: LinkOutput, *, closing: bool = False) -> tuple[int | None, int | None]:
        del closing
        return None, None

    def may_hand_off(self, _link: Link) -> bool:
        return True

    def is_redundant(self, _link: Link) -> bool:
        return False

    def overflowed(self, queue: Waiting | None = None) -> None:
        self._backpressure.overflowed(queue)


class EndpointRuntime:
    """One endpoint. All methods under the reactor's lock."""

    def __init__(
        self, host: EndpointHost, endpoint: Endpoint, dialect: dict[str, Any] | None, *, numbers: Numbers | None = None
    ) -> None:
        """`numbers`: of a removed endpoint of this name. They continue, because numbers are never reused."""
        self.endpoint = endpoint
        self.dialect = dialect
        self.quarantine = ""
        self.sys_path: tuple[str, ...] = ()
        self.stream = NumberedStream(endpoint.name, endpoint.buffer, numbers or Numbers(), host.inbox_of(endpoint.name))
        self.links: list[Link] = []
        """In the order of their numbers, from 1."""
        self._host = host
        self.leaving: list[Link] = []
        """Links that were dismissed; their processes may not have ended."""
        self.replicas = ReplicaSet(self, host.reactor) if endpoint.replicas > 1 else None
        self.group: LinkGroup = self.replicas or Alone(self.stream, host.reactor, self.links)
        self._add_links()

    def _add_links(self) -> list[Link]:
        new = [Link(self._host, self, 1 + at) for at in range(len(self.links), self.endpoint.replicas)]
        self.links += new
        return new

    # -- properties ------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def link(self) -> Link:
        """The link that sends messages and requests; of replicas, the lead, or the link that is nearest to being up."""
        return self.links[0] if self.replicas is None else self.replicas.primary

    @property
    def has_ended(self) -> bool:
        """It has no process, and none will come by itself."""
        return all(link.has_ended for link in (*self.links, *self.leaving))

    @property
    def epoch(self) -> int:
        """The epoch of the owner, or of the last owner; with replicas, of the primary link."""
        return self.link.epoch

    @property
    def subscriptions(self) -> Subscriptions:
        """The subscriptions of the link; with replicas, of the primary link. All links want the same streams."""
        return self.link.connection.subscriptions

    @property
    def state(self) -> EndpointState:
        """For users; with replicas, the state of the primary link."""
        return self.link.state

    @property
    def last_exit(self) -> Reason | None:
        """Why its last connection ended; None: none has."""
        return self.group.last_exit

    @last_exit.setter
    def last_exit(self, reason: Reason | None) -> None:
        self.group.last_exit = reason

    @property
    def received(self) -> Count:
        """The number of messages since it was added."""
        counters = [link.output.counters for link in self.links]
        return Count(sum(each.messages for each in counters), sum(each.bytes for each in counters))

    def status(self) -> EndpointStatus:
        """The status. The caller adds the `group`, the rates and the `memory` of the processes."""
        status = status_of(self.link)
        if self.replicas is None:
            return status
        each = [status_of(link) for link in self.links]
        for key in SUMMED:
            status[key] = sum(member[key] for member in each)
        heard = [member["silence"] for member in each if member["silence"] is not None]
        status["silence"] = min(heard, default=None)
        status["last_exit"] = exit_status(self.last_exit)
        status["live"] = self.replicas.live
        status["members"] = [self.replicas.status_of(link, member) for link, member in zip(self.links, each, strict=True)]
        return status

    # -- its life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Give each link its first owner."""
        for link in self.links:
            link.start()
        if self.replicas is not None:
            self.replicas.begin_turns()

    def stop(self) -> None:
        """Let all owners close their connections and go; no new ones come."""
        if self.replicas is not None:
            self.replicas.rolling.end()
        for link in self.links:
            link.stop()

    def restart(self, why: str = "recycled", *, new_connection: bool = False, at_once: bool = False) -> Future[None]:
        """Start new owners, in any state; the future is done when all are up. A link keeps its connection if the connection can
        outlive the old owner, except with `new_connection`. A connection that has to be replaced is closed when the next one is
        ready, and with replicas one after the other, except with `at_once`."""
        if self.replicas is None:
            return self.link.restart(why, new_connection=new_connection, at_once=at_once)
        future = self.replicas.rolling.wait()
        together = at_once or self.replicas.live < 2
        restart = lambda link: link.restart(why, new_connection=new_connection)  # noqa: E731
        self.replicas.rolling.begin(self.links, restart, together=together)
        self.replicas.begin_turns()
        self.replicas.rolling.go_on()
        return future

    def replace_settings(self, endpoint: Endpoint, dialect: dict[str, Any] | None) -> None:
        """Apply the settings of a reload, from the next owners on. With replicas, one link is changed after the other if the
        new connections get the same messages; otherwise all are changed at once, and a new stream begins."""
        same_messages = have_same_messages(self.endpoint, self.dialect, endpoint, dialect)
        same = same_messages and replace(self.endpoint, replicas=endpoint.replicas) == endpoint
        self.endpoint, self.dialect = endpoint, dialect
        self.stream.backlog.use(endpoint.buffer)
        if self.replicas is None:
            self.link.use_settings(same_messages=same_messages)
            return
        self.replicas.announced.keep(set(map(key_of, endpoint.subscribe)))
        if not same_messages:
            self.replicas.begin_anew()
        for link in self.links[endpoint.replicas :]:
            self.leaving.append(link)
            self.replicas.dismiss(link)
            link.stop()
        del self.links[endpoint.replicas :]
        together = not same_messages or self.replicas.live < 2
        changed = [] if same else list(self.links)
        self.replicas.rolling.begin(changed, lambda link: link.use_settings(same_messages=same_messages), together=together)
        for link in self._add_links():
            link.start()
        self.replicas.begin_turns()
        self.replicas.rolling.go_on()

    def on_decision(self, decision: Decision) -> None:
        """A link decided about its next owner. Other endpoints are concerned only if no link delivers any more."""
        if self.replicas is None or not self.replicas.live or decision.action is RestartAction.STOP_SUPERVISOR:
            self._host.on_decision(self, decision)

    def on_ended(self) -> None:
        """A link has no process any more."""
        self.leaving = [link for link in self.leaving if not link.has_ended]
        if self.replicas is None:
            self._host.on_ended(self)
        elif self.has_ended:
            self.replicas.rolling.end()
            self._host.on_ended(self)

    # -- what users ask for ----------------------------------------------------------------------------------------------

    def send(self, data: bytes, *, binary: bool) -> Future[None]:
        """Send a message by one link. The future is done when the kernel has all bytes of it."""
        return self.link.connection.requests.send(data, binary=binary)

    def request(self, pending: Pending, payload: Payload, timeout: float | None) -> None:
        """Send a request by one link. `pending` is done when the peer has answered; see `Requests.request`."""
        self.link.connection.requests.request(pending, payload, self.endpoint.request, timeout)

    def subscribe(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Subscribe on all links. Returns the streams that are new, or are requested again because they were rejected."""
        streams = list(streams)
        changed = [link.connection.sender.subscribe(streams) for link in self.links]
        if self.replicas is not None:
            self.replicas.announced.forget(map(key_of, changed[0]))
        return changed[0]

    def unsubscribe(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Unsubscribe on all links. Returns the streams that were wanted."""
        streams = list(streams)
        changed = [link.connection.sender.unsubscribe(streams) for link in self.links]
        if self.replicas is not None:
            self.replicas.announced.forget(map(key_of, changed[0]))
        return changed[0]

    def resubscribe(self, streams: Iterable[Subscription]) -> None:
        """Request the streams again that are wanted; with replicas by the lead, because only its snapshots are delivered."""
        link = self.links[0] if self.replicas is None else self.replicas.lead
        if link is not None:
            link.connection.sender.resubscribe(streams)

    def insert(self, data: bytes, *, binary: bool) -> int:
        """Put the user's own record into the stream, in order. Returns its number."""
        return self.stream.insert(data, self.epoch, binary=binary)

    def enter(self, monitor: Watcher) -> None:
        """Notify a monitor of the present state, and of every later one."""
        self.stream.monitors.add(monitor)
        live = None if self.replicas is None else self.replicas.live
        is_up = self.state == "up" if live is None else live > 0
        if is_up:
            monitor.notify(items.Up(self.name, self.epoch, time_ns(), live=live))
        elif self.last_exit is not None:
            monitor.notify(items.Down(self.name, self.epoch, time_ns(), self.last_exit, live=live))
