"""The commands of the control socket that are calls of the supervisor: for operators (`wsadapter send ...`) and for attached
consumers (`feed.send(...)`) alike.

    {"command": "subscribe", "endpoint": "a", "streams": ["x"]}     also "unsubscribe" and "resubscribe"
    {"command": "send", "endpoint": "a", "text": "..."}             or "base64": "..."; answered when the bytes are out
    {"command": "request", "endpoint": "a", "payload": {...}}       {"ok": true, "answer": {"data": <base64>, ...}}
    {"command": "insert", "endpoint": "a", "text": "..."}           {"ok": true, "number": 7}
    {"command": "restart", "endpoint": "a"}                         {"ok": true, "epoch": 4, "pid": 4711}, when it is up
    {"command": "start_endpoint", "endpoint": "a"}                  and "stop_endpoint"; answered when it is up, or has stopped
    {"command": "watch"}                                            the status without memory, made a part at a time
    {"command": "sample", "endpoint": "a", "limit": 100}            lines since the last question, and how many more
    {"command": "journal"}                                          {"ok": true, "journal": "/var/lib/prices"}
    {"command": "rebalance"}                                        {"ok": true, "moves": {"a": {"from": "x", "to": "y"}}}
    {"command": "restart_sink", "sink": "s"}                        answered when its next process has found its position

Each command returns a future of what is answered. An error is answered with its class and its fields (`control/failures.py`),
so that a consumer raises what the call of `Supervisor` would have raised. While another supervisor takes over, nothing that an
endpoint would have to know is accepted: the endpoints are the other supervisor's in a moment.
"""

from __future__ import annotations

import binascii
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from wsadapter.arguments import as_name, as_streams
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.errors import UnknownSink, UsageError
from wsadapter.contract.items import Answer, Event, Message
from wsadapter.delivery.tap import Tap
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.requests import Pending
from wsadapter.loop.reactor import Timer
from wsadapter.outputs.lines import event_line, message_line
from wsadapter.registry.shards import together
from wsadapter.runtime import Runtime
from wsadapter.status import EndpointStatus

logger = logging.getLogger("wsadapter.control")

Command = Callable[[Mapping[str, Any]], "Future[dict[str, Any]]"]
T = TypeVar("T")
_MOST_ITEMS: Final = 1000
"""Items of one sample."""
_MOST_BYTES: Final = 1024 * 1024
"""Of one sample: the answer must not be more than a client may leave unread."""
_TAP_LASTS: Final = 5.0
"""Seconds after the last question for a sample that the tap is removed."""
_PART: Final = 16
"""Endpoints of a status that are looked at in one turn: about 0.1 ms."""
_LOOK_AGAIN: Final = 0.05
"""Seconds between looks at whether an endpoint has stopped."""


