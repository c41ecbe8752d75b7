"""Which member of a pool gets the next request, and how the pool is. Pure; the clock is passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

PoolState = Literal["operational", "degraded", "down"]

_MEMORY: Final = 30.0
"""Seconds that a failure counts against a member."""
_MOST_FAILURES: Final = 100
_WORSE: Final = 2.0
"""The factor by which an unknown round trip time counts as worse than the worst known one."""
_SHARE: Final = 0.2
"""The weight of the last round trip in the average."""


@dataclass(slots=True, eq=False)
class MemberHealth:
    """The health of one member."""

    name: str
    up: bool = False
    pending: int = 0
    """Requests that wait for their answers."""
    rtt: float | None = None
    """Seconds, averaged over its answers; before the first, what its heartbeat measured. None: not known."""
    failures: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_FAILURES))
    """When it lost a request, or was lost itself; oldest first."""
    given: int = 0
    """Requests it got."""

    def answered(self, rtt: float) -> None:
        """An answer came, `rtt` seconds after its request."""
        self.rtt = rtt if self.rtt is None else self.rtt + _SHARE * (rtt - self.rtt)

    def failed(self, now: float) -> None:
        """A request was lost with it, or it went down."""
        self.failures.append(now)

    def went_down(self, now: float) -> None:
        """Its connection ended: nothing is known of the next one."""
        self.up, self.rtt = False, None
        self.failed(now)

    def recent_failures(self, now: float) -> int:
        """How many there were within the last 30 seconds."""
        while self.failures and self.failures[0] <= now - _MEMORY:
            self.failures.popleft()
        return len(self.failures)


def choose(members: Sequence[MemberHealth], now: float) -> MemberHealth | None:
    """The healthiest member that is up; None: there is none.

    A member's cost is its round trip times what it has pending times its recent failures, each of these counted with one more.
    A round trip that is not known counts as worse than all that are: unknown is unhealthy, but better than overloaded.
    At the same cost the one that got the fewest.
    """
    fit = [member for member in members if member.up]
    known = [member.rtt for member in fit if member.rtt is not None]
    unknown = _WORSE * max(known) if known else 1.0
    return min(fit, key=lambda member: (_cost(member, now, unknown), member.given), default=None)


def _cost(member: MemberHealth, now: float, unknown: float) -> float:
    rtt = unknown if member.rtt is None else member.rtt
    return rtt * (1 + member.pending) * (1 + member.recent_failures(now))


def state_of(members: Sequence[MemberHealth], min_up: int) -> PoolState:
    """Operational with at least `min_up` members up, down with none, degraded in between."""
    up = sum(member.up for member in members)
    if up >= min_up:
        return "operational"
    return "degraded" if up else "down"
