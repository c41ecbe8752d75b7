"""The contestants under a paced load: how old is each message when the consumer has it, as `bytes`?

    python -m tests.bench.watchers NAME '{"urls": [...], "ca_file": "", "count": 10000}'

Messages carry the monotonic clock of the moment before they were given to the kernel; it is one clock for all processes of a
machine. Only those of the first `watched` connections are measured (1 by default).
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic_ns, time_ns
from typing import Any

from tests.bench.consumers import Task, await_ups, refuse_loss, say, supervisor
from tests.bench.generator import FRAME, SIZE
from tests.bench.load import STAMP
from tests.bench.table import percentile
from wsadapter import Message


@dataclass
class WatchTask(Task):
    """A task whose messages are measured."""

    watched: int = 1
    """Connections whose messages are measured, the first of `urls`; `count` counts these messages."""


class Watch:
    """Takes ages until it has enough. The first tenth does not count: everything is cold."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ages: list[int] = []

    def take(self, data: bytes, now: int) -> bool:
        """Note a message's age at `now`; true when there are enough."""
        self._ages.append(now - int(data[:STAMP]))
        return len(self._ages) == self._count

    def report(self, **more: float) -> None:
        """Say the percentiles, in µs, and what else was measured."""
        warm = [age / 1000 for age in self._ages[self._count // 10 :]]
        say(p50=percentile(warm, 0.5), p99=percentile(warm, 0.99), most=max(warm), **more)


def items(task: WatchTask) -> None:
    """wsadapter, `for item in feed`."""
    watch, watched = Watch(task.count), {f"e{n}" for n in range(task.watched)}
    with supervisor(task) as feed:
        await_ups(feed, len(task.urls))
        say(ready=True)
        for item in feed:
            if not isinstance(item, Message):
                refuse_loss(item)
            elif item.endpoint in watched and watch.take(item.data, monotonic_ns()):
                break
        watch.report()
        _await_end()


def websockets(task: WatchTask) -> None:
    """websockets, its asyncio client, all connections in one event loop."""
    from websockets.asyncio.client import connect

    watch, done = Watch(task.count), asyncio.Event()

    async def consume(connection: Any) -> None:
        while not watch.take(await connection.recv(decode=False), monotonic_ns()):
            pass
        done.set()

    async def run() -> None:
        context = task.context()
        connections = [await connect(url, ssl=context, compression=None) for url in task.urls[: task.watched]]
        tasks = [asyncio.create_task(consume(connection)) for connection in connections]
        say(ready=True)
        await done.wait()
        watch.report()
        for consumer in tasks:
            consumer.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _await_end()

    asyncio.run(run())


def picows(task: WatchTask) -> None:
    """picows, all connections in one event loop."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    watch = Watch(task.count)

    class Listener(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT and watch.take(frame.get_payload_as_bytes(), monotonic_ns()):
                done.set()

    async def run() -> None:
        context = task.context()
        connected = [await ws_connect(Listener, url, ssl_context=context) for url in task.urls[: task.watched]]
        say(ready=True)
        await done.wait()
        watch.report()
        for transport, _ in connected:
            transport.disconnect()
        _await_end()

    done = asyncio.Event()
    asyncio.run(run())


def _await_end() -> None:
    """Until the benchmark has read the CPU time of all processes of this contestant, and closes the standard input."""
    sys.stdin.read()


def relay(task: WatchTask) -> None:
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


def floor(task: WatchTask) -> None:
    """The relay with the least that the contract asks of any owner and any consumer, in straight lines of Python for just this
    frame: sleep in epoll (there are other descriptors to mind); the bytes stay in the kernel until the record is in the pipe; a
    frame is parsed and checked to be text; header and tables have checksums; the message comes as a `Message`."""
    from websocket import create_connection

    connection: Any = create_connection(task.urls[0])
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _floor_owner(connection.sock, writing)
    os.close(writing)
    say(ready=True)
    watch, enough, number = Watch(task.count), False, 0
    poller = select.epoll()
    poller.register(reading, select.EPOLLIN)
    buffer = bytearray(1 << 17)
    view = memoryview(buffer)
    while not enough:
        poller.poll()
        size, at = os.readv(reading, (buffer,)), 0
        while at < size and not enough:
            head = _FLOOR_HEAD.unpack_from(buffer, at)
            if zlib.crc32(view[at : at + _FLOOR_HEAD.size - 4]) != head[-1] or head[2] != number + 1:
                raise AssertionError("corrupt")
            start = at + _FLOOR_HEAD.size
            number, at = head[2], start + head[1]
            item = tuple.__new__(Message, ("e0", bytes(view[start:at]), 1, number, head[3], None, False))
            enough = watch.take(item.data, monotonic_ns())
    watch.report()
    connection.sock.shutdown(socket.SHUT_RDWR)
    os.close(reading)
    os.waitpid(child, 0)


_FLOOR_HEAD = struct.Struct("<IIQQQI")


def _floor_owner(sock: socket.socket, writing: int) -> None:
    poller = select.epoll()
    poller.register(sock.fileno(), select.EPOLLIN)
    buffer, sequence, position = bytearray(1 << 17), 0, 0
    while True:
        poller.poll()
        size = sock.recv_into(buffer, 0, socket.MSG_PEEK)
        if not size:
            os._exit(0)
        data, at, pieces = bytes(buffer[:size]), 0, []
        while at < size:
            first, short, long = struct.unpack_from("!BBH", data, at)
            start, length = (at + 2, short) if short < 126 else (at + 4, long)
            payload = data[start : start + length]
            if first != 0x81 or not payload.isascii():
                raise AssertionError("not what the load is")
            sequence, at = sequence + 1, start + length
            head = _FLOOR_HEAD.pack(0xBEEF, length, sequence, time_ns(), position + at, 0)[:-4]
            pieces += (head, zlib.crc32(head).to_bytes(4, "little"), payload)
        os.writev(writing, pieces)
        sock.recv_into(buffer, size)
        position += size


CONTESTANTS: dict[str, Callable[[WatchTask], None]] = {
    "wsadapter": items,
    "websockets": websockets,
    "picows": picows,
    "relay": relay,
    "floor": floor,
}


if __name__ == "__main__":
    CONTESTANTS[sys.argv[1]](WatchTask(**json.loads(sys.argv[2])))
