"""The exchanges of many cases behind one port: the path of a connection names the case."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.conversations.script import Script
from tests.support.rawserver import head_of, server_frame, upgraded
from wsadapter.config.dialect import load_dialect
from wsadapter.worker.websocket.frames import BINARY, CLOSE, PING, PONG, TEXT, apply_mask

DEADLINE = 60.0
SAID = b"said"


@dataclass
class Connection:
    """One connection of a case. The fields are written by the server's thread."""

    script: Script
    writer: asyncio.StreamWriter
    received: list[str] = field(default_factory=list)
    """The texts of the client, in order."""
    pongs: set[bytes] = field(default_factory=set)
    late: set[asyncio.Task[None]] = field(default_factory=set)
    """Answers whose time has not come."""

    def say(self, text: str) -> None:
        self.writer.write(self.script.frame(text))

    def say_raw(self, opcode: int, payload: bytes) -> None:
        self.writer.write(server_frame(opcode, payload))


@dataclass
class Played:
    """One case."""

    case: Mapping[str, Any]
    dialect: Mapping[str, Any]
    connections: list[Connection] = field(default_factory=list)
    """The first connection plays the case; on another one the exchange sends only answers."""

    @property
    def first(self) -> Connection:
        return self.connections[0]


class Server:
    """Use as a context manager."""

    def __init__(self, cases: Mapping[str, Mapping[str, Any]]) -> None:
        """`cases`: by their paths, without the slash."""
        self.played = {path: Played(case, load_dialect(case["dialect"])) for path, case in cases.items()}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="conversations")
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.errors: list[str] = []
        """What went wrong in the server itself."""

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(DEADLINE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    def go_on(self, path: str) -> None:
        """All requests were answered: the exchange sends the messages of the case, and then the ping `SAID`."""
        self._loop.call_soon_threadsafe(self._spawn, self._says(self.played[path]))

    def ping(self, path: str, payload: bytes) -> None:
        """A ping, whose answer is in `pongs` when the owner has read all that was sent before."""
        self._loop.call_soon_threadsafe(self.played[path].first.say_raw, PING, payload)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(self._serve(reader, writer))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(repr(error))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, headers = head_of(await reader.readuntil(b"\r\n\r\n"))
        played = self.played[request.split()[1].strip("/").partition("?")[0]]
        connection = Connection(Script(played.case, played.dialect), writer)
        played.connections.append(connection)
        try:
            writer.write(upgraded(headers))
            for text in played.case.get("welcome", ()):
                connection.say(text)
            await self._read(reader, connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the owner has left: what it says of it is in the stream
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        while True:
            opcode, payload = await _frame(reader)
            if opcode in (TEXT, BINARY):
                connection.received.append(payload.decode())
                self._answer(connection, payload.decode())
            elif opcode == PING:
                connection.say_raw(PONG, payload)
            elif opcode == PONG:
                connection.pongs.add(payload)
            elif opcode == CLOSE:
                connection.say_raw(CLOSE, payload)
                return

    def _answer(self, connection: Connection, text: str) -> None:
        for later, answer in connection.script.answers(text):
            if later:
                task = self._spawn(self._say_late(connection, answer, later))
                connection.late.add(task)
                task.add_done_callback(connection.late.discard)
            else:
                connection.say(answer)

    @staticmethod
    async def _say_late(connection: Connection, text: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        connection.say(text)

    async def _says(self, played: Played) -> None:
        while played.first.late:
            await asyncio.wait(played.first.late)
        for what in played.case.get("sends", ()):
            if isinstance(what, str):
                played.first.say(what)
            else:
                await asyncio.sleep(what)
        played.first.say_raw(PING, SAID)


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    key = await reader.readexactly(4)
    return first & 0x0F, apply_mask(await reader.readexactly(size), key)
