"""Which streams have fallen silent, judged by their own pace. Pure; the clock is passed in.

A stream that is quiet by nature looks like one that has stalled. What tells them apart is what it did before: it counts as
stalled where it is silent for longer than `least` seconds and ten times longer than the longest pause it has made so far, and
was watched for ten times as long as that. So one that is rare is never judged, one that comes in bursts only when a burst
outlasts all reason, and whoever was judged wrongly is given ten times the time from then on.

A heartbeat of its channel is a sign of life like a message.

A pace that was learned outlives the connection: the stream is judged by it on the next one from its confirmation on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from wsadapter.contract.dialect.streams import Stream

_TIMES: Final = 10.0
_GIVEN_UP: Final = 3.0
"""So many times the silence that stalled it, and subscribing it anew was no help."""
_LOOKS: Final = 4.0
"""In each `least`."""
_GROWN: Final = 1.25
"""So much longer than before: a longer pause is worth keeping."""


class Stall(NamedTuple):
    """A stream that is silent for longer than it should be."""

    stream: Stream
    silence: float
    """Seconds."""
    hopeless: bool
    """It was told before, and what was done was no help."""


class _Pulse:
    __slots__ = ("begun_at", "heard_at", "known", "longest", "told")

    def __init__(self, now: float) -> None:
        self.begun_at = self.heard_at = now
        self.longest = 0.0
        self.known = 0.0
        """The longest pause as `learned` gave it last."""
        self.told = 0


class Paces:
    """The streams of one connection. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, least: float, known: Mapping[str, float] = MappingProxyType({})) -> None:
        """`least`: shorter silences are never told, seconds. `known`: the longest pauses of streams, in seconds, as `learned`
        gave them on an earlier connection."""
        self._least = least
        self._known = dict(known)
        self._pulses: dict[Stream, _Pulse] = {}
        self._unwanted: set[str] = set()
        self._look_at: float | None = None
        self._paused = False
        self._resumed_at = 0.0

    def heard(self, streams: Iterable[Stream], now: float) -> None:
        """Something of each of them came."""
        for stream in streams:
            pulse = self._pulses.get(stream)
            if pulse is None:
                if stream.name not in self._unwanted:
                    self._pulses[stream] = _Pulse(now)
                continue
            pulse.longest = max(pulse.longest, now - max(pulse.heard_at, self._resumed_at))
            pulse.heard_at = now
            pulse.told = 0
        if self._look_at is None and self._pulses:
            self._look_at = now + self._least / _LOOKS

    def expect(self, streams: Iterable[Stream], now: float) -> None:
        """These are confirmed: where their pace is known, they must keep it from now on."""
        for stream in streams:
            known = self._known.get(stream.name)
            if known is None or stream in self._pulses or stream.name in self._unwanted:
                continue
            pulse = self._pulses[stream] = _Pulse(now)
            pulse.longest = pulse.known = known
            pulse.begun_at = now - self._allowed(pulse) * _TIMES
        if self._look_at is None and self._pulses:
            self._look_at = now + self._least / _LOOKS

    def learned(self) -> dict[str, float]:
        """The longest pauses of streams that were watched for long enough to be judged by them, by name; only those that have
        grown since they were given last."""
        grown: dict[str, float] = {}
        for stream, pulse in self._pulses.items():
            if pulse.longest > pulse.known * _GROWN and self._is_known(pulse):
                grown[stream.name] = pulse.known = pulse.longest
        return grown

    def _is_known(self, pulse: _Pulse) -> bool:
        """Whether it was watched for long enough to be judged by its pace."""
        return pulse.heard_at - pulse.begun_at >= self._allowed(pulse) * _TIMES

    def _allowed(self, pulse: _Pulse) -> float:
        return max(self._least, pulse.longest * _TIMES)

    def want(self, names: Iterable[str]) -> None:
        """These streams are subscribed (again)."""
        self._unwanted.difference_update(names)

    def unwant(self, names: Iterable[str]) -> None:
        """Of these nothing is expected any more."""
        self._unwanted.update(names)
        self._pulses = {stream: pulse for stream, pulse in self._pulses.items() if stream.name not in self._unwanted}

    def pause(self) -> None:
        """Nothing is read from the connection for a while."""
        self._paused = True

    def resume(self, now: float) -> None:
        """Reading goes on: silence counts from now."""
        self._paused = False
        self._resumed_at = now

    def tick(self, now: float) -> Iterator[Stall]:
        """What is to be told now, each stall at most twice."""
        if not self.is_due(now):
            return
        self._look_at = now + self._least / _LOOKS
        if self._paused:
            return
        for stream, pulse in self._pulses.items():
            silence = now - max(pulse.heard_at, self._resumed_at)
            if silence < self._least:
                continue
            if not self._is_known(pulse):
                continue
            if silence >= self._allowed(pulse) * (1.0, _GIVEN_UP, float("inf"))[pulse.told]:
                pulse.told += 1
                yield Stall(stream, silence, hopeless=pulse.told > 1)

    def is_due(self, now: float) -> bool:
        """Whether it is time for `tick`, and for `learned`: both look at all streams."""
        return self._look_at is not None and now >= self._look_at

    def deadline(self) -> float | None:
        """When to call `tick` next; None: not before something was heard."""
        return self._look_at
