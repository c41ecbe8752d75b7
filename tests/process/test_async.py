"""The library for coroutines: `async for`, `feed.aio`, cancellation, more than one event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.support.feeds import DEADLINE, SOON, assert_sound, messages_of, pid_of, steady
from wsadapter import Batch, ConcurrentIteration, Down, Item, Message, NotConnected, Supervisor, SupervisorStopped, Up
from wsadapter.testing import Exchange

pytestmark = [pytest.mark.version, pytest.mark.portable]

COUNT = 3000


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with Exchange(messages=[f'{{"n":{n}}}' for n in range(COUNT)]) as ex:
        yield ex


def numbers(items: list[Item]) -> list[int]:
    return [item.number for item in items if isinstance(item, Message)]


def test_async_for_in_a_running_loop(exchange: Exchange) -> None:
    async def main() -> list[Item]:
        items: list[Item] = []
        async with Supervisor([exchange.endpoint("a")]) as feed:
            async for item in feed:
                items.append(item)
                if len(numbers(items)) == COUNT:
                    break
            await feed.aio.stop()
            items += [item async for item in feed.aio]
        return items

    items = asyncio.run(main(), debug=True)
    assert numbers(items) == list(range(1, COUNT + 1))
    assert isinstance(items[-1], Down)


def test_batches_and_messages_in_turn(exchange: Exchange) -> None:
    async def main() -> list[int]:
        found: list[int] = []
        async with Supervisor([exchange.endpoint("a")]) as feed:
            while len(found) < COUNT:
                async for batch in feed.aio.batches():
                    if isinstance(batch, Batch):
                        found.extend(range(batch.first_number, batch.first_number + len(batch)))
                        break
                if len(found) < COUNT:
                    item = await feed.aio.get()
                    found += [item.number] if isinstance(item, Message) else []
        return found

    assert asyncio.run(main()) == list(range(1, COUNT + 1))


def test_cancelling_never_loses_an_item_nor_ends_the_iteration() -> None:
    async def main(ex: Exchange) -> tuple[list[Item], int]:
        items: list[Item] = []
        cancelled = 0
        async with Supervisor([ex.endpoint("a")]) as feed:
            steps = aiter(feed)
            while cancelled < 3000 or len(items) < 3000:
                step = asyncio.ensure_future(anext(steps) if cancelled % 2 else feed.aio.get())
                for _ in range(cancelled % 4):
                    await asyncio.sleep(0)
                step.cancel()
                try:
                    items.append(await step)
                except asyncio.CancelledError:
                    cancelled += 1
        return items, cancelled

    with steady(5000) as ex:
        items, cancelled = asyncio.run(main(ex))
    assert cancelled >= 3000
    assert_sound(items)
    assert [m.data for m in messages_of(items, "a")] == [b'{"n":%d}' % n for n in range(len(numbers(items)))]


def test_a_timeout_is_asyncios_own_and_loses_nothing(exchange: Exchange) -> None:
    async def main() -> None:
        async with Supervisor([exchange.endpoint("a")]) as feed:
            steps = aiter(feed)
            items: list[Item] = []
            while len(numbers(items)) < COUNT:
                items.append(await anext(steps))
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.03):
                        await anext(steps)
            number = await feed.aio.insert("a", "mine")
            item = await anext(steps)
            assert isinstance(item, Message)
            assert item.number == number == COUNT + 1

    asyncio.run(main())


def test_a_second_task_may_not_iterate_the_same_stream(exchange: Exchange) -> None:
    async def main() -> None:
        async with Supervisor([exchange.endpoint("a")]) as feed:

            async def first() -> Item:
                return await anext(aiter(feed))

            async for _ in feed:
                with pytest.raises(ConcurrentIteration, match="task"):
                    await asyncio.create_task(first())
                with pytest.raises(ConcurrentIteration):
                    await asyncio.to_thread(feed.get, 1)
                break
            assert await asyncio.create_task(first()), "the first one has ended"
            assert await feed.aio.get()

    asyncio.run(main())


def test_the_other_tasks_of_the_loop_run_on_under_a_flood() -> None:
    """Counted in messages between two turns of another task, because a busy machine delays everything."""

    async def main(ex: Exchange) -> int:
        most = count = 0

        async def other() -> None:
            nonlocal most
            while True:
                before = count
                await asyncio.sleep(0)
                most = max(most, count - before)

        async with Supervisor([ex.endpoint("a")]) as feed:
            await feed.aio.get()
            async with asyncio.timeout(DEADLINE):
                beside = asyncio.create_task(other())
                async for _ in feed:
                    count += 1
                    if count == 300_000:
                        break
                beside.cancel()
        return most

    with Exchange(messages=["x" * 100], loop=True) as ex:
        most = asyncio.run(main(ex))
    assert 0 < most < 150_000


def test_commands_for_coroutines(exchange: Exchange) -> None:
    async def main() -> None:
        async with Supervisor([exchange.endpoint("a", restart=SOON)]) as feed, asyncio.timeout(DEADLINE):
            aio = feed.aio
            monitor = feed.monitor("a")
            assert (await aio.wait_up(monitor)).epoch == 1
            await asyncio.gather(*(aio.send("a", f"s{n}") for n in range(20)))
            for n in range(20):
                await asyncio.to_thread(exchange.wait_received, lambda f, n=n: f.payload == b"s%d" % n)
            await aio.subscribe("a", ["stream"])
            await aio.unsubscribe("a", ["stream"])
            os.kill(pid_of(feed, "a"), signal.SIGKILL)
            assert (await aio.wait_down(monitor)).reason.signal == "SIGKILL"
            await aio.wait_up(monitor)
            await aio.restart("a")
            assert (await aio.status())["endpoints"]["a"]["epoch"] == 3
            await aio.add(exchange.endpoint("b"))
            await aio.remove("a")
            assert list((await aio.status())["endpoints"]) == ["b"]
            exchange.refuse(503)
            exchange.drop()
            await aio.wait_down(feed.monitor("b"))
            with pytest.raises(NotConnected):
                await aio.send("b", "x")

    asyncio.run(main())


def test_a_cancelled_command_disturbs_no_other(exchange: Exchange) -> None:
    async def main() -> None:
        async with Supervisor([exchange.endpoint("a")]) as feed:
            monitor = feed.monitor("a")
            await feed.aio.wait_up(monitor)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await feed.aio.wait_down(monitor)
            sending = asyncio.create_task(feed.aio.send("a", "x"))
            await asyncio.sleep(0)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await feed.aio.send("a", "y")

    asyncio.run(main())


def test_several_event_loops_one_after_another_share_one_supervisor(exchange: Exchange) -> None:
    async def take(feed: Supervisor, count: int) -> list[Item]:
        items: list[Item] = []
        async for item in feed:
            items.append(item)
            if len(items) == count:
                break
        return items

    with Supervisor([exchange.endpoint("a")]) as feed:
        items: list[Item] = []
        for _ in range(20):
            items += asyncio.run(take(feed, 100))
        assert numbers(items) == list(range(1, len(numbers(items)) + 1))
        items.append(feed.get(DEADLINE))
        assert_sound(items)


def test_a_coroutine_that_waits_is_notified_when_another_thread_stops_the_supervisor(exchange: Exchange) -> None:
    """The event loop must go on polling nothing of ours behind it: descriptors are used again."""

    async def main() -> None:
        feed = Supervisor([exchange.endpoint("a")]).start()
        monitor = feed.monitor("a")
        await feed.aio.wait_up(monitor)
        waiting = asyncio.create_task(feed.aio.wait_up(monitor))
        counting = asyncio.create_task(count(feed))
        await asyncio.sleep(0)
        stopper = threading.Thread(target=feed.stop)
        stopper.start()
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(SupervisorStopped):
                await waiting
            assert await counting >= 3
            await asyncio.to_thread(stopper.join)
            for _ in range(8):
                _, writer = await asyncio.open_connection("127.0.0.1", exchange.port)
                writer.close()
                await writer.wait_closed()

    async def count(feed: Supervisor) -> int:
        return len([item async for item in feed])

    asyncio.run(main())


def test_several_tasks_wait_at_once(exchange: Exchange) -> None:
    async def main() -> None:
        async with Supervisor([exchange.endpoint(f"e{n}") for n in range(4)]) as feed, asyncio.timeout(DEADLINE):
            ups = await asyncio.gather(*(feed.aio.wait_up(feed.monitor(f"e{n}")) for n in range(4)))
            assert all(isinstance(up, Up) for up in ups)
            streams = [feed.stream(f"e{n}") for n in range(4)]

            async def consume(stream: object) -> int:
                seen = 0
                async for item in stream:  # type: ignore[attr-defined]
                    seen += isinstance(item, Message)
                    if seen == COUNT:
                        break
                return seen

            assert await asyncio.gather(*map(consume, streams)) == [COUNT] * 4

    asyncio.run(main())
