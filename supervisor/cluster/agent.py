"""The agent of a host: a sink process that holds the lease and appends to the cluster's stream.

    supervisor ── task ──────────────> Driver (rules) <──watch, swap──> bucket WSA_name
               <── "held": terms ────── Agent: a writer for each endpoint and term
    journal ─────── SinkBatch ────────> EndpointWriter ──append──> stream WSA_name, a subject for each endpoint

The order in which a host takes an endpoint: it wins the lease; it reads the end of the journal; it appends the claim; the
supervisor is notified, and connects. So every message of the new connection lies behind the claim, in the journal and in the
stream. A new agent process reads the position of its predecessor from the last message of each subject.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self
from uuid import uuid4

from wsadapter.cluster.assignment import Spread
from wsadapter.cluster.driver import Driver
from wsadapter.cluster.membership import Standing, Timing
from wsadapter.cluster.message import Tenure, Writer
from wsadapter.cluster.nats_server import NatsLog, check_version, connect
from wsadapter.cluster.nats_store import NatsStore
from wsadapter.cluster.records import Host, RecordDamaged
from wsadapter.cluster.store import StoreRefused, StoreUnavailable
from wsadapter.cluster.writer import EndpointWriter, TermLost
from wsadapter.config.settings import ClusterSettings
from wsadapter.journal import folder as folders
from wsadapter.journal import places
from wsadapter.registry.shards import MARK
from wsadapter.sinks.base import Position, SinkBatch, SinkRecord, TargetRefused, TargetUnavailable
from wsadapter.sinks.loop_thread import LoopThread
from wsadapter.sinks.task import CLOSED, LEAVE, REBALANCE, Report

logger = logging.getLogger("wsadapter.cluster")

_TICK: Final = 0.1
_CONNECT: Final = 5.0
_PREFIX: Final = "WSA_"


@dataclass(frozen=True, slots=True)
class AgentTask:
    """The task of the agent, sent by the supervisor as the `cluster` of a `Task`."""

    settings: ClusterSettings
    boot: str
    version: str
    digest: str
    endpoints: tuple[str, ...]
    known: Mapping[str, str]
    """Ids of the leases that were reported to the supervisor, by endpoint: an earlier process has made their claims."""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """From plain values."""
        settings = ClusterSettings(**said["settings"] | {"exclusive": tuple(said["settings"]["exclusive"])})
        return cls(settings, said["boot"], said["version"], said["digest"], tuple(said["endpoints"]), said["known"])


@dataclass(frozen=True, slots=True)
class Joined:
    """The objects that begin and end with the connection."""

    connection: Any
    store: NatsStore
    log: NatsLog
    driver: Driver
    writer: Writer


class Agent:
    """A `Sink`."""

    def __init__(self, task: AgentTask, journal: Path, report: Callable[[Report], None], input_of: Callable[[], bytes]) -> None:
        """`input_of`: what the supervisor has written to standard input so far: lines as in `sinks/task.py`."""
        self._task = task
        self._journal = journal
        self._report = report
        self._input_of = input_of
        self._obeyed = 0
        """Bytes of the input whose lines were obeyed."""
        self._order: dict[str, Any] | None = None
        """Outcome of the last order to rebalance."""
        self._patience = task.settings.lease / 3
        """Seconds for an answer: so that a lost one leaves time for another try before two thirds of the lease are over."""
        self._joined: Joined | None = None
        self._writers: dict[str, EndpointWriter] = {}
        self._granting: dict[tuple[str, Tenure], asyncio.Task[None]] = {}
        self._position: Position | None = None
        self._failure: Exception | None = None
        self._said: dict[str, Any] = {}
        self._loop = LoopThread("wsadapter-cluster")

    # -- the interface of a sink, in its thread --------------------------------------------------------------------------

    def open(self, position: Position) -> Position:
        """Connect, join, and find the positions of the endpoints whose leases name this boot. Raises `SinkError`."""
        self._position = position
        self._loop.start()
        with _typed():
            self._loop.wait(self._open())
        return position

    def write(self, batch: SinkBatch) -> None:
        """Append; afterwards the server has all records of this host's terms. Raises `SinkError`."""
        with _typed():
            self._loop.wait(self._write(batch.by_endpoint()))
        self._position = batch.after

    def flush(self) -> None:
        """Raise the error that ended the work in the loop; there is nothing to write."""
        with _typed():
            if self._failure is not None:
                raise self._failure
            if self._joined is None or not self._joined.connection.is_connected:
                raise StoreUnavailable("NATS: the connection is lost")

    @property
    def position(self) -> Position:
        """The position before which each record is in the stream, or belongs to no term of this host."""
        assert self._position is not None
        return self._position

    def close(self) -> None:
        """Leave the cluster if the supervisor stops, and close the connection."""
        try:
            if self._loop.is_running:
                with contextlib.suppress(StoreUnavailable, StoreRefused):
                    self._loop.wait(self._close())
        finally:
            self._loop.close()

    # -- in the loop -----------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        task, settings = self._task, self._task.settings
        name = _PREFIX + settings.name
        connection = await connect(settings, settings.host, _CONNECT)
        try:
            await check_version(connection, self._patience)
            store = NatsStore(connection, name, replicas=settings.replicas, patience=self._patience)
            await store.open()
            log = NatsLog(connection, name, replicas=settings.replicas, max_age=settings.retain, patience=self._patience)
            max_age = await log.open()
            host = Host(boot=task.boot, version=task.version, digest=task.digest, weight=settings.weight)
            spread = {endpoint: Spread(exclusive=endpoint in settings.exclusive) for endpoint in task.endpoints}
            driver = Driver(store, settings.host, host, spread, Timing(beat=settings.lease / 3, lease=settings.lease))
            await driver.start()
        except BaseException:
            await connection.close()
            raise
        writer = Writer(settings.host, uuid4().hex, folders.identify(self._journal))
        self._joined = Joined(connection, store, log, driver, writer)
        # Before the first record is read: records of a term without a writer would be skipped.
        await asyncio.gather(*(self._grant(self._joined, endpoint, lease) for endpoint, lease in driver.held().items()))
        self._loop.tasks.spawn(self._hold(self._joined, max_age))

    async def _hold(self, joined: Joined, max_age: float) -> None:
        """Until the loop is closed, or something fails."""
        driver = joined.driver
        try:
            while True:
                driver.turn()
                self._obey(joined)
                for endpoint in self._task.endpoints:
                    if driver.assignment.role(endpoint, driver.at) == "preparing":
                        driver.assignment.confirm(endpoint)  # it connects under its own lease: a `Gap`, as after a lost host
                for endpoint, lease in driver.held().items():
                    self._look_after(joined, endpoint, lease)
                self._tell(driver)
                for writer in self._writers.values():
                    if max_age and writer.is_writing and monotonic() - writer.appended_at > max_age / 2:
                        writer.appended_at = monotonic()
                        self._loop.tasks.spawn(self._touch(writer))
                await driver.sleep(_TICK)
        except Exception as error:  # noqa: BLE001 - `flush` raises it in the thread of the sink
            self._failure = self._failure or error

    def _obey(self, joined: Joined) -> None:
        """The lines of the input that have come since."""
        said = self._input_of()
        end = said.rfind(b"\n") + 1
        lines, self._obeyed = said[self._obeyed : end].decode().splitlines(), max(self._obeyed, end)
        for line in lines:
            word, _, about = line.partition(" ")
            if word == REBALANCE:
                self._loop.tasks.spawn(self._rebalance(joined, about))
            elif (
                word == CLOSED
                and about in self._task.endpoints
                and joined.driver.assignment.role(about, joined.driver.at) == "leaving"
            ):
                joined.driver.assignment.confirm(about)

    async def _rebalance(self, joined: Joined, identity: str) -> None:
        try:
            moves = await joined.driver.order(identity)
            self._order = {"id": identity, "moves": {name: {"from": a, "to": b} for name, (a, b) in moves.items()}}
        except StoreUnavailable as error:
            self._order = {"id": identity, "error": str(error)}
        except Exception as error:  # noqa: BLE001 - `flush` raises it in the thread of the sink
            self._failure = self._failure or error

    def _look_after(self, joined: Joined, endpoint: str, lease: Tenure) -> None:
        writer = self._writers.get(endpoint)
        if (endpoint, lease) in self._granting:
            return
        if writer is None or writer.lease != lease:
            self._granting[endpoint, lease] = self._loop.tasks.spawn(self._grant(joined, endpoint, lease))
        elif writer.is_lost:
            joined.driver.raise_term(endpoint, max(lease.term, writer.highest_term))

    async def _grant(self, joined: Joined, endpoint: str, lease: Tenure) -> None:
        """The lease names this boot: become the writer of the endpoint."""
        try:
            start = (await asyncio.to_thread(places.latest, self._journal)).seq
            was_claimed = self._task.known.get(endpoint) == lease.id
            writer = EndpointWriter(joined.log, endpoint, lease, joined.writer, start, was_claimed=was_claimed)
            with contextlib.suppress(TermLost):  # `_look_after` sees it
                await writer.claim()
            self._writers[endpoint] = writer
        except Exception as error:  # noqa: BLE001 - `flush` raises it in the thread of the sink
            self._failure = self._failure or error
        finally:
            self._granting.pop((endpoint, lease), None)

    async def _touch(self, writer: EndpointWriter) -> None:
        try:
            with contextlib.suppress(TermLost):
                await writer.touch()
        except Exception as error:  # noqa: BLE001 - as above
            self._failure = self._failure or error

    async def _write(self, endpoints: Mapping[str, list[SinkRecord]]) -> None:
        if self._failure is not None:
            raise self._failure
        writers = {endpoint: self._writer_of(endpoint) for endpoint in endpoints if endpoint}
        appends = [self._append(writer, endpoints[name]) for name, writer in writers.items() if writer is not None]
        for ended in await asyncio.gather(*appends, return_exceptions=True):
            if ended is not None:
                raise ended

    def _writer_of(self, endpoint: str) -> EndpointWriter | None:
        """None: this host has no term of it. The shards of an endpoint have its term, and subjects of their own."""
        found = self._writers.get(endpoint)
        group = self._writers.get(endpoint.partition(MARK)[0])
        if group is None or group is found or (found is not None and found.lease.term >= group.lease.term):
            return found
        assert self._joined is not None
        shard = EndpointWriter(self._joined.log, endpoint, group.lease, self._joined.writer, group.start)
        self._writers[endpoint] = shard
        return shard

    async def _append(self, writer: EndpointWriter, records: list[SinkRecord]) -> None:
        if writer.is_lost:
            return
        try:
            await writer.write(records)
        except TermLost:
            logger.warning(
                "%s: another writer has the endpoint now: messages that this host has received since are not appended",
                writer.endpoint,
            )

    def _tell(self, driver: Driver) -> None:
        """Report what has changed."""
        members = driver.members
        is_member = members.standing is Standing.MEMBER
        said: dict[str, Any] = {
            "boot": members.host.boot,
            "until": members.holds_until if is_member else None,
            "trouble": driver.trouble,
            "refused": sum(writer.refused for writer in self._writers.values()),
            "hosts": {
                name: {
                    "alive": members.is_alive(name), "version": peer.host.version, "weight": peer.host.weight,
                    "same_configuration": peer.host.digest == members.host.digest,
                }
                for name, peer in sorted(members.peers.items()) if peer.host is not None
            },
            "leases": {name: {"host": lease.host, "term": lease.term} for name, lease in driver.leases().items()},
            "order": self._order,
        }  # fmt: skip
        if is_member and members.is_current(driver.at):
            held = driver.held()
            leaving = said["leaving"] = [n for n in held if driver.assignment.role(n, driver.at) == "leaving"]
            said["held"] = {
                name: {"term": lease.term, "id": lease.id}
                for name, lease in held.items()
                if name not in leaving
                and (writer := self._writers.get(name)) is not None
                and writer.lease == lease
                and writer.is_writing
            }
        if said != self._said:
            self._said = said
            self._report(Report(cluster=said))

    async def _close(self) -> None:
        if self._joined is None:
            return
        if LEAVE in self._input_of():
            await self._joined.driver.leave()
        await self._joined.driver.close()
        await self._joined.store.close()
        await self._joined.connection.close()


@contextlib.contextmanager
def _typed() -> Any:
    """Translates errors of the store into the errors of a sink."""
    try:
        yield
    except StoreUnavailable as error:
        raise TargetUnavailable(str(error)) from error
    except (StoreRefused, RecordDamaged) as error:
        raise TargetRefused(str(error)) from error
