"""One stream's consumer, and what may come between it and the loop."""

from __future__ import annotations

import os
import signal
from itertools import count

import pytest

from wsadapter import Item, Message
from wsadapter.contract.endpoint import Buffer
from wsadapter.delivery.inbox import Backlog, Inbox
from wsadapter.delivery.stream import Consumption, Stream
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
