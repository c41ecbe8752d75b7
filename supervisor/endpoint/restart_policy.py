"""When an endpoint gets its next owner. Pure: the clock and the random numbers are passed in.

Restart types, intensity and period are OTP's (supervisor: "Maximum Restart Intensity"); the wait grows exponentially with
full jitter, so that endpoints which died together do not come back together.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from wsadapter.contract.endpoint import Restart
from wsadapter.contract.reasons import Reason

FATAL_AFTER = 5
"""The number of equal `config` failures in a row after which a retry can't help."""
MAX_RETRY_AFTER = 86400.0
"""Seconds; a peer that asks for more is asked again after a day."""


class RestartAction(Enum):
    """What to do after an epoch has ended."""

    RESTART = "restart"
    COOL_DOWN = "cool_down"
    """Too many restarts: wait, then start with a new count."""
    FATAL = "fatal"
    STOP_SUPERVISOR = "stop_supervisor"
    END = "end"
    """By the restart type, this was the last epoch."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and when."""

    action: RestartAction
    delay: float = 0.0
    """Seconds."""
    restarts: int = 0
    """Restarts within the period, this one included."""


class RestartPolicy:
    """One endpoint's memory of its restarts."""

    def __init__(self, settings: Restart, rng: Callable[[], float]) -> None:
        """`rng` returns a random number from [0, 1)."""
        self._settings = settings
        self._rng = rng
        self._restarts: deque[float] = deque()
        self._failures = 0
        self._same: tuple[Reason | None, int] = (None, 0)
        self.total = 0
        """Restarts since the endpoint was added."""

    def decide(self, now: float, reason: Reason, uptime: float | None) -> Decision:
        """Decide the next action after an epoch that ended for `reason`, `uptime` seconds after its `Up` (None: it never was
        up)."""
        settings = self._settings
        if settings.type == "temporary" or (settings.type == "transient" and not reason.abnormal):
            return Decision(RestartAction.END)
        if uptime is not None and uptime >= settings.min_uptime:
            self._failures = 0
        if not reason.counts:
            self.total += 1
            return Decision(RestartAction.RESTART)
        if self._hopeless(reason):
            return Decision(RestartAction.FATAL)
        restarts = self._count(now)
        if restarts > settings.intensity:
            return self._exceeded(restarts, asked_to_wait(reason))
        self.total += 1
        return Decision(RestartAction.RESTART, self._delay(reason), restarts)

    def reset(self) -> None:
        """Forget the past, because a user restarted the endpoint, or because it has cooled down."""
        self._restarts.clear()
        self._failures = 0
        self._same = (None, 0)

    def _hopeless(self, reason: Reason) -> bool:
        last, times = self._same
        self._same = (reason, times + 1 if reason == last else 1)
        return reason.kind == "config" and self._same[1] >= FATAL_AFTER

    def _count(self, now: float) -> int:
        self._restarts.append(now)
        while self._restarts[0] <= now - self._settings.period:
            self._restarts.popleft()
        return len(self._restarts)

    def _exceeded(self, restarts: int, wait: float) -> Decision:
        match self._settings.on_exceeded:
            case "fatal":
                return Decision(RestartAction.FATAL, restarts=restarts)
            case "stop_supervisor":
                return Decision(RestartAction.STOP_SUPERVISOR, restarts=restarts)
            case "cool_down":  # pragma: no branch - there is no other value (mypy)
                self.reset()
                self.total += 1
                return Decision(RestartAction.COOL_DOWN, max(self._settings.cool_down, wait), restarts)

    def _delay(self, reason: Reason) -> float:
        settings = self._settings
        longest = min(settings.backoff_max, settings.backoff_initial * settings.backoff_factor ** min(self._failures, 64))
        self._failures += 1
        if reason.kind == "login_failed" or (reason.status is not None and 400 <= reason.status < 500):
            delay = settings.backoff_max * (0.5 + 0.5 * self._rng())  # a refusal is not mended by asking faster
        else:
            delay = longest * self._rng()
        return max(delay, asked_to_wait(reason))


class ConnectBudget:
    """How many connects a host gets, over all endpoints of the supervisor: exchanges ban by address, not by connection.

    A connect is booked, and later made. What counts for those behind it is when it is made, which may be later than it was
    booked for: a process has to be started first.
    """

    def __init__(self) -> None:
        self._booked: dict[str, list[float]] = {}
        self._made: dict[str, list[float]] = {}
        self._held: dict[str, float] = {}
        self._limits: dict[str, tuple[int, float]] = {}
        """Of each host that has one: the limit of the last booking."""

    def reserve(self, host: str, now: float, connects: int, period: float) -> float:
        """Book the next free connect to `host`; when it is: where that is now it is made. `connects` 0: no limit.

        Every endpoint counts all connects to the host against its own limit, so the strictest holds for its owner.
        """
        made, booked = self._made.setdefault(host, []), self._booked.setdefault(host, [])
        if connects:
            self._limits[host] = (connects, period)
        while made and made[0] <= now - max(period, 3600.0):
            made.pop(0)
        at = self._earliest(host, now, sorted((*made, *booked)), connects, period)
        insort(made if at <= now else booked, at)
        return at

    def due(self, host: str, at: float, now: float, connects: int, period: float) -> float:
        """What was booked for `at` is due: `now`, and it is made, or when to ask again, for those before it came late, or the
        host wants to be left alone since."""
        self.cancel(host, at)
        made = self._made.setdefault(host, [])
        earliest = self._earliest(host, now, made, connects, period)
        insort(made if earliest <= now else self._booked.setdefault(host, []), earliest)
        return earliest

    def _earliest(self, host: str, now: float, others: list[float], connects: int, period: float) -> float:
        at = max(now, self._held.get(host, now))
        return max(at, others[-connects] + period) if 0 < connects <= len(others) else at

    def left(self, now: float) -> dict[str, int]:
        """How many connects each host with a limit would allow now, by the limit of its last booking."""
        return {host: self._left(host, now, *limit) for host, limit in self._limits.items()}

    def _left(self, host: str, now: float, connects: int, period: float) -> int:
        if self._held.get(host, now) > now:
            return 0
        recent = sum(at > now - period for at in self._made.get(host, ()))
        return max(0, connects - recent - len(self._booked.get(host, ())))

    def came(self, host: str, at: float, now: float) -> None:
        """The connect that was allowed at `at` is made only now."""
        made = self._made.setdefault(host, [])
        if at in made:
            made.remove(at)
        insort(made, now)

    def hold(self, host: str, until: float) -> None:
        """Allow no connect to the host before this time, for any endpoint: the host limits by address."""
        self._held[host] = max(until, self._held.get(host, until))

    def cancel(self, host: str, at: float) -> None:
        """Remove a booking that was not used."""
        booked = self._booked.get(host, [])
        if at in booked:
            booked.remove(at)


def asked_to_wait(reason: Reason) -> float:
    """Seconds for which the peer asked us to wait."""
    return min(reason.retry_after or 0.0, MAX_RETRY_AFTER)
