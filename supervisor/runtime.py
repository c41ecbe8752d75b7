"""What runs behind a `Supervisor`: the reactor, the endpoints, the source of owners, the name, and the order of start and end.

    new ──start──> running ──begin_stop──> stopping ──the last owner and spare have ended──> stopped
     └──ask_to_stop────────────────────────────────────────────────────────────────────────^

Endpoints, the control server, pools, coroutines and a takeover refer to this object and not to the `Supervisor`, which only
users hold. So a `Supervisor` that is dropped without `stop()` is collected, although threads and callbacks still hold the
runtime.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time_ns
from typing import Any, Protocol
from uuid import uuid4

from wsadapter import capabilities
from wsadapter.cluster.control import ClusterControl
from wsadapter.config import Dialects, Settings
from wsadapter.config.connect_time import slow_connects
from wsadapter.config.settings import ClusterSettings, JournalSettings, SinkSettings, StartMethod, Strategy
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import AllFatal, SupervisorStopped, TakeoverError, UsageError
from wsadapter.contract.items import Started
from wsadapter.control.claim import NameClaim
from wsadapter.control.quarantine_folder import QuarantineFolder
from wsadapter.delivery.inbox import Inbox
from wsadapter.delivery.stream import Consumption, Stream
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.rates import Count
from wsadapter.endpoint.restart_policy import ConnectBudget, Decision, RestartAction
from wsadapter.endpoint.strategy import restarted_with
from wsadapter.endpoint.watchdogs import resident_bytes
from wsadapter.import_path import for_hooks
from wsadapter.journaling import Journaling
from wsadapter.loop import signal_guard
from wsadapter.loop.reactor import Reactor
from wsadapter.periodic import PeriodicWork
from wsadapter.process.owners import OwnerSource
from wsadapter.registry.registry import EndpointRegistry
from wsadapter.registry.shards import together
from wsadapter.sinks.supervision import Sinks
from wsadapter.status import FORMAT, EndpointStatus, KeeperStatus, Status, SupervisorState
from wsadapter.version import VERSION

logger = logging.getLogger("wsadapter.supervisor")


@dataclass(slots=True)
class Options:
    """Settings of a supervisor that are not an endpoint's, checked."""

    strategy: Strategy
    spares: int
    start_method: StartMethod
    busy_poll: float
    hook_folder: str
    """A folder in which owners search the modules of hooks, after those of `sys.path`."""
    quarantine: QuarantineFolder
    journal: JournalSettings | None = None
    """Where everything that is received is written; None: nowhere."""
    journal_only: bool = False
    """Nobody iterates the supervisor: only the journal gets the items."""
    sinks: tuple[SinkSettings, ...] = ()
    """What the journal is carried to."""
    cluster: ClusterSettings | None = None
    """The hosts with which the endpoints are shared; needs a journal. None: this supervisor has all endpoints."""


class Giving(Protocol):
    """A takeover by another supervisor that is under way."""

    @property
    def has_frozen(self) -> bool:
        """Whether nothing may be done with an endpoint now."""
        ...

    def take_back(self) -> None:
        """Undo everything that was done for it. Does nothing if it has succeeded, or was undone before."""


@dataclass(slots=True)
class TakeoverHooks:
    """What wsadapter.takeover sets. Everything is None in a runtime that takes part in no takeover."""

    accept: Callable[[socket.socket, dict[str, Any]], None] | None = None
    """Begins the takeover that a client of the control socket asks for; None: this supervisor can't be taken over."""
    giving: Giving | None = None
    """The takeover by another supervisor that is under way."""
    recover: Callable[[], None] | None = None
    """Goes on with the endpoints of a supervisor that was killed; None: there is no keeper."""
    keeper: Callable[[], KeeperStatus] | None = None
    """Looks at the keeper; None: there is no keeper."""
    end: Callable[[], None] = lambda: None
    """Called when all owners are gone."""
    begin: Callable[[], None] | None = None
    """Starts the endpoints in place of the runtime: some of them came from another supervisor, up."""

    @property
    def has_frozen(self) -> bool:
        """Whether nothing may be done with an endpoint now."""
        return self.giving is not None and self.giving.has_frozen


