"""The subscriptions of one connection, their states and deadlines. Pure; the clock is passed in."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.reports import Report, StreamStalled, SubscriptionConfirmed, SubscriptionsBlamed
from wsadapter.worker.subscription.frames import Frames, Life, make_life
from wsadapter.worker.subscription.life import Action, Event, State, step

_FIRST_RETRY: Final = 60.0
_LAST_RETRY: Final = 3600.0
"""Seconds until a rejected stream is requested again: the pause doubles from the first to the last."""
_DATA_MATTERS: Final = frozenset({State.REQUESTED, State.RETRYING, State.CONFIRMED, State.SILENT, State.REJECTED})
"""The states in which a message of the stream changes something."""
SUBSCRIBED: Final = frozenset({State.CONFIRMED, State.LIVE, State.SILENT})
"""The states in which the exchange has the subscription."""


class Lives:
    """Times are monotonic seconds. Not thread-safe."""

    def __init__(self, frames: Frames, *, live_timeout: float) -> None:
        """`frames` divides streams into units. `live_timeout`: seconds from a yes to the first message; 0: no limit."""
        self._frames = frames
        self.live_timeout = live_timeout
        self._quiet: Sequence[str] = frames.settings.get("quiet", ())
        self.all: dict[str, Life] = {}
        """Every subscription, by the name of its stream."""
        self.awaited: dict[str, Life] = {}
        """The subscriptions of which a message would change something."""
        self.timed: dict[str, Life] = {}
        """The subscriptions that have a deadline."""

    def add(self, stream: Subscription) -> Life:
        """The subscription of this stream, made if there is none."""
        life = make_life(stream, self._frames)
        return self.all.setdefault(life.name, life)

    def inherit(
        self,
        confirmed: Iterable[Subscription],
        live: frozenset[str],
        rejected: Mapping[str, str],
        blamed: Collection[str],
        retry_at: Mapping[str, float],
        now: float,
        *,
        confirms: bool,
    ) -> None:
        """The subscriptions that previous owners requested on this connection. `confirmed`: with those that were rejected.
        `live`: the names of those that have delivered. `rejected`: name = error. `blamed`: see `Life.blamed`. `retry_at`: see
        there. `confirms`: the exchange confirms subscriptions, so the others were reported as subscribed without a message."""
        for stream in confirmed:
            life = self.add(stream)
            life.blamed, life.asked = life.name in blamed, 1
            for unit in life.units:
                unit.reported = stream_name(unit.stream) in rejected
                unit.error = rejected.get(stream_name(unit.stream), "") or rejected.get(life.name, "")
                unit.confirmed = not unit.error
            if all(unit.error for unit in life.units):
                self._enter(life, State.REJECTED, now)
            else:
                life.subscribed = confirms or life.name in live
                self._enter(life, State.LIVE if life.name in live else State.CONFIRMED, now)
            self.plan_retry(life, now)
        self.retry_at(retry_at)

    def apply(self, life: Life, event: Event, now: float) -> Iterator[Report]:
        """Applies an event; yields what to report."""
        action = self.move(life, event, now)
        if life.blamed and life.state in SUBSCRIBED:
            life.blamed = False
            yield blame({life.name: None})
        if action in (Action.CONFIRM, Action.LIVE):
            if not life.subscribed:
                life.subscribed = True
                yield SubscriptionConfirmed(life.name)
        elif action is Action.REJECT:
            life.subscribed = False
        elif action is Action.STALL:
            yield StreamStalled(life.name, now - life.since, hopeless=False)

    def move(self, life: Life, event: Event, now: float = 0.0) -> Action:
        """Applies an event that leads to no report; returns the action of the table."""
        state, action = step(life.state, event)
        if state is not life.state:
            self._enter(life, state, now)
        return action

    def _enter(self, life: Life, state: State, now: float) -> None:
        life.state = state
        life.due = math.inf
        if state is State.CONFIRMED:
            life.since = now
            life.asked_again = False
            if self.live_timeout and not any(fnmatchcase(life.name, glob) for glob in self._quiet):
                life.due = now + self.live_timeout / 2
        if state in _DATA_MATTERS:
            self.awaited[life.name] = life
        else:
            self.awaited.pop(life.name, None)
        self._keep_time(life)

    def _keep_time(self, life: Life) -> None:
        if min(life.due, life.retry_at) < math.inf:
            self.timed[life.name] = life
        else:
            self.timed.pop(life.name, None)

    def plan_retry(self, life: Life, now: float, *, from_first: bool = False) -> None:
        """Plans when refused units are requested again, at growing intervals; `from_first`: the first interval is used
        again."""
        if from_first:
            life.retries = 0
        if life.refused and life.state is not State.LEAVING and not life.blamed:
            life.retry_at = now + min(_FIRST_RETRY * 2**life.retries, _LAST_RETRY)
            life.retries = min(life.retries + 1, 16)
        else:
            life.retry_at, life.retries = math.inf, 0
        self._keep_time(life)

    def retry_at(self, times: Mapping[str, float]) -> None:
        """Sets when refused subscriptions are requested again, by name."""
        for name, at in times.items():
            life = self.all.get(name)
            if life is not None and life.refused:
                life.retry_at = at
                self._keep_time(life)

    def drop(self, life: Life) -> None:
        """Forgets a subscription that is no longer wanted."""
        life.state = State.GONE
        self.all.pop(life.name, None)
        self.awaited.pop(life.name, None)
        self.timed.pop(life.name, None)

    def forget_times(self, life: Life) -> None:
        """Removes the deadlines of a subscription."""
        life.due = life.retry_at = math.inf
        self._keep_time(life)

    def deadline(self) -> float:
        """When a subscription is due next; infinite: there is none."""
        return min((min(life.due, life.retry_at) for life in self.timed.values()), default=math.inf)

    def due(self, now: float) -> list[Life]:
        """The subscriptions that are due now."""
        return [life for life in self.timed.values() if now >= min(life.due, life.retry_at)]

    def postpone(self, pause: float) -> None:
        """Nothing was read for `pause` seconds, so messages and answers may be among the unread bytes."""
        for life in self.timed.values():
            life.due += pause
            life.retry_at += pause


def blame(streams: Mapping[str, str | None]) -> SubscriptionsBlamed:
    """The report of the streams because of which the peer closes the connection: name = error; "" if it may be another stream;
    None if the stream is no longer suspected."""
    return SubscriptionsBlamed(dict(streams))
