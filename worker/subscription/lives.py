"""The subscriptions of one connection, each in its state, with what is due of it. Pure; the clock is passed in."""

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
"""Seconds until a rejected stream is asked for again: the pause doubles from the first to the last."""
_HEARS: Final = frozenset({State.REQUESTED, State.RETRYING, State.CONFIRMED, State.SILENT, State.REJECTED})
"""Where a message of the stream makes a difference."""
HAD: Final = frozenset({State.CONFIRMED, State.LIVE, State.SILENT})
"""What the exchange has subscribed."""


class Lives:
    """Not thread-safe."""

    def __init__(self, frames: Frames, *, live_timeout: float) -> None:
        """`frames` divides streams into units. `live_timeout`: seconds from a yes to the first message; 0: none is awaited."""
        self._frames = frames
        self.live_timeout = live_timeout
        self._quiet: Sequence[str] = frames.settings.get("quiet", ())
        self.all: dict[str, Life] = {}
        """By the streams' names."""
        self.awaited: dict[str, Life] = {}
        """Those to which a message makes a difference."""
        self.timed: dict[str, Life] = {}
        """Those with something due."""

    def add(self, stream: Subscription) -> Life:
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
        """What predecessors had asked on this connection. `confirmed`: with those that were rejected; `live`: the names of
        those that have delivered; `rejected`: name = error; `blamed`: see `Life.blamed`; `retry_at`: see there;
        `confirms`: whether the exchange says yes, so that the others were reported as subscribed without a message."""
        for stream in confirmed:
            life = self.add(stream)
            life.blamed, life.asked = life.name in blamed, 1
            for unit in life.units:
                unit.told = stream_name(unit.stream) in rejected
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
        action = self.move(life, event, now)
        if life.blamed and life.state in HAD:
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
        if state in _HEARS:
            self.awaited[life.name] = life
        else:
            self.awaited.pop(life.name, None)
        self._keep_time(life)

    def _keep_time(self, life: Life) -> None:
        if min(life.due, life.retry_at) < math.inf:
            self.timed[life.name] = life
        else:
            self.timed.pop(life.name, None)

    def plan_retry(self, life: Life, now: float, *, afresh: bool = False) -> None:
        """What was refused is asked for again, ever more slowly."""
        if afresh:
            life.retries = 0
        if life.refused and life.state is not State.LEAVING and not life.blamed:
            life.retry_at = now + min(_FIRST_RETRY * 2**life.retries, _LAST_RETRY)
            life.retries = min(life.retries + 1, 16)
        else:
            life.retry_at, life.retries = math.inf, 0
        self._keep_time(life)

    def retry_at(self, times: Mapping[str, float]) -> None:
        """When these are asked for again, by name, if they were refused."""
        for name, at in times.items():
            life = self.all.get(name)
            if life is not None and life.refused:
                life.retry_at = at
                self._keep_time(life)

    def drop(self, life: Life) -> None:
        life.state = State.GONE
        self.all.pop(life.name, None)
        self.awaited.pop(life.name, None)
        self.timed.pop(life.name, None)

    def forget_times(self, life: Life) -> None:
        """Nothing of it is due."""
        life.due = life.retry_at = math.inf
        self._keep_time(life)

    def deadline(self) -> float:
        """When something is due next; infinite: nothing is."""
        return min((min(life.due, life.retry_at) for life in self.timed.values()), default=math.inf)

    def due(self, now: float) -> list[Life]:
        """Those with something due now."""
        return [life for life in self.timed.values() if now >= min(life.due, life.retry_at)]

    def postpone(self, pause: float) -> None:
        """For so long nothing was read, and with it perhaps what is waited for."""
        for life in self.timed.values():
            life.due += pause
            life.retry_at += pause


def blame(streams: Mapping[str, str | None]) -> SubscriptionsBlamed:
    """What the peer closes the connection because of: name of a stream = its error, "" where it may be another, None where it
    is none."""
    return SubscriptionsBlamed(dict(streams))
