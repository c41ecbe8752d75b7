"""One connect of an endpoint: booked in the budget of its host, allowed when it is due, made when an owner opens a connection.

reserved ──nothing forbids it──────────────────────> allowed ──an owner opens a connection──> used
    └────> booked ──due, and still nothing forbids it──^
             │ ^ └──due, but connects before it were late, or the host asked for a pause meanwhile──┐
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
    """A call that is to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Calls at a time: the reactor, or a test's clock."""

    def call_later(self, delay: float, call: Callable[[], None], /) -> Cancellable: ...


@dataclass(frozen=True, slots=True)
class ConnectTarget:
    """What a connect counts for."""

    host: str
    """Of the URL."""
    key: str
    """Under which the budget counts: an exchange sees hosts and source addresses, not endpoints."""
    connects: int
    """So many are allowed per `period`; 0: no limit."""
    period: float
    """Seconds."""


def connect_target(endpoint: Endpoint, url: str) -> ConnectTarget:
    """What a connect of this endpoint to `url` counts for."""
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
        """Seconds that it waited, or waits, at first; 0: it is allowed at once."""
        self._is_booked = self.wait > 0

    def when_allowed(self, call: Callable[[], None]) -> None:
        """Call it once, from a timer, when the connect is allowed, but not after `cancel`."""
        self._timer = self._clock.call_later(self.wait, partial(self._on_due, call))

    def _on_due(self, call: Callable[[], None]) -> None:
        if self._is_booked:
            now, target = self._now(), self.target
            # Connects that were booked before this one may have been made late, and the host may have asked for a pause since.
            self._at = self._budget.due(target.key, self._at, now, target.connects, target.period)
            self._is_booked = self._at > now
            if self._is_booked:
                self._timer = self._clock.call_later(self._at - now, partial(self._on_due, call))
                return
        self._timer = None
        call()

    def cancel(self) -> None:
        """The connect is not wanted. If it is still booked, others need not wait for it; one that was allowed counts as made,
        because an owner may be about to connect."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_booked:
            self._budget.cancel(self.target.key, self._at)
            self._is_booked = False

    def use(self) -> None:
        """The connection is opened now: the connects behind it count from here on, not from when it was allowed."""
        self._budget.came(self.target.key, self._at, self._now())
