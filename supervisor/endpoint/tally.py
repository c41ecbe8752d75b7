"""How often what happened to an endpoint: its events, counted by their kinds. Pure; for the status.

Only events are counted here, so a message costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from wsadapter.contract.items import Down, Dropped, Event, Gap, Stalled, Up
from wsadapter.status import EventCounts


class Tally:
    """The events of one endpoint since it was added."""

    def __init__(self, plain: Mapping[str, Any] | None = None) -> None:
        """`plain`: what another supervisor has counted (`to_plain`)."""
        before = plain or {}
        self.downs = Counter[str](before.get("downs"))
        self.gaps = Counter[str](before.get("gaps"))
        self.dropped = Counter[str](before.get("dropped"))
        """Messages without a number, by the cause; those with a number are counted where they are dropped."""
        self.stalled: int = before.get("stalled", 0)
        self.handoff: float | None = before.get("handoff")
        """Seconds of the last handoff: from the end of an owner until the next one went on with the connection."""
        self._down_at: float | None = None

    def note(self, event: Event, now: float) -> None:
        """`event` happened. `now`: monotonic seconds."""
        match event:
            case Down():
                self.downs[event.reason.kind] += 1
                self._down_at = now
            case Up():
                # With replicas other connections deliver meanwhile: `resumed` says nothing about a handoff.
                if event.resumed and event.live is None and self._down_at is not None:
                    self.handoff = round(now - self._down_at, 6)
            case Gap():
                self.gaps[event.cause] += 1
            case Dropped():
                self.dropped[event.cause] += event.count
            case Stalled():
                self.stalled += 1

    def counts(self, dropped: int, overflow: str) -> EventCounts:
        """For the status. `dropped`: all messages of the endpoint that were dropped; those that no event without a number has
        reported were dropped by the inbox, for the cause `overflow`."""
        by_inbox = dropped - self.dropped.total()
        by_cause = self.dropped + Counter({overflow: by_inbox}) if by_inbox > 0 else self.dropped
        return {
            "downs": dict(self.downs),
            "gaps": dict(self.gaps),
            "dropped": dict(by_cause),
            "stalled": self.stalled,
            "handoff": self.handoff,
        }

    def to_plain(self) -> dict[str, Any]:
        """What another supervisor needs in order to count on."""
        return {
            "downs": dict(self.downs),
            "gaps": dict(self.gaps),
            "dropped": dict(self.dropped),
            "stalled": self.stalled,
            "handoff": self.handoff,
        }
