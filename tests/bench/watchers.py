"""The contestants under a paced load: how old is each message when the consumer has it, as `bytes`?

    python -m tests.bench.watchers NAME '{"urls": [...], "ca_file": "", "count": 10000}'

Messages carry the monotonic clock of the moment before they were given to the kernel; it is one clock for all processes of a
machine. Only those of the first connection are looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from tests.bench.consumers import Task, await_ups, refuse_loss, say, supervisor
from tests.bench.generator import FRAME, SIZE
from tests.bench.load import STAMP
from tests.bench.table import percentile


class Watch:
    """Takes ages until it has enough. The first tenth does not count: everything is cold."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ages: list[int] = []

    def take(self, data: bytes, now: int) -> bool:
        """Note a message's age at `now`; true when there are enough."""
        self._ages.append(now - int(data[:STAMP]))
        return len(self._ages) == self._count

    def report(self) -> None:
        """Say the percentiles, in µs."""
        warm = [age / 1000 for age in self._ages[self._count // 10 :]]
        say(p50=percentile(warm, 0.5), p99=percentile(warm, 0.99), most=max(warm))


def items(task: Task) -> None:
    """wsadapter, `for item in feed`."""
    from wsadapter import Message

    watch = Watch(task.count)
    with supervisor(task) as feed:
        await_ups(feed, len(task.urls))
        say(ready=True)
        for item in feed:
            if not isinstance(item, Message):
                refuse_loss(item)
            elif item.endpoint == "e0" and watch.take(item.data, monotonic_ns()):
                break
        watch.report()


def websockets(task: Task) -> None:
    """websockets, its asyncio client."""
    from websockets.asyncio.client import connect

    async def run() -> None:
        watch = Watch(task.count)
        async with connect(task.urls[0], ssl=task.context(), compression=None) as connection:
            say(ready=True)
            while not watch.take(await connection.recv(decode=False), monotonic_ns()):
                pass
            watch.report()

    asyncio.run(run())


def picows(task: Task) -> None:
    """picows."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    watch = Watch(task.count)

    class Listener(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT and watch.take(frame.get_payload_as_bytes(), monotonic_ns()):
                done.set()

    async def run() -> None:
        transport, _ = await ws_connect(Listener, task.urls[0], ssl_context=task.context())
        say(ready=True)
        await done.wait()
        watch.report()
        transport.disconnect()

    done = asyncio.Event()
    asyncio.run(run())


def relay(task: Task) -> None:
    """The yardstick: two processes that do nothing but `os.read` the socket, `os.write` a pipe, `os.read` that pipe."""
    from websocket import create_connection

    connection: Any = create_connection(task.urls[0])
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        while data := os.read(connection.sock.fileno(), 65536):
            os.write(writing, data)
        os._exit(0)
    os.close(writing)
    say(ready=True)
    watch, rest, enough = Watch(task.count), b"", False
    while not enough:
        rest += os.read(reading, 65536)
        now = monotonic_ns()
        while len(rest) >= FRAME and not enough:
            enough = watch.take(rest[FRAME - SIZE :], now)
            rest = rest[FRAME:]
    watch.report()
    connection.sock.shutdown(socket.SHUT_RDWR)  # the child holds it too
    os.close(reading)
    os.waitpid(child, 0)


CONTESTANTS: dict[str, Callable[[Task], None]] = {
    "wsadapter": items,
    "websockets": websockets,
    "picows": picows,
    "relay": relay,
}


if __name__ == "__main__":
    CONTESTANTS[sys.argv[1]](Task(**json.loads(sys.argv[2])))
