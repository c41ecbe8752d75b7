"""How often what happened to an endpoint: its events, counted by their kinds. Pure; for the status.

Only events are counted here, so a message costs nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from wsadapter.contract.items import Down, Dropped, Event, Gap, Stalled, Up
from wsadapter.status import EventCounts


@dataclass(frozen=True, slots=True)
class TallySnapshot:
    """See the fields of `Tally`."""

    downs: dict[str, int]
    gaps: dict[str, int]
    dropped: dict[str, int]
    stalled: int
    handoff: float | None


class Tally:
    """The events of one endpoint since it was added."""

    def __init__(self, before: TallySnapshot | None = None) -> None:
        """`before`: what another supervisor has counted."""
        before = before or TallySnapshot({}, {}, {}, 0, None)
        self.downs, self.gaps, self.dropped = Counter(before.downs), Counter(before.gaps), Counter(before.dropped)
        """By kinds of reasons, by causes, by causes. Of `dropped` only messages without a number; those with a number are
        counted where they are dropped."""
        self.stalled, self.handoff = before.stalled, before.handoff
        """Seconds of the last handoff: from the end of an owner until the next owner continued on the connection."""
        self._down_at: float | None = None

    def note(self, event: Event, now: float) -> None:
        """`event` happened. `now`: monotonic seconds."""
        match event:
            case Down():
                self.downs[event.reason.kind] += 1
                self._down_at = now
            case Up():
                # With replicas other connections deliver meanwhile: `resumed` does not imply a handoff.
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

    def snapshot(self) -> TallySnapshot:
        """For another supervisor."""
        return TallySnapshot(dict(self.downs), dict(self.gaps), dict(self.dropped), self.stalled, self.handoff)
