"""One stream's consumer, and the signal handlers and interrupts that may come between the consumer and the loop."""

from __future__ import annotations

import dis
import os
import signal
import sys
import typing
from collections.abc import Callable
from functools import partial
from itertools import count
from types import FrameType
from typing import Any

import pytest

import wsadapter.delivery.inbox
import wsadapter.delivery.stream
import wsadapter.loop.dispatcher
import wsadapter.loop.reactor
from tests.support.interrupts import interrupt_at
from tests.unit.test_inbox import Feeder
from wsadapter import Item, Message
from wsadapter.contract.endpoint import Buffer
from wsadapter.delivery.inbox import Backlog, Inbox
from wsadapter.delivery.stream import Consumption, Stream
from wsadapter.loop import signal_guard
from wsadapter.loop.reactor import Reactor

pytestmark = pytest.mark.version


def number_of(item: Item) -> int:
    assert isinstance(item, Message)
    return item.number


@pytest.mark.parametrize("way", ["get", "iterate"])
def test_what_a_signal_handler_takes_does_not_end_the_stream_for_the_one_that_it_interrupted(way: str) -> None:
    """The handler is called as the turn ends that brought the item, and is faster."""
    reactor, inbox, backlog = Reactor(), Inbox(), Backlog("a", Buffer())
    stream = Stream(Consumption(reactor, inbox, begin=lambda: None, over=lambda: False))
    reading, writing = os.pipe()
    numbers = count(1)
    taken: list[int] = []

    def brings_one(_events: int) -> None:
        number = next(numbers)
        message = Message("a", os.read(reading, 1), 1, number, 1, None, False)
        inbox.put_single(message, backlog)
        if number == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
            os.write(writing, b"x")

    def handler(*_: object) -> None:
        taken.append(number_of(stream.get(timeout=0)))

    before = signal.signal(signal.SIGUSR1, handler)
    reactor.dispatcher.register(reading, brings_one)
    os.write(writing, b"x")
    try:
        item = stream.get(timeout=30) if way == "get" else next(iter(stream))
    finally:
        signal.signal(signal.SIGUSR1, before)
        reactor.close()
        os.close(reading)
        os.close(writing)
    assert (taken, number_of(item)) == ([1], 2)


# -- interrupts ----------------------------------------------------------------------------------------------------------

PATIENCE = 5.0


def interrupt(step: int, call: Callable[[], None]) -> bool:
    """Run `call` and raise an Interrupt at the `step`-th place in its Python code where a signal handler may run."""
    modules = (wsadapter.delivery.stream, wsadapter.loop.reactor, wsadapter.loop.dispatcher, wsadapter.delivery.inbox, typing)
    files = {module.__file__ for module in modules}
    before: dict[FrameType, str] = {}

    def may(frame: FrameType) -> bool:
        name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        found = name in ("RESUME", "JUMP_BACKWARD") or before.get(frame) == "CALL"
        before[frame] = name
        return found

    return interrupt_at(step, call, lambda file: file in files, may)


def get_some(stream: Stream, seen: list[Any]) -> None:
    for _ in range(4):
        seen.append(stream.get(PATIENCE))


def iterate_some(stream: Stream, seen: list[Any]) -> None:
    for item in stream:
        seen.append(item)
        if len(seen) >= 4:
            return


def batches_some(stream: Stream, seen: list[Any]) -> None:
    for batch in stream.batches():
        seen += batch.messages()  # type: ignore[union-attr]
        if len(seen) >= 4:
            return


@pytest.mark.parametrize("consume", [get_some, iterate_some, batches_some])
def test_an_interrupt_in_a_consumer_loses_and_repeats_nothing(
    consume: Callable[[Stream, list[Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = signal_guard.run_guarded
    monkeypatch.setattr(signal_guard, "run_guarded", lambda work, *args: _untraced(partial(guarded, work, *args)))
    reactor = Reactor()
    try:
        for step in count(1):
            inbox = Inbox()
            feeder = Feeder(inbox)
            stream = Stream(Consumption(reactor, inbox, begin=lambda: None, over=lambda: False))
            feeder.put(b"1", b"2")
            feeder.put(b"3")
            reactor.post(lambda feeder=feeder: feeder.put(b"4", b"5"))  # type: ignore[misc]
            seen: list[Any] = []
            interrupted = interrupt(step, lambda s=stream, t=seen: consume(s, t))  # type: ignore[misc]
            while len(seen) < 5:
                seen.append(stream.get(PATIENCE))
            assert [item.number for item in seen if isinstance(item, Message)] == [1, 2, 3, 4, 5], f"at {step}"
            assert reactor._runner is None
            if not interrupted:
                assert step > 10
                return
    finally:
        signal_guard.disarm()  # an interrupt between `arm` and the work leaves the handlers replaced
        reactor.close()


def _untraced(work: Callable[[], Any]) -> Any:
    """What `signal_guard` guarantees: no signal handler runs within the work."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        return work()
    finally:
        sys.settrace(trace)
