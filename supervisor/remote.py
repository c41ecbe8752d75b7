"""What attached consumers ask for through the control socket: the calls of `Supervisor` as commands, with the same outcomes.

    {"command": "attached_send", "endpoint": "a", "data": "..."}         {"ok": true}
    {"command": "attached_request", "endpoint": "a", "payload": {...}}   {"ok": true, "answer": {"data": <base64>, ...}}
    {"command": "attached_send", "endpoint": "b", "data": "..."}         {"ok": false, "error": "...", "kind": "NotConnected"}
    {"command": "journal"}                                               {"ok": true, "journal": "/var/lib/prices"}

The commands of an operator (`wsadapter send ...`) are others: they answer with texts. Bytes travel as base64 under `binary`. An
error has the name of its class and its fields, so that the caller raises the same.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from wsadapter.arguments import as_outgoing, as_streams
from wsadapter.contract import errors
from wsadapter.contract.errors import UsageError, WsAdapterError
from wsadapter.contract.items import Answer
from wsadapter.endpoint.requests import Pending
from wsadapter.loop.reactor import Reactor
from wsadapter.registry.registry import EndpointRegistry

PREFIX: Final = "attached_"
COMMANDS: Final = ("send", "request", "insert", "subscribe", "unsubscribe", "resubscribe")
"""With the prefix in front."""
Answered = Future[dict[str, Any]]
_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "UnknownEndpoint": ("name",),
    "DuplicateRequest": ("endpoint", "id"),
    "OutcomeUnknown": ("endpoint", "id", "timed_out"),
    "RequestRejected": ("endpoint", "id", "body"),
}
"""Fields of errors besides their text."""


class RemoteCommands:
    """Those of one supervisor. Called in the reactor."""

    def __init__(self, reactor: Reactor, registry: Callable[[], EndpointRegistry]) -> None:
        self._reactor = reactor
        self._registry = registry
        acts = (self._send, self._request, self._insert, self._subscribe, self._subscribe, self._subscribe)
        self.table: Mapping[str, Callable[[dict[str, Any]], Answered]] = {
            f"{PREFIX}{name}": partial(_run, act) for name, act in zip(COMMANDS, acts, strict=True)
        }

    def _send(self, asked: dict[str, Any]) -> Answered:
        payload, binary = as_outgoing("send", _data(asked))
        answered: Answered = Future()
        _pass_on(self._registry().send(str(asked.get("endpoint")), payload, binary=binary), answered, lambda _: {})
        return answered

    def _request(self, asked: dict[str, Any]) -> Answered:
        pending = Pending(self._reactor, str(asked.get("endpoint")))
        payload, timeout = asked.get("payload"), asked.get("timeout")
        if not isinstance(payload, dict | str) or not isinstance(timeout, int | float | None):
            raise UsageError("request: expected a payload, an object or its text, and perhaps a timeout in seconds")
        answered: Answered = Future()
        _pass_on(pending, answered, _answer)
        self._registry().request(pending, payload, timeout)
        return answered

    def _insert(self, asked: dict[str, Any]) -> Answered:
        payload, binary = as_outgoing("insert", _data(asked))
        number = self._registry().find(str(asked.get("endpoint"))).insert(payload, binary=binary)
        return _done({"number": number})

    def _subscribe(self, asked: dict[str, Any]) -> Answered:
        command, name = str(asked["command"]).removeprefix(PREFIX), str(asked.get("endpoint"))
        streams = as_streams(command, asked.get("streams"))
        registry = self._registry()
        act = {"subscribe": registry.subscribe, "unsubscribe": registry.unsubscribe, "resubscribe": registry.resubscribe}
        act[command](name, streams)
        return _done({})


def _data(asked: dict[str, Any]) -> Any:
    return b64decode(asked["binary"]) if "binary" in asked else asked.get("data")


def _done(answer: dict[str, Any]) -> Answered:
    answered: Answered = Future()
    answered.set_result(answer)
    return answered


def _pass_on(future: Future[Any], answered: Answered, describe: Callable[[Any], dict[str, Any]]) -> None:
    def ended(done: Future[Any]) -> None:
        error = done.exception()
        if error is not None:
            answered.set_result(_failed(error))
        else:
            answered.set_result(describe(done.result()))

    future.add_done_callback(ended)


def _answer(answer: Answer) -> dict[str, Any]:
    return {"answer": {**answer._asdict(), "data": b64encode(answer.data).decode()}}


def _run(act: Callable[[dict[str, Any]], Answered], asked: dict[str, Any]) -> Answered:
    try:
        return act(asked)
    except WsAdapterError as error:
        return _done(_failed(error))


def _failed(error: BaseException) -> dict[str, Any]:
    """The answer that has the class and the fields of an error, for the other end."""
    kind = type(error).__name__
    fields = {name: getattr(error, name) for name in _FIELDS.get(kind, ())}
    plain = {name: b64encode(value).decode() if isinstance(value, bytes) else value for name, value in fields.items()}
    return {"ok": False, "error": str(error), "kind": kind, "fields": plain}


def rebuilt(text: str, answer: Mapping[str, Any]) -> WsAdapterError:
    """The error that an answer describes; a plain one if it is of no known class."""
    cls = getattr(errors, str(answer.get("kind")), WsAdapterError)
    if not isinstance(cls, type) or not issubclass(cls, WsAdapterError):
        cls = WsAdapterError
    error = cls.__new__(cls, text)
    error.args = (text,)
    fields = answer.get("fields")
    for name in _FIELDS.get(cls.__name__, ()):
        value = fields.get(name) if isinstance(fields, dict) else None
        setattr(error, name, b64decode(value) if name == "body" and isinstance(value, str) else value)
    return error
