"""FakeFeed: the items of a feed without a feed; and the lazy package."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

import wsadapter.testing
from wsadapter.contract.errors import SupervisorStopped, UnknownEndpoint
from wsadapter.contract.items import Batch, Gap, Item, Message, Up
from wsadapter.testing import FakeFeed


def message(endpoint: str, number: int, *, epoch: int = 1, at: int = 0) -> Message:
    return Message(endpoint, b"%d" % number, epoch, number, at, "trades" if number % 2 else None, number == 3)


ITEMS: list[Item] = [
    Up("a", 1, 0),
    message("a", 1),
    message("a", 2),
    message("b", 1),
    message("a", 3),
    Gap("a", 2, 0, "reconnected", None, None),
    message("a", 4, epoch=2),
    message("a", 5, epoch=2, at=9),
]


def test_iteration_gives_the_items_and_ends() -> None:
    feed = FakeFeed(ITEMS)
    for item in feed:
        if item == message("a", 2):
            break
    assert list(feed) == ITEMS[3:]  # break loses nothing
    assert list(feed) == []


def test_async_iteration_gives_the_same() -> None:
    async def consume() -> list[Item]:
        async with FakeFeed(ITEMS) as feed:
            return [item async for item in feed]

    assert asyncio.run(consume()) == ITEMS


def test_get_gives_one_and_never_waits() -> None:
    feed = FakeFeed(ITEMS[:1])
    assert feed.get(timeout=5) == ITEMS[0]
    with pytest.raises(TimeoutError, match="used up"):
        feed.get(timeout=3600)


def test_batches_hold_what_follows_one_another() -> None:
    found = list(FakeFeed(ITEMS).batches())
    again = [message for entry in found for message in (entry.messages() if isinstance(entry, Batch) else [entry])]
    assert again == ITEMS
    assert [len(entry) if isinstance(entry, Batch) else entry.kind for entry in found] == ["up", 2, 1, 1, "gap", 1, 1]


def test_a_stream_takes_its_endpoints_out() -> None:
    feed = FakeFeed(ITEMS)
    only_b = feed.stream("b")
    assert list(feed) == [item for item in ITEMS if item.endpoint == "a"]
    assert list(only_b) == [message("b", 1)]
    with pytest.raises(UnknownEndpoint, match="'c'"):
        feed.stream("c")


def test_what_is_sent_is_kept() -> None:
    with FakeFeed(ITEMS, endpoints=["quiet"]) as feed:
        feed.send("a", "text")
        feed.send("quiet", b"\x00")
        with pytest.raises(UnknownEndpoint, match="known: a, b, quiet"):
            feed.send("nobody", "x")
    assert feed.sent == [("a", "text"), ("quiet", b"\x00")]
    with pytest.raises(SupervisorStopped):
        feed.send("a", "late")
    assert len(list(feed)) == len(ITEMS)  # what was received is still there after stop()


def test_public_names_are_there_and_nothing_is_loaded_before_it_is_used() -> None:
    for name in wsadapter.testing.__all__:
        assert getattr(wsadapter.testing, name)
        assert name in dir(wsadapter.testing)
    with pytest.raises(AttributeError, match="Nothing"):
        wsadapter.testing.Nothing  # noqa: B018
    program = "import sys, wsadapter.testing; print(*[m for m in sys.modules if m in ('ssl', 'asyncio', 'pytest')])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == ""
