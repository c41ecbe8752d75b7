"""The event-loop side of a test exchange: it listens, keeps the connections, and carries out commands.

Everything here runs in the loop; `Exchange` brings calls of other threads to it.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from wsadapter.testing.connection import ClientConnection
from wsadapter.testing.context import ClientHandler, ExchangeContext
from wsadapter.testing.dialect.client_driver import ClientDriver, DialectServer
from wsadapter.testing.feed import MessageSource
from wsadapter.testing.feeds import Feeds
from wsadapter.testing.handshake import Misbehaviour

Resume = Literal["start", "continue"]


class Server:
    """One listening socket and its connections."""

    def __init__(
        self,
        context: ExchangeContext,
        source: MessageSource,
        *,
        resume: Resume,
        after_subscribe: bool,
        dialect_server: DialectServer | None = None,
    ) -> None:
        """`context`: without the callbacks, which are filled in here. `dialect_server`: if the exchange speaks a dialect."""
        self._dialect_server = dialect_server
        self._context = replace(
            context,
            make_handler=self._make_handler if dialect_server else None,
            on_connected=self._on_connected,
            on_open=self._on_open,
            on_subscribed=self._on_subscribed,
            on_gone=self._on_gone,
        )
        self._after_subscribe = after_subscribe or dialect_server is not None
        self.feeds = Feeds(source, live=resume == "continue", drop=lambda connection: self._connections[connection].drop())
        self._listening: socket.socket
        self._accepting: set[asyncio.Task[Any]] = set()
        self._tcp: set[ClientConnection] = set()
        """All connections, from TCP on."""
        self._nobody_left = asyncio.Event()
        self._nobody_left.set()
        self._connections: dict[int, ClientConnection] = {}
        """Those whose handshake is done."""

    async def listen(self, host: str, port: int) -> int:
        """Start. Returns the port. Raises `OSError` if the address can't be used."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family, backlog=512)
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening, self._accept)
        self.feeds.start()
        return int(self._listening.getsockname()[1])

    async def shut(self) -> None:
        """Stop listening, drop every client, end every task. Raises what a feed raised (an error of a message generator)."""
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        await asyncio.gather(*self._accepting)
        for connection in list(self._tcp):
            connection.drop()
        outcomes = await self.feeds.stop()
        await self._nobody_left.wait()  # abort() is carried out in the loop's next round
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    @property
    def misbehaviour(self) -> Misbehaviour:
        """How clients are treated from now on."""
        return self._context.misbehaviour

    def select(self, connection: int | None) -> list[ClientConnection]:
        """One open connection, or all. Raises `LookupError` if there is no such connection."""
        if connection is None:
            return list(self._connections.values())
        if connection not in self._connections:
            raise LookupError(f"no open connection {connection}; open: {sorted(self._connections)}")
        return [self._connections[connection]]

    def mute_mid_frame(self, connection: ClientConnection) -> None:
        """In the middle of the message that its feed would send next."""
        connection.mute_within(None if self._dialect_server else self.feeds.take_next(connection.id))

    def slow(self, bytes_per_second: float | None) -> None:
        """Send everything at this pace, on every connection; None ends that."""
        self.misbehaviour.bytes_per_second = bytes_per_second
        for connection in self._connections.values():
            connection.outgoing.change_pace()

    def _accept(self) -> None:
        """`loop.create_server` isn't used, because it fails on a connection that is accepted while the server is being
        closed."""
        loop = asyncio.get_running_loop()
        with suppress(BlockingIOError, ConnectionAbortedError):
            tcp, _ = self._listening.accept()
            task = loop.create_task(loop.connect_accepted_socket(lambda: ClientConnection(self._context), tcp), name="accept")
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    def _on_connected(self, connection: ClientConnection) -> None:
        self._tcp.add(connection)
        self._nobody_left.clear()

    def _on_open(self, connection: ClientConnection) -> None:
        self._connections[connection.id] = connection
        if not self._after_subscribe:
            self.feeds.add(connection)

    def _on_subscribed(self, connection: ClientConnection) -> None:
        if self._after_subscribe and not self._dialect_server:
            self.feeds.add(connection)

    def _make_handler(self, connection: ClientConnection) -> ClientHandler:
        assert self._dialect_server is not None
        return ClientDriver(self._dialect_server, connection, self.feeds.open, self.feeds.close)

    def _on_gone(self, connection: ClientConnection) -> None:
        self._tcp.discard(connection)
        if not self._tcp:
            self._nobody_left.set()
        self._connections.pop(connection.id, None)
        self.feeds.remove(connection.id)