class ControlCommands:
    """The commands of one supervisor, all called in its reactor."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._taps: dict[str, _Tapped] = {}

    def by_name(self) -> dict[str, Command]:
        """All of them."""
        return {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "resubscribe": self._resubscribe,
            "send": self._send,
            "request": self._request,
            "insert": self._insert,
            "restart": self._restart,
            "start_endpoint": self._start,
            "stop_endpoint": self._stop,
            "sample": self._sample,
            "watch": self._watch,
            "journal": self._journal,
            "restart_sink": self._restart_sink,
            "rebalance": self._rebalance,
        }

    def _subscribe(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        return self._change_streams(request, "subscribe", self._runtime.registry.subscribe)

    def _unsubscribe(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        return self._change_streams(request, "unsubscribe", self._runtime.registry.unsubscribe)

    def _resubscribe(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        return self._change_streams(request, "resubscribe", self._runtime.registry.resubscribe)

    def _change_streams(
        self, request: Mapping[str, Any], command: str, change: Callable[[str, Sequence[Subscription]], None]
    ) -> Future[dict[str, Any]]:
        name, streams = _endpoint(request), as_streams(command, request.get("streams"))
        self._runtime.check_changeable()
        change(name, streams)
        logger.info("%s: %s %d streams, as asked through the control socket", name, command, len(streams))
        return _done({"endpoint": name, "streams": len(streams)})

    def _send(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name = _endpoint(request)
        payload, binary = _payload(request)
        self._runtime.check_changeable()
        # Not at the level of changes: a consumer may send hundreds of messages a second.
        logger.debug("%s: %d bytes are sent, as asked through the control socket", name, len(payload))
        sent = self._runtime.registry.send(name, payload, binary=binary)
        return _followed_by(sent, lambda _: {"endpoint": name, "bytes": len(payload)})

    def _request(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        payload, timeout = request.get("payload"), request.get("timeout")
        if not isinstance(payload, dict | str) or not isinstance(timeout, int | float | None):
            raise UsageError("request: expected a payload, an object or its text, and perhaps a timeout in seconds")
        pending = Pending(self._runtime.reactor, _endpoint(request))
        self._runtime.check_changeable()
        answered = _followed_by(pending, lambda answer: {"answer": _answer(answer)})
        self._runtime.registry.request(pending, payload, timeout)
        return answered

    def _insert(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name = _endpoint(request)
        payload, binary = _payload(request)
        self._runtime.check_changeable()
        return _done({"number": self._runtime.registry.find(name).insert(payload, binary=binary)})

    def _restart(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name = _endpoint(request)
        ended = self._runtime.begin_restart(name)
        logger.info("%s: restart, as asked through the control socket", name)
        over: Future[None] = Future()
        # Posted: it ends in the midst of the endpoint's own bookkeeping.
        ended.add_done_callback(lambda done: self._runtime.reactor.post(lambda: _end_as(done, over)))
        return _followed_by(over, lambda _: self._restarted(name))

    def _restarted(self, name: str) -> dict[str, Any]:
        """A group has several owners: then epoch and pid are null."""
        endpoint = self._runtime.registry.endpoints.get(name)
        now = None if endpoint is None else endpoint.status()
        return {"endpoint": name, "epoch": now and now["epoch"], "pid": now and now["pid"]}

    def _start(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name = _endpoint(request)
        members = self._runtime.registry.members(name)
        self._runtime.check_changeable()
        idle = [member for member in members if member.has_ended]
        logger.info("%s: start, as asked through the control socket", name)
        started = together([member.restart() for member in idle])
        return _followed_by(started, lambda _: {"endpoint": name, "started": [member.name for member in idle]})

    def _stop(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name = _endpoint(request)
        members = self._runtime.registry.members(name)
        self._runtime.check_changeable()
        if all(other.has_ended for other in self._runtime.endpoints() if other not in members):
            raise UsageError(f"{name} is all that runs: a supervisor without an endpoint ends; stop the supervisor instead")
        logger.info("%s: stop, as asked through the control socket", name)
        for member in members:
            member.stop()
        stopped: Future[dict[str, Any]] = Future()
        self._await_stop(members, stopped, {"endpoint": name})
        return stopped

    def _await_stop(self, members: list[EndpointRuntime], stopped: Future[dict[str, Any]], answer: dict[str, Any]) -> None:
        """Each owner is asked to stop, then gets SIGTERM, then SIGKILL, so this ends."""
        if all(member.has_ended for member in members):
            stopped.set_result(answer)
        else:
            self._runtime.reactor.call_later(_LOOK_AGAIN, lambda: self._await_stop(members, stopped, answer))

    def _watch(self, _request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """For whoever asks each second: the loop does other work between the parts, so no message waits for the whole. The
        asker measures the memory of owners itself, because it takes a moment for each."""
        watched: Future[dict[str, Any]] = Future()
        self._add_part(list(self._runtime.registry.endpoints), {}, watched)
        return watched

    def _add_part(self, names: list[str], found: dict[str, EndpointStatus], watched: Future[dict[str, Any]]) -> None:
        found |= self._runtime.registry.status(names[:_PART])
        rest = names[_PART:]
        if rest:
            self._runtime.reactor.post(lambda: self._add_part(rest, found, watched))
        else:
            watched.set_result({"status": self._runtime.status(memory=False, endpoints=found)})

    def _sample(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name, limit = _endpoint(request), request.get("limit", 100)
        if type(limit) is not int or not 0 < limit <= _MOST_ITEMS:
            raise UsageError(f"sample: the limit is a number from 1 to {_MOST_ITEMS}")
        lines: list[str] = []
        skipped = taken = 0
        for member in self._runtime.registry.members(name):
            items, more = self._tap_of(member, limit).read(limit)
            skipped += more
            for item in items:
                line = _line(item)
                if len(lines) >= limit or taken + len(line) > _MOST_BYTES:
                    skipped += 1
                    continue
                taken += len(line)
                lines.append(line.decode(errors="replace"))
        return _done({"endpoint": name, "run": self._runtime.run, "lines": lines, "skipped": skipped})

    def _journal(self, _request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        settings = self._runtime.options.journal
        if settings is None:
            raise UsageError("this supervisor has no journal to attach to: add a table [journal] with its path")
        return _done({"journal": str(Path(settings.path).absolute())})

    def _restart_sink(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name = request.get("sink")
        if not isinstance(name, str):
            raise UsageError("restart_sink: expected the name of a sink")
        journaling = self._runtime.journaling
        if journaling is None:
            raise UnknownSink(name, [])
        return _followed_by(journaling.sinks.restart(name), lambda _: {"sink": name})

    def _rebalance(self, _request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        journaling = self._runtime.journaling
        if journaling is None or journaling.cluster is None:
            raise UsageError("rebalance: this supervisor is no host of a cluster: it has no table [cluster]")
        return journaling.cluster.rebalance()

    def _tap_of(self, endpoint: EndpointRuntime, limit: int) -> Tap:
        """The tap before its inbox; if there is none, one is put there, and removed if nobody asks any more."""
        tapped = self._taps.get(endpoint.name)
        if tapped is None or endpoint.stream.inbox is not tapped.tap:  # its items may have been redirected since
            tap = Tap(endpoint.stream.inbox, limit)
            endpoint.stream.inbox = tap
        else:
            tapped.expiry.cancel()
            tap = tapped.tap
        expiry = self._runtime.reactor.call_later(_TAP_LASTS, lambda: self._remove(endpoint, tap))
        self._taps[endpoint.name] = _Tapped(tap, expiry)
        return tap

    def _remove(self, endpoint: EndpointRuntime, tap: Tap) -> None:
        if endpoint.stream.inbox is tap:
            endpoint.stream.inbox = tap.inbox
        tapped = self._taps.get(endpoint.name)
        if tapped is not None and tapped.tap is tap:
            del self._taps[endpoint.name]


@dataclass(frozen=True, slots=True)
class _Tapped:
    tap: Tap
    expiry: Timer


def _line(item: Message | Event) -> bytes:
    return (event_line(item) if isinstance(item, Event) else message_line(item)).rstrip(b"\n")


def _endpoint(request: Mapping[str, Any]) -> str:
    return as_name(request.get("endpoint"))  # type: ignore[arg-type]  # that is what it checks


def _payload(request: Mapping[str, Any]) -> tuple[bytes, bool]:
    text, base64 = request.get("text"), request.get("base64")
    if isinstance(text, str) and base64 is None:
        return text.encode(), False
    if isinstance(base64, str) and text is None:
        try:
            return b64decode(base64, validate=True), True
        except binascii.Error as error:
            raise UsageError(f"{request['command']}: this is no base64: {error}") from error
    raise UsageError(f'{request["command"]}: give "text", or "base64" for a binary message')


def _done(answer: dict[str, Any]) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()
    future.set_result(answer)
    return future


def _end_as(done: Future[None], other: Future[None]) -> None:
    error = done.exception()
    if error is None:
        other.set_result(None)
    else:
        other.set_exception(error)


def _followed_by(first: Future[T], answer: Callable[[T], dict[str, Any]]) -> Future[dict[str, Any]]:
    """What `answer` makes of the result of `first`, once `first` is done; or its error."""
    future: Future[dict[str, Any]] = Future()

    def finish(done: Future[T]) -> None:
        error = done.exception()
        if error is None:
            future.set_result(answer(done.result()))
        else:
            future.set_exception(error)

    first.add_done_callback(finish)
    return future


def _answer(answer: Answer) -> dict[str, Any]:
    return {**answer._asdict(), "data": b64encode(answer.data).decode()}
