"""Reads the stream of a cluster for one consumer: a thread with the connection fills a queue, which the consumer empties.

    NATS ──messages──> Reading: items, numbers checked ──entries──> queue ──> StreamCursor, in the consumer's thread
      └───────────────<──place of the consumer, when it has changed────────────────┘

If the connection is lost, the thread connects again, and goes on behind the last message. The consumer only waits meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from wsadapter.attachment.supervisor_link import nobody
from wsadapter.cluster.consumer_name import BEAT, ConsumerName
from wsadapter.cluster.nats_server import check_version, connect
from wsadapter.cluster.nats_store import NatsStore
from wsadapter.cluster.nats_stream import NatsStream
from wsadapter.cluster.reading import End, Entry, Place, Reading
from wsadapter.cluster.records import RecordDamaged
from wsadapter.cluster.store import StoreRefused, StoreUnavailable
from wsadapter.config.settings import ClusterSettings
from wsadapter.contract.errors import JournalError, PositionBeyondEnd, UnknownConsumer, UsageError, WrongType
from wsadapter.journal.places import Start
from wsadapter.outputs.parsing import NotALine
from wsadapter.sinks.jetstream import integer_field, without_passwords
from wsadapter.sinks.loop_thread import LoopThread

logger = logging.getLogger("wsadapter.attachment")

_PATIENCE: Final = 5.0
"""Seconds for an answer."""
_AGAIN: Final = 0.5
"""Seconds between two tries to connect."""
_STORE: Final = 0.2
"""Seconds between two places that are stored by themselves."""
_ROOM: Final = 64
"""Entries in the queue, up to which the next messages are asked for."""
_URL: Final = re.compile(r"(?P<scheme>nats|tls)://(?P<servers>[^/]+(?:,(?:nats|tls)://[^/]+)*)/(?P<name>[A-Za-z0-9_-]{1,100})")


def settings_of(url: str, *, credentials: str, ca_file: str) -> ClusterSettings:
    """`nats://10.0.0.1:4222,10.0.0.2:4222/NAME`. Raises `UsageError`."""
    found = _URL.fullmatch(url)
    if found is None:
        shown = re.sub(r"//[^/@]*@", "//...@", url)
        raise UsageError(f'attach: expected "nats://HOST:PORT,HOST:PORT/CLUSTER", got {shown!r}')
    servers = [s if "://" in s else f"{found['scheme']}://{s}" for s in found["servers"].split(",")]
    return ClusterSettings(name=found["name"], servers=",".join(servers), credentials=credentials, ca_file=ca_file)


class StreamSource:
    """Of one consumer."""

    def __init__(self, settings: ClusterSettings, consumer: str) -> None:
        self.entries: deque[Entry] = deque()
        self.consumer = consumer
        self.shown = f"{without_passwords(settings.servers.split(','))}/{settings.name}"
        self.waker, self._wake = socket.socketpair()
        """Readable when something may have changed."""
        for end in (self.waker, self._wake):
            end.setblocking(False)
        self._settings = settings
        self._loop = LoopThread("wsadapter-attach")
        self._room = asyncio.Event()
        self._is_at_end = False
        self._failure: Exception | None = None
        self._connection: Any = None
        self._name: ConsumerName

    # -- in the thread of the consumer -----------------------------------------------------------------------------------

    def open(self, start: Start | str, *, takeover: bool) -> Place:
        """Be the consumer of that name; its place. Raises `JournalError` and what is derived from it, `WrongType`."""
        self._loop.start()
        try:
            return self._loop.wait(self._open(start, takeover=takeover))
        except (StoreUnavailable, StoreRefused, RecordDamaged) as error:
            self._end()
            raise JournalError(f"{self.shown}: {error}") from error
        except BaseException:
            self._end()
            raise

    def keep(self, place_now: Callable[[], Place], *, auto: bool) -> None:
        """Store what `place_now` says, from now on. It is called in another thread."""
        self._loop.call(lambda: self._loop.tasks.spawn(self._keep(place_now, _STORE if auto else BEAT)))

    def store(self, place: Place) -> None:
        """The server has the place afterwards. Raises `ConsumerReplaced`, `JournalError`."""
        try:
            self._loop.wait(self._name.store(place))
        except (StoreUnavailable, StoreRefused, RecordDamaged) as error:
            raise JournalError(f"{self.shown}: the position was not stored: {error}") from error
        self._name.check()

    def taken(self) -> None:
        """The consumer has taken an entry out of the queue."""
        if len(self.entries) == _ROOM - 1:
            self._loop.call(self._room.set)

    @property
    def is_at_end(self) -> bool:
        """Whether the consumer has taken everything that was there."""
        return self._is_at_end and not self.entries

    def check(self) -> None:
        """Raises `ConsumerReplaced`, and `JournalError` for what no repetition mends."""
        self._name.check()
        if self._failure is not None:
            raise JournalError(f"{self.shown}: {self._failure}") from self._failure

    def close(self, place: Place) -> None:
        """Store the place, and let the name go."""
        if self._loop.is_running:
            with suppress(
                StoreUnavailable, StoreRefused, RecordDamaged
            ):  # then the name is free when it was silent for a while
                self._loop.wait(self._close(place))
            self._end()

    def _end(self) -> None:
        self._loop.close()
        self.waker.close()
        self._wake.close()

    # -- in the loop -----------------------------------------------------------------------------------------------------

    async def _open(self, start: Start | str, *, takeover: bool) -> Place:
        try:
            stream = await self._connect()
            store = await self._positions(stream)
            self._name = ConsumerName(store, self.consumer)
            place, since = await self._name.find(takeover=takeover), None
            if place is None:
                place, since = await self._begin(stream, store, start)
            await self._name.hold(place)
        except BaseException:
            await self._disconnect()
            raise
        self._loop.tasks.spawn(self._run(stream, Reading(place, since)))
        return place

    async def _connect(self) -> NatsStream:
        self._connection = await connect(self._settings, f"consumer {self.consumer}", _PATIENCE)
        await check_version(self._connection, _PATIENCE)
        stream = NatsStream(self._connection, f"WSA_{self._settings.name}", _PATIENCE)
        await stream.look()
        return stream

    async def _positions(self, stream: NatsStream) -> NatsStore:
        store = NatsStore(self._connection, f"{stream.stream}_positions", replicas=stream.replicas, patience=_PATIENCE)
        await store.open()
        return store

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _begin(self, stream: NatsStream, store: NatsStore, start: Start | str) -> tuple[Place, int | None]:
        """Where a consumer without a place begins, and the time that counts."""
        match start:
            case "position":
                raise UnknownConsumer(self.consumer, await known_consumers(store))
            case "earliest":
                return Place(stream.first), None
            case "latest":
                endpoints = await stream.look()
                lasts = await asyncio.gather(*(stream.last(endpoint) for endpoint in endpoints))
                found = [(name, last) for name, last in zip(endpoints, lasts, strict=True) if last is not None]
                ends = {name: End(seq + 1, 0, integer_field(headers, "Number")) for name, (seq, headers) in found}
                return Place(stream.next, ends), None
            case datetime() | int() | float() if not isinstance(start, bool):
                at = start.timestamp() if isinstance(start, datetime) else start
                return Place(await stream.at_time(at)), int(at * 1e9)
            case Mapping():
                return await self._behind(stream, start), None
        raise WrongType(
            'start: expected "earliest", "latest", "position", a datetime, a Unix time in seconds, or a mapping from endpoint '
            f"to number; got {start!r}"
        )

    async def _behind(self, stream: NatsStream, numbers: Mapping[str, int]) -> Place:
        begin = stream.next
        for name, number in numbers.items():
            if type(name) is not str or type(number) is not int or number < 0:
                raise WrongType(f"start: expected a mapping from endpoint to number, got {name!r}: {number!r}")
            last = await stream.last(name)
            end = 0 if last is None else integer_field(last[1], "Number")
            if number > end:
                raise PositionBeyondEnd(f"{self.shown}: {name} ends at message {end}, and {number} was said to be processed")
            begin = min(begin, await stream.behind(name, number))
        return Place(begin, {name: End(0, 0, number) for name, number in numbers.items()})

    async def _run(self, stream: NatsStream, reading: Reading) -> None:
        try:
            while True:
                try:
                    await self._read(stream, reading)
                except StoreUnavailable as error:
                    logger.warning("consumer %s: %s; it connects again", self.consumer, error)
                stream = await self._reconnect()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - `check` raises it in the thread of the consumer
            self._failure = error
            self._say()

    async def _read(self, stream: NatsStream, reading: Reading) -> None:
        begin = reading.begin_at(stream.first)
        async for message in stream.messages(begin, self._wait_for_room):
            if message is None:
                self._is_at_end = True
            else:
                try:
                    self.entries.extend(reading.take(message))
                except NotALine as error:
                    raise StoreRefused(f"message {message.sequence} of the stream: {error}") from error
            self._say()

    async def _wait_for_room(self) -> None:
        while len(self.entries) >= _ROOM:
            self._room.clear()
            if len(self.entries) >= _ROOM:
                await self._room.wait()

    async def _reconnect(self) -> NatsStream:
        """As long as the consumer is attached: it waits, as for a supervisor that is not there."""
        while True:
            await self._disconnect()
            await asyncio.sleep(_AGAIN)
            try:
                stream = await self._connect()
                self._name.use(await self._positions(stream))
            except StoreUnavailable:
                continue
            return stream

    async def _keep(self, place_now: Callable[[], Place], interval: float) -> None:
        try:
            await self._name.keep(place_now, interval)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - as in `_run`
            self._failure = error
        self._say()

    async def _close(self, place: Place) -> None:
        await self._loop.tasks.cancel()
        try:
            if self._connection is not None:
                await self._name.store(place, free=True)
        finally:
            await self._disconnect()

    def _say(self) -> None:
        with suppress(OSError):  # full: it is readable anyway
            self._wake.send(b"\0")


async def known_consumers(store: NatsStore) -> list[str]:
    """The names that have a place. Raises `StoreUnavailable`, `StoreRefused`."""
    found: list[str] = []
    await store.watch(lambda entry: found.append(entry.key.partition(".")[2]))
    await store.close()
    return sorted(set(found))


class NoSupervisor:
    """In place of a `SupervisorLink`: the stream doesn't say which host has an endpoint at the moment."""

    def command(self, command: str, more: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Raises what says that nothing was sent."""
        raise nobody(command, f"{command}: a consumer of a cluster's stream sends no commands; use `wsadapter` on a host")
