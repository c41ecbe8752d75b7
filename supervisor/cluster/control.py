"""The supervisor's side of a cluster: it starts the endpoints that its agent reports as held.

    agent's report (thread of its process) ──post──> reactor: take ──> registry: add, remove
    timer (reactor) ──the lease has run out──> registry: remove, of exclusive endpoints

The supervisor doesn't rely on the agent: if the agent is dead, or hangs, the lease of the host runs out. Times are on
CLOCK_BOOTTIME, so a machine that was suspended has aged when it wakes up.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, replace
from time import CLOCK_BOOTTIME, clock_gettime
from typing import Any, Final
from uuid import uuid4

import msgspec

from wsadapter.cluster.message import Tenure
from wsadapter.config import Dialects
from wsadapter.config.cluster import AGENT
from wsadapter.config.schema import as_table
from wsadapter.config.settings import ClusterSettings, SinkSettings
from wsadapter.contract.endpoint import Endpoint, Restart
from wsadapter.contract.errors import NotConnected, UnknownEndpoint
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.loop.reactor import Reactor
from wsadapter.registry.registry import EndpointRegistry
from wsadapter.sinks.supervision import SinkProcess
from wsadapter.sinks.task import CLOSED, REBALANCE, Report, Task
from wsadapter.status import ClusterStatus
from wsadapter.version import VERSION

logger = logging.getLogger("wsadapter.cluster")

_RESTART: Final = Restart(intensity=1000, backoff_initial=0.1, backoff_max=2.0, min_uptime=5.0)
"""Restart policy of the agent: a backoff of at most 2 s, because other hosts take the endpoints of a host without an agent."""
_LOOK: Final = 0.2
"""Seconds between two looks at the lease."""
_ANSWER_WITHIN: Final = 8.0
"""Seconds for the agent to write an order: less than a command waits for its answer."""


def digest_of(endpoints: Iterable[Endpoint], settings: ClusterSettings) -> str:
    """Digest of the settings that must be equal on all hosts that share endpoints."""
    said = [[endpoint.name, as_table(endpoint)] for endpoint in sorted(endpoints, key=lambda endpoint: endpoint.name)]
    content = msgspec.json.encode([said, sorted(settings.exclusive), settings.hosts], enc_hook=str, order="sorted")
    return hashlib.sha256(content).hexdigest()[:16]


class AgentProcess(SinkProcess):
    """The agent's process, which is supervised as a sink is."""

    def __init__(self, task: Task, reported: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__(task)
        self._reported = reported

    def take(self, report: Report) -> None:
        """See `SinkProcess.take`."""
        if report.cluster is None:
            super().take(report)
        else:
            self._reported(report.cluster)


class ClusterControl:
    """The cluster's endpoints of one supervisor. All methods under the reactor's lock, unless a docstring names a thread."""

    def __init__(
        self, settings: ClusterSettings, journal: str, reactor: Reactor, registry: Callable[[], EndpointRegistry]
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self._registry = registry
        self._boot = uuid4().hex
        self._wanted: dict[str, Endpoint] = {}
        self._dialects = Dialects()
        self._running: dict[str, Tenure] = {}
        """The endpoints that this host has, each with its lease."""
        self._seen: Mapping[str, Any] = {}
        """The agent's last report."""
        self._closing: dict[str, list[EndpointRuntime]] = {}
        """Endpoints that were removed, until their connections are closed."""
        self._orders: dict[str, Future[dict[str, Any]]] = {}
        """Orders to rebalance, by their ids, until the agent has written them."""
        self._is_over = False
        sink = SinkSettings(name=AGENT, kind=AGENT, start="latest", restart=_RESTART)
        self.agent = AgentProcess(Task(journal, sink, ()), self._reported)
        """The agent's process; the sinks' supervision starts and ends it."""

    def configure(self, endpoints: Mapping[str, Endpoint], dialects: Dialects) -> bool:
        """Set the endpoints of the cluster, which must be checked. Returns whether the digest has changed."""
        before = self.agent.task.cluster
        self._wanted, self._dialects = dict(endpoints), dialects
        self._renew_task()
        return before is not None and before["digest"] != self.agent.task.cluster["digest"]  # type: ignore[index]

    def reconfigure(self, endpoints: Mapping[str, Endpoint], dialects: Dialects) -> dict[str, Endpoint]:
        """Apply new settings. Returns the settings of the endpoints that this host has."""
        if self.configure(endpoints, dialects):
            self.agent.restart()
        return {name: self._wanted[name] for name in self._running if name in self._wanted}

    def _renew_task(self) -> None:
        """Write the task of the next agent process."""
        said = {
            "settings": asdict(self.settings),
            "boot": self._boot,
            "version": VERSION,
            "digest": digest_of(self._wanted.values(), self.settings),
            "endpoints": list(self._wanted),
            "known": {name: lease.id for name, lease in self._running.items()},
        }
        self.agent.task = replace(self.agent.task, cluster=said)

    def start(self) -> None:
        """Check the lease at intervals from now on."""
        self._look()

    def end(self) -> None:
        """The supervisor stops: nothing is added any more."""
        self._is_over = True

    # -- rebalance -------------------------------------------------------------------------------------------------------

    def rebalance(self) -> Future[dict[str, Any]]:
        """Order that each endpoint moves to the host of its first choice among those that are alive now. The future has the
        `moves` once the order is written: by endpoint, `from` and `to`. Raises `NotConnected` if this host is no member now;
        the future does if the servers do not take the order."""
        state = self.status()["state"]
        if state != "member":
            raise NotConnected(
                f"rebalance: this host is no member of the cluster now ({state}), so it can order nothing; see `wsadapter "
                "status --cluster`"
            )
        identity = uuid4().hex
        future = self._orders[identity] = Future()
        self.agent.say(f"{REBALANCE} {identity}\n".encode())
        self._reactor.call_later(_ANSWER_WITHIN, lambda: self._answer(identity, {"error": "its agent did not answer"}))
        return future

    def _answer(self, identity: str, outcome: Mapping[str, Any]) -> None:
        future = self._orders.pop(identity, None)
        if future is None:
            return
        if "error" in outcome:
            text = f"rebalance: the order may not be written: {outcome['error']}; see `wsadapter status --cluster`"
            future.set_exception(NotConnected(text))
        else:
            future.set_result({"moves": outcome["moves"]})

    # -- what it has -----------------------------------------------------------------------------------------------------

    def _reported(self, said: Mapping[str, Any]) -> None:
        """In the thread of the agent's process."""
        self._reactor.post(lambda: self._take(said))

    def _take(self, said: Mapping[str, Any]) -> None:
        if self._is_over:
            return
        self._seen = said
        self._boot = said["boot"]
        if order := said.get("order"):
            self._answer(order["id"], order)
        if "held" in said:  # otherwise the host is not current: `_look` decides by the lease which endpoints it keeps
            held = {name: Tenure(lease["term"], lease["id"]) for name, lease in said["held"].items()}
            leaving = said.get("leaving", ())
            for name in [name for name, lease in self._running.items() if held.get(name) != lease]:
                taken = "another host has the endpoint, or this host has it under a new lease"
                self._remove(name, "a rebalance moves it to another host" if name in leaving else taken)
            for name, lease in held.items():
                if name not in self._running and name in self._wanted and self._may_have(name):
                    self._add(name, lease)
        self._renew_task()

    def _may_have(self, name: str) -> bool:
        return name not in self.settings.exclusive or clock_gettime(CLOCK_BOOTTIME) < (self._seen.get("until") or 0.0)

    def _add(self, name: str, lease: Tenure) -> None:
        logger.info("%s: this host has the endpoint, term %d", name, lease.term)
        self._running[name] = lease
        self._registry().add(self._wanted[name], self._dialects)

    def _remove(self, name: str, why: str) -> None:
        logger.info("%s: this host stops the endpoint: %s", name, why)
        del self._running[name]
        with suppress(UnknownEndpoint):  # removed by a command
            self._closing[name] = self._registry().remove(name)

    def _look(self) -> None:
        if self._is_over:
            return
        for name in [name for name in self._running if not self._may_have(name)]:
            self._remove(name, "the lease has run out, and the endpoint is exclusive")
        self._closing = {name: each for name, each in self._closing.items() if not all(e.has_ended for e in each)}
        for name in self._seen.get("leaving", ()):
            if name not in self._running and name not in self._closing:
                self.agent.say(f"{CLOSED} {name}\n".encode())  # again and again: the agent may be another process by now
        self._reactor.call_later(_LOOK, self._look)

    # -- how it is -------------------------------------------------------------------------------------------------------

    def status(self) -> ClusterStatus:
        """The status, from the agent's last report."""
        until, seen = self._seen.get("until"), self._seen
        left = None if until is None else round(until - clock_gettime(CLOCK_BOOTTIME), 3)
        is_current = left is not None and left > 0
        return {
            "name": self.settings.name,
            "host": self.settings.host,
            "state": "member" if is_current else "joining" if until is None else "degraded",
            "lease": left,
            "trouble": seen.get("trouble") or None,
            "refused": seen.get("refused", 0),
            "terms": {name: lease.term for name, lease in self._running.items()},
            "hosts": seen.get("hosts", {}),
            "endpoints": {name: seen.get("leases", {}).get(name) for name in self._wanted},
        }
