"""`attach("nats://...")`: consumers of the cluster's stream, on a real server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.support.brokers import NatsServer
from tests.support.feeds import steady
from tests.support.hosts import PATIENCE, Hosts
from tests.support.waiting import wait_until
from wsadapter import (
    AttachedFeed,
    Batch,
    ConsumerInUse,
    ConsumerReplaced,
    Dropped,
    Gap,
    Item,
    JournalError,
    Message,
    NotConnected,
    NotSent,
    PositionBeyondEnd,
    UnknownConsumer,
    Up,
    UsageError,
    WrongType,
    attach,
)
from wsadapter.attachment.stream_source import StreamSource, settings_of
from wsadapter.outputs.lines import batch_lines, event_line


class Prices:
    """A cluster's stream, written by the test."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self.url = f"{server.url}/prices"
        self.numbers: dict[str, int] = {}

        async def make(jetstream: Any) -> None:
            await jetstream.add_stream(name="WSA_prices", subjects=["WSA_prices.>"])

        server.ask(make)

    def add(self, *lengths: int, endpoint: str = "a", parts: int = 1, at: int = 0) -> None:
        """A message of the stream for each length, with so many lines."""
        sending: list[tuple[bytes, dict[str, str]]] = []
        for length in lengths:
            first = self.numbers.get(endpoint, 0) + 1
            self.numbers[endpoint] = first + length - 1
            payloads = [b'{"n":%d}' % n for n in range(first, first + length)]
            body = batch_lines(Batch(endpoint, payloads, epoch=1, first_number=first, received_at=at or first))
            if first == 1:
                body = event_line(Up(endpoint, 1, 1)) + body
            headers = {"Wsadapter-Number": str(self.numbers[endpoint])}
            size = -(-len(body) // parts)
            for part in range(parts):
                more = {"Wsadapter-Part": str(part + 1), "Wsadapter-Parts": str(parts)} if parts > 1 else {}
                sending.append((body[part * size : (part + 1) * size], headers | more))

        async def send(jetstream: Any) -> None:
            for body, headers in sending:
                await jetstream.publish(f"WSA_prices.{endpoint}", body, headers=headers)

        self.server.ask(send)

    def read(self, consumer: str, **how: Any) -> list[Item]:
        """Everything that is there."""
        with self.attach(consumer, follow=False, **how) as feed:
            return list(feed)

    def attach(self, consumer: str, **how: Any) -> AttachedFeed:
        return attach(self.url, consumer, **{"start": "earliest", **how})


@contextmanager
def prices(folder: Path, **settings: Any) -> Iterator[Prices]:
    with NatsServer(folder / "nats", **settings) as server:
        yield Prices(server)


def numbers(items: list[Item], endpoint: str = "a") -> list[int]:
    return [item.number for item in items if isinstance(item, Message) and item.endpoint == endpoint]


def test_a_consumer_sees_one_stream_while_a_host_is_killed(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server, steady(50.0) as exchange:
        with Hosts(tmp_path, server, "xy", dict.fromkeys("abcd", exchange.url)) as hosts:
            before = hosts.wait_until_up()
            items: list[Item] = []
            victim = hosts.all[before["a"]]
            lost = {name for name, host in before.items() if host == victim.name}
            with attach(f"{server.url}/prices", "strategy", start="earliest") as feed:
                items += islice(feed, 200)
                victim.signal_all(signal.SIGKILL)

                def over() -> bool:
                    items.extend(islice(feed, 20))
                    return {item.endpoint for item in items if isinstance(item, Gap)} == lost

                wait_until(over, PATIENCE, hosts.said)
                items += islice(feed, 400)
        everything = {name: hosts.lines(name) for name in before}
    for name, lines in everything.items():
        mine = [item for item in items if item.endpoint == name]
        seen = numbers(items, name)
        assert seen == list(range(1, len(seen) + 1))
        assert len([item for item in mine if isinstance(item, Gap)]) == (name in lost)
        kinds = ["message" if isinstance(item, Message) else item.kind for item in mine]
        assert kinds == [line.get("event", "message") for line in lines[: len(mine)]]
        payloads = [item.json() for item in mine if isinstance(item, Message)]
        assert payloads == [line["data"] for line in lines if "number" in line][: len(payloads)]


def test_a_consumer_goes_on_behind_what_it_has_committed(tmp_path: Path) -> None:
    with prices(tmp_path) as stream:
        stream.add(3, 1, 4)
        stream.add(2, endpoint="b#1")
        with stream.attach("x") as feed:
            first = list(islice(feed, 6))  # Up and five messages, of which the last one counts only when the next is taken
            assert numbers(first) == [1, 2, 3, 4, 5]
        with stream.attach("x", start="latest") as feed:
            assert feed.position == {"a": 4}
            rest = list(islice(feed, 7))
        assert numbers(rest) == [5, 6, 7, 8]
        stream.add(1)
        assert numbers(stream.read("x", start="position")) == [9]
        assert stream.read("x") == []
        whole = stream.read("y")
        assert (numbers(whole), numbers(whole, "b#1")) == (list(range(1, 10)), [1, 2])
        assert numbers(stream.read("z", endpoints=["b"]), "b#1") == [1, 2]
        assert numbers(stream.read("z", endpoints=["a"])) == []  # its place lies behind them
        with pytest.raises(UnknownConsumer, match="known: x, y, z"):
            stream.attach("other", start="position")


def test_a_manual_commit_counts_and_nothing_else(tmp_path: Path) -> None:
    with prices(tmp_path) as stream:
        stream.add(5, 5)
        with stream.attach("x", commit="manual") as feed:
            list(islice(feed, 4))
            feed.commit()
            assert feed.position == {"a": 3}
            list(islice(feed, 5))
        with stream.attach("x", commit="manual") as feed:
            assert numbers(list(islice(feed, 3))) == [4, 5, 6]
            feed.commit()
        for committed in (False, True):
            with stream.attach("x", commit="manual") as feed:
                batch = next(feed.batches())
                assert isinstance(batch, Batch)
                assert (batch.first_number, len(batch)) == (7, 4)
                if committed:
                    feed.commit()
        assert stream.read("x") == []


def test_where_to_begin(tmp_path: Path) -> None:
    with prices(tmp_path) as stream:
        stream.add(*[2] * 20)
        stream.add(3, endpoint="b", at=10**18 + 5)
        stream.add(1, parts=3, at=10**18 + 10)
        assert numbers(stream.read("mapping", start={"a": 17, "b": 1})) == list(range(18, 42))
        assert numbers(stream.read("last", start={"a": 40})) == [41]
        assert numbers(stream.read("ended", start={"a": 41})) == []
        assert numbers(stream.read("zero", start={"a": 0})) == list(range(1, 42))
        with pytest.raises(PositionBeyondEnd, match="a ends at message 41"):
            stream.attach("beyond", start={"a": 42})
        assert stream.read("future", start=10**10) == []
        later = stream.read("time", start=10**9)  # the server's time of storing is later, the exchange's messages decide
        assert (numbers(later), numbers(later, "b")) == ([41], [1, 2, 3])
        with stream.attach("latest", start="latest") as feed:
            with pytest.raises(TimeoutError):
                feed.get(0.1)
            stream.add(1)
            assert numbers([feed.get(PATIENCE)]) == [42]
        with pytest.raises(WrongType):
            stream.attach("wrong", start="middle")
        with pytest.raises(WrongType):
            stream.attach("wrong", start={"a": "1"})


def test_one_process_has_the_name(tmp_path: Path) -> None:
    with prices(tmp_path) as stream:
        stream.add(4)
        with stream.attach("x", commit="manual") as first:
            next(iter(first))
            first.commit()
            with pytest.raises(ConsumerInUse):
                stream.attach("x")
            with stream.attach("x", takeover=True) as second:
                assert numbers(list(islice(second, 2))) == [1, 2]
                with pytest.raises(ConsumerReplaced):
                    first.commit()
                with pytest.raises(ConsumerReplaced):
                    list(first)
        assert numbers(stream.read("x")) == [2, 3, 4]


def test_the_server_is_killed_under_a_consumer(tmp_path: Path) -> None:
    with prices(tmp_path) as stream, stream.attach("x") as feed:
        stream.add(*[10] * 10)
        seen = list(islice(feed, 50))
        stream.server.kill()
        seen += islice(feed, 51)  # they were here already
        stream.server.start()
        stream.add(*[10] * 10)
        seen += islice(feed, 100)
        assert numbers(seen) == list(range(1, 201))
        assert len(seen) == 201
        with pytest.raises(TimeoutError):
            feed.get(0.3)


def test_a_slow_consumer_gets_everything_and_holds_little(tmp_path: Path) -> None:
    with prices(tmp_path) as stream:
        stream.add(*[1] * 500)
        source = StreamSource(settings_of(stream.url, credentials="", ca_file=""), "x")
        place = source.open("earliest", takeover=False)
        most, seen = 0, 0
        while seen < 501:
            wait_until(lambda: len(source.entries) >= min(60, 501 - seen), PATIENCE)  # noqa: B023
            most = max(most, len(source.entries))
            source.entries.popleft()
            source.taken()
            seen += 1
        source.close(place)
        assert most <= 64 + 32


def test_what_the_stream_has_removed_is_reported(tmp_path: Path) -> None:
    with prices(tmp_path) as stream:
        stream.add(2, 2)
        assert numbers(stream.read("x")) == [1, 2, 3, 4]
        stream.add(3, 2)

        async def remove(jetstream: Any) -> None:
            await jetstream.purge_stream("WSA_prices", seq=4)

        stream.server.ask(remove)
        dropped, *rest = stream.read("x")
        assert isinstance(dropped, Dropped)
        assert (dropped.first, dropped.last, dropped.cause) == (5, 7, "retention")
        assert numbers(rest) == [8, 9]


def test_in_a_coroutine(tmp_path: Path) -> None:
    async def read(stream: Prices) -> list[Item]:
        found: list[Item] = []
        async with stream.attach("x") as feed:
            async for item in feed:
                found.append(item)
                if len(found) == 4:
                    await asyncio.to_thread(stream.add, 2)
                if len(found) == 6:
                    break
        return found

    with prices(tmp_path) as stream:
        stream.add(3)
        assert numbers(asyncio.run(read(stream))) == [1, 2, 3, 4, 5]


def test_what_is_refused(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server:
        with pytest.raises(JournalError, match=r"stream was removed|not found"):
            attach(f"{server.url}/prices", "x")
        stream = Prices(server)
        for url in (server.url, f"{server.url}/", "nats:///prices", f"{server.url}/a.b"):
            with pytest.raises(UsageError, match="expected"):
                attach(url, "x")
        with stream.attach("x") as feed:
            with pytest.raises(NotConnected, match="sends no commands"):
                feed.send("a", "{}")
            with pytest.raises(NotSent):
                feed.request("a", {"id": 1})
            assert repr(feed) == f"<AttachedFeed 'x' of '127.0.0.1:{server.port}/prices'>"
    with pytest.raises(JournalError, match=r"Connect call failed|no servers"):
        attach(stream.url, "x")