class Runtime:
    """One running supervisor. All methods under the reactor's lock, unless a docstring names a thread."""

    def __init__(self, name: str, runtime_dir: str, options: Options, given: Mapping[str, Collection[str]]) -> None:
        """`given`: per endpoint the keys that a configuration file sets."""
        self.options = options
        self.run = uuid4().hex
        """Unique in the world; (run, endpoint, number) names one message."""
        self.reactor = Reactor()
        self.reactor.dispatcher.busy_poll = options.busy_poll
        self.budget = ConnectBudget()
        self.journaling: Journaling | None = None
        if options.journal is not None:
            cluster = None
            if options.cluster is not None:
                path = str(Path(options.journal.path).absolute())
                cluster = ClusterControl(options.cluster, path, self.reactor, lambda: self.registry)
            sinks = Sinks(options.journal.path, options.sinks, options.hook_folder, None if cluster is None else cluster.agent)
            self.journaling = Journaling(options.journal, lambda: self.registry, sinks, cluster)
        main = None if self.journaling is None else self.journaling.inbox(delivers=not options.journal_only)
        self.registry: EndpointRegistry = EndpointRegistry(self, given, on_registered=self._on_registered, main=main)
        self.owners = OwnerSource(self.reactor, options.start_method, options.spares, lambda: len(self.registry.endpoints))
        self.inbox_of, self.acquire_owner = self.registry.inbox_of, self.owners.acquire
        """What endpoints need of both."""
        self.claim = NameClaim(self.reactor, name, runtime_dir, self)
        self.state: SupervisorState = "new"
        self.takeover = TakeoverHooks()
        self._has_failed = False
        self._lock = threading.Lock()
        self._periodic = PeriodicWork(
            self.reactor,
            lambda: {endpoint.name: endpoint.received for endpoint in self.endpoints()},
            self.registry.main.put_event,
            lambda: options.quarantine.clean(runtime_dir),
        )

    # -- life, from any thread -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the owners; returns at once. Idempotent. Raises `AlreadyRunning`, `SupervisorStopped` after a stop."""
        if signal_guard.run_guarded(self._start):
            self.reactor.call(self._begin)

    def begin_if_new(self) -> None:
        """Start it unless it was started before."""
        self.reactor.check_process()
        if self.state == "new":
            self.start()

    def stop(self, timeout: float | None = None) -> None:
        """Stop, and return when it has stopped. Raises `TimeoutError`; calling it again waits on."""
        self.ask_to_stop()
        if not self.reactor.run_until(lambda: self.state == "stopped", timeout):
            raise TimeoutError(f"{len(self._busy())} owners are still closing; call stop() again to continue waiting")
        signal_guard.run_guarded(self._close)

    def ask_to_stop(self) -> bool:
        """Begin to stop and return at once. Safe in a signal handler. False if there is nothing to wait for."""
        self.reactor.check_process()
        if self.state == "new":
            signal_guard.run_guarded(self._end_unstarted)
        if self.state == "stopped":
            return False
        self.reactor.post(self.begin_stop)
        return True

    def drop(self) -> bool:
        """Nothing refers to the `Supervisor` any more. The garbage collector calls this, in the middle of other code of a
        thread, so nothing here may wait. Returns false if the supervisor had ended."""
        if self.state == "new" and self._lock.acquire(blocking=False):
            self.state = "stopped"
            self.reactor.close()
            self._lock.release()
        if self.reactor.dispatcher.closed:
            return False
        # In another thread, because `stop` waits for the thread that runs the loop. The loop starts that thread, because
        # `Thread.start` waits too.
        self.reactor.post(threading.Thread(target=self.stop, name="wsadapter-dropped", daemon=True).start)
        return True

    def _start(self) -> bool:
        """Returns whether it was not running yet. Runs guarded, because a signal handler that stops it would wait for the lock
        for ever."""
        with self._lock:
            if self.state in ("stopping", "stopped"):
                raise SupervisorStopped("this supervisor was stopped; make a new one")
            if self.state == "running":
                return False
            if multiprocessing.current_process().daemon:
                raise UsageError("a daemonic multiprocessing process may not have children; start the supervisor elsewhere")
            self.claim.open()
            if self.journaling is not None:
                self.run = self.journaling.open(self.claim, taken_over=self.takeover.begin is not None) or self.run
            if self.options.start_method == "forkserver" and not capabilities.temporary_folder():
                logger.warning("no folder for temporary files: owners start by spawn, which is slower")
            self.owners.open()
            self.state = "running"
            self.reactor.start()
            # If the program ends without `stop()`, the owners leave because their control sockets end.
            weakref.finalize(self, self.reactor.abandon)  # which does nothing after a `stop()`
        return True

    def _end_unstarted(self) -> None:
        with self._lock:
            if self.state == "new":
                self.state = "stopped"
                self.reactor.close()

    def _close(self) -> None:
        # Not in a signal handler while another thread closes: that thread waits for the poll which the handler interrupted.
        if self._lock.acquire(blocking=not self.reactor.is_interrupted()):
            try:
                if not self.reactor.dispatcher.closed:
                    self.claim.close()
                    self.owners.close()
                    self.takeover.end()
                    self.reactor.close()
                    if self.journaling is not None:
                        self.journaling.close()
                    self.claim.release()
            finally:
                self._lock.release()

    # -- endpoints -------------------------------------------------------------------------------------------------------

    def endpoints(self) -> list[EndpointRuntime]:
        """All its endpoints, in the order in which they were added."""
        return list(self.registry.endpoints.values())

    def check_running(self) -> None:
        """Raises `SupervisorStopped` if it is being stopped, or was."""
        if self.state in ("stopping", "stopped"):
            raise SupervisorStopped("this supervisor is being stopped; make a new one")

    def check_changeable(self) -> None:
        """Raises `SupervisorStopped`, and `TakeoverError` while another supervisor is given the endpoints."""
        self.check_running()
        if self.takeover.has_frozen:
            raise TakeoverError("another supervisor is taking over: ask it, or try again in some seconds")

    def apply(self, wanted: dict[str, Endpoint], settings: Settings, dialects: Dialects) -> dict[str, list[str]]:
        """New settings: change only what differs. Returns names by the kind of change; those of sinks only if there are any."""
        self.check_changeable()
        self.options.hook_folder = settings.folder or self.options.hook_folder
        if self.journaling is not None and self.journaling.cluster is not None:
            wanted = self.journaling.cluster.reconfigure(wanted, dialects)
        changes = self.registry.apply(wanted, settings.given, dialects)
        _warn_of_slow_connects(self.registry.endpoints[name].endpoint for name in changes["added"])
        if self.journaling is not None and settings.journal is not None:  # else the journal, and its sinks, run on as they are
            of_sinks = self.journaling.sinks.apply(settings.sinks, self.options.hook_folder)
            changes |= {f"sinks_{kind}": names for kind, names in of_sinks._asdict().items() if names}
        return changes

    def begin_restart(self, name: str) -> Future[None]:
        """From any thread: a new owner for an endpoint, or for each shard of a group; the future is done when all are up."""

        def restart() -> Future[None]:
            members = self.registry.members(name)
            self.check_changeable()
            return together([endpoint.restart() for endpoint in members])

        self.begin_if_new()
        return self.reactor.call(restart)

    def status(self, *, memory: bool = True, endpoints: dict[str, EndpointStatus] | None = None) -> Status:
        """The whole status as plain JSON values. `memory`: with the memory of each owner, which the kernel reports.
        `endpoints`: those of the registry, if the caller has them already."""
        endpoints = self.registry.status() if endpoints is None else endpoints
        if self.state in ("running", "stopping"):
            for name, endpoint in endpoints.items():
                rate = self._periodic.rate(name, Count(endpoint["messages"], endpoint["bytes"]))
                endpoint["rate"], endpoint["byte_rate"] = rate
        status: Status = {
            "format": FORMAT,
            "name": self.claim.name,
            "run": self.run,
            "pid": os.getpid(),
            "version": VERSION,
            "state": self.state,
            "uptime": round(self._periodic.uptime, 3),
            "strategy": self.options.strategy,
            "spares": self.owners.spares.warm,
            "capabilities": capabilities.summary(self.options.start_method),
            "lag": round(self._periodic.lag.last, 6),
            "lag_worst": round(self._periodic.lag.worst, 6) if self.state in ("running", "stopping") else 0.0,
            "connect_budget": self.budget.left(monotonic()),
            "runtime": self.claim.describe(),
            "endpoints": endpoints,
        }
        if self.journaling is not None:
            sinks = self.journaling.sinks_status()
            status["journal"] = self.journaling.status(sinks)
            if sinks:
                status["sinks"] = sinks
            if self.journaling.cluster is not None:
                status["cluster"] = self.journaling.cluster.status()
        if self.takeover.keeper is not None:
            status["keeper"] = self.takeover.keeper()
        if memory and self.state != "stopped":
            add_memory(status)
        return status

    def stream_of(self, inbox: Inbox) -> Stream:
        """The ordered items of the endpoints whose items go to `inbox`."""

        def feeding() -> Iterator[EndpointRuntime]:
            return self.registry.with_inbox(inbox)

        def over() -> bool:
            # Called at every turn: it must not check every endpoint while the first one is still running.
            if inbox or (self.state == "running" and any(not m.has_ended or m.last_exit is None for m in feeding())):
                return False
            endpoints = list(feeding())
            # While another supervisor takes over, endpoints that are down have been stopped for it and have not failed. A host
            # of a cluster waits for other endpoints.
            given_up = endpoints and self.state == "running" and self.takeover.giving is None and not self.options.cluster
            if (self._has_failed and self.state == "stopped") or given_up:
                raise AllFatal({m.name: m.last_exit.describe() if m.last_exit else m.state for m in endpoints})
            return self.state == "stopped"

        return Stream(Consumption(self.reactor, inbox, begin=self.begin_if_new, over=over))

    # -- start and end, in the loop --------------------------------------------------------------------------------------

    def _on_registered(self, endpoint: EndpointRuntime, *, waits: bool) -> None:
        """The registry has a new endpoint, which `waits` for the end of the one before it."""
        endpoint.quarantine = self.options.quarantine.folder(self.claim.runtime_dir, self.run)
        endpoint.sys_path = for_hooks(self.options.hook_folder)
        if self.state == "running" and not waits:
            endpoint.start()

    def _begin(self) -> None:
        self.registry.main.put_event(Started("", 0, time_ns(), self.run, self.claim.name, VERSION))
        if self.takeover.recover is not None:
            self.takeover.recover()
        if self.journaling is not None:
            self.journaling.begin()
        _warn_of_slow_connects(endpoint.endpoint for endpoint in self.endpoints() if endpoint.state != "up")
        if self.takeover.begin is not None:
            self.takeover.begin()
        else:
            for endpoint in self.endpoints():
                endpoint.start()
        self.owners.spares.fill()
        self._periodic.start()

    def begin_stop(self) -> None:
        """Stop every owner: it is asked to exit, then gets SIGTERM, then SIGKILL."""
        if self.state != "running":
            return
        self.state = "stopping"
        if self.journaling is not None:
            self.journaling.stopping()
        if self.takeover.giving is not None:
            self.takeover.giving.take_back()
        self.owners.spares.close(self._check_stopped)
        for endpoint in self.endpoints():
            endpoint.stop()
        self._check_stopped()

    def given_away(self, to: str) -> None:
        """All endpoints, and the name, belong to another supervisor now; end the rest of this one."""
        logger.info("taken over by %s", to)
        self.registry.endpoints = {}
        self.claim.hand_over()
        self.owners.leave_owners()
        self.begin_stop()

    def _busy(self) -> list[EndpointRuntime]:
        return [endpoint for endpoint in self.registry.all_including_removed() if not endpoint.has_ended]

    def _check_stopped(self) -> None:
        if self.state == "stopping" and not self._busy() and not self.owners.spares.alive:
            self.state = "stopped"

    # -- what an endpoint needs ------------------------------------------------------------------------------------------

    @property
    def busy_poll(self) -> float:
        """Seconds that an owner polls without sleeping before it waits."""
        return self.options.busy_poll

    def on_decision(self, endpoint: EndpointRuntime, decision: Decision) -> None:
        """An endpoint has decided about its next owner; restart the endpoints that the strategy restarts too."""
        if decision.action is RestartAction.STOP_SUPERVISOR:
            self._has_failed = True
            self.begin_stop()
        elif decision.action in (RestartAction.RESTART, RestartAction.COOL_DOWN) and decision.restarts:
            for other in restarted_with(self.options.strategy, self.endpoints(), endpoint):
                other.restart("strategy", at_once=True)

    def on_ended(self, endpoint: EndpointRuntime) -> None:
        """An endpoint has no process any more and will get none by itself."""
        successor = self.registry.successor_of(endpoint)
        if successor is not None and self.state == "running":
            successor.start()
        self._check_stopped()


def configure(runtime: Runtime, endpoints: Mapping[str, Endpoint], dialects: Dialects) -> None:
    """Before the start: these are its endpoints, which must be checked. In a cluster each is added when this host has it.
    Raises `DuplicateEndpoint`."""
    if runtime.journaling is not None and runtime.journaling.cluster is not None:
        runtime.journaling.cluster.configure(endpoints, dialects)
        return
    for endpoint in endpoints.values():
        runtime.registry.add(endpoint, dialects)


def add_memory(status: Status) -> None:
    """Ask the kernel for the memory of each owner. If possible not under the lock, because each question takes some time."""
    for endpoint in status["endpoints"].values():
        for process in (endpoint, *endpoint.get("members", ())):
            process["memory"] = resident_bytes(process["pid"]) if process["pid"] else None


def _warn_of_slow_connects(endpoints: Iterable[Endpoint]) -> None:
    for line in slow_connects(endpoints):
        logger.warning("%s", line)
