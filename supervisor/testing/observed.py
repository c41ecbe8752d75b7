"""What a test exchange has seen and done, as its users look at it and wait for it."""

from __future__ import annotations

from collections.abc import Callable

from wsadapter.testing.handshake import Request
from wsadapter.testing.journal import Journal, Received


class Observations:
    """What an exchange has seen and done. May be used from any thread, also before `start()` and after `stop()`."""

    _journal: Journal

    @property
    def connections(self) -> int:
        """How many WebSocket connections are open."""
        return len(self._journal.connections)

    @property
    def open_ids(self) -> tuple[int, ...]:
        """Which connections are open; they are numbered 1, 2, 3 ... as TCP brought them."""
        return self._journal.connections

    @property
    def accepted(self) -> int:
        """How many TCP connections there have been."""
        return self._journal.accepted

    @property
    def requests(self) -> list[Request]:
        """The handshake requests: path, and headers in lower case."""
        return self._journal.requests

    @property
    def received(self) -> list[Received]:
        """The clients' messages and control frames: (connection, opcode, payload)."""
        return self._journal.received

    @property
    def sent(self) -> dict[int, int]:
        """How many data messages were put on each connection; welcome frames and answers are not counted."""
        return self._journal.sent

    @property
    def closes(self) -> dict[int, int | None]:
        """The client's close code of each connection that has ended; 1005: a close frame without one, None: no close frame."""
        return self._journal.closes

    @property
    def violations(self) -> list[str]:
        """What clients did that the dialect forbids, each as "#CONNECTION: what"; empty without a dialect."""
        return self._journal.violations

    @property
    def heartbeats(self) -> dict[int, dict[str, int]]:
        """How many came on each connection: "heartbeat", the client's own, "answer" and "pong", to the exchange's. All 0
        without a dialect."""
        return self._journal.heartbeats

    def wait_for(self, predicate: Callable[[], object], timeout: float = 10.0) -> None:
        """Until `predicate()` is true; it is asked whenever one of the properties above changes.

        Raises `TimeoutError` with what was seen instead, as all these waits do.
        """
        self._journal.wait_for(predicate, timeout, "the condition")

    def wait_connections(self, count: int, timeout: float = 10.0) -> None:
        """Wait until exactly `count` connections are open."""
        self._journal.wait_for(lambda: self.connections == count, timeout, f"{count} open connections")

    def wait_accepted(self, count: int, timeout: float = 10.0) -> None:
        """Wait until there have been at least `count` TCP connections."""
        self._journal.wait_for(lambda: self.accepted >= count, timeout, f"{count} accepted connections")

    def wait_received(self, predicate: Callable[[Received], object], timeout: float = 10.0) -> Received:
        """The first received frame that fits, from the start of all received; waits for it if need be."""
        found: list[Received] = []

        def seen() -> bool:
            found.extend(frame for frame in self.received if not found and predicate(frame))
            return bool(found)

        self._journal.wait_for(seen, timeout, "a frame that fits")
        return found[0]
