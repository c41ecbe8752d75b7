"""`feed.stream(...)`: endpoints taken out of the main iteration into one of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.support.feeds import DEADLINE, SOON, assert_sound, collect, is_event, rest
from wsadapter import Down, Item, Message, Stream, Supervisor, UnknownEndpoint, Up
from wsadapter.testing import Exchange

pytestmark = pytest.mark.portable

COUNT = 2000


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with Exchange(messages=[f'{{"n":{n}}}' for n in range(COUNT)], tls=True) as ex:
        yield ex


def consume(stream: Stream, count: int, into: list[Item]) -> None:
    for item in stream:
        into.append(item)
        if isinstance(item, Message) and item.number == count:
            break


def test_each_stream_has_its_own_endpoints_in_its_own_thread(exchange: Exchange) -> None:
    with Supervisor([exchange.endpoint(name) for name in "abc"]) as feed:
        mine = {name: feed.stream(name) for name in "ab"}
        found: dict[str, list[Item]] = {"a": [], "b": []}
        threads = [threading.Thread(target=consume, args=(mine[name], COUNT, found[name])) for name in "ab"]
        for thread in threads:
            thread.start()
        main = collect(feed, lambda item: isinstance(item, Message) and item.number == COUNT)
        for thread in threads:
            thread.join(DEADLINE)
        assert {item.endpoint for item in main} == {"", "c"}
        for name in "ab":
            assert {item.endpoint for item in found[name]} == {name}
            assert_sound(found[name])
            assert isinstance(found[name][-1], Message)
        assert_sound(main)


def test_what_waits_moves_along_in_order(exchange: Exchange) -> None:
    with Supervisor([exchange.endpoint(name) for name in "ab"]) as feed:
        collect(feed, is_event(Up, "a"))
        exchange.wait_for(lambda: list(exchange.sent.values()) == [COUNT, COUNT])
        before = feed.get(DEADLINE)
        stream = feed.stream("a")
        items: list[Item] = []
        consume(stream, COUNT, items)
        both = [before, *items] if before.endpoint == "a" else items
        assert [item.number for item in both if isinstance(item, Message)][-1] == COUNT
        assert len({item.number for item in items if isinstance(item, Message)}) == len(
            [item for item in items if isinstance(item, Message)]
        )


def test_a_stream_goes_on_over_restarts_and_ends_with_the_supervisor(exchange: Exchange) -> None:
    feed = Supervisor([exchange.endpoint("a", restart=SOON), exchange.endpoint("b")])
    stream = feed.stream("a")
    feed.start()
    items: list[Item] = []
    consume(stream, COUNT, items)
    feed.restart("a", DEADLINE)
    consume(stream, 2 * COUNT, items)
    feed.stop()
    items += list(stream)
    assert_sound(items)
    assert isinstance(items[-1], Down)
    assert_sound(rest(feed))


def test_a_removed_and_added_endpoint_stays_in_its_stream(exchange: Exchange) -> None:
    with Supervisor([exchange.endpoint("a"), exchange.endpoint("b")]) as feed:
        stream = feed.stream("a")
        items: list[Item] = []
        consume(stream, COUNT, items)
        feed.remove("a", DEADLINE)
        feed.add(exchange.endpoint("a"))
        consume(stream, 2 * COUNT, items)
        assert_sound(items)


def test_an_unknown_name_takes_nothing_out(exchange: Exchange) -> None:
    with Supervisor([exchange.endpoint("a")]) as feed:
        with pytest.raises(UnknownEndpoint):
            feed.stream("a", "nobody")
        assert_sound(collect(feed, lambda item: isinstance(item, Message) and item.number == COUNT))


def test_a_slow_stream_does_not_hold_up_the_others(exchange: Exchange) -> None:
    """Nobody consumes `a`; its buffer is its own."""
    with Supervisor([exchange.endpoint("a", buffer={"max_bytes": 4096, "overflow": "block"}), exchange.endpoint("b")]) as feed:
        feed.stream("a")
        assert_sound(collect(feed, lambda item: isinstance(item, Message) and item.number == COUNT))
