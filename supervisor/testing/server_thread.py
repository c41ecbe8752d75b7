"""The thread of a running test exchange: its event loop with one server. It exists from `start` to `stop`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from wsadapter.testing.server import Server

T = TypeVar("T")
_CALL_TIMEOUT: Final = 10.0
"""Seconds that a call into the event loop may take."""


class ServerThread:
    """One run of an exchange. Every method may be called from any thread."""

    def __init__(self, make_server: Callable[[], Server], host: str, port: int) -> None:
        """Start to listen. Raises `OSError` if the address can't be used."""
        self._make_server = make_server
        self._errors: list[BaseException] = []
        self._loop: asyncio.AbstractEventLoop
        self._server: Server
        self._stopping: asyncio.Event
        started: Future[int] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(host, port, started)), name="exchange", daemon=True
        )
        self._thread.start()
        try:
            self.port = started.result(_CALL_TIMEOUT)
        except OSError:
            self._thread.join()
            raise

    def stop(self) -> None:
        """Drop every client and end the thread. Raises the first error of a message generator or of an `ack` callable."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_CALL_TIMEOUT)
        if self._thread.is_alive():
            raise RuntimeError("the exchange's thread does not end; an ack callable or a message generator must be blocking it")
        if self._errors:
            raise self._errors.pop()

    def call(self, command: Callable[[Server], T]) -> T:
        """Run `command` in the event loop. Returns what it returns, and raises what it raises."""
        if threading.current_thread() is self._thread:  # an ack callable that commands its own exchange
            return command(self._server)
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(command(self._server))
            except Exception as error:  # noqa: BLE001 - raised in the caller's thread
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_CALL_TIMEOUT)

    async def _run(self, host: str, port: int, started: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self._note_error(_error_of(context)))
        self._stopping = asyncio.Event()
        self._server = self._make_server()
        try:
            started.set_result(await self._server.listen(host, port))
        except OSError as error:
            started.set_exception(error)
            return
        await self._stopping.wait()
        try:
            await self._server.shut()
        except Exception as error:  # noqa: BLE001 - of the user's generator; `stop` raises it
            self._note_error(error)

    def _note_error(self, error: BaseException) -> None:
        if not self._errors:  # the first error is the cause of the others
            self._errors.append(error)


def _error_of(context: dict[str, Any]) -> BaseException:
    error = context.get("exception")
    return error if isinstance(error, BaseException) else RuntimeError(context["message"])
