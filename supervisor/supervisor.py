"""`Supervisor`: a set of endpoints, one owner process each, one ordered stream.

    start ─> launcher, spares, endpoints ─> ... ─> stop ─> every owner asked, told, killed; reaped ─> the stream ends

This file is what users hold and what an endpoint reports to (`managed.Office`). The loop is `reactor`, one endpoint is
`managed`, the consumer's side is `stream`, the asyncio side is `aio`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import sys
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from time import monotonic, time, time_ns
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast
from uuid import uuid4

from wsadapter import capabilities, shield
from wsadapter.aio import AsyncSupervisor
from wsadapter.child import Listener, OwnerChild
from wsadapter.config import Settings, check_endpoint, checked, load
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.errors import AllFatal, ConfigError, DuplicateEndpoint, SupervisorStopped, UnknownEndpoint, UsageError
from wsadapter.contract.items import Answer, Batch, ClockStep, Event, Item, Started
from wsadapter.inbox import Inbox
from wsadapter.instance import Instance, runtime_folder
from wsadapter.ledger import key_of
from wsadapter.managed import ManagedEndpoint
from wsadapter.monitor import Monitor
from wsadapter.payload import Payload
from wsadapter.processes import Launcher
from wsadapter.reactor import Reactor
from wsadapter.reload import reload, with_dialect
from wsadapter.replicas import Replicas
from wsadapter.requests import Pending
from wsadapter.restart import ConnectBudget, Decision, Verdict
from wsadapter.shards import MARK, capacity, parts, spread, together
from wsadapter.spares import Spares
from wsadapter.stream import Stream
from wsadapter.takeover import whole
from wsadapter.version import VERSION
from wsadapter.watchdogs import resident_bytes

if TYPE_CHECKING:
    from types import TracebackType

    from wsadapter.control import ControlServer

logger = logging.getLogger("wsadapter.supervisor")

T = TypeVar("T")
Kept = ManagedEndpoint | Replicas
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
_PIPE_MOST = 1 << 20
_PIPES_TOGETHER = 32 << 20
"""Bytes of pipe that all owners share evenly: an ordinary user's total is bounded, and beyond it new pipes shrink to 8 KiB."""
_CLOCK_INTERVAL = 5.0
_CLOCK_STEP = 1.0
"""Seconds the wall clock may move against the monotonic one before it is called a step."""


