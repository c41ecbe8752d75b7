"""The blocking methods for coroutines: `async for item in feed`, `await feed.aio.send(...)`.

Nothing here has a thread or an event loop: the reactor's descriptor is registered with the running event loop while a coroutine
waits. Cancelling a call loses nothing: an item is taken only when it is returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future
from typing import TypeVar

from wsadapter.arguments import Data, as_outgoing
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.items import Answer, AnyEvent, Batch, Down, Item, Up
from wsadapter.contract.public import Public
from wsadapter.delivery.stream import Stream
from wsadapter.endpoint.monitor import Monitor
from wsadapter.endpoint.request_id import Payload
from wsadapter.endpoint.requests import Pending
from wsadapter.feed import Feed
from wsadapter.loop.asyncio_bridge import AsyncBridge
from wsadapter.runtime import Runtime
from wsadapter.status import Status

T = TypeVar("T")
E = TypeVar("E", Up, Down)


class AsyncSupervisor(Public):
    """`Supervisor.aio`. Timeouts are asyncio's own: `async with asyncio.timeout(5): ...`."""

    PUBLIC = frozenset(
        {
            "add", "batches", "get", "insert", "remove", "request", "restart", "resubscribe", "send", "status",
            "stop", "subscribe", "unsubscribe", "wait_down", "wait_up",
        }
    )  # fmt: skip

    def __init__(self, supervisor: Feed, runtime: Runtime, stream: Stream) -> None:
        self._supervisor = supervisor
        self._runtime = runtime
        self._stream = stream

    def __repr__(self) -> str:
        return f"<AsyncSupervisor of {self._supervisor!r}>"

    def __aiter__(self) -> AsyncIterator[Item]:
        return self._stream.__aiter__()

    def batches(self) -> AsyncIterator[Batch | AnyEvent]:
        """As `Supervisor.batches`."""
        return self._stream.abatches()

    async def get(self) -> Item:
        """As `Supervisor.get`."""
        return await self._stream.aget()

    async def send(self, name: str, data: Data) -> None:
        """As `Supervisor.send`."""
        payload, binary = as_outgoing("send", data)
        runtime = self._runtime
        await self._wait(runtime.reactor.call(lambda: runtime.registry.send(name, payload, binary=binary)))

    async def request(self, name: str, payload: Payload, timeout: float | None = None) -> Answer:  # noqa: ASYNC109 - of the answer
        """As `Supervisor.request`. If it is cancelled, a request that was not begun is not sent, and an answer that still comes
        is a `LateAnswer`."""
        pending = Pending(self._runtime.reactor, name)
        try:
            self._runtime.reactor.call(lambda: self._runtime.registry.request(pending, payload, timeout))
            return await self._wait(pending)
        finally:
            pending.give_up()

    async def restart(self, name: str) -> None:
        """As `Supervisor.restart`."""
        await self._wait(self._runtime.begin_restart(name))

    async def subscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `Supervisor.subscribe`."""
        self._supervisor.subscribe(name, streams)

    async def unsubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `Supervisor.unsubscribe`."""
        self._supervisor.unsubscribe(name, streams)

    async def resubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `Supervisor.resubscribe`."""
        self._supervisor.resubscribe(name, streams)

    async def insert(self, name: str, data: Data) -> int:
        """As `Supervisor.insert`."""
        return self._supervisor.insert(name, data)

    async def add(self, endpoint: Endpoint) -> None:
        """As `Supervisor.add`."""
        self._supervisor.add(endpoint)

    async def remove(self, name: str) -> None:
        """As `Supervisor.remove`."""
        await asyncio.to_thread(self._supervisor.remove, name)

    async def status(self) -> Status:
        """As `Supervisor.status`."""
        return self._supervisor.status()

    async def wait_up(self, monitor: Monitor) -> Up:
        """As `Monitor.wait_up`."""
        return await self._watch(monitor, Up)

    async def wait_down(self, monitor: Monitor) -> Down:
        """As `Monitor.wait_down`."""
        return await self._watch(monitor, Down)

    async def stop(self) -> None:
        """As `Supervisor.stop`."""
        if self._runtime.ask_to_stop():
            await self._bridge().run_until(lambda: self._runtime.state == "stopped")
        await asyncio.to_thread(self._supervisor.stop)

    def _bridge(self) -> AsyncBridge:
        return AsyncBridge.of(self._runtime.reactor)

    async def _wait(self, future: Future[T]) -> T:
        await self._bridge().run_until(future.done)
        return future.result()

    async def _watch(self, monitor: Monitor, kind: type[E]) -> E:
        found = monitor.take(kind)
        while found is None:
            await self._bridge().run_until(lambda: monitor.has(kind))
            found = monitor.take(kind)
        return found
