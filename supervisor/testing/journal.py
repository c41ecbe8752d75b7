"""What a test exchange has seen and done, and waiting for it. Written by the exchange's thread, read by any."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, NamedTuple

from wsadapter.testing.handshake import Request

_KEPT: Final = 100_000


class Received(NamedTuple):
    """A message or control frame of a client."""

    connection: int
    """The number of the connection: 1, 2, 3 ... in the order of TCP connections."""
    opcode: int
    """1 text, 2 binary, 8 close, 9 ping, 10 pong (RFC 6455 §5.2); fragments are put together."""
    payload: bytes


class Journal:
    """The counts and lists behind `Exchange`'s properties. Thread-safe.

    Frames and requests are kept up to the last 100,000, so that an exchange may run for weeks.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._version = 0
        self._accepted = 0
        self._open: set[int] = set()
        self._received: deque[Received] = deque(maxlen=_KEPT)
        self._requests: deque[Request] = deque(maxlen=_KEPT)
        self._sent: dict[int, int] = {}
        self._close_codes: dict[int, int] = {}
        self._closes: dict[int, int | None] = {}
        self._heartbeats: dict[int, dict[str, int]] = {}
        self._violations: list[str] = []

    @property
    def accepted(self) -> int:
        with self._changed:
            return self._accepted

    @property
    def connections(self) -> tuple[int, ...]:
        with self._changed:
            return tuple(sorted(self._open))

    @property
    def received(self) -> list[Received]:
        with self._changed:
            return list(self._received)

    @property
    def requests(self) -> list[Request]:
        with self._changed:
            return list(self._requests)

    @property
    def sent(self) -> dict[int, int]:
        with self._changed:
            return dict(self._sent)

    @property
    def closes(self) -> dict[int, int | None]:
        with self._changed:
            return dict(self._closes)

    @property
    def heartbeats(self) -> dict[int, dict[str, int]]:
        with self._changed:
            return {connection: dict(counts) for connection, counts in self._heartbeats.items()}

    @property
    def violations(self) -> list[str]:
        with self._changed:
            return list(self._violations)

    def note_accepted(self) -> int:
        """Record a TCP connection. Returns its number."""
        with self._change():
            self._accepted += 1
            return self._accepted

    def note_request(self, request: Request) -> None:
        """A handshake request."""
        with self._change():
            self._requests.append(request)

    def note_open(self, connection: int) -> None:
        """The handshake is done."""
        with self._change():
            self._open.add(connection)
            self._sent[connection] = 0
            self._heartbeats[connection] = {"heartbeat": 0, "answer": 0, "pong": 0}

    def note_received(self, received: Received) -> None:
        """A client's frame."""
        with self._change():
            self._received.append(received)

    def note_sent(self, connection: int, count: int) -> None:
        """Count more data messages."""
        with self._change():
            self._sent[connection] += count

    def note_heartbeat(self, connection: int, kind: str) -> None:
        """A client's own "heartbeat", its "answer" to one, or "pong"."""
        with self._change():
            self._heartbeats[connection][kind] += 1

    def note_violation(self, connection: int, text: str) -> None:
        """A client did something that its dialect forbids."""
        with self._change():
            self._violations.append(f"#{connection}: {text}")

    def note_close_code(self, connection: int, code: int) -> None:
        """The client's close frame."""
        with self._change():
            self._close_codes[connection] = code

    def note_gone(self, connection: int) -> None:
        """TCP has ended."""
        with self._change():
            if connection in self._open:
                self._open.discard(connection)
                self._closes[connection] = self._close_codes.pop(connection, None)

    def wait_for(self, predicate: Callable[[], object], timeout: float, what: str) -> None:
        """Until the predicate is true; it is asked at every change. Raises `TimeoutError` with what was seen instead."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                version = self._version
            if predicate():  # outside the lock: it may ask anything
                return
            with self._changed:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait_for(partial(self._is_newer, version), left):
                    raise TimeoutError(f"waited {timeout:g} s for {what}; {self._seen()}")

    def _is_newer(self, version: int) -> bool:
        return self._version > version

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._version += 1
            self._changed.notify_all()

    def _seen(self) -> str:
        last = [f"#{r.connection} opcode {r.opcode} {r.payload[:80]!r}" for r in list(self._received)[-3:]]
        return (
            f"seen: {self._accepted} accepted, open {sorted(self._open)}, sent {self._sent}, closes {self._closes}, "
            f"{len(self._received)} frames received{', the last: ' + '; '.join(last) if last else ''}"
            f"{'; violations: ' + '; '.join(self._violations[-3:]) if self._violations else ''}"
        )
