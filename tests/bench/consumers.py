"""The contestants under a flood: each connects, takes every message as `bytes`, counts it, and says how long that took.

    python -m tests.bench.consumers NAME '{"urls": [...], "ca_file": "...", "count": 400000}'

Clock and CPU run from the first tenth of all messages to the last: neither the start nor the end of a flood is typical. The
CPU is that of the process that consumes, and of no other.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import socket
import ssl
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.bench.generator import FRAME, TLS_RECORD


@dataclass
class Task:
    """What a contestant has to do."""

    urls: list[str]
    ca_file: str
    count: int
    """Messages of all connections together."""

    def context(self) -> ssl.SSLContext | None:
        """For clients that want one; None for ws://."""
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None


class Meter:
    """Takes the time at marks. Its caller counts, and calls `reach` when the count is `mark`."""

    def __init__(self, total: int) -> None:
        self.mark = total // 10
        self._marks = [total - total // 10, total]
        self._taken: list[tuple[int, float, float]] = []

    def reach(self, count: int) -> int:
        """A mark is reached; the next one, or -1 behind the last."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._taken.append((count, time.monotonic(), used.ru_utime + used.ru_stime))
        while self._marks and self._marks[0] <= count:
            self._marks.pop(0)
        self.mark = self._marks[0] if self._marks else -1
        return self.mark

    @property
    def rate(self) -> float:
        """Messages per second."""
        (n, begun, _), (m, ended, _) = self._taken[:2]
        return (m - n) / (ended - begun)

    def report(self) -> None:
        """Say how fast it was."""
        (n, _, cpu), (m, _, cpu_then) = self._taken[:2]
        say(rate=self.rate, cpu=(cpu_then - cpu) / (m - n) * 1e6)


def say(**answer: Any) -> None:
    """To the benchmark."""
    print(json.dumps(answer), flush=True)


def supervisor(task: Task, *, holder: bool = False, **settings: Any) -> Any:
    """A supervisor of these endpoints: all features on, defaults everywhere. `holder`: with `tls.holder`."""
    from wsadapter import Endpoint, Supervisor

    tls: dict[str, Any] = {"ca_file": task.ca_file, "holder": holder} if task.ca_file else {}
    return Supervisor([Endpoint(f"e{n}", url=url, tls=tls, **settings) for n, url in enumerate(task.urls)])


def await_ups(feed: Any, count: int) -> None:
    """Until so many connections are up. Raises `RuntimeError` where one fails instead."""
    from wsadapter import Down, Up

    while count:
        item = feed.get(60)
        if isinstance(item, Down):
            raise RuntimeError(f"{item}")  # noqa: TRY004
        count -= isinstance(item, Up)


def refuse_loss(item: Any) -> None:
    """A figure with losses in it would be worth nothing."""
    from wsadapter import Down, Dropped, Gap

    if isinstance(item, Down | Dropped | Gap):
        raise RuntimeError(f"{item}")  # noqa: TRY004


def items(task: Task) -> None:
    """wsadapter, `for item in feed`."""
    from wsadapter import Message

    with supervisor(task) as feed:
        await_ups(feed, len(task.urls))
        say(ready=True)
        meter, count = Meter(task.count), 0
        mark = meter.mark
        for item in feed:
            if isinstance(item, Message):
                item.data  # noqa: B018 - takes it
                count += 1
                if count == mark and (mark := meter.reach(count)) < 0:
                    break
            else:
                refuse_loss(item)
        meter.report()


def batches(task: Task) -> None:
    """wsadapter, `feed.batches()`."""
    from wsadapter import Batch

    with supervisor(task) as feed:
        await_ups(feed, len(task.urls))
        say(ready=True)
        meter, count = Meter(task.count), 0
        mark = meter.mark
        for batch in feed.batches():
            if not isinstance(batch, Batch):
                refuse_loss(batch)
                continue
            for _data in batch:
                count += 1
            if count >= mark and (mark := meter.reach(count)) < 0:
                break
        meter.report()


def picows(task: Task) -> None:
    """picows, all connections in one event loop, on the loop it recommends for speed where that is installed."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    meter = Meter(task.count)
    count = 0

    class Listener(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
            nonlocal count
            if frame.msg_type == WSMsgType.TEXT:
                frame.get_payload_as_bytes()
                count += 1
                if count == meter.mark and meter.reach(count) < 0:
                    done.set()

    async def run() -> None:
        context = task.context()
        connected = [await ws_connect(Listener, url, ssl_context=context) for url in task.urls]
        say(ready=True)
        await done.wait()
        meter.report()
        for transport, _ in connected:
            transport.disconnect()

    done = asyncio.Event()
    asyncio.run(run())


def websockets(task: Task) -> None:
    """websockets, its asyncio client, all connections in one event loop."""
    from websockets.asyncio.client import connect

    meter, done = Meter(task.count), asyncio.Event()
    count = 0

    async def consume(connection: Any) -> None:
        nonlocal count
        while count < task.count:
            await connection.recv(decode=False)
            count += 1
            if count == meter.mark and meter.reach(count) < 0:
                done.set()

    async def run() -> None:
        context = task.context()
        connections = [await connect(url, ssl=context, compression=None) for url in task.urls]
        await _until(done, [consume(connection) for connection in connections])
        meter.report()

    asyncio.run(run())


def aiohttp(task: Task) -> None:
    """aiohttp, all connections in one event loop."""
    from aiohttp import ClientSession, WSMsgType

    meter, done = Meter(task.count), asyncio.Event()
    count = 0

    async def consume(connection: Any) -> None:
        nonlocal count
        async for message in connection:
            if message.type is WSMsgType.TEXT:
                message.data  # noqa: B018 - takes it: bytes, by decode_text=False
                count += 1
                if count == meter.mark and meter.reach(count) < 0:
                    done.set()

    async def run() -> None:
        how = {"ssl": task.context() or True, "decode_text": False}
        async with ClientSession() as session:
            connections = [await session.ws_connect(url, **how) for url in task.urls]
            await _until(done, [consume(connection) for connection in connections])
        meter.report()

    asyncio.run(run())


async def _until(done: asyncio.Event, consumers: list[Coroutine[Any, Any, None]]) -> None:
    """Runs them all until `done`."""
    tasks = [asyncio.create_task(consumer) for consumer in consumers]
    say(ready=True)
    await done.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def by_hand(task: Task) -> None:
    """What is written first: websocket-client, a process per connection, a `multiprocessing.Queue`."""
    queue: multiprocessing.Queue[tuple[str, bytes]] = multiprocessing.Queue()
    started = [
        multiprocessing.Process(target=_receive_by_hand, args=(url, task.ca_file, queue), daemon=True) for url in task.urls
    ]
    for process in started:
        process.start()
    for _ in started:
        queue.get(timeout=30)
    say(ready=True)
    meter, count = Meter(task.count), 0
    mark = meter.mark
    while True:
        _name, _data = queue.get()
        count += 1
        if count == mark and (mark := meter.reach(count)) < 0:
            break
    meter.report()
    for process in started:
        process.terminate()
        process.join()


def _receive_by_hand(url: str, ca: str, queue: multiprocessing.Queue[tuple[str, bytes]]) -> None:
    from websocket import create_connection

    connection = create_connection(url, sslopt={"ca_certs": ca} if ca else None)
    queue.put((url, b""))
    while True:
        queue.put((url, connection.recv_data()[1]))


def bare(task: Task) -> None:
    """No contestant: reads the bytes and throws them away. What it gets is what the generator can give."""
    import selectors

    from websocket import create_connection

    size = TLS_RECORD if task.ca_file else FRAME
    selector = selectors.DefaultSelector()
    connections = [create_connection(url, sslopt={"ca_certs": task.ca_file} if task.ca_file else None) for url in task.urls]
    for connection in connections:
        sock = socket.socket(fileno=connection.sock.fileno())  # beneath TLS
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    say(ready=True)
    meter, received, buffer = Meter(task.count), 0, bytearray(1 << 18)
    while meter.mark > 0:
        for key, _ in selector.select():
            received += key.fileobj.recv_into(buffer)  # type: ignore[union-attr]
        if received // size >= meter.mark > 0:
            meter.reach(received // size)
    meter.report()
    for key in list(selector.get_map().values()):
        key.fileobj.detach()  # type: ignore[union-attr]


CONTESTANTS: dict[str, Callable[[Task], None]] = {
    "wsadapter": items,
    "wsadapter batches()": batches,
    "picows": picows,
    "aiohttp": aiohttp,
    "websockets": websockets,
    "by hand": by_hand,
    "bare reader": bare,
}


if __name__ == "__main__":
    CONTESTANTS[sys.argv[1]](Task(**json.loads(sys.argv[2])))
