"""The control socket, both ends: one JSON object per line each way.

    {"command": "status"}                        {"ok": true, "status": {...}}
    {"command": "stop"}                          {"ok": true}, and the end of the connection when all has stopped
    {"command": "takeover", ...}                 see takeover/: from there on the connection is no longer line by line
    {"command": "reboot"}                        {"ok": false, "error": "...", "kind": "UsageError", "known": ["status", ...]}

The other commands are calls of the supervisor: `wsadapter.control_commands`.

The server runs in the supervisor's reactor, so it never blocks: a client that does not read its answers delays nobody else. It
accepts commands only from the user it runs as, and from root.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, Protocol

import orjson

from wsadapter.contract.errors import ControlError, NoAnswer, NotRunning, TakeoverError, UsageError, WsAdapterError
from wsadapter.control.failures import failure
from wsadapter.control.instance import Instance, connect, credentials_of
from wsadapter.loop.poller import READ, WRITE
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.status import Status

logger = logging.getLogger("wsadapter.control")

_MAX_CLIENTS: Final = 64
_MAX_REQUEST: Final = 64 * 1024
_MAX_UNREAD: Final = 4 * 1024 * 1024
"""Bytes of answers a client may leave unread before it is cut off."""
_CHUNK: Final = 64 * 1024
_BETWEEN: Final = 0.001
"""Seconds between two commands of a client that does not wait for the answer."""
_ACCEPTS_PER_TURN: Final = 16
_ACCEPT_AGAIN: Final = 1.0
"""Seconds to wait after a client could not be accepted."""
_UPKEEP: Final = 5.0
"""Seconds between checks of the runtime folder."""


class CommandRefused(ControlError):
    """The supervisor answered with an error; `known`: the commands that it has."""

    def __init__(self, error: str, known: list[str], answer: dict[str, Any] | None = None) -> None:
        self.known = known
        self.answer = answer or {}
        """The whole answer."""
        super().__init__(error)


class Acceptor(Protocol):
    """Passes everything of a supervisor to another one."""

    @property
    def accept(self) -> Callable[[socket.socket, dict[str, Any]], None] | None:
        """Begins a takeover by the supervisor at the other end of the socket, which is not used in this turn. Raises
        `WsAdapterError`; then the server keeps the socket. None: this supervisor can't be taken over."""
        ...


class Attachable(Protocol):
    """What consumers of other processes may ask of a supervisor that has a journal."""

    def wake(self, peer: socket.socket) -> None:
        """From now on each commit sends a byte to this consumer. The socket is the journal's."""
        ...


class Commanded(Protocol):
    """What the server needs of the supervisor; called in the reactor."""

    @property
    def state(self) -> str: ...
    def status(self) -> Status: ...
    def ask_to_stop(self) -> bool: ...
    @property
    def takeover(self) -> Acceptor: ...
    @property
    def journaling(self) -> Attachable | None: ...


Command = Callable[[dict[str, Any]], "Future[dict[str, Any]]"]
"""Called in the reactor with a request; the future has the answer, or the error."""


