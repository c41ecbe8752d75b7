"""Connects in a thread, so that the owner's loop continues to answer its supervisor.

The loop has the deadlines. A thread that is stuck (`getaddrinfo` has no timeout) is left behind: the process ends.
"""

from __future__ import annotations

import socket
import threading
import traceback
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from wsadapter.contract.hooks import HookError, describe_exception
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.reasons import Reason
from wsadapter.worker.connect.dial import ConnectError, connect, shake_hands
from wsadapter.worker.connect.holder_events import read_event
from wsadapter.worker.hooks.decode_thread import Hook, exit_as_requested, load_hook
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.websocket.byte_stream import EndOfStream, PlainByteStream
from wsadapter.worker.websocket.connection import Established
from wsadapter.worker.websocket.deflate import parse_answer

if TYPE_CHECKING:
    from wsadapter.worker.hooks.sign_thread import Hooks


class Step(NamedTuple):
    """This step has begun: importing, preparing, resolving, connecting, tls or handshake."""

    name: str


class Opened(NamedTuple):
    """The connection is open."""

    connection: Established
    hook: Hook | None
    hooks: Hooks | None
    """None: the endpoint has no hooks."""


class Failed(NamedTuple):
    """The connection could not be opened."""

    reason: Reason


class Connector:
    """One attempt to connect."""

    def __init__(self, assignment: Assignment, wakeup: Wakeup, handed: socket.socket | None, tail: bytes) -> None:
        """`handed`: the connection to continue with, and `tail` the bytes of its unfinished message; None: a new connection is
        to be opened."""
        self._assignment = assignment
        self._handed = handed
        self._tail = tail
        self._wakeup = wakeup
        self._events: deque[Step | Opened | Failed] = deque()
        self._thread = threading.Thread(target=self._run, name="connect", daemon=True)

    def start(self) -> None:
        """Starts the thread, which wakes `wakeup` at every event."""
        self._thread.start()

    def events(self) -> list[Step | Opened | Failed]:
        """The events since the last call; the last of all events is `Opened` or `Failed`."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def _run(self) -> None:
        try:
            hook, hooks = self._load()
            if hooks is not None:
                self._prepare(hooks)
            connection = self._connection()
        except ConnectError as error:
            self._post(Failed(error.reason))
        except HookError as error:
            self._post(Failed(Reason(kind="config", text=str(error))))
        except BaseException as error:  # noqa: BLE001  a fault of ours: without a report it would look like a hang
            traceback.print_exc()
            self._post(Failed(Reason(kind="connect_failed", text=f"internal error: {describe_exception(error)}")))
        else:
            self._post(Opened(connection, hook, hooks))

    def _connection(self) -> Established:
        resume = self._assignment.resume
        if self._handed is not None and self._assignment.held:
            return self._held_connection(self._handed)
        if self._handed is None or resume is None:
            return connect(self._assignment, self._post_step)
        self._handed.setblocking(False)
        answer = resume.up["headers"].get("sec-websocket-extensions")
        deflate = parse_answer(answer) if answer else None
        return Established(PlainByteStream(self._handed), first=self._tail, deflate=deflate, **resume.up)

    def _held_connection(self, sock: socket.socket) -> Established:
        """A TLS holder opens the connection and reports each step; the owner does the WebSocket handshake over it."""
        self._post_step("resolving")
        try:
            while "opened" not in (event := read_event(sock)):
                if "failed" in event:
                    raise ConnectError(Reason.from_json(event["failed"]))
                self._post_step(str(event["step"]))
            peer = str(event["opened"]["peer"])
        except (EndOfStream, OSError) as error:
            sock.close()
            raise ConnectError(Reason(kind="holder_lost", text="the TLS holder ended while it connected")) from error
        except (ValueError, KeyError, TypeError) as error:
            sock.close()
            text = f"the TLS holder wrote invalid data: {error!r:.200}"
            raise ConnectError(Reason(kind="holder_lost", text=text)) from error
        return shake_hands(self._assignment, PlainByteStream(sock), peer, self._post_step)

    def _post_step(self, name: str) -> None:
        self._post(Step(name))

    def _load(self) -> tuple[Hook | None, Hooks | None]:
        endpoint = self._assignment.endpoint
        if not endpoint.decode and not any(endpoint.hooks.values()):
            return None, None
        self._post_step("importing")
        try:
            decode = load_hook(endpoint.decode, self._assignment.sys_path) if endpoint.decode else None
            return decode, self._load_hooks() if any(endpoint.hooks.values()) else None
        except SystemExit as wish:
            exit_as_requested(wish)

    def _load_hooks(self) -> Hooks:
        from wsadapter.worker.hooks.sign_thread import load_hooks  # most owners never need it

        return load_hooks(self._assignment)

    def _prepare(self, hooks: Hooks) -> None:
        """Calls `before_connect`, and connects with the URL and the headers that the hook returns."""
        if hooks.before_connect is None:
            return
        self._post_step("preparing")
        hooks.prepare()
        endpoint = replace(self._assignment.endpoint, headers=dict(hooks.attempt.headers))
        self._assignment = replace(self._assignment, url=hooks.attempt.url, endpoint=endpoint)

    def _post(self, event: Step | Opened | Failed) -> None:
        self._events.append(event)
        self._wakeup.wake()
