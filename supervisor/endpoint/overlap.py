"""Whether a new connection continues the stream of an old one, by what both were seen to bring. Pure.

Stream by stream, with what the old connection brought since its messages are identified on the left:

    old   new
     1          delivered before identities were asked for: not known here
     2     2    recent messages, which the peer repeats to a new subscriber: what comes before the first shared message is older
     3     3    shared
           4    news: if the old connection had the time to bring it and did not, something is wrong: a gap

A message that is shared long enough after the new connection was subscribed proves that the old one was alive until then: it
was sent to both. Without such a proof, everything that the old connection had the time to bring must be shared.

A stream whose messages have no identity can't be shown to go on, so it never does. Messages that have neither an identity nor
a stream don't count: they are answers and the like, and else every change would be a gap in everything.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from wsadapter.contract.ipc.record import NO_IDENTITY

LAG: Final = 250_000_000
"""Nanoseconds that one connection may be behind the other with a message that both bring."""


class Shown(NamedTuple):
    """A message that the new connection brought, but for snapshots."""

    stream: str | None
    identity: int
    """`NO_IDENTITY`: it has none."""
    at: int
    """When, in wall-clock ns."""
    subscribed: bool
    """Whether all subscriptions were confirmed by then."""


class Overlap(NamedTuple):
    """How the new connection continues the old one."""

    continues: bool
    """False: messages may be missing or come twice in any stream."""
    interrupted: frozenset[str | None] = frozenset()
    """The streams in which messages may be missing or come twice although the connection continues the others."""
    apart: frozenset[str | None] = frozenset()
    """The other streams in which nothing is shared: all that the new connection brought is news."""
    due: int = 0
    """Wall clock, in ns, until which the old connection had the time to bring all that the new one brought: what came before is
    not news, even where the new one brought it twice. But for streams that are interrupted."""


class _Track:
    """One stream."""

    def __init__(self, delivered: Sequence[int]) -> None:
        self._places: dict[int, list[int]] = {}
        for place, identity in enumerate(delivered):
            self._places.setdefault(identity, []).append(place)
        self._reached = -1
        self._shared: set[int] = set()
        self.disordered = False
        """Shared messages come in another order: what the new connection leaves out can't be told."""
        self.news_since: int | None = None
        """When the first message came that is new."""

    @property
    def met(self) -> bool:
        """Whether a message is shared."""
        return bool(self._shared)

    def show(self, identity: int, at: int) -> bool:
        """Takes the next message of the new connection; whether it is shared."""
        places = self._places.get(identity)
        if places is None:
            if self.news_since is None:
                self.news_since = at
            return False
        if not self._shared:
            self.news_since = None  # it was older
        further = bisect_right(places, self._reached)
        if further < len(places):
            self._reached = places[further]
        elif identity not in self._shared:  # else the peer repeats itself
            self.disordered = True
        self._shared.add(identity)
        return True


def overlap(
    delivered: Callable[[str | None], Sequence[int]], shown: Iterable[Shown], *, subscribed_at: int, left_at: int | None
) -> Overlap:
    """Compare them.

    `delivered`: the identities that the old connection brought in a stream, in order, since they are known. `shown`: what the
    new one brought, in order. `subscribed_at`: when its subscriptions were confirmed, in wall-clock ns, as `left_at`: when the
    old connection was left, after all that it had brought was read; None: it was not read to its end.
    """
    tracks: dict[str | None, _Track] = {}
    unidentified: set[str | None] = set()
    proven, last_shared = False, 0
    for stream, identity, at, subscribed in shown:
        if identity == NO_IDENTITY:
            unidentified.add(stream)
            continue
        track = tracks.get(stream)
        if track is None:
            track = tracks[stream] = _Track(delivered(stream))
        if track.show(identity, at):
            last_shared = at
            proven = proven or (subscribed and at >= subscribed_at + LAG)
    due = (last_shared if left_at is None else left_at) - LAG
    interrupted = frozenset(
        stream
        for stream, track in tracks.items()
        if track.disordered or (track.news_since is not None and track.news_since < due)
    )
    doubtful = bool(interrupted)
    interrupted |= unidentified - {None}
    if None in interrupted or not (proven or (left_at is not None and not doubtful)):
        return Overlap(continues=False)
    apart = frozenset(stream for stream, track in tracks.items() if not track.met) - interrupted
    return Overlap(continues=True, interrupted=interrupted, apart=apart, due=due)
