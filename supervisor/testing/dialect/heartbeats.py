"""The heartbeats that a client must send: its own, answers to the exchange's, pongs. Pure; the clock is passed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from wsadapter.contract.endpoint import Heartbeat

Due = Literal["question", "beat", "ping"]
SECOND_LOOK: Final = 0.1
"""Seconds: an overdue heartbeat may be in the socket, unread."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The heartbeats that a dialect requires, in seconds of the test's own time."""

    owed_every: float
    """The client's own heartbeats; 0: none."""
    when_idle: bool
    """They are required only if the exchange sends nothing."""
    owed: str
    """What they are."""
    ask_every: float
    """The exchange's heartbeats; 0: none."""
    asks: tuple[Due, ...]
    """Which they are."""
    answer_within: float
    grace: float
    """Seconds that are added to every deadline of the client."""


def terms(heartbeat: Heartbeat, *, questions: bool, beats: bool, pace: float, grace: float) -> Terms:
    """By a dialect's [heartbeat], whose times are multiplied by `pace`; `questions`: it has [[answer]], `beats`: it has
    [[housekeeping]] with heartbeat = true.

    An exchange that has no heartbeats of its own pings (RFC 6455 §5.5.2) as often as the client has to, as many do; not where
    the client's are owed only in silence, for a ping would break it.
    """
    owes = heartbeat.kind != "none" and heartbeat.interval > 0
    idle = heartbeat.when == "idle"
    own: tuple[tuple[Due, bool], ...] = (("question", questions), ("beat", beats))
    asks = tuple(due for due, has in own if has)
    if not asks and not idle and not heartbeat.server_interval:
        asks = ("ping",)
    return Terms(
        owed_every=heartbeat.interval * pace if owes else 0.0,
        when_idle=idle,
        owed=heartbeat.kind,
        ask_every=(heartbeat.server_interval or heartbeat.interval) * pace if asks else 0.0,
        asks=asks,
        answer_within=heartbeat.timeout * pace + grace,
        grace=grace,
    )


class Heartbeats:
    """The heartbeats of one connection. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, terms: Terms, now: float) -> None:
        self._terms = terms
        self._heard_at = self._said_at = now
        self._ask_at = now + terms.ask_every
        self._open: list[tuple[Any, float]] = []
        """What must be answered, and until when."""
        self._suspected_at: float | None = None

    def heard(self, now: float) -> None:
        """A heartbeat of the client's own came."""
        self._heard_at = now

    def said(self, now: float) -> None:
        """Something was sent to the client."""
        self._said_at = now

    def due(self, now: float) -> tuple[Due, ...]:
        """What the exchange has to send now."""
        if not self._terms.asks or now < self._ask_at:
            return ()
        self._ask_at = now + self._terms.ask_every
        return self._terms.asks

    def expect(self, answer: Any, now: float) -> None:
        """Something was sent that must be answered with this."""
        self._open.append((answer, now + self._terms.answer_within))

    @property
    def expected(self) -> Iterator[Any]:
        """What must still be answered, the oldest first."""
        return (answer for answer, _ in self._open)

    def answered(self, answer: Any) -> None:
        """It was; and so was all before it, as a pong answers for earlier pings (RFC 6455 §5.5.3)."""
        at = next(place for place, (other, _) in enumerate(self._open) if other is answer)
        del self._open[: at + 1]

    def overdue(self, now: float) -> str:
        """What the client has failed to send; empty: nothing. It is returned if two checks, `SECOND_LOOK` apart, find it."""
        failed = self._failed(now)
        if not failed:
            self._suspected_at = None
            return ""
        if self._suspected_at is None:
            self._suspected_at = now
        return failed if now >= self._suspected_at + SECOND_LOOK else ""

    def unanswered(self, now: float) -> bool:
        """Whether an answer is overdue, not a heartbeat of the client's own."""
        return bool(self._open) and now >= self._open[0][1]

    def _failed(self, now: float) -> str:
        terms = self._terms
        if self.unanswered(now):
            return f"no answer to a heartbeat of the exchange's within {terms.answer_within:g} s"
        if terms.owed_every and now >= self._owed_until():
            return f"no heartbeat ({terms.owed}) within {terms.owed_every:g} s and {terms.grace:g} s of grace"
        return ""

    def _owed_until(self) -> float:
        since = max(self._heard_at, self._said_at) if self._terms.when_idle else self._heard_at
        return since + self._terms.owed_every + self._terms.grace

    def deadline(self) -> float | None:
        """When to look again; None: not before something happens."""
        times = [until for _, until in self._open[:1]]
        times += [self._ask_at] if self._terms.asks else []
        times += [self._owed_until()] if self._terms.owed_every else []
        if self._suspected_at is not None:
            times = [time for time in times if time > self._suspected_at] + [self._suspected_at + SECOND_LOOK]
        return min(times, default=None)
