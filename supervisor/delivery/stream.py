"""What a consumer holds: one ordered stream, to iterate blocking or with `async for`.

Its iterator is `chain` over what the inbox puts in hand: in between two records no Python code of ours runs per message. What
is in hand belongs to the stream, not to the iterator, so `break`, an exception or an interrupt loses nothing, and iterating
again goes on.

What a turn of the loop received is put in hand within the same turn: a lone message costs one shield, not two.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from copy import copy
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
"""Seconds an `async for` may go on without letting the event loop's other tasks run."""
_ENDED = "the stream has ended: the supervisor was stopped and all it had received was delivered"


class Stream(Public):
    """The items of some endpoints, in order, for one consumer at a time."""

    PUBLIC = frozenset({"batches", "pending", "get", "aget", "abatches"})

    def __init__(self, reactor: Reactor, inbox: Inbox, *, begin: Callable[[], None], over: Callable[[], bool]) -> None:
        """`begin` starts the supervisor if need be. `over`: nothing more will come; it raises `AllFatal` where that is why."""
        self._reactor = reactor
        self._inbox = inbox
        self._begin = begin
        self._over = over
        self._claims: dict[object, Consumer] = {}
        self._sinks = inbox.messages, inbox.batches
        self._holder: object = None

    def held_by(self, holder: object) -> Stream:
        """The same stream; who iterates it keeps `holder` alive."""
        stream = copy(self)
        stream._holder = holder
        return stream

    def __iter__(self) -> Iterator[Item]:
        """Messages and events. Raises `ConcurrentIteration` where somebody else iterates, `AllFatal` where all is lost."""
        return cast("Iterator[Item]", chain.from_iterable(self._turns(whole=False)))

    def batches(self) -> Iterator[Batch | AnyEvent]:
        """The fast path: the messages of each read as one `Batch`, and the events between them."""
        return cast("Iterator[Batch | AnyEvent]", chain.from_iterable(self._turns(whole=True)))

    @property
    def pending(self) -> bool:
        """Whether an item is at hand, so that the next step of an iteration would not wait. For the consumer's own use."""
        return self._inbox.hand.has_items() or bool(self._inbox)

    def get(self, timeout: float | None = None) -> Item:
        """One item. Raises `TimeoutError` after `timeout` seconds, `SupervisorStopped` at the end of the stream."""
        self._begin()
        deadline = None if timeout is None else monotonic() + timeout
        left = timeout
        while self._wait(left):
            item: Item
            for item in self._inbox.in_hand:  # no next(), no cast(): an interrupt must not fall between taking and returning
                return item
            if self._over():
                raise SupervisorStopped(_ENDED)
            # What came was taken by a signal handler of the program, called as the turn ended.
            left = None if deadline is None else max(0.0, deadline - monotonic())
        raise TimeoutError(f"no item within {timeout} s")

    def _wait(self, timeout: float | None) -> bool:
        """Until an item is in hand, or none will ever be. False where `timeout` seconds were not enough."""
        claim = object()
        try:
            self._claim(claim, threading.current_thread())
            return self._reactor.run_until(partial(self._is_served, False), timeout, sink=self._sinks[False])
        finally:
            self._claims.pop(claim, None)

    async def aget(self) -> Item:
        """One item; as `get`, for coroutines. Cancelling it loses nothing."""
        try:
            return cast("Item", await anext(_AsyncIteration(self, whole=False)))
        except StopAsyncIteration:
            raise SupervisorStopped(_ENDED) from None

    def __aiter__(self) -> AsyncIterator[Item]:
        """As `__iter__`, for `async for`. A running event loop is no obstacle."""
        return cast("AsyncIterator[Item]", _AsyncIteration(self, whole=False))

    def abatches(self) -> AsyncIterator[Batch | AnyEvent]:
        """As `batches`, for `async for`."""
        return cast("AsyncIterator[Batch | AnyEvent]", _AsyncIteration(self, whole=True))

    # -- turns -----------------------------------------------------------------------------------------------------------

    def _turns(self, *, whole: bool) -> Iterator[Iterator[Any]]:
        self._begin()
        claim = object()
        try:
            self._claim(claim, threading.current_thread())
            served, sink = partial(self._is_served, whole), self._sinks[whole]
            while True:  # no condition here: an interrupt on the way back to one would pass by the `finally` (see signal_guard)
                self._reactor.run_until(served, sink=sink)
                hand = self._inbox.hand
                if not hand.has_items() and self._over():
                    return
                yield hand.items  # empty where a signal handler of the program, called as the turn ended, was faster
        finally:
            self._claims.pop(claim, None)

    def _is_served(self, whole: bool) -> bool:
        """Whether an item is in hand, or none will ever be."""
        return self._refill(whole=whole) or self._over()

    def _refill(self, *, whole: bool) -> bool:
        """See to it that something is in hand, in the wanted shape; a `get()` in the loop body may have taken more than it
        returned. False: nothing waits."""
        self._reactor.check_process()
        hand = self._inbox.hand
        if hand.has_items():
            return hand.whole == whole or signal_guard.run_guarded(self._sinks[whole].finish)
        return bool(self._inbox) and signal_guard.run_guarded(self._sinks[whole].finish)

    def _has_more(self) -> bool:
        return bool(self._inbox) or self._over()

    # -- one consumer ----------------------------------------------------------------------------------------------------

    def _claim(self, claim: object, consumer: Consumer) -> None:
        """Let `claim` stand for the consumer's iteration, until it is taken out of `_claims`."""
        for other in tuple(self._claims.values()):
            if other is not consumer and _is_active(other):
                raise ConcurrentIteration(
                    f"this stream is being consumed by {_name(other)}; give an endpoint a stream of its own with "
                    "feed.stream(name)"
                )
        self._claims[claim] = consumer


class _AsyncIteration:
    """An `async for` over a stream. Not a generator: that would be at its end after a cancelled step."""

    def __init__(self, stream: Stream, *, whole: bool) -> None:
        self._stream = stream
        self._inbox = stream._inbox
        self._whole = whole
        self._bridge: AsyncBridge | None = None
        self._breath = 0.0

    def __del__(self) -> None:
        self._stream._claims.pop(id(self), None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._bridge is None:
            self._bridge = self._start()
        if self._inbox.hand.whole == self._whole:
            for item in self._inbox.in_hand:
                return item
        if monotonic() > self._breath:
            await asyncio.sleep(0)
            self._breath = monotonic() + _YIELD_EVERY
        stream = self._stream
        while not stream._refill(whole=self._whole):
            await self._bridge.run_until(stream._has_more)
            self._breath = monotonic() + _YIELD_EVERY
            if not self._inbox:
                raise StopAsyncIteration
        for item in self._inbox.in_hand:
            return item
        raise AssertionError("nothing is in hand behind a refill")

    def _start(self) -> AsyncBridge:
        stream = self._stream
        stream._begin()
        bridge = AsyncBridge.of(stream._reactor)  # first: under another library there is no current task either
        stream._claim(id(self), asyncio.current_task())
        return bridge


def _is_active(consumer: Consumer) -> bool:
    if isinstance(consumer, threading.Thread):
        return consumer.is_alive()
    return consumer is not None and not consumer.done()


def _name(consumer: Consumer) -> str:
    if isinstance(consumer, threading.Thread):
        return f"thread {consumer.name!r}"
    return f"task {consumer.get_name()!r}" if consumer is not None else "nobody"