class ControlServer:
    """Answers on an instance's control socket. `close` then `dismiss`; neither is the reactor's."""

    def __init__(
        self, reactor: Reactor, instance: Instance, supervisor: Commanded, more: Mapping[str, Command] = MappingProxyType({})
    ) -> None:
        """`more`: commands besides `status`, `stop`, `takeover` and `wake`; looked up at each request."""
        self._reactor = reactor
        self._instance = instance
        self._supervisor = supervisor
        self._more: Mapping[str, Command] = more
        self._clients: list[_Client] = []
        self._dismissed: list[socket.socket] = []
        self._commands: dict[str, Callable[[_Client, dict[str, Any]], None]] = {
            "status": self._status,
            "stop": self._stop,
            "takeover": self._takeover,
        }
        if supervisor.journaling is not None:
            self._commands["wake"] = self._wake
        self._upkeep: Timer | None = None
        reactor.call(self._begin)

    def close(self) -> None:
        """Stop listening and close all clients, except those that wait for the end of a `stop`: they wait until `dismiss`."""
        self._reactor.call(self._release)

    def dismiss(self) -> None:
        """Close the clients that wait for the end of a `stop`. To be called last: when they return, the name is free."""
        for waiting in self._dismissed:
            waiting.close()
        self._dismissed.clear()

    def _begin(self) -> None:
        for listener in self._listeners():
            self._reactor.dispatcher.register(listener.fileno(), partial(self._accept, listener is self._instance.beacon))
        self._upkeep = self._reactor.call_later(_UPKEEP, self._maintain)

    def _maintain(self) -> None:
        """What somebody has removed of the runtime folder is put back."""
        for listener in self._listeners():
            self._reactor.dispatcher.unregister(listener.fileno())
        if (replaced := self._instance.restore()) is not None:
            replaced.close()
        self._begin()

    def _listeners(self) -> list[socket.socket]:
        return [listener for listener in (self._instance.listener, self._instance.beacon) if listener is not None]

    def _release(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
        for listener in self._listeners():
            self._reactor.dispatcher.unregister(listener.fileno())
        for client in list(self._clients):
            self._reactor.dispatcher.unregister(client.socket.fileno())
            self._dismissed.append(client.socket)
        self._clients.clear()

    def _listen(self) -> None:
        for listener in self._listeners():
            if self._reactor.dispatcher.is_registered(listener.fileno()):
                self._reactor.dispatcher.modify(listener.fileno(), READ)

    # -- clients ---------------------------------------------------------------------------------------------------------

    def _accept(self, at_beacon: bool, _events: int) -> None:
        listener = self._instance.beacon if at_beacon else self._instance.listener
        assert listener is not None
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                peer, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # no descriptors left, or the peer has closed the connection already
                logger.warning("control socket: %s; listening again in %g s", error, _ACCEPT_AGAIN)
                self._reactor.dispatcher.modify(listener.fileno(), 0)  # it stays readable: the loop would spin
                self._reactor.call_later(_ACCEPT_AGAIN, self._listen)
                return
            self._welcome(peer)

    def _welcome(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        credentials = credentials_of(peer)
        if credentials is not None and credentials[1] not in (os.getuid(), 0):
            logger.warning("control socket: refused uid %s", credentials[1])
            peer.close()
            return
        if len(self._clients) >= _MAX_CLIENTS:
            self._drop(min(self._clients, key=lambda client: client.heard_at))
        client = _Client(peer)
        self._clients.append(client)
        self._reactor.dispatcher.register(peer.fileno(), partial(self._serve, client))

    def _serve(self, client: _Client, events: int) -> None:
        try:
            if events & ~WRITE and not self._read(client):
                self._drop(client)
                return
            if client in self._clients:  # a takeover's is its own
                self._write(client)
        except OSError:  # it is gone: nothing is lost but its answer
            self._drop(client)

    def _read(self, client: _Client) -> bool:
        try:
            chunk = client.socket.recv(_CHUNK)
        except BlockingIOError:
            return True
        client.heard_at = monotonic()
        client.incoming += chunk
        return self._run_next(client) and bool(chunk)

    def _run_next(self, client: _Client) -> bool:
        """Run the client's next command, if its line is complete. A client that has sent more commands waits, because each
        command takes time of the loop; other work is done in between. Returns false if nothing more is to be read from the
        client."""
        line, end, rest = client.incoming.lstrip().partition(b"\n")
        if not end:
            client.incoming = line
            if len(line) <= _MAX_REQUEST:
                return True
            client.answer(failure(UsageError(f"a request may have {_MAX_REQUEST} bytes")))
            self._write(client)
            return False
        client.incoming = rest
        self._obey(client, bytes(line))
        _check_unread(client)
        if rest and client in self._clients:  # a takeover's is not: nothing more is a command
            client.waits = True
            self._reactor.call_later(_BETWEEN, partial(self._go_on, client))
        return True

    def _go_on(self, client: _Client) -> None:
        if client not in self._clients:
            return
        client.waits = False
        try:
            if self._run_next(client):
                if client in self._clients:
                    self._write(client)
            else:
                self._drop(client)
        except OSError:  # it is gone: nothing is lost but its answer
            self._drop(client)

    def _write(self, client: _Client) -> None:
        while client.outgoing:
            try:
                del client.outgoing[: client.socket.send(client.outgoing)]
            except BlockingIOError:
                break
        _check_unread(client)
        events = (0 if client.waits else READ) | (WRITE if client.outgoing else 0)
        self._reactor.dispatcher.modify(client.socket.fileno(), events)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._reactor.dispatcher.unregister(client.socket.fileno())
            client.socket.close()

    # -- commands --------------------------------------------------------------------------------------------------------

    def _obey(self, client: _Client, line: bytes) -> None:
        try:
            request = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            client.answer(failure(UsageError(f"not JSON: {error}")))
            return
        command = request.get("command") if isinstance(request, dict) else None
        act = self._commands.get(command) if isinstance(command, str) else None
        more = self._more.get(command) if isinstance(command, str) else None
        if act is None and more is None:
            known = sorted({*self._commands, *self._more})
            client.answer({**failure(UsageError(f"unknown command {command!r:.100}")), "known": known})
            return
        try:
            if act is not None:
                act(client, request)
            elif more is not None:
                self._answer_later(client, more(request))
        except WsAdapterError as error:
            client.answer(failure(error))

    def _status(self, client: _Client, _request: dict[str, Any]) -> None:
        client.answer({"ok": True, "status": self._supervisor.status()})

    def _answer_later(self, client: _Client, future: Future[dict[str, Any]]) -> None:
        """Posted: the future may end in the midst of an endpoint's own bookkeeping, or in another thread."""
        future.add_done_callback(lambda done: self._reactor.post(partial(self._answered, client, done)))

    def _answered(self, client: _Client, future: Future[dict[str, Any]]) -> None:
        if client not in self._clients:
            return
        error = future.exception()
        client.answer({"ok": True, **future.result()} if error is None else failure(error))
        self._serve(client, WRITE)

    def _wake(self, client: _Client, _request: dict[str, Any]) -> None:
        """From here on the connection is the journal's."""
        journaling = self._supervisor.journaling
        assert journaling is not None
        self._clients.remove(client)
        self._reactor.dispatcher.unregister(client.socket.fileno())
        journaling.wake(client.socket)

    def _stop(self, client: _Client, _request: dict[str, Any]) -> None:
        logger.info("stopping, as asked through the control socket")
        client.answer({"ok": True})
        if self._supervisor.state == "running":
            self._supervisor.ask_to_stop()

    def _takeover(self, client: _Client, request: dict[str, Any]) -> None:
        """The takeover uses the connection from now on. If the takeover is refused, the server keeps the connection."""
        accept = self._supervisor.takeover.accept
        if accept is None:
            text = "this supervisor belongs to a program: only python -m wsadapter.supervise can be taken over"
            raise TakeoverError(text)
        accept(client.socket, request)
        self._clients.remove(client)
        self._reactor.dispatcher.unregister(client.socket.fileno())


class _Client:
    """One connection, with its unfinished request and the answers that it has not read."""

    def __init__(self, peer: socket.socket) -> None:
        self.socket = peer
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.waits = False
        """Whether another command of this client waits; nothing is read meanwhile."""
        self.heard_at = monotonic()

    def answer(self, said: dict[str, Any]) -> None:
        self.outgoing += orjson.dumps(said) + b"\n"


def _check_unread(client: _Client) -> None:
    if len(client.outgoing) > _MAX_UNREAD:
        raise BrokenPipeError("it does not read its answers")


# -- the other end -------------------------------------------------------------------------------------------------------


def ask(name: str, request: dict[str, Any], *, runtime_dir: str = "", timeout: float = 10.0) -> dict[str, Any]:
    """Send a request to the running supervisor of that name; its answer.

    Raises `NotRunning`, `NoAnswer` after `timeout` seconds, `CommandRefused`.
    """
    with _connected(name, runtime_dir) as supervisor:
        return _converse(name, supervisor, request, monotonic() + timeout)


def ask_to_stop(name: str, *, runtime_dir: str = "", timeout: float = 60.0) -> None:
    """Have the running supervisor of that name stop; returns when it has, and the name is free. Raises as `ask`."""
    deadline = monotonic() + timeout
    with _connected(name, runtime_dir) as supervisor:
        _converse(name, supervisor, {"command": "stop"}, deadline)
        while _receive(name, supervisor, deadline):
            continue


def _connected(name: str, runtime_dir: str) -> socket.socket:
    try:
        supervisor = connect(name, runtime_dir)
    except TimeoutError as error:
        raise NoAnswer(str(error)) from None
    if supervisor is None:
        raise NotRunning(f"no supervisor named {name!r} is running here")
    return supervisor


def _converse(name: str, supervisor: socket.socket, request: dict[str, Any], deadline: float) -> dict[str, Any]:
    try:
        supervisor.sendall(orjson.dumps(request) + b"\n")
    except OSError as error:
        raise NoAnswer(f"the supervisor {name!r} closed the connection: {error}") from error
    received = bytearray()
    while not received.endswith(b"\n"):
        chunk = _receive(name, supervisor, deadline)
        if not chunk:
            raise NoAnswer(f"the supervisor {name!r} closed the connection without an answer")
        received += chunk
    return _judged(name, bytes(received))


def _judged(name: str, line: bytes) -> dict[str, Any]:
    """The answer that a line is. Raises `CommandRefused`; `NoAnswer` for what no supervisor answers."""
    try:
        answer = orjson.loads(line)
    except orjson.JSONDecodeError:
        answer = None
    if isinstance(answer, dict) and answer.get("ok") is True:
        return answer
    if not isinstance(answer, dict) or not isinstance(answer.get("error"), str):
        raise NoAnswer(f"the process that listens for the supervisor {name!r} does not answer as a supervisor: {line[:100]!r}")
    known = answer.get("known")
    raise CommandRefused(answer["error"], [str(word) for word in known] if isinstance(known, list) else [], answer)


def _receive(name: str, supervisor: socket.socket, deadline: float) -> bytes:
    supervisor.settimeout(max(0.001, deadline - monotonic()))
    try:
        return supervisor.recv(_CHUNK)
    except TimeoutError:
        raise NoAnswer(f"the supervisor {name!r} did not answer in time; the command may still be carried out") from None
    except ConnectionResetError:
        return b""
