"""Between the reactor and asyncio: coroutines wait for the reactor, and asyncio's event loop runs the reactor's turns."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary, proxy

from wsadapter.loop.foreign_loops import running_loop
from wsadapter.loop.reactor import Reactor

_bridges: Final[WeakKeyDictionary[Reactor, dict[asyncio.AbstractEventLoop, AsyncBridge]]] = WeakKeyDictionary()


class AsyncBridge:
    """Lets coroutines of one event loop wait for the reactor. The reactor's descriptor is registered in the event loop while at
    least one coroutine waits."""

    def __init__(self, reactor: Reactor, loop: asyncio.AbstractEventLoop) -> None:
        self._reactor: Reactor = proxy(reactor)  # a coroutine that waits holds the reactor; `_bridges` must not keep it alive
        self._loop = loop
        self._waiters: set[asyncio.Future[None]] = set()
        self._fd = -1
        """A duplicate of the reactor's descriptor, so that the event loop never polls a descriptor that the reactor has
        closed."""

    @classmethod
    def of(cls, reactor: Reactor) -> AsyncBridge:
        """The bridge between the reactor and the running event loop. There is one for each pair, so that the descriptor is
        registered once. Raises what `running_loop` raises."""
        loop = running_loop()
        known = {alive: bridge for alive, bridge in _bridges.get(reactor, {}).items() if not alive.is_closed()}
        _bridges[reactor] = known
        return known.setdefault(loop, cls(reactor, loop))

    async def run_until(self, done: Callable[[], bool]) -> None:
        """As `Reactor.run_until`, without a timeout: the caller uses `asyncio.timeout`."""
        if done():
            return
        self._reactor.check()
        self._reactor.try_turn()
        while not done():
            waiter = self._loop.create_future()
            self._enter(waiter)
            try:
                # Asked after `_enter`: before it, another thread may have run a turn or closed the reactor and notified nobody.
                self._reactor.check()
                if done():
                    return
                await waiter
            finally:
                self._leave(waiter)

    def _enter(self, waiter: asyncio.Future[None]) -> None:
        """Raises what `Reactor.check` raises."""
        if not self._waiters:
            try:
                self._fd = os.dup(self._reactor.dispatcher.fileno())
            except (OSError, ValueError):
                self._reactor.check()  # another thread has closed it
                raise
            self._loop.add_reader(self._fd, self._turn)
            self._reactor.waiters.listen(self, self._wake_from_any_thread)
        self._waiters.add(waiter)

    def _leave(self, waiter: asyncio.Future[None]) -> None:
        self._waiters.discard(waiter)
        if not self._waiters:
            self._reactor.waiters.listen(self, None)
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def _turn(self) -> None:
        if not self._reactor.dispatcher.closed:
            self._reactor.try_turn()

    def _wake_from_any_thread(self) -> None:
        if _running_loop() is self._loop:
            self._wake()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
