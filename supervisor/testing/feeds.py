"""The feeds of a running test exchange: which messages are sent to which clients, and the tasks that send them.

With `resume="continue"` one feed is sent to all clients. Otherwise each connection has a separate feed, or, if a dialect
opens a feed for each subscription, several.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from wsadapter.testing.connection import ClientConnection
from wsadapter.testing.dialect.client_driver import ClientDriver, FeedShare
from wsadapter.testing.dialect.steps import OpenFeed
from wsadapter.testing.feed import FeedPump, Listener, MessageSource, Timed, flood_frames

_FLOOD_TICK: Final = 0.01
_FLOOD_BATCH: Final = 500

Feed = tuple[int, str]
"""A feed: the connection that it belongs to (0: all connections), and its streams (empty: all streams)."""


class Feeds:
    """The feeds and floods of one running exchange. Used in the exchange's event loop only."""

    def __init__(self, source: MessageSource, *, live: bool, drop: Callable[[int], None]) -> None:
        """`live`: one feed for all, whose clock runs even without clients. `drop` drops a connection."""
        self._source = source
        self._live = live
        self._drop = drop
        self._running = asyncio.Event()
        self._running.set()
        self._live_pump: FeedPump | None = None
        self._listeners: dict[int, Listener] = {}
        self._pumps: dict[int, FeedPump] = {}
        self._tasks: dict[Feed, asyncio.Task[None]] = {}
        self._floods: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start the feed for all, if there is one."""
        if self._live:
            self._live_pump = FeedPump(self._source, lambda: list(self._listeners.values()), self._running, live=True)
            self._run(self._live_pump, (0, ""))

    async def stop(self) -> list[BaseException | None]:
        """End every feed and every flood. Returns the exceptions that they raised."""
        tasks = [*self._tasks.values(), *self._floods]
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    def pause(self) -> None:
        """Send no data, as in a quiet market. The clock of the feeds stops."""
        self._running.clear()

    def resume(self) -> None:
        """Continue where the feeds were paused."""
        self._running.set()

    def add(self, connection: ClientConnection) -> None:
        """Send the messages to a connection: by the feed for all, or by one of its own."""
        if self._joins_live(connection, connection):
            return
        pump = FeedPump(self._source, lambda: [connection], self._running, live=False)
        self._pumps[connection.id] = pump
        self._run(pump, (connection.id, ""))

    def open(self, client: ClientDriver, opened: OpenFeed) -> None:
        """Send a client the messages of all its subscriptions, or of one subscription."""
        if self._joins_live(client.connection, FeedShare(client)):
            return
        part = self._source.part(lambda message: client.belongs(message, opened.feed))
        share = FeedShare(client, opened.feed, opened.sent)
        self._run(FeedPump(part, lambda: [share], self._running, live=False), (client.connection.id, opened.feed))

    def close(self, client: ClientDriver, feed: str) -> None:
        """End a feed that `open` began."""
        if task := self._tasks.get((client.connection.id, feed)):
            task.cancel()

    def remove(self, connection: int) -> None:
        """The connection has ended: end its feeds."""
        self._listeners.pop(connection, None)
        self._pumps.pop(connection, None)
        for (owner, _), task in list(self._tasks.items()):
            if owner == connection:
                task.cancel()

    def take_next(self, connection: int) -> Timed | None:
        """The message that would be sent next to a connection. It isn't sent again, except to the other listeners of the feed
        for all. None: there is none."""
        if connection not in self._listeners:
            return None
        if self._live_pump is not None:
            return self._live_pump.peek()
        pump = self._pumps.get(connection)
        return pump.take() if pump is not None else None

    def flood(self, target: ClientConnection, rate: float | None, duration: float, size: int) -> None:
        """Send made-up messages besides the feed."""
        task = asyncio.get_running_loop().create_task(_flood(target, rate, duration, flood_frames(size)), name="flood")
        self._floods.add(task)
        task.add_done_callback(self._floods.discard)

    def _joins_live(self, connection: ClientConnection, listener: Listener) -> bool:
        """Add a listener. Returns whether the feed for all serves it."""
        self._listeners[connection.id] = listener
        if self._live_pump:
            self._live_pump.joined.set()
        return self._live_pump is not None

    def _run(self, pump: FeedPump, feed: Feed) -> None:
        """Run a pump as a task. If its messages can't be made, its listeners are dropped."""
        task = asyncio.get_running_loop().create_task(pump.run(), name=f"feed {feed}")
        self._tasks[feed] = task

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled() or not task.exception():
                if self._tasks.get(feed) is task:
                    del self._tasks[feed]
                return
            for connection in list(self._listeners):  # a feed that failed is kept, so that `stop` returns its error
                if feed[0] in (0, connection):
                    self._drop(connection)

        task.add_done_callback(ended)


async def _flood(target: ClientConnection, rate: float | None, duration: float, frames: Iterator[bytes]) -> None:
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
