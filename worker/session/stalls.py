"""Detects streams that have fallen silent, by the pace of each stream. Pure; the clock is passed in.

A stream that is quiet by nature looks like a stream that has stalled. Only its past tells them apart. A stream has stalled if
it is silent for longer than `least` seconds and for longer than ten times its longest pause so far, and was watched for ten
times as long as that before. Therefore a rare stream never stalls, and a stream that comes in bursts stalls only after an
unusual silence. After a wrong report the stream is allowed ten times the silence that was reported.

A heartbeat of the stream's channel counts as a message.

A pace that was learned outlives the connection: on the next connection it applies from the confirmation of the stream on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from wsadapter.contract.dialect.streams import Stream

_TIMES: Final = 10.0
_GIVEN_UP: Final = 3.0
"""After this many times the silence that stalled a stream, subscribing it again has not helped."""
_LOOKS: Final = 4.0
"""How often the streams are checked in `least` seconds."""
_GROWN: Final = 1.25
"""A longest pause is reported again only if it has grown by this factor: otherwise each message could cause a report."""


class Stall(NamedTuple):
    """A stream that is silent for longer than its pace explains."""

    stream: Stream
    silence: float
    """Seconds."""
    hopeless: bool
    """The stall was reported before, and subscribing the stream again did not help."""


class _Watched:
    """One stream: since when it is watched, and how long its pauses are."""

    __slots__ = ("begun_at", "known", "last_message", "longest", "reported")

    def __init__(self, now: float) -> None:
        self.begun_at = self.last_message = now
        self.longest = 0.0
        self.known = 0.0
        """The longest pause as `learned` returned it last."""
        self.reported = 0
        """How often the present silence was reported."""


class StallDetector:
    """The streams of one connection. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, least: float, known: Mapping[str, float] = MappingProxyType({})) -> None:
        """`least`: seconds; a shorter silence is never reported. `known`: the longest pauses of streams, in seconds, as
        `learned` returned them on an earlier connection."""
        self._least = least
        self._known = dict(known)
        self._watched: dict[Stream, _Watched] = {}
        self._removed: set[str] = set()
        self._look_at: float | None = None
        self._paused = False
        self._resumed_at = 0.0

    def on_messages(self, streams: Iterable[Stream], now: float) -> None:
        """Messages of these streams came."""
        for stream in streams:
            watched = self._watched.get(stream)
            if watched is None:
                if stream.name not in self._removed:
                    self._watched[stream] = _Watched(now)
                continue
            watched.longest = max(watched.longest, now - max(watched.last_message, self._resumed_at))
            watched.last_message = now
            watched.reported = 0
        if self._look_at is None and self._watched:
            self._look_at = now + self._least / _LOOKS

    def expect(self, streams: Iterable[Stream], now: float) -> None:
        """The peer confirmed these streams: if the pace of a stream is known, it applies from now on."""
        for stream in streams:
            known = self._known.get(stream.name)
            if known is None or stream in self._watched or stream.name in self._removed:
                continue
            watched = self._watched[stream] = _Watched(now)
            watched.longest = watched.known = known
            watched.begun_at = now - self._allowed(watched) * _TIMES  # as if it had been watched for long enough
        if self._look_at is None and self._watched:
            self._look_at = now + self._least / _LOOKS

    def learned(self) -> dict[str, float]:
        """The longest pauses of streams that were watched for long enough, by name; only pauses that have grown since the last
        call."""
        grown: dict[str, float] = {}
        for stream, watched in self._watched.items():
            if watched.longest > watched.known * _GROWN and self._is_known(watched):
                grown[stream.name] = watched.known = watched.longest
        return grown

    def _is_known(self, watched: _Watched) -> bool:
        """True if the stream was watched long enough to measure its pace."""
        return watched.last_message - watched.begun_at >= self._allowed(watched) * _TIMES

    def _allowed(self, watched: _Watched) -> float:
        return max(self._least, watched.longest * _TIMES)

    def add(self, names: Iterable[str]) -> None:
        """These streams are subscribed, perhaps again."""
        self._removed.difference_update(names)

    def remove(self, names: Iterable[str]) -> None:
        """These streams are unsubscribed: no message of them is expected."""
        self._removed.update(names)
        self._watched = {stream: watched for stream, watched in self._watched.items() if stream.name not in self._removed}

    def pause(self) -> None:
        """Nothing is read from the connection for a while."""
        self._paused = True

    def resume(self, now: float) -> None:
        """Reading continues: silence counts from now."""
        self._paused = False
        self._resumed_at = now

    def tick(self, now: float) -> Iterator[Stall]:
        """The stalls to report now, each at most twice."""
        if not self.is_due(now):
            return
        self._look_at = now + self._least / _LOOKS
        if self._paused:
            return
        for stream, watched in self._watched.items():
            silence = now - max(watched.last_message, self._resumed_at)
            if silence < self._least:
                continue
            if not self._is_known(watched):
                continue
            if silence >= self._allowed(watched) * (1.0, _GIVEN_UP, float("inf"))[watched.reported]:
                watched.reported += 1
                yield Stall(stream, silence, hopeless=watched.reported > 1)

    def is_due(self, now: float) -> bool:
        """True if it is time for `tick` and `learned`, which look at all streams."""
        return self._look_at is not None and now >= self._look_at

    def deadline(self) -> float | None:
        """When to call `tick` next; None: not before a message has come."""
        return self._look_at
