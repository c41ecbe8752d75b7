"""Monitors: references that tell of one endpoint's ups and downs (Erlang: `monitor/2`, as opposed to a link).

Waiting needs a monitor by construction, so there is no moment between the look and the wait in which a death is missed. A
monitor taken after a death replays that death's reason. A released and flushed monitor never fires later.
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
    """Who is told of an endpoint's ups and downs, under the reactor's lock."""

    def notify(self, event: Up | Down) -> None: ...


class Waits(Protocol):
    """What a monitor needs of the reactor."""

    def run_until(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Until `done()`; False where `timeout` seconds were not enough."""
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
        """The next `Up` that this monitor has not told yet; at once, where the endpoint was up when it was taken.

        Raises `TimeoutError` after `timeout` seconds, `MonitorReleased` once it was released.
        """
        return self._wait(Up, timeout)

    def wait_down(self, timeout: float | None = None) -> Down:
        """The next `Down`; at once, with the reason, where the endpoint was down when the monitor was taken after a death.

        Raises as `wait_up`.
        """
        return self._wait(Down, timeout)

    def release(self, *, flush: bool = True) -> None:
        """End it. With `flush`, what it saw and did not tell is forgotten too; without, it can still be asked for that."""
        self._leave(self)
        self._released = True
        if flush:
            self._seen.clear()

    def __repr__(self) -> str:
        waiting = ", ".join(event.kind for event in tuple(self._seen)) or "nothing"
        return f"<Monitor of {self.endpoint!r}{': released' if self._released else ''}, not told yet: {waiting}>"

    def _wait(self, kind: type[E], timeout: float | None) -> E:
        if not self._reactor.run_until(lambda: self.has(kind), timeout):
            raise TimeoutError(f"{self.endpoint}: no {kind.__name__} within {timeout} s")
        found = self.take(kind)
        assert found is not None
        return found

    def has(self, kind: type[Up | Down]) -> bool:
        """Whether it has seen one that it has not told. Raises `MonitorReleased` where it never will."""
        seen = any(isinstance(event, kind) for event in tuple(self._seen))
        if self._released and not seen:
            raise MonitorReleased(f"the monitor of {self.endpoint} was released; take a new one")
        return seen

    def take(self, kind: type[E]) -> E | None:
        """The next of that kind, without waiting. Those of the other kind that came before it are passed over."""
        if not self.has(kind):
            return None
        while self._seen:
            event = self._seen.popleft()
            if isinstance(event, kind):
                return event
        return None
