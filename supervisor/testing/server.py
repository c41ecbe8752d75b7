"""The event-loop side of a test exchange: listens, keeps the connections and their feeds, carries out commands.

Everything here runs in the loop; `Exchange` brings calls of other threads to it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from wsadapter.testing.connection import Connection
from wsadapter.testing.dialect.conversation_driver import Line, Share, Venue
from wsadapter.testing.dialect.steps import Open
from wsadapter.testing.feed import Listener, Pump, Source, flood_frames
from wsadapter.testing.handshake import Manners
from wsadapter.testing.house import Attendant, House

Resume = Literal["start", "continue"]
_FLOOD_TICK = 0.01
_FLOOD_BATCH = 500


Feed = tuple[int, str]
"""Whose feed: a connection's (0: that of all), and of which streams (empty: of all)."""


class Server:
    """One listening socket and who came through it. `house` lacks only the callbacks, which are filled in here."""

    def __init__(
        self, house: House, source: Source, *, resume: Resume, after_subscribe: bool, venue: Venue | None = None
    ) -> None:
        """`venue`: where clients are spoken with in a dialect."""
        self.venue = venue
        self._house = replace(
            house,
            attend=self._attend if venue else None,
            on_connected=self._connected,
            on_open=self._opened,
            on_subscribed=self._subscribed,
            on_gone=self._gone,
        )
        self._source = source
        self._live = resume == "continue"
        self._after_subscribe = after_subscribe or venue is not None
        self._connections: dict[int, Connection] = {}
        self._listeners: dict[int, Listener] = {}
        self._pumps: dict[int, Pump] = {}
        self._live_pump: Pump | None = None
        self._feeds: dict[Feed, asyncio.Task[None]] = {}
        self._floods: set[asyncio.Task[None]] = set()
        self._running = asyncio.Event()
        self._running.set()
        self._adoptions: set[asyncio.Task[Any]] = set()
        self._tcp: set[Connection] = set()
        self._nobody_left = asyncio.Event()
        self._nobody_left.set()

    async def listen(self, host: str, port: int) -> int:
        """Starts; gives the port. Raises `OSError` where the address can't be used."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family, backlog=512)
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening, self._accept)
        if self._live:
            self._live_pump = Pump(self._source, lambda: list(self._listeners.values()), self._running, live=True)
            self._run_feed(self._live_pump, (0, ""))
        return int(self._listening.getsockname()[1])

    async def shut(self) -> None:
        """Stops listening, drops everybody, ends every task. Raises what a feed raised (a message generator's fault)."""
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        await asyncio.gather(*self._adoptions)
        for connection in list(self._tcp):
            connection.drop()
        tasks = [*self._feeds.values(), *self._floods]
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await self._nobody_left.wait()  # abort() is carried out in the loop's next round
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    @property
    def manners(self) -> Manners:
        """How clients are treated from now on."""
        return self._house.manners

    def select(self, connection: int | None) -> list[Connection]:
        """One open connection, or all. Raises `LookupError` where there is no such."""
        if connection is None:
            return list(self._connections.values())
        if connection not in self._connections:
            raise LookupError(f"no open connection {connection}; open: {sorted(self._connections)}")
        return [self._connections[connection]]

    def mute_mid_frame(self, connection: Connection) -> None:
        """In the middle of the message that its feed would send next."""
        if connection.id in self._listeners and not self.venue:
            pump = self._live_pump or self._pumps[connection.id]
            connection.mute_in(pump.peek() if self._live else pump.take())
        else:
            connection.mute_in(None)

    def slow(self, bytes_per_second: float | None) -> None:
        """All that is sent from now on, on every connection; None lifts it."""
        self.manners.bytes_per_second = bytes_per_second
        for connection in self._connections.values():
            connection.pace_changed()

    def flood(self, rate: float | None, duration: float, size: int, connection: int | None) -> None:
        """Made-up messages, besides the feed."""
        for target in self.select(connection):
            task = asyncio.get_running_loop().create_task(_flood(target, rate, duration, flood_frames(size)), name="flood")
            self._floods.add(task)
            task.add_done_callback(self._floods.discard)

    def pause(self) -> None:
        """No data, as in a quiet market; pings and subscriptions are answered. The clock of the feed stops."""
        self._running.clear()

    def resume(self) -> None:
        """The feed goes on."""
        self._running.set()

    def _accept(self) -> None:
        """Not left to `loop.create_server`, which trips over what it accepts in the moment it is closed."""
        loop = asyncio.get_running_loop()
        with suppress(BlockingIOError, ConnectionAbortedError):
            tcp, _ = self._listening.accept()
            task = loop.create_task(loop.connect_accepted_socket(lambda: Connection(self._house), tcp), name="accept")
            self._adoptions.add(task)
            task.add_done_callback(self._adoptions.discard)

    def _connected(self, connection: Connection) -> None:
        self._tcp.add(connection)
        self._nobody_left.clear()

    def _opened(self, connection: Connection) -> None:
        self._connections[connection.id] = connection
        if not self._after_subscribe:
            self._feed(connection)

    def _subscribed(self, connection: Connection) -> None:
        if self._after_subscribe and not self.venue:
            self._feed(connection)

    def _feed(self, connection: Connection) -> None:
        if self._joins_live(connection, connection):
            return
        pump = Pump(self._source, lambda: [connection], self._running, live=False)
        self._pumps[connection.id] = pump
        self._run_feed(pump, (connection.id, ""))

    def _joins_live(self, connection: Connection, listener: Listener) -> bool:
        """Takes a listener in; whether it is served by the feed of all."""
        self._listeners[connection.id] = listener
        if self._live_pump:
            self._live_pump.joined.set()
        return self._live_pump is not None

    def _attend(self, connection: Connection) -> Attendant:
        assert self.venue is not None
        return Line(self.venue, connection, self._feed_opened, self._feed_shut)

    def _feed_opened(self, line: Line, opened: Open) -> None:
        if self._joins_live(line.connection, Share(line)):
            return
        part = self._source.part(lambda message: line.belongs(message, opened.feed))
        share = Share(line, opened.feed, opened.sent)
        self._run_feed(Pump(part, lambda: [share], self._running, live=False), (line.connection.id, opened.feed))

    def _feed_shut(self, line: Line, feed: str) -> None:
        if task := self._feeds.get((line.connection.id, feed)):
            task.cancel()

    def _run_feed(self, pump: Pump, feed: Feed) -> None:
        """Where its messages can't be made, its listeners are dropped."""
        task = asyncio.get_running_loop().create_task(pump.run(), name=f"feed {feed}")
        self._feeds[feed] = task

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled() or not task.exception():
                if self._feeds.get(feed) is task:
                    del self._feeds[feed]
                return
            for connection in list(self._listeners):  # a failed feed is kept: shut() raises its error
                if feed[0] in (0, connection):
                    self._connections[connection].drop()

        task.add_done_callback(ended)

    def _gone(self, connection: Connection) -> None:
        self._tcp.discard(connection)
        if not self._tcp:
            self._nobody_left.set()
        self._connections.pop(connection.id, None)
        self._listeners.pop(connection.id, None)
        self._pumps.pop(connection.id, None)
        for (owner, _), task in list(self._feeds.items()):
            if owner == connection.id:
                task.cancel()


async def _flood(target: Connection, rate: float | None, duration: float, frames: Iterator[bytes]) -> None:
    """`rate` messages per second for `duration` seconds, while the connection is open; without a rate as many as are taken."""
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    while target.is_open and (elapsed := loop.time() - began) < duration:
        await target.ready.wait()
        due = _FLOOD_BATCH if rate is None else int(elapsed * rate) - sent
        if due > 0:
            target.send_messages([next(frames) for _ in range(due)])
            sent += due
        await asyncio.sleep(0 if rate is None else _FLOOD_TICK)
