"""The inbox between two threads, and what a peer may put into it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.records import consume
from tests.unit.test_inbox import Feeder, numbers
from wsadapter.contract.items import Batch, Dropped, Message
from wsadapter.delivery.inbox import Inbox

pytestmark = pytest.mark.version


def test_a_key_nested_deeper_than_json_is_written_is_no_key() -> None:
    deep = b'{"k":' + b"[" * 400 + b"]" * 400 + b"}"
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=2000, overflow="conflate", key="k")
    for _ in range(10):
        feeder.put(deep)
    assert numbers(consume(inbox)) == list(range(1, 11))


def test_relief_that_came_before_it_was_awaited_is_told_at_once() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=1000, overflow="block")
    feeder.put(b"x" * 2000)
    assert feeder.backlog.is_full
    inbox.take(as_batches=False)  # the consumer is faster than who feeds the inbox
    assert not inbox.await_room(feeder.backlog, lambda: pytest.fail("nobody waits"))
    assert feeder.backlog.on_room is None


@pytest.fixture
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_switch_often")
@pytest.mark.parametrize("overflow", ["drop_oldest", "conflate"])
def test_two_threads_lose_no_number_and_count_every_drop(overflow: str) -> None:
    inbox = Inbox()
    feeder, other = Feeder(inbox, max_bytes=4000, overflow=overflow, key="k"), Feeder(inbox, "b")
    over = threading.Event()

    def feed() -> None:
        for n in range(3000):
            feeder.put(*(b'{"k":%d,"p":"%s"}' % (n % 7, b"x" * (n % 50)) for _ in range(1 + n % 3)))
            if n % 17 == 0:
                feeder.event()
            if n % 5 == 0:
                other.put(b"y")
        over.set()

    thread = threading.Thread(target=feed)
    thread.start()
    found: list[Any] = []
    as_batches = False
    while not over.is_set() or inbox:
        as_batches = not as_batches
        if inbox.refill(as_batches=as_batches):
            found += inbox.current
    thread.join()
    single = [m for item in found for m in (item.messages() if isinstance(item, Batch) else [item])]
    assert numbers(single) == list(range(1, feeder.number + 1))
    assert [m.number for m in single if isinstance(m, Message) and m.endpoint == "b"] == list(range(1, other.number + 1))
    assert feeder.backlog.dropped == sum(item.count for item in single if isinstance(item, Dropped))
    assert feeder.backlog.waiting == other.backlog.waiting == 0


@pytest.mark.usefixtures("_switch_often")
def test_a_blocked_feeder_is_always_relieved() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=600, overflow="block")
    on_room = threading.Event()
    stuck: list[int] = []

    def feed() -> None:
        for n in range(3000):
            feeder.put(b"x" * 300)
            if feeder.backlog.is_full:
                on_room.clear()
                if inbox.await_room(feeder.backlog, on_room.set) and not on_room.wait(5):
                    stuck.append(n)
                    return

    thread = threading.Thread(target=feed)
    thread.start()
    found: list[Any] = []
    while thread.is_alive() or inbox:
        if inbox.refill(as_batches=False):
            found += inbox.current
    thread.join()
    assert not stuck
    assert numbers(found) == list(range(1, feeder.number + 1))
