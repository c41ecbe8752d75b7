"""One connect of an endpoint: reserved in the budget of its host, allowed when it is due, used when an owner opens a
connection.

reserved ──nothing forbids it──────────────────────> allowed ──an owner opens a connection──> used
    └────> booked ──due, and still nothing forbids it──^
             │ ^ └──due, but earlier connects were late, or the host asked for a pause meanwhile────┐
             │ └────────────────────────────────────────────────────────────────────────────────────┘
             └──cancelled──> given back to the budget
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Protocol

from wsadapter.config.connect_time import connect_limit, source_of
from wsadapter.contract.endpoint import Endpoint
from wsadapter.endpoint.restart_policy import ConnectBudget


class Cancellable(Protocol):
    """A call that is scheduled."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Calls a function later: the reactor, or the clock of a test."""

    def call_later(self, delay: float, call: Callable[[], None], /) -> Cancellable: ...


@dataclass(frozen=True, slots=True)
class ConnectTarget:
    """Which budget a connect counts against."""

    host: str
    """The host of the URL."""
    key: str
    """The key of the budget. An exchange counts by host and source address, not by endpoint."""
    connects: int
    """How many connects are allowed per `period`; 0: no limit."""
    period: float
    """Seconds."""


def connect_target(endpoint: Endpoint, url: str) -> ConnectTarget:
    """Which budget a connect of this endpoint to `url` counts against."""
    source = source_of(endpoint, url)
    return ConnectTarget(source.host, f"{source.host} {source.bind}", *connect_limit(endpoint, source.host))


class ConnectSlot:
    """One connect. All methods under the reactor's lock."""

    def __init__(
        self, budget: ConnectBudget, target: ConnectTarget, clock: Clock, now: Callable[[], float] = monotonic
    ) -> None:
        """Reserve the next free connect. `now` returns monotonic seconds."""
        self.target = target
        self._budget = budget
        self._clock = clock
        self._now = now
        self._timer: Cancellable | None = None
        began = now()
        self._at = budget.reserve(target.key, began, target.connects, target.period)
        self.wait = self._at - began
        """Seconds from the reservation to the time at which the connect was first due; 0: the connect is allowed
        immediately."""
        self._is_booked = self.wait > 0

    def when_allowed(self, call: Callable[[], None]) -> None:
        """Schedule `call` for the time at which the connect is allowed. After `cancel` it is not called."""
        self._timer = self._clock.call_later(self.wait, partial(self._on_due, call))

    def _on_due(self, call: Callable[[], None]) -> None:
        if self._is_booked:
            now, target = self._now(), self.target
            # Ask again: earlier connects may have been made late, and the host may have sent a Retry-After meanwhile.
            self._at = self._budget.due(target.key, self._at, now, target.connects, target.period)
            self._is_booked = self._at > now
            if self._is_booked:
                self._timer = self._clock.call_later(self._at - now, partial(self._on_due, call))
                return
        self._timer = None
        call()

    def cancel(self) -> None:
        """The connect is not wanted any more. If it is still booked, it is returned to the budget. A connect that was allowed
        counts as used, because an owner may be about to connect."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_booked:
            self._budget.cancel(self.target.key, self._at)
            self._is_booked = False

    def use(self) -> None:
        """An owner opens the connection now. Later connects are counted from now on, not from the time at which this one was
        allowed."""
        self._budget.came(self.target.key, self._at, self._now())
