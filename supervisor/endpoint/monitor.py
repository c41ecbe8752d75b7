"""Monitors: they report the `Up` and `Down` events of one endpoint (as `monitor/2` of Erlang does, in contrast to a link).

Only a monitor can wait, so no death is missed between a look at the state and the wait. A monitor that is made after a death
reports that death. A monitor that was released with `flush` reports nothing any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from wsadapter.contract.errors import MonitorReleased
from wsadapter.contract.items import Down, Up
from wsadapter.contract.public import Public

E = TypeVar("E", Up, Down)


class Watcher(Protocol):
    """Gets the `Up` and `Down` events of an endpoint, under the reactor's lock."""

    def notify(self, event: Up | Down) -> None: ...


class Waits(Protocol):
    """What a monitor needs of the reactor."""

    def run_until(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `done()` is true. Returns false after `timeout` seconds."""
        ...


class Monitor(Public):
    """A reference bound to one endpoint. Every method may be called from any thread."""

    PUBLIC = frozenset({"endpoint", "wait_up", "wait_down", "release"})

    def __init__(self, reactor: Waits, endpoint: str, leave: Callable[[Monitor], None]) -> None:
        self.endpoint = endpoint
        self._reactor = reactor
        self._leave = leave
        self._seen: deque[Up | Down] = deque()
        self._released = False

    def notify(self, event: Up | Down) -> None:
        """For the supervisor: `event` happened. Under the reactor's lock."""
        if not self._released:
            self._seen.append(event)

    def wait_up(self, timeout: float | None = None) -> Up:
        """The next `Up` that was not returned yet. Returns at once if the endpoint was up when the monitor was made.

        Raises `TimeoutError` after `timeout` seconds, `MonitorReleased` if the monitor was released.
        """
        return self._wait(Up, timeout)

    def wait_down(self, timeout: float | None = None) -> Down:
        """The next `Down`. Returns at once, with the reason, if the endpoint was down after a death when the monitor was made.

        Raises as `wait_up`.
        """
        return self._wait(Down, timeout)

    def release(self, *, flush: bool = True) -> None:
        """Record no more events. With `flush`, events that were not returned yet are dropped; without, they can still be
        waited for."""
        self._leave(self)
        self._released = True
        if flush:
            self._seen.clear()

    def __repr__(self) -> str:
        waiting = ", ".join(event.kind for event in tuple(self._seen)) or "nothing"
        return f"<Monitor of {self.endpoint!r}{': released' if self._released else ''}, not returned yet: {waiting}>"

    def _wait(self, kind: type[E], timeout: float | None) -> E:
        if not self._reactor.run_until(lambda: self.has(kind), timeout):
            raise TimeoutError(f"{self.endpoint}: no {kind.__name__} within {timeout} s")
        found = self.take(kind)
        assert found is not None
        return found

    def has(self, kind: type[Up | Down]) -> bool:
        """Whether an event of this kind waits to be returned. Raises `MonitorReleased` if none ever will."""
        seen = any(isinstance(event, kind) for event in tuple(self._seen))
        if self._released and not seen:
            raise MonitorReleased(f"the monitor of {self.endpoint} was released; make a new one")
        return seen

    def take(self, kind: type[E]) -> E | None:
        """The next event of this kind, without waiting; events of the other kind before it are dropped. None: there is none."""
        if not self.has(kind):
            return None
        while self._seen:
            event = self._seen.popleft()
            if isinstance(event, kind):
                return event
        return None
