"""`Supervisor`: a set of endpoints, one owner process each, one ordered stream.

    start ─> launcher, spares, endpoints ─> ... ─> stop ─> every owner asked, told, killed; reaped ─> the stream ends

This file is what users hold and what an endpoint reports to (`managed.Office`). The loop is `reactor`, one endpoint is
`managed`, the consumer's side is `stream`, the asyncio side is `aio`.

What users hold and what an endpoint reports to are two objects with one state (`_core`): the threads know the second for as
long as it runs, so only the first can be seen to be dropped without a `stop()`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from time import monotonic, time, time_ns
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast
from uuid import uuid4

from wsadapter import capabilities
from wsadapter.aio import AsyncSupervisor
from wsadapter.arguments import Data, as_list, as_outgoing, as_streams, check_kind
from wsadapter.config import Dialects, Settings, check_endpoint, check_supervisor, checked, load
from wsadapter.config.connect_time import slow_connects
from wsadapter.config.settings import StartMethod, Strategy
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.errors import AllFatal, ConfigError, DuplicateEndpoint, SupervisorStopped, UsageError
from wsadapter.contract.ipc.bootstrap import hold_standard_descriptors
from wsadapter.contract.items import Answer, AnyEvent, Batch, ClockStep, Event, Item, Started
from wsadapter.contract.public import Public
from wsadapter.control.instance import Instance
from wsadapter.control.quarantine_folder import INTERVAL as QUARANTINE_INTERVAL
from wsadapter.control.quarantine_folder import quarantine_folder, remove_surplus_beside
from wsadapter.delivery.inbox import Inbox
from wsadapter.delivery.stream import Stream
from wsadapter.endpoint.monitor import Monitor
from wsadapter.endpoint.rates import INTERVAL, Count, Rates
from wsadapter.endpoint.request_id import Payload
from wsadapter.endpoint.requests import Pending
from wsadapter.endpoint.restart_policy import ConnectBudget, Decision, Verdict
from wsadapter.endpoint.watchdogs import resident_bytes
from wsadapter.import_path import for_hooks
from wsadapter.loop import signal_guard
from wsadapter.loop.foreign_loops import check_not_patched
from wsadapter.loop.reactor import Reactor
from wsadapter.process.launcher import Launcher
from wsadapter.process.owner_process import Listener, OwnerChild
from wsadapter.process.spares import Spares
from wsadapter.registry.registry import Kept, Roster
from wsadapter.registry.shards import together
from wsadapter.status import FORMAT, Status, SupervisorState
from wsadapter.takeover import supervisor_state
from wsadapter.takeover.transfer import TakeoverError
from wsadapter.version import VERSION

if TYPE_CHECKING:
    from types import TracebackType

    from wsadapter.control.server import ControlServer
    from wsadapter.takeover.old_side import Giver

logger = logging.getLogger("wsadapter.supervisor")

T = TypeVar("T")
_PIPE_MOST = 1 << 20
_PIPES_TOGETHER = 32 << 20
"""Bytes of pipe that all owners share evenly: an ordinary user's total is bounded, and beyond it new pipes shrink to 8 KiB."""
_CLOCK_STEP = 1.0
"""Seconds the wall clock may move against the monotonic one before it is called a step."""