class Supervisor:
    """A set of endpoints, kept up, fanned in. Every method may be called from any thread, also inside the loop body.

    `with Supervisor([...]) as feed: for item in feed: ...`, or `async with` and `async for`. Nothing runs before `start()`,
    which entering it or iterating it calls.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint] = (),
        *,
        name: str = "",
        runtime_dir: str = "",
        strategy: Strategy = "one_for_one",
        spares: int = 1,
        start_method: Literal["forkserver", "spawn"] = "forkserver",
        busy_poll: float = 0.0,
        given: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Without a `name` it has no lock and no control socket, so several don't exclude each other.

        `busy_poll`: seconds that owners and the consumer go on polling before they sleep; it costs a core each.
        `given`: per endpoint the keys that a configuration file sets, so that a dialect overrules none of them, even where
        they equal the defaults. Raises `ConfigError` with every problem of every endpoint, `DuplicateEndpoint`,
        `UnsupportedPlatform`.
        """
        capabilities.check_platform()
        endpoints = list(endpoints)
        if problems := [problem for endpoint in endpoints for problem in check_endpoint(endpoint)]:
            raise ConfigError(problems)
        if repeated := next((name for name, times in Counter(e.name for e in endpoints).items() if times > 1), None):
            raise DuplicateEndpoint(repeated)
        self._given = given or {}
        self.name = name
        self.run = uuid4().hex
        """Unique in the world; (run, endpoint, number) names one message."""
        self.aio = AsyncSupervisor(self)
        """The same for coroutines."""
        self.reactor = Reactor()
        self.reactor.busy_poll = self.busy_poll = busy_poll
        self.budget = ConnectBudget()
        self._runtime_dir = runtime_dir
        self._strategy = strategy
        self._start_method = start_method
        self._endpoints: dict[str, Kept] = {}
        self._removed: dict[str, Kept] = {}
        self._awaiting: dict[Kept, Kept] = {}
        """Endpoints whose predecessor of the same name has not ended."""
        self._main = Inbox()
        self._inboxes: dict[str, Inbox] = {}
        self.groups: dict[str, list[str]] = {}
        """The names of the shards of endpoints that one connection can't carry, see `shards`."""
        self._pooled: set[str] = set()
        """Endpoints that are members of a pool: no configuration names them."""
        self._stream = self._new_stream(self._main, lambda: self._with_inbox(self._main))
        self._lock = threading.Lock()
        self._state: Literal["new", "running", "stopping", "stopped"] = "new"
        self._failed = False
        self._launcher: Launcher | None = None
        self._spares = Spares(self.reactor, spares, self._order_spare)
        self._control: ControlServer | None = None
        self.instance: Instance | None = None
        """Its claim to its name, while it runs under one."""
        self.has_runner = False
        """Whether the command line's main job consumes it: then another supervisor can take it over."""
        self._started_at = monotonic()
        self._wall_offset = time() - monotonic()
        self._goodbye: weakref.finalize[..., Any] | None = None
        for endpoint in endpoints:
            self._admit_all(endpoint)

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
            strategy=settings.strategy,
            spares=settings.spares,
            busy_poll=settings.busy_poll,
            start_method=settings.start_method,
            given=settings.given,
        )

    # -- life ------------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the owners; returns at once. Idempotent.

        Raises `AlreadyRunning` where another supervisor of that name runs, `SupervisorStopped` after `stop()`.
        """
        if shield.whole(self._start):
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
                self.instance = Instance.acquire(self.name, self._runtime_dir)
            if self.instance is not None:
                self._open_control()
            if self._start_method == "forkserver" and not capabilities.temporary_folder():
                logger.warning("no folder for temporary files: owners start by spawn, which is slower")
            self._launcher = Launcher(self._start_method)
            self._state = "running"
            self.reactor.start()
            self._goodbye = weakref.finalize(self, _say_goodbye, self.reactor)
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
        shield.whole(self._close)

    def ask_to_stop(self) -> bool:
        """Begin to stop and return at once. Safe in a signal handler. False where there is nothing to wait for."""
        self.reactor.check_process()
        if self._state == "new":
            shield.whole(self._end_unstarted)
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

    @property
    def state(self) -> str:
        """"new", "running", "stopping" or "stopped"."""
        return self._state

    # -- the stream ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Item]:
        """Every message and event, in order. Ends after `stop()`; raises `AllFatal` when nothing is left that could deliver.

        `break` loses nothing, iterating again goes on. Raises `ConcurrentIteration` for a second consumer.
        """
        return iter(self._stream)

    def __aiter__(self) -> AsyncIterator[Item]:
        return self._stream.__aiter__()

    def batches(self) -> Iterator[Batch | Event]:
        """The fast path: the messages of each read as one `Batch`, and the same events between them."""
        return self._stream.batches()

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

        def move() -> None:
            chosen = [managed for name in names for managed in self._members(name)]
            for managed in chosen:
                self.inbox_of(managed.name).move(managed.account, inbox)
                self._inboxes[managed.name] = inbox
            self._inboxes.update(dict.fromkeys(names, inbox))

        self._do(move)
        return self._new_stream(inbox, lambda: self._with_inbox(inbox))

    # -- commands --------------------------------------------------------------------------------------------------------

    def send(self, name: str, data: str | bytes, timeout: float | None = None) -> None:
        """Send text (`str`) or a binary message (`bytes`); returns when the owner has handed all bytes to the kernel.

        To a group it goes to each shard. Raises `NotConnected` (nothing was sent, nothing is queued), `SendFailed` (its fate is
        unknown), `TimeoutError` (the same), `UnknownEndpoint`.
        """
        self.reactor.wait(self.begin_send(name, data), timeout)

    def begin_send(self, name: str, data: str | bytes) -> Future[None]:
        """As `send`, without waiting; the future raises what `send` would."""
        payload, binary = (data.encode(), False) if isinstance(data, str) else (bytes(data), True)
        return self._do(lambda: together([managed.send(payload, binary=binary) for managed in self._members(name)]))

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
        self._do(lambda: self._fit(pending.endpoint).request(pending, payload, timeout))

    def insert(self, name: str, data: str | bytes) -> int:
        """Put a record of your own, such as a REST snapshot, into the stream of an endpoint, in order; its number."""
        payload, binary = (data.encode(), False) if isinstance(data, str) else (bytes(data), True)
        return self._do(lambda: self._find(name).insert(payload, binary=binary))

    def subscribe(self, name: str, streams: Sequence[Subscription]) -> None:
        """Want these streams too, now and after every reconnection. `Subscribed` or `Rejected` tell how it went. More than one
        connection may carry make shards of it: endpoints NAME#2, NAME#3 ..."""
        self._do(lambda: self._subscribe(name, streams))

    def unsubscribe(self, name: str, streams: Sequence[Subscription]) -> None:
        """Want these streams no more."""
        self._do(lambda: self._unsubscribe(name, streams))

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint and start it. An endpoint that was removed under this name goes on with its numbers.

        Raises `ConfigError`, `DuplicateEndpoint`.
        """
        self._do(lambda: self._add(endpoint))

    def remove(self, name: str, timeout: float | None = None) -> None:
        """Close an endpoint's connection and forget it; returns when its owner is gone. What it delivered before stays."""
        removed = self._do(lambda: self._remove_all(name))
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
            members = self._members(name)
            self._check_not_stopped()
            return together([managed.restart() for managed in members])

        self._begin_if_new()
        return self._do(restart)

    def monitor(self, name: str) -> Monitor:
        """A reference that tells of the endpoint's ups and downs; see `Monitor`. Raises `UnknownEndpoint`."""

        def enter() -> Monitor:
            managed = self._find(name)
            monitor = Monitor(self.reactor, name, lambda gone: self.reactor.post(lambda: managed.monitors.discard(gone)))
            managed.enter(monitor)
            return monitor

        return self._do(enter)

    def status(self) -> dict[str, Any]:
        """How all is, as plain JSON values: for the supervisor and, under `endpoints`, for each endpoint."""
        if self._state == "stopped":
            return self._status()
        status = self._do(self._status)
        for endpoint in status["endpoints"].values():
            for process in (endpoint, *endpoint.get("members", ())):
                process["memory"] = resident_bytes(process["pid"]) if process["pid"] else None
        return status

    def reload(self, settings: Settings) -> dict[str, list[str]]:
        """Take over new settings, touching only what changed: unchanged endpoints keep their owners.

        Returns the names under "added", "removed", "changed" and "subscriptions". Raises `ConfigError`; nothing was changed.
        """
        wanted = {endpoint.name: checked(endpoint) for endpoint in settings.endpoints}
        for endpoint in wanted.values():
            with_dialect(endpoint, settings.given)
        return self._do(lambda: self._apply(wanted, settings.given))

    # -- inside, under the reactor's lock --------------------------------------------------------------------------------

    def _do(self, call: Callable[[], T]) -> T:
        return self.reactor.call(call)

    def _check_not_stopped(self) -> None:
        if self._state in ("stopping", "stopped"):
            raise SupervisorStopped("this supervisor is being stopped; make a new one")

    def _with_inbox(self, inbox: Inbox) -> Iterator[Kept]:
        return (managed for name, managed in self._endpoints.items() if self.inbox_of(name) is inbox)

    def _find(self, name: str) -> Kept:
        if len(self.groups.get(name, ())) > 1:
            raise UsageError(f"{name} is spread over {', '.join(self.groups[name])}; say which of them is meant")
        return self._members(name)[0]

    def _members(self, name: str) -> list[Kept]:
        """The shards of a group, or the one endpoint of that name."""
        try:
            return [self._endpoints[member] for member in self.groups.get(name, (name,))]
        except KeyError:
            raise UnknownEndpoint(name, sorted(self._endpoints)) from None

    def _fit(self, name: str) -> Kept:
        """One that is up, where there is one."""
        members = self._members(name)
        return next((managed for managed in members if managed.state == "up"), members[0])

    def _group_of(self, name: str) -> str | None:
        return next((group for group, shards in self.groups.items() if name in shards), None)

    def _admit_all(self, endpoint: Endpoint) -> list[Kept]:
        """An endpoint, or the shards that it makes."""
        endpoint = checked(endpoint)
        if endpoint.name in self.groups:
            raise DuplicateEndpoint(endpoint.name)
        _, dialect = with_dialect(endpoint, self._given)
        members = parts(endpoint, {}, capacity(dialect))
        if members != [endpoint]:
            self.groups[endpoint.name] = [member.name for member in members]
        return [self._admit(replace(member, name=endpoint.name), name=member.name) for member in members]

    def _admit(self, endpoint: Endpoint, *, name: str = "") -> Kept:
        """`name`: of a shard, or of a member of a pool; no endpoint that a user makes may have one such."""
        endpoint = replace(checked(endpoint), name=name or endpoint.name)
        if endpoint.name in self._endpoints:
            raise DuplicateEndpoint(endpoint.name)
        endpoint, dialect = with_dialect(endpoint, self._given)
        before = self._removed.pop(endpoint.name, None)
        kind = Replicas if endpoint.replicas > 1 else ManagedEndpoint
        if before is not None and not before.settled and isinstance(before, kind):
            managed = before  # its owner is still closing: the next one waits for that end
            managed.replace_settings(endpoint, dialect)
        else:
            managed = kind(self, endpoint, dialect, numbers=before.ledger.numbers if before else None)
            if before is not None and not before.settled:
                self._awaiting[before] = managed
        self.take_in(managed)
        return managed

    def take_in(self, managed: Kept) -> None:
        """An endpoint that is made already, new or of another supervisor."""
        managed.quarantine = str(runtime_folder(self._runtime_dir) / "quarantine" / self.run)
        managed.sys_path = tuple(path or os.getcwd() for path in sys.path)  # noqa: PTH109 - "" stands for it
        self._endpoints[managed.name] = managed

    def _add(self, endpoint: Endpoint) -> None:
        self._check_not_stopped()
        for managed in self._admit_all(endpoint):
            self._start_admitted(managed)

    def _add_shard(self, endpoint: Endpoint) -> None:
        """One more of a group, or an endpoint that needs no others."""
        group = endpoint.name.partition(MARK)[0]
        self._start_admitted(self._admit(replace(endpoint, name=group), name=endpoint.name))

    def _start_admitted(self, managed: Kept) -> None:
        if self._state == "running" and managed not in self._awaiting.values():
            managed.start()

    def _subscribe(self, name: str, streams: Sequence[Subscription]) -> None:
        group = self._group_of(name) or name
        members = self._members(group)
        most = 0 if name in self._pooled else capacity(members[0].dialect)
        have = {key for managed in members for key in managed.ledger.wanted}
        new = list({key_of(stream): stream for stream in streams if key_of(stream) not in have}.values())
        for shard, more in spread(group, new, {m.name: len(m.ledger.wanted) for m in members}, most).items():
            if shard in self._endpoints:
                self._endpoints[shard].subscribe(more)
            else:
                self.groups.setdefault(group, [members[0].name]).append(shard)
                self._add_shard(replace(members[0].endpoint, name=shard, subscribe=tuple(more)))

    def _unsubscribe(self, name: str, streams: Sequence[Subscription]) -> None:
        members = self._members(name)
        for managed in members:
            managed.unsubscribe(streams)
        for managed in members[1:]:
            if not managed.ledger.wanted:
                self._remove(managed.name)

    def _remove_all(self, name: str) -> list[Kept]:
        return [self._remove(managed.name) for managed in self._members(name)]

    def _add_member(self, endpoint: Endpoint, number: int, inbox: Inbox) -> Kept:
        """For a pool: the endpoint NAME#`number`, whose items go to the pool's inbox."""
        self._check_not_stopped()
        managed = self._admit(endpoint, name=f"{endpoint.name}{MARK}{number}")
        self._inboxes[managed.name] = inbox
        self._pooled.add(managed.name)
        if self._state == "running":
            managed.start()
        return managed

    def _remove(self, name: str) -> Kept:
        managed = self._find(name)
        managed.stop()
        self._pooled.discard(name)
        del self._endpoints[name]
        self._removed[name] = managed
        group = self._group_of(name)
        if group is not None:
            self.groups[group].remove(name)
            if self.groups[group] in ([], [group]):
                del self.groups[group]
        return managed

    def _apply(self, wanted: dict[str, Endpoint], given: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
        self._check_not_stopped()
        self._given = given
        running = {name: managed for name, managed in self._endpoints.items() if name not in self._pooled}
        groups: dict[str, list[str]] = {}
        shards: dict[str, Endpoint] = {}
        for name, endpoint in wanted.items():
            has = {m: running[m].ledger.wanted for m in self.groups.get(name, (name,)) if m in running}
            _, dialect = with_dialect(endpoint, given)
            members = parts(endpoint, has, capacity(dialect))
            shards.update((member.name, member) for member in members)
            if members != [endpoint]:
                groups[name] = [member.name for member in members]
        changes = reload(running, shards, given, add=self._add_shard, remove=self._remove)
        self.groups = groups
        return changes

    def _status(self) -> dict[str, Any]:
        return {
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
            "endpoints": {
                name: {**managed.status(), "group": self._group_of(name)} for name, managed in self._endpoints.items()
            },
        }

    def _begin(self) -> None:
        self._started_at = monotonic()
        self._main.put_event(Started("", 0, time_ns(), self.run, self.name, VERSION))
        whole.begin(self)
        self._spares.fill()
        self._watch_clock()

    def _begin_stop(self) -> None:
        if self._state != "running":
            return
        self._state = "stopping"
        self._spares.close(self._check_stopped)
        for managed in self._endpoints.values():
            managed.stop()
        self._check_stopped()

    def _busy(self) -> list[Kept]:
        everybody = (*self._endpoints.values(), *self._removed.values(), *self._awaiting)
        return [m for m in everybody if m.pid is not None or not m.settled]

    def _check_stopped(self) -> None:
        if self._state == "stopping" and not self._busy() and not self._spares.alive:
            self._state = "stopped"

    def _watch_clock(self) -> None:
        offset = time() - monotonic()
        delta, self._wall_offset = offset - self._wall_offset, offset
        if abs(delta) > _CLOCK_STEP:
            logger.warning("the wall clock jumped by %+.1f s; stamps before and after do not compare", delta)
            self._main.put_event(ClockStep("", 0, time_ns(), round(delta, 6)))
        self.reactor.call_later(_CLOCK_INTERVAL, self._watch_clock)

    # -- for a takeover (takeover/) --------------------------------------------------------------------------------------

    def kept(self) -> list[Kept]:
        """All its endpoints."""
        return list(self._endpoints.values())

    def claim(self, name: str) -> None:
        """Take a name while it runs: lock and control socket. Raises `AlreadyRunning`."""
        with self._lock:
            self.name = name
            self.instance = Instance.acquire(name, self._runtime_dir)
            self._open_control()

    def begin_giving(self, peer: socket.socket, asked: dict[str, Any]) -> None:
        """Hand all it has over to the supervisor at the other end of `peer`."""
        from wsadapter.takeover.giver import Giver

        Giver(self, peer, asked).start()

    def put_flush(self, flush: object) -> None:
        """For the runner, behind all that was received."""
        self._main.put_event(cast("Event", flush))

    def given_away(self, to: str) -> None:
        """All it had is another supervisor's; what is left of it ends."""
        logger.info("taken over by %s", to)
        self._endpoints.clear()
        assert self.instance is not None
        assert self._control is not None
        self._control.close()
        self.instance.hand_over()
        self._begin_stop()

    # -- what an endpoint needs (managed.Office) -------------------------------------------------------------------------

    def hire(self, listener: Listener, endpoint: Endpoint) -> OwnerChild:
        """For an endpoint: a warm owner, or one on its way."""
        return self._spares.take(listener) or self._order(listener, endpoint)

    def inbox_of(self, name: str) -> Inbox:
        """For an endpoint: where its items go, a shard's where those of its group do."""
        found = self._inboxes.get(name)
        return found if found is not None else self._inboxes.get(name.partition(MARK)[0], self._main)

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
        successor = self._awaiting.pop(managed, None)
        if successor is not None and self._state == "running":
            successor.start()
        self._check_stopped()

    def _concerned(self, managed: Kept) -> list[Kept]:
        everybody = list(self._endpoints.values())
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
        launcher = self._launcher
        return OwnerChild(
            self.reactor,
            launcher,
            listener,
            timeouts=endpoint.timeouts,
            watchdog=endpoint.watchdog,
            pipe_bytes=min(_PIPE_MOST, _PIPES_TOGETHER // max(1, len(self._endpoints))),
            renounced=lambda: self._replace_launcher(launcher),
        )

    def _replace_launcher(self, stuck: Launcher) -> None:
        if self._launcher is stuck:
            stuck.abandon()
            self._launcher = Launcher(self._start_method)

    # -- small tools -----------------------------------------------------------------------------------------------------

    def _new_stream(self, inbox: Inbox, mine: Callable[[], Iterable[Kept]]) -> Stream:
        def over() -> bool:
            # Asked at every turn: it must not look at every endpoint while the first of them still lives.
            if inbox or (self._state == "running" and any(not m.settled or m.last_exit is None for m in mine())):
                return False
            endpoints = list(mine())
            if (self._failed and self._state == "stopped") or (endpoints and self._state == "running"):
                raise AllFatal({m.name: m.last_exit.describe() if m.last_exit else m.state for m in endpoints})
            return self._state == "stopped"

        return Stream(self.reactor, inbox, begin=self._begin_if_new, over=over)

    def _begin_if_new(self) -> None:
        self.reactor.check_process()
        if self._state == "new":
            self.start()

    def _open_control(self) -> None:
        from wsadapter.control import ControlServer

        assert self.instance is not None
        self._control = ControlServer(self.reactor, self.instance, self)

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


def _say_goodbye(reactor: Reactor) -> None:
    """The program ends without `stop()`: the owners leave on the end of their control sockets."""
    reactor.abandon()
