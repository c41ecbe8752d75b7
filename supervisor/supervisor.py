"""`Supervisor`: a set of endpoints, one owner process each, one ordered stream.

Users hold this class: it checks arguments and calls `Runtime`, which does the work. Nothing that runs refers to it, so that the
garbage collector notices if it was dropped without a `stop()`.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from wsadapter import capabilities
from wsadapter.aio import AsyncSupervisor
from wsadapter.arguments import Data, as_list, as_outgoing, as_streams, check_kind, path_text
from wsadapter.config import (
    ClusterSettings,
    Dialects,
    Settings,
    SinkSettings,
    check_endpoint,
    check_journal,
    check_supervisor,
    checked,
    load,
)
from wsadapter.config.settings import JournalSettings, StartMethod, Strategy
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.errors import ConfigError, DuplicateEndpoint, Problem, UsageError
from wsadapter.contract.ipc.bootstrap import hold_standard_descriptors
from wsadapter.contract.items import Answer, AnyEvent, Batch, Item
from wsadapter.contract.public import Public
from wsadapter.control.quarantine_folder import QuarantineFolder
from wsadapter.control_commands import ControlCommands
from wsadapter.delivery.stream import Stream
from wsadapter.endpoint.monitor import Monitor
from wsadapter.endpoint.request_id import Payload
from wsadapter.endpoint.requests import Pending
from wsadapter.journal.journal import Journal, as_journal
from wsadapter.journaling import inbox_of
from wsadapter.loop.foreign_loops import check_not_patched
from wsadapter.runtime import Options, Runtime, add_memory, configure
from wsadapter.status import Status, SupervisorState

if TYPE_CHECKING:
    from types import TracebackType


class Supervisor(Public):  # noqa: PLR0904 - a facade without state: DECISIONS
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
        journal: Journal | str | os.PathLike[str] | None = None,
        journal_only: bool = False,
        sinks: Iterable[SinkSettings] = (),
        cluster: ClusterSettings | None = None,
    ) -> None:
        """Without a `name` it has no lock and no control socket, and several may run at the same time.

        `state_dir`: the folder of the quarantine, of which at most `quarantine_max_bytes` are kept, for `quarantine_max_age`
        seconds. `busy_poll`: seconds that owners and the consumer poll before they sleep; each uses a core then.
        `given`: for each endpoint the keys that a configuration file sets. A dialect overrides none of them, even if they equal
        the defaults. `dialects`: dialects that were loaded already, by name or absolute path. `hook_folder`: a folder in which
        owners search the modules of hooks, after `sys.path`. `journal`: where everything that is received is written, for
        consumers that attach; `journal_only`: nobody iterates this object, so no items wait for that. `sinks`: what the journal
        is carried to; `cluster`: hosts with which the endpoints are shared; both checked (`Settings`).
        Raises `ConfigError` with every problem of the arguments and of every endpoint, `DuplicateEndpoint`,
        `UnsupportedPlatform`, `WrongType`.
        """
        capabilities.check_platform()
        capabilities.check_frozen()
        check_not_patched()
        runtime_dir, state_dir, hook_folder = path_text(runtime_dir), path_text(state_dir), path_text(hook_folder)
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
        hold_standard_descriptors()
        quarantine = QuarantineFolder(state_dir, quarantine_max_bytes, quarantine_max_age)
        written = None if journal is None else as_journal(journal).settings
        if problems := _check_journal(written, cluster):
            raise ConfigError(problems)
        options = Options(
            strategy, spares, start_method, busy_poll, hook_folder, quarantine, written, journal_only, tuple(sinks), cluster
        )
        self.runtime = Runtime(name, runtime_dir, options, given or {})
        """For the package itself."""
        self._stream = self.runtime.stream_of(self.runtime.registry.main)
        self.runtime.claim.commands |= ControlCommands(self.runtime).by_name()
        weakref.finalize(self, _dropped, self.runtime).atexit = False
        configure(self.runtime, {endpoint.name: checked(endpoint, loaded) for endpoint in endpoints}, loaded)

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
            journal=None if settings.journal is None else Journal.of_settings(settings.journal),
            journal_only=settings.journal is not None and settings.output.kind == "none",
            sinks=settings.sinks,
            cluster=settings.cluster,
        )

    # -- life ------------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the owners; returns at once. Idempotent.

        Raises `AlreadyRunning` if another supervisor of that name runs, `SupervisorStopped` after `stop()`.
        """
        self.runtime.start()
        return self

    def stop(self, timeout: float | None = None) -> None:
        """Close every connection, end every process, free everything. Idempotent. The stream ends after everything that was
        received is consumed.

        Each owner is asked to exit, then gets SIGTERM, then SIGKILL, each after `timeouts.close`. Raises `TimeoutError` if that
        takes longer than `timeout` seconds; call it again to continue waiting.
        """
        self.runtime.stop(timeout)

    def ask_to_stop(self) -> bool:
        """Begin to stop and return at once. Safe in a signal handler. Returns false if there is nothing to wait for."""
        return self.runtime.ask_to_stop()

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
        return _describe(self.runtime)

    @property
    def name(self) -> str:
        """The name whose lock it holds while it runs; "" without one."""
        return self.runtime.claim.name

    @property
    def run(self) -> str:
        """Unique in the world; (run, endpoint, number) names one message."""
        return self.runtime.run

    @property
    def aio(self) -> AsyncSupervisor:
        """The same for coroutines."""
        return AsyncSupervisor(self, self.runtime, self._stream.held_by(self))

    @property
    def state(self) -> SupervisorState:
        """ "new", "running", "stopping" or "stopped"."""
        return self.runtime.state

    # -- the stream ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Item]:
        """Every message and event, in order. Ends after `stop()`; raises `AllFatal` if every endpoint has failed for good.

        `break` loses nothing: a new iteration continues. Raises `ConcurrentIteration` for a second consumer.
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
        """Move these endpoints from the main iteration into a separate one, for another thread or task.

        Their items that wait already move too, and so do shards that are added later. Raises `UnknownEndpoint`.
        """
        inbox = inbox_of(self.runtime.journaling)
        if not names:
            raise UsageError("stream: name at least one endpoint; the main iteration has all the others")
        self.runtime.reactor.call(partial(self.runtime.registry.redirect, names, inbox))
        return self.runtime.stream_of(inbox)

    # -- commands --------------------------------------------------------------------------------------------------------

    def send(self, name: str, data: Data, timeout: float | None = None) -> None:
        """Send text (`str`) or a binary message (`bytes`); returns when the kernel of the owner's machine has all bytes.

        If `name` is a group, each shard sends it, provided that all are up. Raises `NotConnected` (nothing was sent, nothing is
        queued), `SendFailed` or `TimeoutError` (it is not known whether it was sent), `UnknownEndpoint`, `WrongType`.
        """
        self.runtime.reactor.wait(self.begin_send(name, data), timeout)

    def begin_send(self, name: str, data: Data) -> Future[None]:
        """As `send`, without waiting; the future raises what `send` raises."""
        payload, binary = as_outgoing("send", data)
        return self.runtime.reactor.call(partial(self.runtime.registry.send, name, payload, binary=binary))

    def request(self, name: str, payload: Payload, timeout: float | None = None) -> Answer:
        """Send a request, a JSON object or its text, and return its answer, which is then not delivered in the stream.

        The endpoint's `request` settings match an answer to its request. If the payload has no id, one is added to a copy.
        `timeout`: seconds for the whole call; None: `request.timeout`. A request ends exactly once: with the answer, or by
        raising `RequestRejected` (with the answer's body), `NotSent` (provably not on the wire: safe to repeat) or
        `OutcomeUnknown` (lost or timed out after sending: ask before repeating). Nothing is sent again by itself. An answer
        after the timeout, or after an interrupt of this call, comes in the stream as `LateAnswer`. If `name` is a group, the
        first shard that is up sends the request. Also raises `DuplicateRequest`, `UsageError`, `UnknownEndpoint`."""
        pending = Pending(self.runtime.reactor, name)
        try:
            self.runtime.reactor.call(partial(self.runtime.registry.request, pending, payload, timeout))
            return self.runtime.reactor.wait(pending)
        finally:
            pending.give_up()

    def begin_request(self, name: str, payload: Payload, timeout: float | None = None) -> Pending:
        """As `request`, without waiting; the future raises what `request` raises. Its `give_up()` ends the waiting early."""
        pending = Pending(self.runtime.reactor, name)
        self.runtime.reactor.call(partial(self.runtime.registry.request, pending, payload, timeout))
        return pending

    def insert(self, name: str, data: Data) -> int:
        """Put a record of your own, such as a REST snapshot, into the stream of an endpoint, in order. Returns its number.

        Raises `UnknownEndpoint`, `WrongType`.
        """
        payload, binary = as_outgoing("insert", data)
        registry = self.runtime.registry
        return self.runtime.reactor.call(lambda: registry.find(name).insert(payload, binary=binary))

    def subscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """Subscribe these streams too, now and after every reconnection. `Subscribed` or `Rejected` reports the result. If
        there are more streams than one connection may carry, the endpoint gets shards: endpoints NAME#2, NAME#3 ...

        Raises `UnknownEndpoint`; `WrongType` for a single stream without a list around it; `ConfigError` for streams that the
        endpoint's dialect can't subscribe, such as a string if the exchange needs a table: then none of them is subscribed.
        """
        wanted = as_streams("subscribe", streams)
        self.runtime.reactor.call(partial(self.runtime.registry.subscribe, name, wanted))

    def unsubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """Want these streams no more. Raises as `subscribe`."""
        unwanted = as_streams("unsubscribe", streams)
        self.runtime.reactor.call(partial(self.runtime.registry.unsubscribe, name, unwanted))

    def resubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """A fresh snapshot of these streams, please: each is unsubscribed and subscribed again on the connection that there is.
        What is wanted does not change. `Subscribed` or `Rejected` tell how it went; without a connection nothing is done, for
        the next one begins with snapshots anyway. With replicas the one that leads does it. A stream is meant by its name too,
        as `Gap.stream` has it; those that are not wanted are left alone. Raises as `subscribe`.
        """
        anew = as_streams("resubscribe", streams)
        self.runtime.reactor.call(partial(self.runtime.registry.resubscribe, name, anew))

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint and start it. If an endpoint of this name was removed before, its numbers continue.

        Raises `ConfigError`, `DuplicateEndpoint`, `WrongType`.
        """
        check_kind("add", endpoint, Endpoint)
        dialects = Dialects()
        complete = checked(endpoint, dialects)

        def add() -> None:
            self.runtime.check_changeable()
            self.runtime.registry.add(complete, dialects)

        self.runtime.reactor.call(add)

    def remove(self, name: str, timeout: float | None = None) -> None:
        """Close an endpoint's connection and remove the endpoint; returns when its owner has ended. What the endpoint has
        delivered stays in the stream."""
        removed = self.runtime.reactor.call(partial(self.runtime.registry.remove, name))
        if not self.runtime.reactor.run_until(lambda: all(endpoint.has_ended for endpoint in removed), timeout):
            raise TimeoutError(f"the owner of {name} did not end within {timeout} s; it is still being ended")

    def restart(self, name: str, timeout: float | None = None) -> None:
        """Start a new owner, in any state; returns when the endpoint is up. The restart counters are reset, so `fatal` ends.

        Raises `TimeoutError`, `NotConnected` if the endpoint ended instead, `UnknownEndpoint`.
        """
        self.runtime.reactor.wait(self.begin_restart(name), timeout)

    def begin_restart(self, name: str) -> Future[None]:
        """As `restart`, without waiting."""
        return self.runtime.begin_restart(name)

    def monitor(self, name: str) -> Monitor:
        """A reference that reports when the endpoint goes up and down; see `Monitor`. Raises `UnknownEndpoint`."""

        reactor = self.runtime.reactor

        def enter() -> Monitor:
            endpoint = self.runtime.registry.find(name)
            monitor = Monitor(reactor, name, lambda gone: reactor.post(lambda: endpoint.stream.monitors.discard(gone)))
            endpoint.enter(monitor)
            return monitor

        return reactor.call(enter)

    def status(self) -> Status:
        """The state as plain JSON values: of the supervisor and, under `endpoints`, of each endpoint.

        ops/docs/REFERENCE.md and `wsadapter.status` describe the keys. It may be called after `stop()` too.
        """
        runtime = self.runtime
        if runtime.state == "stopped":
            return runtime.status()
        status = runtime.reactor.call(lambda: runtime.status(memory=False))
        add_memory(status)
        return status

    def reload(self, settings: Settings) -> dict[str, list[str]]:
        """Apply new settings. Only what differs is changed: unchanged endpoints keep their owners.

        Returns the names under "added", "removed", "changed" and "subscriptions", and those of sinks that are others now under
        "sinks_added", "sinks_removed" and "sinks_changed". The journal stays as it is. Starts the supervisor if it is new.
        Raises `ConfigError`; nothing is changed then.
        """
        dialects = Dialects(settings.dialects)
        wanted = {endpoint.name: checked(endpoint, dialects) for endpoint in settings.endpoints}
        runtime = self.runtime
        runtime.begin_if_new()
        runtime.reactor.run_until(lambda: not runtime.takeover.has_frozen)  # a takeover has deadlines of its own
        return runtime.reactor.call(lambda: runtime.apply(wanted, settings, dialects))


def _check_journal(journal: JournalSettings | None, cluster: ClusterSettings | None) -> list[Problem]:
    if journal is not None:
        return check_journal(journal)
    return [] if cluster is None else [Problem("cluster", "a host of a cluster carries its journal to the cluster: give one")]


def _describe(runtime: Runtime) -> str:
    endpoints = runtime.endpoints()
    up = sum(endpoint.state == "up" for endpoint in endpoints)
    name = f" {runtime.claim.name!r}" if runtime.claim.name else ""
    return f"<Supervisor{name}: {runtime.state}, {len(endpoints)} endpoint{'s' * (len(endpoints) != 1)}, {up} up>"


def _dropped(runtime: Runtime) -> None:
    """A `Supervisor` was collected."""
    if runtime.drop():
        text = f"a Supervisor was dropped without stop(); it is stopped now: {_describe(runtime)}; use `with`, or call stop()"
        warnings.warn(text, ResourceWarning, stacklevel=2)
