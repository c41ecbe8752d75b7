"""What a consumer holds: one ordered stream, to iterate blocking or with `async for`.

Its iterator is `chain` over what the inbox puts into the cursor: between two records no Python code of ours runs per message.
The cursor belongs to the stream, not to the iterator, so `break`, an exception or an interrupt loses nothing, and a new
iteration continues.

What a turn of the loop received is put into the cursor within the same turn, so that signal handlers are replaced once for a
single message, not twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import chain
from time import monotonic
from typing import Any, Self, cast

from wsadapter.contract.errors import ConcurrentIteration, SupervisorStopped
from wsadapter.contract.items import AnyEvent, Batch, Item
from wsadapter.contract.public import Public
from wsadapter.delivery.inbox import Inbox
from wsadapter.loop import signal_guard
from wsadapter.loop.asyncio_bridge import AsyncBridge
from wsadapter.loop.reactor import Reactor

Consumer = threading.Thread | asyncio.Task[Any] | None
_YIELD_EVERY = 0.005
"""Seconds that an `async for` may run before the event loop's other tasks get a turn."""
_ENDED = "the stream has ended: the supervisor was stopped and all it had received was delivered"


class Consumption:
    """The consumption of one inbox, by one consumer at a time. Its iterators share it."""

    def __init__(self, reactor: Reactor, inbox: Inbox, *, begin: Callable[[], None], over: Callable[[], bool]) -> None:
        """`begin` starts the supervisor if it is new. `over` returns whether nothing more will come; it raises `AllFatal` if
        that is the reason."""
        self.reactor = reactor
        self.inbox = inbox
        self.begin, self.over = begin, over
        self._sinks = inbox.messages, inbox.batches
        self._claims: dict[object, Consumer] = {}

    def turns(self, *, as_batches: bool, holder: object) -> Iterator[Iterator[Any]]:  # noqa: ARG002 - this frame keeps `holder` alive
        """The iterators that fill the cursor, one after the other, blocking. `as_batches`: batches instead of messages."""
        self.begin()
        claim = object()
        try:
            self.claim(claim, threading.current_thread())
            served, sink = partial(self._is_served, as_batches), self._sinks[as_batches]
            while True:  # no condition here: an interrupt at the jump back would skip the `finally` (see signal_guard)
                self.reactor.run_until(served, sink=sink)
                cursor = self.inbox.cursor
                if not cursor.has_items() and self.over():
                    return
                yield cursor.items  # empty if a signal handler of the program, called as the turn ended, was faster
        finally:
            self.release(claim)

    def wait(self, timeout: float | None) -> bool:
        """Wait until an item is in the cursor, or none will ever come. Returns false after `timeout` seconds."""
        claim = object()
        try:
            self.claim(claim, threading.current_thread())
            return self.reactor.run_until(partial(self._is_served, False), timeout, sink=self._sinks[False])
        finally:
            self.release(claim)

    def _is_served(self, as_batches: bool) -> bool:
        """Whether an item is in the cursor, or none will ever come."""
        return self.refill(as_batches=as_batches) or self.over()

    def refill(self, *, as_batches: bool) -> bool:
        """Put something into the cursor, in the wanted form; a `get()` in the loop body may have taken more than it returned.
        Returns false if nothing waits."""
        self.reactor.check_process()
        cursor = self.inbox.cursor
        if cursor.has_items():
            return cursor.as_batches == as_batches or signal_guard.run_guarded(self._sinks[as_batches].finish)
        return bool(self.inbox) and signal_guard.run_guarded(self._sinks[as_batches].finish)

    def has_more(self) -> bool:
        """Whether something waits, or nothing will ever come."""
        return bool(self.inbox) or self.over()

    def claim(self, claim: object, consumer: Consumer) -> None:
        """Let `claim` stand for the consumer's iteration, until it is released. Raises `ConcurrentIteration`."""
        for other in tuple(self._claims.values()):
            if other is not consumer and _is_active(other):
                raise ConcurrentIteration(
                    f"this stream is being consumed by {_name(other)}; give an endpoint a separate stream with "
                    "feed.stream(name)"
                )
        self._claims[claim] = consumer

    def release(self, claim: object) -> None:
        """End a claim; does nothing if there is none."""
        self._claims.pop(claim, None)


