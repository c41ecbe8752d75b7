"""The store of leases on a real NATS server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import nats
import pytest

from tests.support.brokers import NatsServer
from wsadapter.cluster.nats_store import NatsStore, StoreRefused, StoreUnavailable
from wsadapter.cluster.store import ABSENT, Entry

T = TypeVar("T")


@pytest.fixture
def server(tmp_path: Path) -> NatsServer:
    return NatsServer(tmp_path / "nats")


def ask(server: NatsServer, work: Callable[[NatsStore], Awaitable[T]], bucket: str = "WSA_test", patience: float = 10.0) -> T:
    async def connected() -> T:
        connection = await nats.connect(server.url, allow_reconnect=False)
        store = NatsStore(connection, bucket, replicas=1, patience=patience)
        try:
            await store.open()
            return await work(store)
        finally:
            await store.close()
            await connection.close()

    return asyncio.run(connected())


def test_a_key_is_written_only_by_who_knows_its_revision(server: NatsServer) -> None:
    async def work(store: NatsStore) -> None:
        assert await store.read("host.a") == Entry("host.a", b"", ABSENT)
        first = await store.create("host.a", b"1")
        assert first is not None
        assert await store.create("host.a", b"2") is None
        assert await store.swap("host.a", b"2", first + 5) is None
        second = await store.swap("host.a", b"2", first)
        assert second is not None
        assert await store.swap("host.a", b"3", first) is None
        assert await store.read("host.a") == Entry("host.a", b"2", second)

    with server:
        ask(server, work)
        ask(server, lambda store: store.read("host.a"))  # a bucket that is there is used


def test_the_watch_passes_every_key_and_then_every_change(server: NatsServer) -> None:
    async def work(store: NatsStore) -> None:
        seen: list[Entry] = []
        changed = asyncio.Event()

        def notify(entry: Entry) -> None:
            seen.append(entry)
            changed.set()

        async def wait_for(count: int) -> None:
            while len(seen) < count:
                changed.clear()
                await asyncio.wait_for(changed.wait(), 10)

        await store.watch(notify)
        assert seen == []
        first = await store.create("host.a", b"1")
        await wait_for(1)
        assert first is not None
        second = await store.swap("host.a", b"2", first)
        other = await store.create("lease.x", b"x")
        await wait_for(3)
        assert [(entry.key, entry.value, entry.revision) for entry in seen] == [
            ("host.a", b"1", first), ("host.a", b"2", second), ("lease.x", b"x", other),
        ]  # fmt: skip
        seen.clear()
        await store.watch(notify)  # again: what is there, once
        assert [(entry.key, entry.value) for entry in seen] == [("host.a", b"2"), ("lease.x", b"x")]

    with server:
        ask(server, work)


def test_a_server_that_stops_is_unavailable_and_not_an_answer(server: NatsServer) -> None:
    async def work(store: NatsStore) -> None:
        server.kill()
        with pytest.raises(StoreUnavailable):
            await store.read("host.a")
        with pytest.raises(StoreUnavailable):
            await store.create("host.a", b"1")

    with server:
        ask(server, work, patience=2.0)


def test_a_bucket_that_is_none_of_ours_is_refused(server: NatsServer) -> None:
    async def make(jetstream: object) -> None:
        await jetstream.create_key_value(bucket="WSA_test", history=5)  # type: ignore[attr-defined]

    with server:
        server.ask(make)
        with pytest.raises(StoreRefused, match="history 1 and no direct gets"):
            ask(server, lambda store: store.read("host.a"))


def test_a_server_without_jetstream_is_told_apart(tmp_path: Path) -> None:
    with (
        NatsServer(tmp_path / "nats", jetstream="disabled") as server,
        pytest.raises(StoreUnavailable, match="JetStream is not"),
    ):
        ask(server, lambda store: store.read("host.a"))
