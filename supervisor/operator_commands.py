"""What an operator asks of endpoints through the control socket, besides `status`, `restart` and `stop`.

    {"command": "subscribe", "endpoint": "a", "streams": ["x"]}     and "unsubscribe"
    {"command": "send", "endpoint": "a", "text": "..."}             or "base64": "..."; answered when the bytes are out
    {"command": "start_endpoint", "endpoint": "a"}                  and "stop_endpoint"; answered when it is up, or has stopped
    {"command": "watch"}                                            the status without memory, made a part at a time
    {"command": "sample", "endpoint": "a", "limit": 100}            lines since the last question, and how many more

Each command returns a future of what is answered.
"""

from __future__ import annotations

import binascii
import logging
from base64 import b64decode
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from wsadapter.arguments import as_name, as_streams
from wsadapter.contract.errors import UsageError
from wsadapter.contract.items import Event, Message
from wsadapter.delivery.tap import Tap
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.loop.reactor import Timer
from wsadapter.outputs.lines import event_line, message_line
from wsadapter.registry.shards import together
from wsadapter.runtime import Runtime
from wsadapter.status import EndpointStatus

logger = logging.getLogger("wsadapter.control")

Command = Callable[[Mapping[str, Any]], "Future[dict[str, Any]]"]
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


class OperatorCommands:
    """The commands of one supervisor, all called in its reactor."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._taps: dict[str, _Tapped] = {}

    def by_name(self) -> dict[str, Command]:
        """All of them."""
        return {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "send": self._send,
            "start_endpoint": self._start,
            "stop_endpoint": self._stop,
            "sample": self._sample,
            "watch": self._watch,
        }

    def _subscribe(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name, streams = _endpoint(request), as_streams("subscribe", request.get("streams"))
        self._runtime.check_changeable()
        self._runtime.registry.subscribe(name, streams)
        logger.info("%s: %d streams subscribed, as asked through the control socket", name, len(streams))
        return _done({"endpoint": name, "streams": len(streams)})

    def _unsubscribe(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name, streams = _endpoint(request), as_streams("unsubscribe", request.get("streams"))
        self._runtime.check_changeable()
        self._runtime.registry.unsubscribe(name, streams)
        logger.info("%s: %d streams unsubscribed, as asked through the control socket", name, len(streams))
        return _done({"endpoint": name, "streams": len(streams)})

    def _send(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name = _endpoint(request)
        payload, binary = _payload(request)
        logger.info("%s: %d bytes are sent, as asked through the control socket", name, len(payload))
        sent = self._runtime.registry.send(name, payload, binary=binary)
        return _followed_by(sent, {"endpoint": name, "bytes": len(payload)})

    def _start(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name = _endpoint(request)
        members = self._runtime.registry.members(name)
        self._runtime.check_changeable()
        idle = [member for member in members if member.settled]
        logger.info("%s: start, as asked through the control socket", name)
        started = together([member.restart() for member in idle])
        return _followed_by(started, {"endpoint": name, "started": [member.name for member in idle]})

    def _stop(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        name = _endpoint(request)
        members = self._runtime.registry.members(name)
        self._runtime.check_changeable()
        if all(other.settled for other in self._runtime.endpoints() if other not in members):
            raise UsageError(f"{name} is all that runs: a supervisor without an endpoint ends; stop the supervisor instead")
        logger.info("%s: stop, as asked through the control socket", name)
        for member in members:
            member.stop()
        stopped: Future[dict[str, Any]] = Future()
        self._await_stop(members, stopped, {"endpoint": name})
        return stopped

    def _await_stop(self, members: list[EndpointRuntime], stopped: Future[dict[str, Any]], answer: dict[str, Any]) -> None:
        """Each owner is asked, then told, then killed, so this ends."""
        if all(member.settled for member in members):
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
            raise UsageError(f"send: this is no base64: {error}") from error
    raise UsageError('send: give "text", or "base64" for a binary message')


def _done(answer: dict[str, Any]) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()
    future.set_result(answer)
    return future


def _followed_by(first: Future[None], answer: dict[str, Any]) -> Future[dict[str, Any]]:
    """The answer, once `first` is done; or its error."""
    future: Future[dict[str, Any]] = Future()

    def finish(done: Future[None]) -> None:
        error = done.exception()
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)

    first.add_done_callback(finish)
    return future
