"""One reading of the supervisor by the exporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wsadapter.contract.reasons import Reason
from wsadapter.exporter.processes import Usage
from wsadapter.status import EndpointStatus, ExitStatus, Status

INTERVAL: Final = 1.0
"""Seconds between two questions to the supervisor."""
STALE_AFTER: Final = 10.0
"""Seconds without an answer after which the last status is too old to be used."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The last status, and the last problem since. Clocks are passed in as monotonic seconds."""

    asked_at: float
    """When the exporter asked last, or began."""
    status: Status | None = None
    """The last status that the supervisor answered; None: it has not answered yet."""
    answered_at: float | None = None
    """When the supervisor answered that."""
    wall: float = 0.0
    """The same, in seconds of the wall clock."""
    seconds: float = 0.0
    """How long the supervisor took for the answer."""
    problem: str = ""
    """Why there is no newer status; "": there is none to be had."""
    usage: Mapping[int, Usage] = field(default_factory=dict)
    """Memory and CPU time of the supervisor and its owners, by their pids."""

    def age(self, now: float) -> float | None:
        """Seconds since the last answer; None: there was none."""
        return None if self.answered_at is None else now - self.answered_at

    def current(self, now: float) -> Status | None:
        """The status; None if it is too old, or there is none."""
        age = self.age(now)
        return None if age is None or age > STALE_AFTER else self.status


def last_exit(reason: ExitStatus | None) -> str:
    """Why the last epoch ended, in one phrase; "" if none has."""
    if reason is None:
        return ""
    try:
        return Reason.from_json(reason).describe()
    except ValueError:  # the end of a sink, whose kinds are others; or a supervisor of a newer version
        words = str(reason.get("kind", "unknown")).replace("_", " "), reason.get("signal"), reason.get("text")
        return ", ".join(str(word)[:300] for word in words if word)


def condition(endpoint: EndpointStatus) -> str:
    """The state of an endpoint, and why it is not up: "backoff: closed by peer, code 1006"."""
    why = last_exit(endpoint["last_exit"])
    return endpoint["state"] if endpoint["state"] == "up" or not why else f"{endpoint['state']}: {why}"
