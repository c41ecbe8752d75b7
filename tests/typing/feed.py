"""Checked by the type checker alone: a program takes a `Feed`, a real one or a fake one."""

from __future__ import annotations

from wsadapter import Batch, EndpointStatus, Feed, Message, Pool, Status, Supervisor
from wsadapter.testing import FakeFeed


def program(feed: Feed) -> None:
    with feed:
        feed.subscribe("a", ["x", {"channel": "y"}])
        feed.send("a", bytearray(b"z"), timeout=3)
        for item in feed:
            if isinstance(item, Message):
                feed.insert(item.endpoint, feed.request(item.endpoint, {"id": 1}, timeout=1).data)
        status: Status = feed.status()
        a: EndpointStatus = status["endpoints"]["a"]
        print(a["rtt"] or 0.0, a["last_exit"] and a["last_exit"]["kind"])


async def for_coroutines(feed: Feed) -> None:
    async with feed:
        await feed.aio.send("a", "x")
        async for entry in feed.aio.batches():
            if isinstance(entry, Batch):
                print(len(entry))
        async for item in feed.stream("a"):
            print(item)


def use(real: Supervisor, pool: Pool) -> None:
    program(real)
    program(FakeFeed([Message("a", b"", 1, 1, 0)], answer=lambda asked: {"id": asked.id}))
    print(pool.status()["members"]["a#1"]["failures"] + 1)


def wrong(feed: Feed, real: Supervisor) -> None:
    feed.send("a", 5)  # type: ignore[arg-type]
    feed.subscribe("a", {"channel": "y"}, 3)  # type: ignore[call-arg]
    print(real.status()["endpoint"])  # type: ignore[typeddict-item]
    print(real.status()["endpoints"]["a"]["rtt"] + 1)  # type: ignore[operator]
    program(real.stream("a"))  # type: ignore[arg-type]
