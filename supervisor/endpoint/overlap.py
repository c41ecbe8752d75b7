"""Decides whether a new connection continues the stream of an old connection, from the messages that both delivered. Pure.

For each stream the messages of both connections are compared. The old connection's messages count from the moment at which its
owner began to identify them.

    old   new
     1          delivered before the owner identified messages: not known here
     2     2    a peer may repeat recent messages to a new subscriber; messages before the first shared one are older
     3     3    shared: both connections delivered the message
           4    new: if the old connection had enough time to deliver the message and did not, messages are missing: a gap

A message that is shared long enough after the new connection subscribed proves that the old connection was alive until then,
because the peer sent the message to both. Without such a proof, each message that the old connection had enough time to deliver
must be shared.

A stream whose messages have no identity is never continued, because nothing can prove it. Messages with neither an identity nor
a stream are ignored: they are answers, and if they counted, every change of a connection would be a gap in all streams.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from wsadapter.contract.ipc.record import NO_IDENTITY

LAG: Final = 250_000_000
"""Nanoseconds that one connection may be behind the other with a message that both deliver."""


class Shown(NamedTuple):
    """A message that the new connection delivered; snapshots are left out."""

    stream: str | None
    identity: int
    """`NO_IDENTITY` if the message has none."""
    at: int
    """When the message was received, in wall-clock ns."""
    subscribed: bool
    """Whether all subscriptions were confirmed before the message."""


class Overlap(NamedTuple):
    """How the new connection continues the old connection."""

    continues: bool
    """False: messages may be missing or come twice in any stream."""
    interrupted: frozenset[str | None] = frozenset()
    """The streams in which messages may be missing or come twice although the connection continues the others."""
    apart: frozenset[str | None] = frozenset()
    """The other streams in which no message is shared: all messages of the new connection are new."""
    due: int = 0
    """Wall-clock ns. The old connection had enough time to deliver each message that the new connection delivered before, so
    such a message is not new, even if the new connection delivered it twice. This does not hold for interrupted streams."""


class _Track:
    """The comparison of one stream."""

    def __init__(self, delivered: Sequence[int]) -> None:
        self._places: dict[int, list[int]] = {}
        for place, identity in enumerate(delivered):
            self._places.setdefault(identity, []).append(place)
        self._reached = -1
        self._shared: set[int] = set()
        self.disordered = False
        """Shared messages have another order on the new connection, so its missing messages can't be determined."""
        self.news_since: int | None = None
        """When the first new message was received; None: there was none."""

    @property
    def met(self) -> bool:
        """Whether a message is shared."""
        return bool(self._shared)

    def show(self, identity: int, at: int) -> bool:
        """Compare the next message of the new connection. Returns whether the message is shared."""
        places = self._places.get(identity)
        if places is None:
            if self.news_since is None:
                self.news_since = at
            return False
        if not self._shared:
            self.news_since = None  # messages before the first shared message are older, and so not new
        further = bisect_right(places, self._reached)
        if further < len(places):
            self._reached = places[further]
        elif identity not in self._shared:  # otherwise the peer has repeated the message, which is no evidence about the order
            self.disordered = True
        self._shared.add(identity)
        return True


def overlap(
    delivered: Callable[[str | None], Sequence[int]], shown: Iterable[Shown], *, subscribed_at: int, left_at: int | None
) -> Overlap:
    """Compare the two connections.

    `delivered` returns the known identities of the messages of a stream that the old connection delivered, in order. `shown`:
    the messages of the new connection, in order. `subscribed_at`: when the subscriptions of the new connection were confirmed.
    `left_at`: when the owner left the old connection, if everything that it had received was read; otherwise None. Both times
    are in wall-clock ns.
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
