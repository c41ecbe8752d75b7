"""Runs the user's decode hook in a separate thread, behind a queue, so that the hook can't delay a pong.

Messages and reports leave the queue in the order in which they entered. The queue is bounded by bytes: while it is full, the
owner reads no more data.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final, NoReturn, Protocol

from wsadapter.contract.hooks import describe_exception, keywords_of, load_function
from wsadapter.contract.ipc.record import ANSWER
from wsadapter.contract.ipc.reports import MessagesDropped, Report, StreamNamed
from wsadapter.contract.quarantine import Quarantine
from wsadapter.worker.loop.wakeup import Wakeup

MOST_BYTES_HELD: Final = 8 * 1024 * 1024
_MESSAGE_OVERHEAD: Final = 64


class Hook(Protocol):
    """The user's function: None filters the message, a list replaces it by several messages."""

    def __call__(self, data: bytes, *, binary: bool, stream: str | None) -> bytes | list[bytes] | None: ...


@dataclass(slots=True)
class Payloads:
    """Messages of one read, before or after the hook."""

    received_at: int
    position: int
    payloads: list[bytes] = field(default_factory=list)
    binary: list[bool] = field(default_factory=list)
    streams: list[int] = field(default_factory=list)
    """Per message the index of its stream, 0 for none."""
    identities: list[int] | None = None
    """Per message its identity; None if identities are not wanted. All results of one message have its identity."""
    filtered: int = 0

    @property
    def weight(self) -> int:
        """Bytes, with an amount for each object, because a million empty messages take memory too."""
        return sum(len(payload) + _MESSAGE_OVERHEAD for payload in self.payloads)


def load_hook(name: str, sys_path: Sequence[str]) -> Hook:
    """Imports the hook `decode`, as `load_function`. The result takes all keywords, whatever the user's function takes."""
    function = load_function(name, sys_path, "decode")
    match keywords_of("decode", function):
        case ("binary", "stream"):
            return function
        case ("binary",):
            return lambda data, *, binary, stream: function(data, binary=binary)  # noqa: ARG005
        case ("stream",):
            return lambda data, *, binary, stream: function(data, stream=stream)  # noqa: ARG005
        case _:
            return lambda data, *, binary, stream: function(data)  # noqa: ARG005


def exit_as_requested(wish: SystemExit) -> NoReturn:
    """User code called `sys.exit()` in some thread: ends the process with the same exit code."""
    if isinstance(wish.code, str):
        print(wish.code, file=sys.stderr)  # noqa: T201  as the interpreter does
    sys.stderr.flush()
    os._exit(wish.code if isinstance(wish.code, int) else int(wish.code is not None))


class Decoder:
    """The hook's thread and its queue. The owner's loop calls all methods except `_run`."""

    def __init__(self, hook: Hook, quarantine: Quarantine, wakeup: Wakeup) -> None:
        self._hook = hook
        self._quarantine = quarantine
        self._wakeup = wakeup
        self._todo: SimpleQueue[Payloads | Report] = SimpleQueue()
        self._done: deque[tuple[list[Payloads | Report], int]] = deque()
        self._held = 0
        self._queued = 0
        self._called_at: float | None = None
        self._names: dict[int, str] = {}  # of the streams, by index; used by the thread only
        threading.Thread(target=self._run, name="decode", daemon=True).start()

    @property
    def full(self) -> bool:
        """True if so much waits that no more data should be read."""
        return self._held >= MOST_BYTES_HELD

    @property
    def idle(self) -> bool:
        """True if everything that was put in has been taken out."""
        return not self._queued

    def stuck_for(self, now: float) -> float:
        """Seconds since the hook was called with the message that it has not returned yet; 0 if there is none."""
        called_at = self._called_at
        return 0.0 if called_at is None else now - called_at

    def put(self, item: Payloads | Report) -> None:
        """Queues messages or a report. It never blocks: the caller must stop reading while `full` is true."""
        if isinstance(item, Payloads):
            self._held += item.weight
        self._queued += 1
        self._todo.put(item)

    def take(self) -> list[Payloads | Report]:
        """The next results, empty if there are none yet; `wakeup` is woken when there are."""
        if not self._done:
            return []
        results, weight = self._done.popleft()
        self._held -= weight
        self._queued -= 1
        return results

    def _run(self) -> None:
        while True:
            item = self._todo.get()
            if isinstance(item, Report):
                if isinstance(item, StreamNamed):
                    self._names[item.index] = item.name
                self._done.append(([item], 0))
            else:
                self._done.append((list(self._decoded(item)), item.weight))
            self._wakeup.wake()

    def _decoded(self, item: Payloads) -> Iterator[Payloads | Report]:
        out = self._empty(item)
        for at, (payload, binary, stream) in enumerate(zip(item.payloads, item.binary, item.streams, strict=True)):
            try:
                answers = stream == ANSWER  # the answer to a request is no data
                result = [payload] if answers else self._called(payload, binary=binary, stream=self._names.get(stream))
            except SystemExit as wish:
                exit_as_requested(wish)
            except BaseException as error:  # noqa: BLE001  the user's function may raise anything
                yield out
                out = self._empty(item)
                yield self._dropped(payload, binary=binary, error=describe_exception(error))
            else:
                out.payloads += result
                out.binary += [binary] * len(result)
                out.streams += [stream] * len(result)
                if out.identities is not None and item.identities is not None:
                    out.identities += [item.identities[at]] * len(result)
                out.filtered += not result
        yield out

    @staticmethod
    def _empty(item: Payloads) -> Payloads:
        return Payloads(item.received_at, item.position, identities=None if item.identities is None else [])

    def _called(self, payload: bytes, *, binary: bool, stream: str | None) -> list[bytes]:
        self._called_at = time.monotonic()
        try:
            result = self._hook(payload, binary=binary, stream=stream)
        finally:
            self._called_at = None
        if result is None:
            return []
        results = result if isinstance(result, list) else [result]
        for one in results:
            if not isinstance(one, bytes):
                raise TypeError(f"the decode hook returned {type(one).__name__}, not bytes, None or a list of bytes")
        return results

    def _dropped(self, payload: bytes, *, binary: bool, error: str) -> MessagesDropped:
        text = error[:1000] + self._quarantine.keep(payload, binary=binary, error=error)
        return MessagesDropped(1, len(payload), "decode", text)
