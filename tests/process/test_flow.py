"""A consumer that is slower than its feeds: row 56 in short, and row 32 with seconds instead of a minute."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from tests.support.feeds import DEADLINE, SOON, collect, is_message, rest
from tests.support.waiting import wait_until
from wsadapter import Batch, Down, Dropped, Endpoint, Item, Message, Supervisor
from wsadapter.testing import Exchange

COUNT = 20_000
SIZE = 200
LIMIT = 64 * 1024


def payload(n: int) -> str:
    return f'{{"k":{n % 10},"n":{n}}}'.ljust(SIZE)


def endpoint(ex: Exchange, overflow: str, **settings: Any) -> Endpoint:
    buffer = {"max_bytes": LIMIT, "overflow": overflow, **({"key": "k"} if overflow == "conflate" else {})}
    return ex.endpoint("a", buffer=buffer, restart=SOON, **settings)


def state(feed: Supervisor) -> dict[str, Any]:
    found: dict[str, Any] = feed.status()["endpoints"]["a"]
    return found


def accounted(items: list[Item]) -> tuple[list[int], list[int]]:
    """The numbers that were delivered and those that were told as dropped; together each once, in order."""
    delivered, dropped, every = [], [], []
    for item in items:
        if isinstance(item, Message):
            delivered.append(item.number)
            every.append(item.number)
        elif isinstance(item, Dropped):
            assert item.first is not None
            assert item.last is not None
            numbers = range(item.first, item.last + 1)
            assert len(numbers) == item.count
            assert item.bytes == item.count * SIZE
            dropped += numbers
            every += numbers
    assert every == list(range(1, len(every) + 1))
    return delivered, dropped


@pytest.mark.parametrize(("overflow", "cause"), [("drop_oldest", {"overflow"}), ("conflate", {"conflated"})])
def test_what_is_dropped_is_counted_exactly(overflow: str, cause: set[str]) -> None:
    with Exchange(messages=[payload(n) for n in range(COUNT)]) as ex, Supervisor([endpoint(ex, overflow)]) as feed:
        wait_until(lambda: state(feed)["messages"] == COUNT, DEADLINE)
        assert state(feed)["buffered"] <= LIMIT
        count = state(feed)["dropped"]
        feed.insert("a", payload(COUNT))
        items = collect(feed, lambda item: isinstance(item, Message) and item.number == COUNT + 1)
        delivered, dropped = accounted(items)
        assert len(delivered) + len(dropped) == COUNT + 1
        assert len(dropped) >= count > 0
        assert state(feed)["dropped"] == len(dropped)
        assert {item.cause for item in items if isinstance(item, Dropped)} == cause
        newest = {n % 10: n for n in range(COUNT)}
        kept = {m.number - 1: m.json()["n"] for m in items if isinstance(m, Message)}
        assert all(number == n for number, n in kept.items())
        assert overflow != "conflate" or set(newest.values()) <= set(kept), "the newest of each key is there"


@pytest.mark.parametrize("overflow", ["drop_oldest", "conflate"])
def test_the_same_with_a_consumer_that_takes_some_now_and_then(overflow: str) -> None:
    with Exchange(messages=[payload(n) for n in range(COUNT)]) as ex, Supervisor([endpoint(ex, overflow)]) as feed:
        items: list[Item] = []
        while state(feed)["messages"] < COUNT:
            items += itertools.islice(iter(feed), 5 if state(feed)["buffered"] > LIMIT // 2 else 0)
        last = feed.insert("a", payload(COUNT))
        items += collect(feed, lambda item: isinstance(item, Message) and item.number == last)
        delivered, dropped = accounted(items)
        assert len(delivered) + len(dropped) == COUNT + 1
        assert state(feed)["dropped"] == len(dropped)


def test_block_drops_nothing_and_keeps_the_rest_with_the_peer() -> None:
    with Exchange(messages=[payload(n) for n in range(COUNT)] * 5) as ex, Supervisor([endpoint(ex, "block")]) as feed:
        wait_until(lambda: state(feed)["buffered"] >= LIMIT, DEADLINE)
        most = 0
        items: list[Item | Batch] = []
        numbers: list[int] = []
        for item in feed.batches():
            items.append(item)
            if isinstance(item, Batch):
                numbers.extend(range(item.first_number, item.first_number + len(item)))
                if len(items) % 50 == 0:
                    most = max(most, state(feed)["buffered"])
            if len(numbers) >= 5 * COUNT:
                break
        assert numbers == list(range(1, 5 * COUNT + 1))
        assert not [item for item in items if isinstance(item, Dropped | Down)]
        assert most <= LIMIT + 1024 * 1024, "one record more than the limit at most"


def test_block_goes_on_over_a_change_of_owner() -> None:
    with Exchange(messages=[payload(n) for n in range(COUNT)], tls=True) as ex, Supervisor([endpoint(ex, "block")]) as feed:
        wait_until(lambda: state(feed)["buffered"] >= LIMIT, DEADLINE)
        feed.restart("a", DEADLINE)
        items = collect(feed, is_message("a", epoch=2))
        items += collect(feed, lambda item: isinstance(item, Message) and item.json()["n"] == COUNT - 1)
        delivered, dropped = accounted(items)
        assert not dropped
        assert len(delivered) > COUNT


def test_disconnect_gives_the_connection_up_and_says_why() -> None:
    with Exchange(messages=[payload(n) for n in range(COUNT)]) as ex, Supervisor([endpoint(ex, "disconnect")]) as feed:
        monitor = feed.monitor("a")
        down = monitor.wait_down(DEADLINE)
        assert down.reason.kind == "overflow"
        assert str(LIMIT) in down.reason.text
        feed.stop()
        accounted(rest(feed))


@pytest.mark.parametrize("overflow", ["drop_oldest", "conflate", "block", "disconnect"])
def test_a_message_larger_than_the_buffer_is_delivered_to_who_waits_for_it(overflow: str) -> None:
    large = '{"k":1,"p":"%s"}' % ("x" * 4 * LIMIT)
    with Exchange(messages=[large, payload(2)]) as ex, Supervisor([endpoint(ex, overflow)]) as feed:
        items = collect(feed, lambda item: isinstance(item, Message) and item.number == 2)
    assert [item.text for item in items if isinstance(item, Message)] == [large, payload(2)]
    assert not [item for item in items if isinstance(item, Dropped | Down)]


@pytest.mark.parametrize("overflow", ["drop_oldest", "conflate"])
def test_row_32_pings_are_answered_while_the_consumer_sleeps(overflow: str) -> None:
    with Exchange(messages=[payload(0)], loop=True, rate=5000) as ex, Supervisor([endpoint(ex, overflow)]) as feed:
        collect(feed, is_message("a"))
        deadline = time.monotonic() + 3.0
        worst = 0.0
        for n in itertools.count():  # this thread is the consumer, and it does not consume
            if time.monotonic() > deadline:
                break
            sent = time.monotonic()
            ex.ping(b"%d" % n)
            ex.wait_received(lambda f, n=n: f.opcode == 10 and f.payload == b"%d" % n)
            worst = max(worst, time.monotonic() - sent)
        assert worst < 1.0
        assert state(feed)["epoch"] == 1