class Supervisor(Public):
    """A set of endpoints, kept up, fanned in. Every method may be called from any thread, also inside the loop body.

    `with Supervisor([...]) as feed: for item in feed: ...`, or `async with` and `async for`. Nothing runs before `start()`,
    which entering it or iterating it calls.
    """

    PUBLIC = frozenset(
        {
            "add", "aio", "ask_to_stop", "batches", "begin_request", "begin_restart", "begin_send", "from_settings",
            "from_toml", "get", "insert", "monitor", "name", "pending", "reload", "remove", "request", "restart",
            "resubscribe", "run", "send", "start", "state", "status", "stop", "stream", "subscribe", "unsubscribe",
        }
    )  # fmt: skip

    def __init__(
        self,
        endpoints: Iterable[Endpoint] = (),
        *,
        name: str = "",
        runtime_dir: str | os.PathLike[str] = "",
        state_dir: str | os.PathLike[str] = "",
        quarantine_max_bytes: int = 256 * 1024**2,
        quarantine_max_age: float = 30 * 86400.0,
        strategy: Strategy = "one_for_one",
        spares: int = 1,
        start_method: StartMethod = "forkserver",
        busy_poll: float = 0.0,
        given: Mapping[str, Collection[str]] | None = None,
        dialects: Mapping[str, dict[str, Any]] | None = None,
        hook_folder: str | os.PathLike[str] = "",
    ) -> None:
        """Without a `name` it has no lock and no control socket, so several don't exclude each other.

        `state_dir`: the folder of the quarantine, of which `quarantine_max_bytes` are kept, for `quarantine_max_age` seconds.
        `busy_poll`: seconds that owners and the consumer go on polling before they sleep; it costs a core each.
        `given`: per endpoint the keys that a configuration file sets, so that a dialect overrules none of them, even where
        they equal the defaults. `dialects`: those that were loaded already, by name or absolute path. `hook_folder`: a folder
        in which owners search the modules of hooks, after those of `sys.path`.
        Raises `ConfigError` with every problem of these and of every endpoint, `DuplicateEndpoint`, `UnsupportedPlatform`,
        `WrongType`.
        """
        capabilities.check_platform()
        capabilities.check_frozen()
        check_not_patched()
        if isinstance(runtime_dir, os.PathLike):  # what is neither text nor a path is judged with the other settings
            runtime_dir = os.fspath(runtime_dir)
        if isinstance(state_dir, os.PathLike):
            state_dir = os.fspath(state_dir)
        if isinstance(hook_folder, os.PathLike):
            hook_folder = os.fspath(hook_folder)
        endpoints = as_list("Supervisor", endpoints, Endpoint)
        problems = check_supervisor(
            {
                "name": name, "runtime_dir": runtime_dir, "state_dir": state_dir, "quarantine_max_bytes": quarantine_max_bytes,
                "quarantine_max_age": quarantine_max_age, "strategy": strategy, "spares": spares, "start_method": start_method,
                "busy_poll": busy_poll,
            }
        )  # fmt: skip
        loaded = Dialects(dialects)
        if problems := [*problems, *(problem for endpoint in endpoints for problem in check_endpoint(endpoint, loaded))]:
            raise ConfigError(problems)
        if repeated := next((name for name, times in Counter(e.name for e in endpoints).items() if times > 1), None):
            raise DuplicateEndpoint(repeated)
        self.name = name
        self.run = uuid4().hex
        """Unique in the world; (run, endpoint, number) names one message."""
        hold_standard_descriptors()
        self.reactor = Reactor()
        self.reactor.busy_poll = self.busy_poll = busy_poll
        self.budget = ConnectBudget()
        self._core = core = _with_the_state_of(self)
        """What lasts must be given this one instead of `self`."""
        self.runtime_dir = runtime_dir
        """The folder of its lock and its control socket, as configured; "": the default."""
        self._state_dir = state_dir
        self._quarantine_most = quarantine_max_bytes
        self._quarantine_age = quarantine_max_age
        self._hook_folder = hook_folder
        self._strategy = strategy
        self._start_method = start_method
        self.roster = Roster(core, given or {}, entered=core._entered)
        self.inbox_of = self.roster.inbox_of
        """For an endpoint: where its items go."""
        self._stream = core._new_stream(self.roster.main, lambda: core.roster.with_inbox(core.roster.main))
        self._lock = threading.Lock()
        self._state: SupervisorState = "new"
        self._failed = False
        self._launcher: Launcher | None = None
        self._spares = Spares(self.reactor, spares, core._order_spare)
        self._control: ControlServer | None = None
        self.instance: Instance | None = None
        """Its claim to its name, while it runs under one."""
        self.has_runner = False
        """Whether the command line's main job consumes it: then another supervisor can take it over."""
        self._giver: Giver | None = None
        """The takeover that is under way."""
        self._started_at = monotonic()
        self._wall_offset = time() - monotonic()
        self._rates = Rates()
        self._goodbye: weakref.finalize[..., Any] | None = None
        self._dropped = False
        weakref.finalize(self, core._drop).atexit = False
        for endpoint in endpoints:
            self.roster.add(checked(endpoint, loaded), loaded)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """From a configuration file. Raises `ConfigError` with all its problems."""
        return cls.from_settings(load(path))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """From checked settings, as `wsadapter.config.load` returns them."""
        return cls(
            settings.endpoints,
            name=settings.name,
            runtime_dir=settings.runtime_dir,
            state_dir=settings.state_dir,
            quarantine_max_bytes=settings.quarantine_max_bytes,
            quarantine_max_age=settings.quarantine_max_age,
            strategy=settings.strategy,
            spares=settings.spares,
            busy_poll=settings.busy_poll,
            start_method=settings.start_method,
            given=settings.given,
            dialects=settings.dialects,
            hook_folder=settings.folder,
        )

    # -- life ------------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the owners; returns at once. Idempotent.

        Raises `AlreadyRunning` where another supervisor of that name runs, `SupervisorStopped` after `stop()`.
        """
        if signal_guard.whole(self._start):
            self.reactor.call(self._begin)
        return self

    def _start(self) -> bool:
        """Whether it was not running yet. Shielded: a signal handler that stops it would wait for the lock for ever."""
        with self._lock:
            if self._state in ("stopping", "stopped"):
                raise SupervisorStopped("this supervisor was stopped; make a new one")
            if self._state == "running":
                return False
            if multiprocessing.current_process().daemon:
                raise UsageError("a daemonic multiprocessing process may not have children; start the supervisor elsewhere")
            if self.name and self.instance is None:
                self.instance = Instance.acquire(self.name, self.runtime_dir)
            if self.instance is not None:
                self._open_control()
            if self._start_method == "forkserver" and not capabilities.temporary_folder():
                logger.warning("no folder for temporary files: owners start by spawn, which is slower")
            self._launcher = Launcher(self._start_method)
            self._state = "running"
            self.reactor.start()
            self._goodbye = weakref.finalize(self._core, _say_goodbye, self.reactor)
        return True

    def stop(self, timeout: float | None = None) -> None:
        """Close every connection, end every process, let go of everything. Idempotent; the stream ends once what was
        received is consumed.

        Each owner is asked, then told, then killed, each after `timeouts.close`. Raises `TimeoutError` where `timeout`
        seconds were not enough; calling it again waits on.
        """
        self.ask_to_stop()
        if not self.reactor.run_until(lambda: self._state == "stopped", timeout):
            raise TimeoutError(f"{len(self._busy())} owners are still closing; call stop() again to wait on")
        signal_guard.whole(self._close)

    def ask_to_stop(self) -> bool:
        """Begin to stop and return at once. Safe in a signal handler. False where there is nothing to wait for."""
        self.reactor.check_process()
        if self._state == "new":
            signal_guard.whole(self._end_unstarted)
        if self._state == "stopped":
            return False
        self.reactor.post(self._begin_stop)
        return True

    def _end_unstarted(self) -> None:
        with self._lock:
            if self._state == "new":
                self._state = "stopped"
                self.reactor.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aio.stop()

    def __repr__(self) -> str:
        endpoints = self.kept()
        up = sum(managed.state == "up" for managed in endpoints)
        name = f" {self.name!r}" if self.name else ""
        return f"<Supervisor{name}: {self._state}, {len(endpoints)} endpoint{'s' * (len(endpoints) != 1)}, {up} up>"

    @property
    def aio(self) -> AsyncSupervisor:
        """The same for coroutines."""
        return AsyncSupervisor(self)

    @property
    def state(self) -> SupervisorState:
        """"new", "running", "stopping" or "stopped"."""
        return self._state

    # -- the stream ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Item]:
        """Every message and event, in order. Ends after `stop()`; raises `AllFatal` when nothing is left that could deliver.

        `break` loses nothing, iterating again goes on. Raises `ConcurrentIteration` for a second consumer.
        """
        return iter(self._stream.held_by(self))

    def __aiter__(self) -> AsyncIterator[Item]:
        return self._stream.held_by(self).__aiter__()

    def batches(self) -> Iterator[Batch | AnyEvent]:
        """The fast path: the messages of each read as one `Batch`, and the same events between them."""
        return self._stream.held_by(self).batches()

    @property
    def pending(self) -> bool:
        """Whether an item is at hand, so that the next step of an iteration would not wait. For the consumer's own use."""
        return self._stream.pending

    def get(self, timeout: float | None = None) -> Item:
        """One item. Raises `TimeoutError` after `timeout` seconds, `SupervisorStopped` at the end of the stream."""
        return self._stream.get(timeout)

    def stream(self, *names: str) -> Stream:
        """Take these endpoints out of the main iteration into one of their own, for a thread or a task of its own.

        What waits of them moves along, and shards that come later do. Raises `UnknownEndpoint`.
        """
        inbox = Inbox()
        if not names:
            raise UsageError("stream: name at least one endpoint; the main iteration has all the others")
        self._do(lambda: self.roster.redirect(names, inbox))
        return self._new_stream(inbox, lambda: self.roster.with_inbox(inbox))

    # -- commands --------------------------------------------------------------------------------------------------------

    def send(self, name: str, data: Data, timeout: float | None = None) -> None:
        """Send text (`str`) or a binary message (`bytes`); returns when the owner has handed all bytes to the kernel.

        To a group it goes to each shard, where all are up. Raises `NotConnected` (nothing was sent, nothing is queued),
        `SendFailed` (its fate is unknown), `TimeoutError` (the same), `UnknownEndpoint`, `WrongType`.
        """
        self.reactor.wait(self.begin_send(name, data), timeout)

    def begin_send(self, name: str, data: Data) -> Future[None]:
        """As `send`, without waiting; the future raises what `send` would."""
        payload, binary = as_outgoing("send", data)
        return self._do(lambda: together([managed.send(payload, binary=binary) for managed in self.roster.all_up(name)]))

    def request(self, name: str, payload: Payload, timeout: float | None = None) -> Answer:
        """Send a request, a JSON object or its text, and return its answer, which is then not delivered in the stream.

        How they find each other: the endpoint's `request`. Where the payload has no id, ours is put in, into a copy. `timeout`:
        seconds for all of it; None: `request.timeout`. It ends exactly once: with the answer, or by raising `RequestRejected`
        (with the answer's body), `NotSent` (provably not on the wire: safe to repeat) or `OutcomeUnknown` (lost or timed out
        after sending: ask before repeating). Nothing is sent again by itself. An answer after the timeout, or after an
        interrupt of this call, comes in the stream as `LateAnswer`. Of a group the first shard that is up sends it. Raises
        `DuplicateRequest`, `UsageError`, `UnknownEndpoint` too.
        """
        pending = Pending(self.reactor, name)
        try:
            self._begin_request(pending, payload, timeout)
            return self.reactor.wait(pending)
        finally:
            pending.give_up()

    def begin_request(self, name: str, payload: Payload, timeout: float | None = None) -> Pending:
        """As `request`, without waiting; the future raises what `request` would. Its `give_up()` ends the waiting early."""
        pending = Pending(self.reactor, name)
        self._begin_request(pending, payload, timeout)
        return pending

    def _begin_request(self, pending: Pending, payload: Payload, timeout: float | None) -> None:
        self._do(lambda: self.roster.fit(pending.endpoint).request(pending, payload, timeout))

    def insert(self, name: str, data: Data) -> int:
        """Put a record of your own, such as a REST snapshot, into the stream of an endpoint, in order; its number.

        Raises `UnknownEndpoint`, `WrongType`.
        """
        payload, binary = as_outgoing("insert", data)
        return self._do(lambda: self.roster.find(name).insert(payload, binary=binary))

    def subscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """Want these streams too, now and after every reconnection. `Subscribed` or `Rejected` tell how it went. More than one
        connection may carry make shards of it: endpoints NAME#2, NAME#3 ...

        Raises `UnknownEndpoint`; `WrongType` for a single stream without a list around it; `ConfigError` for streams that the
        endpoint's dialect can't subscribe, such as a string where the exchange wants a table: then none of them is wanted.
        """
        wanted = as_streams("subscribe", streams)
        self._do(lambda: self.roster.subscribe(name, wanted))

    def unsubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """Want these streams no more. Raises as `subscribe`."""
        unwanted = as_streams("unsubscribe", streams)
        self._do(lambda: self.roster.unsubscribe(name, unwanted))

    def resubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """A fresh snapshot of these streams, please: each is unsubscribed and subscribed again on the connection that there is.
        What is wanted does not change. `Subscribed` or `Rejected` tell how it went; without a connection nothing is done, for
        the next one begins with snapshots anyway. With replicas the one that leads does it. A stream is meant by its name too,
        as `Gap.stream` has it; those that are not wanted are left alone. Raises as `subscribe`.
        """
        anew = as_streams("resubscribe", streams)
        self._do(lambda: self.roster.resubscribe(name, anew))

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint and start it. An endpoint that was removed under this name goes on with its numbers.

        Raises `ConfigError`, `DuplicateEndpoint`, `WrongType`.
        """
        check_kind("add", endpoint, Endpoint)
        dialects = Dialects()
        whole = checked(endpoint, dialects)
        self._do(lambda: self._add(whole, dialects))

    def remove(self, name: str, timeout: float | None = None) -> None:
        """Close an endpoint's connection and forget it; returns when its owner is gone. What it delivered before stays."""
        removed = self._do(lambda: self.roster.remove(name))
        if not self.reactor.run_until(lambda: all(managed.settled for managed in removed), timeout):
            raise TimeoutError(f"the owner of {name} did not end within {timeout} s; it will")

    def restart(self, name: str, timeout: float | None = None) -> None:
        """A new owner, whatever the state; returns when it is up. Its restart counters start afresh; so `fatal` is left.

        Raises `TimeoutError`, `NotConnected` where it ended instead, `UnknownEndpoint`.
        """
        self.reactor.wait(self.begin_restart(name), timeout)

    def begin_restart(self, name: str) -> Future[None]:
        """As `restart`, without waiting."""

        def restart() -> Future[None]:
            members = self.roster.members(name)
            self._check_not_stopped()
            self._check_not_frozen()
            return together([managed.restart() for managed in members])

        self._begin_if_new()
        return self._do(restart)

    def monitor(self, name: str) -> Monitor:
        """A reference that tells of the endpoint's ups and downs; see `Monitor`. Raises `UnknownEndpoint`."""

        def enter() -> Monitor:
            managed = self.roster.find(name)
            monitor = Monitor(self.reactor, name, lambda gone: self.reactor.post(lambda: managed.monitors.discard(gone)))
            managed.enter(monitor)
            return monitor

        return self._do(enter)

    def status(self) -> Status:
        """How all is, as plain JSON values: for the supervisor and, under `endpoints`, for each endpoint.

        What the keys mean is in ops/docs/REFERENCE.md and in `wsadapter.status`. It works after `stop()` too.
        """
        if self._state == "stopped":
            return self._status()
        status = self._do(self._status)
        for endpoint in status["endpoints"].values():
            for process in (endpoint, *endpoint.get("members", ())):
                process["memory"] = resident_bytes(process["pid"]) if process["pid"] else None
        return status

    def reload(self, settings: Settings) -> dict[str, list[str]]:
        """Take over new settings, touching only what changed: unchanged endpoints keep their owners.

        Returns the names under "added", "removed", "changed" and "subscriptions". Starts it if need be. Raises `ConfigError`;
        nothing was changed.
        """
        dialects = Dialects(settings.dialects)
        wanted = {endpoint.name: checked(endpoint, dialects) for endpoint in settings.endpoints}
        self._begin_if_new()
        if self._giver is not None:
            self.reactor.run_until(lambda: self._giver is None or not self._giver.has_frozen)  # it has deadlines of its own
        return self._do(lambda: self._apply(wanted, settings, dialects))

    # -- inside, under the reactor's lock --------------------------------------------------------------------------------

    def _do(self, call: Callable[[], T]) -> T:
        return self.reactor.call(call)

    def _check_not_stopped(self) -> None:
        if self._state in ("stopping", "stopped"):
            raise SupervisorStopped("this supervisor is being stopped; make a new one")

    def _add(self, endpoint: Endpoint, dialects: Dialects) -> None:
        self._check_not_stopped()
        self._check_not_frozen()
        self.roster.add(endpoint, dialects)

    def _check_not_frozen(self) -> None:
        if self._giver is not None and self._giver.has_frozen:
            raise TakeoverError("another supervisor is taking over: ask it, or try again in some seconds")

    def _apply(self, wanted: dict[str, Endpoint], settings: Settings, dialects: Dialects) -> dict[str, list[str]]:
        self._check_not_stopped()
        self._check_not_frozen()
        self._hook_folder = settings.folder or self._hook_folder
        changes = self.roster.apply(wanted, settings.given, dialects)
        _warn_of_slow_connects(self.roster.endpoints[name].endpoint for name in changes["added"])
        return changes

    def _entered(self, managed: Kept, *, waits: bool) -> None:
        """For the roster: an endpoint, which `waits` for the end of the one before it."""
        folder = self._quarantine()
        managed.quarantine = str(folder / self.run) if folder is not None else ""
        managed.sys_path = for_hooks(self._hook_folder)
        if self._state == "running" and not waits:
            managed.start()

    def _quarantine(self) -> Path | None:
        """None: nothing is kept."""
        return quarantine_folder(self._state_dir, self.runtime_dir) if self._quarantine_most else None

    def _clean_quarantine(self) -> None:
        folder = self._quarantine()
        if folder is not None:
            remove_surplus_beside(folder, most_bytes=self._quarantine_most, most_age=self._quarantine_age)
            self.reactor.call_later(QUARANTINE_INTERVAL, self._core._clean_quarantine)

    def _status(self) -> Status:
        endpoints = self.roster.status()
        if self._state in ("running", "stopping"):
            now = monotonic()
            for name, endpoint in endpoints.items():
                rate = self._rates.of(name, now, Count(endpoint["messages"], endpoint["bytes"]))
                endpoint["rate"], endpoint["byte_rate"] = rate
        return {
            "format": FORMAT,
            "name": self.name,
            "run": self.run,
            "pid": os.getpid(),
            "version": VERSION,
            "state": self._state,
            "uptime": round(monotonic() - self._started_at, 3),
            "strategy": self._strategy,
            "spares": self._spares.warm,
            "capabilities": capabilities.summary(self._start_method),
            "runtime": self.instance.describe() if self.instance else None,
            "endpoints": endpoints,
        }

    def _begin(self) -> None:
        self._started_at = monotonic()
        self.roster.main.put_event(Started("", 0, time_ns(), self.run, self.name, VERSION))
        _warn_of_slow_connects(managed.endpoint for managed in self.kept() if managed.state != "up")
        supervisor_state.begin(self)
        self._spares.fill()
        self._watch()
        self._clean_quarantine()

    def _begin_stop(self) -> None:
        if self._state != "running":
            return
        self._state = "stopping"
        if self._giver is not None:
            self._giver.take_back()
        self._spares.close(self._core._check_stopped)
        for managed in self.kept():
            managed.stop()
        self._check_stopped()

    def _busy(self) -> list[Kept]:
        return [managed for managed in self.roster.everybody() if managed.pid is not None or not managed.settled]

    def _check_stopped(self) -> None:
        if self._state == "stopping" and not self._busy() and not self._spares.alive:
            self._state = "stopped"
            if self._dropped:
                self._close_dropped()

    def _watch(self) -> None:
        """Every few seconds: whether the wall clock jumped, and what was received until now."""
        self._rates.note(monotonic(), {managed.name: managed.received for managed in self.kept()})
        offset = time() - monotonic()
        delta, self._wall_offset = offset - self._wall_offset, offset
        if abs(delta) > _CLOCK_STEP:
            logger.warning("the wall clock jumped by %+.1f s; stamps before and after do not compare", delta)
            self.roster.main.put_event(ClockStep("", 0, time_ns(), round(delta, 6)))
        self.reactor.call_later(INTERVAL, self._core._watch)

    # -- for a takeover (takeover/) --------------------------------------------------------------------------------------

    def kept(self) -> list[Kept]:
        """All its endpoints."""
        return list(self.roster.endpoints.values())

    def claim(self, name: str) -> None:
        """Take a name while it runs: lock and control socket. Raises `AlreadyRunning`."""
        with self._lock:
            self.name = name
            self.instance = Instance.acquire(name, self.runtime_dir)
            self._open_control()

    def begin_giving(self, peer: socket.socket, asked: dict[str, Any]) -> None:
        """Hand all it has over to the supervisor at the other end of `peer`. Raises `TakeoverError` where another takeover is
        under way, `SupervisorStopped`."""
        from wsadapter.takeover.old_side import Giver

        self._check_not_stopped()
        if self._giver is not None:
            raise TakeoverError("another supervisor is taking over already; try again when that has ended")
        self._giver = Giver(self._core, peer, asked)
        self.reactor.post(self._giver.start)

    def takeover_is_over(self) -> None:
        """All stays here, and goes on."""
        self._giver = None

    def put_flush(self, flush: object) -> None:
        """For the runner, behind all that was received."""
        self.roster.main.put_event(cast("Event", flush))

    def given_away(self, to: str) -> None:
        """All it had is another supervisor's; what is left of it ends."""
        logger.info("taken over by %s", to)
        self.roster.endpoints.clear()
        assert self.instance is not None
        assert self._control is not None
        self._control.close()
        self.instance.hand_over()
        if self._launcher is not None:
            self._launcher.leave_owners()
        self._begin_stop()

    # -- what an endpoint needs (managed.Office) -------------------------------------------------------------------------

    def hire(self, listener: Listener, endpoint: Endpoint) -> OwnerChild:
        """For an endpoint: a warm owner, or one on its way."""
        return self._spares.take(listener) or self._order(listener, endpoint)

    def on_verdict(self, managed: Kept, decision: Decision) -> None:
        """For an endpoint: it decided about its next owner; the strategy says who else is concerned (OTP supervisor)."""
        if decision.verdict is Verdict.STOP_SUPERVISOR:
            self._failed = True
            self._begin_stop()
        elif decision.verdict in (Verdict.RESTART, Verdict.COOL_DOWN) and decision.restarts:
            for other in self._concerned(managed):
                other.restart("strategy", at_once=True)

    def on_settled(self, managed: Kept) -> None:
        """For an endpoint: it has no process any more."""
        successor = self.roster.successor_of(managed)
        if successor is not None and self._state == "running":
            successor.start()
        self._check_stopped()

    def _concerned(self, managed: Kept) -> list[Kept]:
        everybody = self.kept()
        match self._strategy:
            case "one_for_one":
                return []
            case "one_for_all":
                return [other for other in everybody if other is not managed and not other.settled]
            case "rest_for_one":
                return [other for other in everybody[everybody.index(managed) + 1 :] if not other.settled]

    def _order_spare(self, listener: Listener) -> OwnerChild:
        return self._order(listener, Endpoint("spare"))

    def _order(self, listener: Listener, endpoint: Endpoint) -> OwnerChild:
        assert self._launcher is not None
        return OwnerChild(
            self.reactor,
            self._launcher,
            listener,
            timeouts=endpoint.timeouts,
            watchdog=endpoint.watchdog,
            pipe_bytes=min(_PIPE_MOST, _PIPES_TOGETHER // max(1, len(self.roster.endpoints))),
            renounced=self._core._replace_launcher,
        )

    def _replace_launcher(self, stuck: Launcher) -> None:
        if self._launcher is stuck:
            self._launcher = Launcher(self._start_method)
            stuck.abandon(self._launcher)

    # -- small tools -----------------------------------------------------------------------------------------------------

    def _new_stream(self, inbox: Inbox, mine: Callable[[], Iterable[Kept]]) -> Stream:
        def over() -> bool:
            # Asked at every turn: it must not look at every endpoint while the first of them still lives.
            if inbox or (self._state == "running" and any(not m.settled or m.last_exit is None for m in mine())):
                return False
            endpoints = list(mine())
            given_up = endpoints and self._state == "running" and self._giver is None  # for a takeover what is down is stopped
            if (self._failed and self._state == "stopped") or given_up:
                raise AllFatal({m.name: m.last_exit.describe() if m.last_exit else m.state for m in endpoints})
            return self._state == "stopped"

        return Stream(self.reactor, inbox, begin=self._begin_if_new, over=over)

    def _begin_if_new(self) -> None:
        self.reactor.check_process()
        if self._state == "new":
            self.start()

    def _open_control(self) -> None:
        from wsadapter.control.server import ControlServer

        assert self.instance is not None
        self._control = ControlServer(self.reactor, self.instance, self._core)

    def _drop(self) -> None:
        """Nobody holds it any more. Called by the garbage collector, within whatever a thread does: nothing here may wait."""
        if self._state == "new" and self._lock.acquire(blocking=False):
            self._state = "stopped"
            self.reactor.close()
            self._lock.release()
        if not self.reactor.closed:
            self._dropped = True
            self.reactor.post(self._end_dropped)
            text = f"a Supervisor was dropped without stop(); it is stopped now: {self!r}; use `with`, or call stop()"
            warnings.warn(text, ResourceWarning, stacklevel=2)

    def _end_dropped(self) -> None:
        """Under the reactor's lock."""
        self._begin_stop()
        if self._state == "stopped":
            self._close_dropped()

    def _close_dropped(self) -> None:
        """In a thread of its own: it waits for the thread that runs the loop."""
        self._dropped = False
        threading.Thread(target=self._close, name="wsadapter-dropped", daemon=True).start()

    def _close(self) -> None:
        # Not in a signal handler while another thread is at it: that one waits for the poll which the handler interrupted.
        if self._lock.acquire(blocking=not self.reactor.is_interrupted()):
            try:
                self._let_go()
            finally:
                self._lock.release()

    def _let_go(self) -> None:
        if not self.reactor.closed:
            if self._control is not None:
                self._control.close()
            if self._launcher is not None:
                self._launcher.close()
            self.reactor.close()
            if self.instance is not None:
                self.instance.release()
            if self._control is not None:
                self._control.dismiss()
            if self._goodbye is not None:
                self._goodbye.detach()


def _with_the_state_of(supervisor: Supervisor) -> Supervisor:
    """Another one with the same attributes, whatever becomes of them."""
    core = object.__new__(type(supervisor))
    core.__dict__ = supervisor.__dict__
    return core


def _warn_of_slow_connects(endpoints: Iterable[Endpoint]) -> None:
    for line in slow_connects(endpoints):
        logger.warning("%s", line)


def _say_goodbye(reactor: Reactor) -> None:
    """The program ends without `stop()`: the owners leave on the end of their control sockets."""
    reactor.abandon()