class Stream(Public):
    """The items of some endpoints, in order, for one consumer at a time."""

    PUBLIC = frozenset({"batches", "pending", "get", "aget", "abatches"})

    def __init__(self, consumption: Consumption, holder: object = None) -> None:
        """`holder` stays alive while somebody iterates the stream."""
        self._consumption = consumption
        self._holder = holder

    def held_by(self, holder: object) -> Stream:
        """The same stream; while somebody iterates it, `holder` stays alive."""
        return Stream(self._consumption, holder)

    def __iter__(self) -> Iterator[Item]:
        """Messages and events. Raises `ConcurrentIteration` if another consumer iterates, `AllFatal` if every endpoint
        failed."""
        return cast("Iterator[Item]", chain.from_iterable(self._consumption.turns(as_batches=False, holder=self._holder)))

    def batches(self) -> Iterator[Batch | AnyEvent]:
        """The fast path: the messages of each read as one `Batch`, and the events between them."""
        turns = self._consumption.turns(as_batches=True, holder=self._holder)
        return cast("Iterator[Batch | AnyEvent]", chain.from_iterable(turns))

    @property
    def pending(self) -> bool:
        """Whether an item is at hand, so that the next step of an iteration would not wait. For the consumer's own use."""
        inbox = self._consumption.inbox
        return inbox.cursor.has_items() or bool(inbox)

    def get(self, timeout: float | None = None) -> Item:
        """One item. Raises `TimeoutError` after `timeout` seconds, `SupervisorStopped` at the end of the stream."""
        consumption = self._consumption
        consumption.begin()
        deadline = None if timeout is None else monotonic() + timeout
        left = timeout
        while consumption.wait(left):
            item: Item
            for item in consumption.inbox.current:  # no next(), no cast(): no interrupt may fall between taking and returning
                return item
            if consumption.over():
                raise SupervisorStopped(_ENDED)
            # A signal handler of the program, called at the end of the turn, has taken the items.
            left = None if deadline is None else max(0.0, deadline - monotonic())
        raise TimeoutError(f"no item within {timeout} s")

    async def aget(self) -> Item:
        """One item; as `get`, for coroutines. Cancelling it loses nothing."""
        try:
            return cast("Item", await anext(_AsyncIteration(self._consumption, self._holder, as_batches=False)))
        except StopAsyncIteration:
            raise SupervisorStopped(_ENDED) from None

    def __aiter__(self) -> AsyncIterator[Item]:
        """As `__iter__`, for `async for`. It may be used while an event loop runs."""
        return cast("AsyncIterator[Item]", _AsyncIteration(self._consumption, self._holder, as_batches=False))

    def abatches(self) -> AsyncIterator[Batch | AnyEvent]:
        """As `batches`, for `async for`."""
        return cast("AsyncIterator[Batch | AnyEvent]", _AsyncIteration(self._consumption, self._holder, as_batches=True))


class _AsyncIteration:
    """An `async for` over a stream. Not a generator, because a generator ends at a cancelled step."""

    def __init__(self, consumption: Consumption, holder: object, *, as_batches: bool) -> None:
        self._consumption = consumption
        self._holder = holder
        """Referenced as long as the iteration runs."""
        self._inbox = consumption.inbox
        self._to_batches = as_batches
        self._bridge: AsyncBridge | None = None
        self._yield_at = 0.0
        """When the event loop's other tasks have to run."""

    def __del__(self) -> None:
        self._consumption.release(id(self))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._bridge is None:
            self._bridge = self._start()
        if self._inbox.cursor.as_batches == self._to_batches:
            for item in self._inbox.current:
                return item
        if monotonic() > self._yield_at:
            await asyncio.sleep(0)
            self._yield_at = monotonic() + _YIELD_EVERY
        consumption = self._consumption
        while not consumption.refill(as_batches=self._to_batches):
            await self._bridge.run_until(consumption.has_more)
            self._yield_at = monotonic() + _YIELD_EVERY
            if not self._inbox:
                raise StopAsyncIteration
        for item in self._inbox.current:
            return item
        raise AssertionError("the cursor is empty after a refill")

    def _start(self) -> AsyncBridge:
        consumption = self._consumption
        consumption.begin()
        bridge = AsyncBridge.of(consumption.reactor)  # first, because under another library there is no current task either
        consumption.claim(id(self), asyncio.current_task())
        return bridge


def _is_active(consumer: Consumer) -> bool:
    if isinstance(consumer, threading.Thread):
        return consumer.is_alive()
    return consumer is not None and not consumer.done()


def _name(consumer: Consumer) -> str:
    if isinstance(consumer, threading.Thread):
        return f"thread {consumer.name!r}"
    return f"task {consumer.get_name()!r}" if consumer is not None else "nobody"
