"""Several live connections of one endpoint become one stream: of each message the first copy is delivered, the others are not.

A message is known by its identity, within its stream. A connection keeps the order of each stream and leaves nothing out. So a
message that one of two connections shows first comes after everything that both have shown, and the order is kept. This is true
only if both are known to be at the same part of the stream. A connection that has just opened may be ahead of messages that
another, slower connection has not shown yet. So its messages wait, stream by stream:

    joining ── it shows a delivered message, or another one shows a message that it holds ──> aligned
       └────── neither happens for as long as a connection can be behind ────────────────────^  (aligned: in all streams)

A member counts as aligned by time only if none of its messages waits, because they may belong behind messages that another
member has not shown yet.

When a member is aligned, its waiting messages are delivered in order, beginning where it met the others. Messages without an
identity, and snapshots, which differ on each connection although they mean the same, are taken from the lead only. A snapshot
of the lead begins its stream anew: the lead shows again what follows the snapshot, and the others wait until they are aligned
with that.

Pure; the clock is passed in. The memory is bounded, and with it how far one connection may be behind another.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Self, TypeVar

from wsadapter.contract.ipc.record import NO_IDENTITY, SNAPSHOT, Record

R = TypeVar("R")

REMEMBERED: Final = 100_000
"""Identities that are remembered, over all streams. One connection may be so many messages behind another."""
ALIGNED_AFTER: Final = 5.0
"""Seconds from the confirmation of its subscriptions until a member without waiting messages counts as aligned."""
_ALIGNED_AT_LAST: Final = 60.0
"""The same for a member that always has waiting messages, in those of its streams that have none."""
_NEVER: Final = float("-inf")

Batch = tuple[Record, "list[str | None] | None"]
"""A record, and the stream of each of its messages."""


@dataclass(slots=True)
class Part(Generic[R]):
    """Messages to deliver now: those at these places of what a member showed."""

    member: int
    shown: R
    places: list[int]


def selected(part: Part[Batch]) -> Batch:
    """The messages of a part."""
    received, streams = part.shown
    if len(part.places) == received.count:
        return part.shown
    return received.only(part.places), None if streams is None else [streams[place] for place in part.places]


@dataclass(frozen=True, slots=True)
class _Shown(Generic[R]):
    """One message."""

    shown: R
    place: int
    identity: int
    at: float


class _Queue(list[_Shown[R]]):
    """Waiting messages of one member in one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.identities: set[int] = set()

    def put(self, entry: _Shown[R]) -> None:
        self.append(entry)
        self.identities.add(entry.identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSnapshot:
    """One stream of a merge; see `_Window`."""

    stream: str | None
    log: list[tuple[int, float]]
    before: dict[int, int]
    lacking: dict[int, dict[int, int]]
    last_shown: dict[int, float]
    silent_since: dict[int, float]
    snapshots: list[int | None]
    outlived: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSnapshot:
    """A merge of which nothing is held, for another supervisor; see `FirstArrival`."""

    members: dict[int, float]
    settled: list[int]
    lead: int | None
    unidentified: int
    missed: dict[int, int]
    windows: list[WindowSnapshot]
    order: list[tuple[float, int, int]]
    """Of each delivery that is remembered: the time, the place of its window, the identity."""


@dataclass(slots=True)
class _Window(Generic[R]):
    """One stream."""

    stream: str | None
    delivered: Counter[int] = field(default_factory=Counter)
    """How often each identity was delivered, since the snapshot."""
    log: deque[tuple[int, float]] = field(default_factory=deque)
    """The same in their order, with the time."""
    before: Counter[int] = field(default_factory=Counter)
    """What was delivered before the last snapshot."""
    stale: int = 0
    """How many of the deliveries that are to be forgotten next come from before the last snapshot."""
    lacking: dict[int, Counter[int]] = field(default_factory=dict)
    """Per aligned member how often it is still to show each of what was delivered. Members are seldom far apart, so this is
    little; what each has shown would be as much as `delivered`, for each of them."""
    held: dict[int, _Queue[R]] = field(default_factory=dict)
    """Per member that is not aligned."""
    last_shown: dict[int, float] = field(default_factory=dict)
    silent_since: dict[int, float] = field(default_factory=dict)
    """Per member that showed nothing of what others have: the first that it lacks."""
    snapshots: set[int | None] = field(default_factory=set)
    """Members that showed one; None: one was delivered."""
    outlived: bool = False
    """All of `log` is one message that would have been forgotten if another one had followed."""

    def snapshot(self) -> WindowSnapshot:
        """Without what is held."""
        return WindowSnapshot(
            stream=self.stream,
            log=list(self.log),
            before=self.before,
            lacking={member: dict(lacking) for member, lacking in self.lacking.items()},
            last_shown=self.last_shown,
            silent_since=self.silent_since,
            snapshots=list(self.snapshots),
            outlived=self.outlived,
        )

    @classmethod
    def from_snapshot(cls, snapshot: WindowSnapshot) -> Self:
        """One that goes on where the other one was."""
        return cls(
            snapshot.stream,
            delivered=Counter(identity for identity, _ in snapshot.log),
            log=deque(snapshot.log),
            before=Counter(snapshot.before),
            lacking={member: Counter(lacking) for member, lacking in snapshot.lacking.items()},
            last_shown=dict(snapshot.last_shown),
            silent_since=dict(snapshot.silent_since),
            snapshots=set(snapshot.snapshots),
            outlived=snapshot.outlived,
        )

    def align(self, member: int, now: float, *, met: int | None = None, joined: float = _NEVER) -> _Queue[R]:
        """From here on the member's copies are known. It is at the last delivery of `met`; without, it has shown nothing of
        what was delivered since it `joined`. What it held."""
        lacking = self.lacking[member] = Counter()
        for identity, at in reversed(self.log):
            if identity == met or at < joined:
                break
            lacking[identity] += 1
        self.last_shown[member] = now
        return self.held.pop(member, _Queue())

    def begin_anew(self, lead: int) -> None:
        """The lead showed a snapshot."""
        self.forget_outlived()
        self.stale += len(self.log)
        self.before = self.delivered + self.before
        self.delivered, self.log = Counter(), deque()
        self.lacking = {lead: Counter()}
        self.snapshots = {None}

    def forget_outlived(self) -> None:
        """Another message follows, or a snapshot."""
        if self.outlived:
            self.outlived = False
            self._forget_first()

    def forget(self, identity: int, *, keep_last: bool) -> None:
        """One delivery of it, the oldest that is remembered. `keep_last`: unless it is the only one since the snapshot."""
        if self.stale:  # not the first of the log, though that may have the same identity: a lead shows it again
            self.stale -= 1
            _count_down(self.before, identity)
        elif keep_last and len(self.log) == 1:
            self.outlived = True
        else:
            self._forget_first()

    def _forget_first(self) -> None:
        identity, _ = self.log.popleft()
        _count_down(self.delivered, identity)
        left = self.delivered[identity]
        for lacking in self.lacking.values():
            if lacking[identity] > left:
                _count_down(lacking, identity)


class LagDetector(Generic[R]):
    """Finds members that show nothing of what others show. What was delivered is judged once, some seconds later."""

    def __init__(self) -> None:
        self._unjudged: deque[tuple[float, _Window[R], int]] = deque()
        self.missed: Counter[int] = Counter()
        """Per member the messages that the others showed and it did not."""

    def add(self, at: float, window: _Window[R], identity: int) -> None:
        """This was delivered just now."""
        self._unjudged.append((at, window, identity))

    def clear(self) -> None:
        """Judge none of what was delivered so far, because a new stream begins, or because no member was read."""
        self._unjudged.clear()

    def lagging(self, now: float, after: float) -> dict[int, tuple[str | None, float]]:
        """Members that have shown nothing of a stream for `after` seconds in which others did, with the stream and the seconds.

        What was delivered is judged once, `after` seconds later.
        """
        found: dict[int, tuple[str | None, float]] = {}
        unjudged = self._unjudged
        while unjudged and unjudged[0][0] <= now - after:
            at, window, identity = unjudged.popleft()
            for member, lacking in window.lacking.items():
                if window.last_shown.get(member, _NEVER) >= at:
                    window.silent_since.pop(member, None)
                    self.missed[member] += 0 < window.delivered[identity] <= lacking[identity]
                elif at - window.silent_since.setdefault(member, at) >= after:
                    found[member] = (window.stream, now - window.silent_since[member])
        return found


class FirstArrival(Generic[R]):
    """The merge of one endpoint's live connections. `R` is whatever the messages come in. Not thread-safe."""

    def __init__(self, *, span: float, repeats: bool = False, remembered: int = REMEMBERED) -> None:
        """What was delivered `span` seconds ago, or `remembered` identities ago, is forgotten, but for the last message of each
        stream: a peer may repeat it to a member that joins, however long ago it was. `repeats`: that too, for it may come again
        by itself."""
        self._span = span
        self._repeats = repeats
        self._remembered = remembered
        self._windows: dict[str | None, _Window[R]] = {}
        self._order: deque[tuple[float, _Window[R], int]] = deque()
        self._members: dict[int, float] = {}
        """With the time they joined."""
        self._aligned: set[int] = set()
        self._holding: Counter[int] = Counter()
        self._led: dict[str | None, int] = {}
        """Streams that another member than the lead leads."""
        self.lead: int | None = None
        """The member whose snapshots and messages without identity are delivered."""
        self.unidentified = 0
        """Messages without an identity that were delivered since the lead took over."""
        self.lags: LagDetector[R] = LagDetector()
        """Which members show less than the others."""

    # -- on its way to another supervisor --------------------------------------------------------------------------------

    def snapshot(self) -> MergeSnapshot:
        """For another supervisor. Nothing may be held."""
        places = {id(window): at for at, window in enumerate(self._windows.values())}
        return MergeSnapshot(
            members=dict(self._members),
            settled=sorted(self._aligned),
            lead=self.lead,
            unidentified=self.unidentified,
            missed=dict(self.lags.missed),
            windows=[window.snapshot() for window in self._windows.values()],
            order=[(at, places[id(window)], identity) for at, window, identity in self._order],
        )

    def restore(self, snapshot: MergeSnapshot) -> None:
        """Go on where another merge was. What was to be judged there is not judged: no member was read meanwhile."""
        self._members = dict(snapshot.members)
        self._aligned = set(snapshot.settled)
        self.lead, self.unidentified = snapshot.lead, snapshot.unidentified
        self.lags.missed = Counter(snapshot.missed)
        windows: list[_Window[R]] = [_Window.from_snapshot(each) for each in snapshot.windows]
        self._windows = {window.stream: window for window in windows}
        self._order = deque((at, windows[place], identity) for at, place, identity in snapshot.order)
        waiting = Counter(place for _, place, _ in snapshot.order)
        for place, window in enumerate(windows):
            window.stale = max(0, waiting[place] + window.outlived - len(window.log))

    # -- who is there ----------------------------------------------------------------------------------------------------

    @property
    def holding(self) -> int:
        """How many messages wait, of all members."""
        return self._holding.total()

    @property
    def members(self) -> frozenset[int]:
        """Who has a connection."""
        return frozenset(self._members)

    def join(self, member: int, now: float) -> bool:
        """The connection of a member is open. Returns whether it continues without a loss what others deliver; the first member
        begins a new stream."""
        self._members[member] = now
        if len(self._members) > 1:
            return True
        self._windows.clear()
        self._led.clear()
        self._order.clear()
        self.lags.clear()
        self._aligned = {member}
        self.lead, self.unidentified = member, 0
        return False

    def is_aligned(self, member: int) -> bool:
        """Whether it is aligned in all streams."""
        return member in self._aligned

    def holds(self, member: int) -> int:
        """How many of its messages wait."""
        return self._holding[member]

    def mark_aligned(self, member: int, now: float) -> list[Part[R]]:
        """From here on the member counts as aligned. Returns its waiting messages, without copies of delivered ones."""
        if member not in self._members:
            return []
        self._aligned.add(member)
        return self.align(member, self._windows, now)

    def align_by_time(self, member: int, waited: float, now: float) -> None:
        """All its subscriptions were confirmed `waited` seconds ago: it may be taken to be aligned. What waits of it goes on
        waiting."""
        after = _ALIGNED_AT_LAST if self._holding[member] else ALIGNED_AFTER
        if waited < after or member not in self._members or member in self._aligned:
            return
        self._aligned.add(member)
        for window in self._windows.values():
            if member not in window.lacking and member not in window.held:
                window.align(member, now, joined=self._members[member])

    def align(self, member: int, streams: Iterable[str | None], now: float) -> list[Part[R]]:
        """As `mark_aligned`, in these streams only."""
        parts: list[Part[R]] = []
        for window in [self._window(stream) for stream in streams]:
            if member not in window.lacking:
                self._flush(parts, member, window.align(member, now, joined=self._members[member]), window)
        return parts

    def begin_anew(self, stream: str | None, member: int) -> None:
        """All that this member shows of a stream from here on is delivered, whatever was delivered before."""
        self._drop_held(self._window(stream))
        self._windows[stream] = _Window(stream, lacking={member: Counter()})
        self._led[stream] = member

    def delivered(self, stream: str | None) -> list[int]:
        """The identities of what was delivered of a stream, in order, as far as they are remembered."""
        window = self._windows.get(stream)
        return [] if window is None else [identity for identity, _ in window.log]

    def overdue(self, before: float, now: float) -> list[Part[R]]:
        """Deliver the messages that have waited since `before`, because no other member has shown them."""
        parts: list[Part[R]] = []
        for window in self._windows.values():
            for member in [member for member, held in window.held.items() if held[0].at <= before]:
                self._flush(parts, member, window.align(member, now, joined=self._members[member]), window)
        return parts

    def leave(self, member: int) -> bool:
        """Its connection is gone. Whether anything may be missing by that: nobody is left who was aligned, or only it had shown
        what can't be recognised."""
        if member not in self._members:
            return False
        del self._members[member]
        self._aligned.discard(member)
        self._holding.pop(member, None)
        for window in self._windows.values():
            for known in (window.lacking, window.held, window.last_shown, window.silent_since):
                known.pop(member, None)
        if not self._members:
            self.lead = None
            return False  # the next to join begins anew
        unsure = not self._aligned or any(not window.lacking for window in self._windows.values())
        if member == self.lead:
            self.lead = min(self._aligned or self._members)
            lacking = any(None not in window.snapshots and window.snapshots for window in self._windows.values())
            unsure = unsure or self.unidentified > 0 or lacking
            self.unidentified = 0
        return unsure

    def let_go(self, member: int) -> None:
        """Drop the waiting messages of a member, because another member shows them."""
        for window in self._windows.values():
            self._holding[member] -= len(window.held.pop(member, ()))

    @property
    def begun_by_snapshot(self) -> list[str | None]:
        """The streams of which a member showed a snapshot."""
        return [window.stream for window in self._windows.values() if window.snapshots]

    # -- what they show --------------------------------------------------------------------------------------------------

    def take(
        self,
        member: int,
        shown: R,
        identities: Sequence[int],
        streams: Sequence[str | None] | None,
        now: float,
        *,
        unidentified: bool = False,
    ) -> list[Part[R]]:
        """A member showed these messages. Returns what to deliver now. `unidentified`: also messages without an identity,
        although the member is not the lead."""
        self._forget(now)
        parts: list[Part[R]] = []
        for place, identity in enumerate(identities):
            stream = None if streams is None else streams[place]
            leads = member == self._led.get(stream, self.lead)
            if identity == NO_IDENTITY:
                if leads or unidentified:
                    self.unidentified += 1
                    _add(parts, member, shown, place)
                continue
            window = self._window(stream)
            window.last_shown[member] = now
            if identity == SNAPSHOT:
                if leads:
                    self._drop_held(window)
                    window.begin_anew(member)
                    _add(parts, member, shown, place)
                else:
                    window.snapshots.add(member)
            elif member in window.lacking:
                self._shown(parts, member, _Shown(shown, place, identity, now), window)
            else:
                self._waits(member, _Shown(shown, place, identity, now), window)
        return parts

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _drop_held(self, window: _Window[R]) -> None:
        """The stream begins anew."""
        for member, held in window.held.items():
            self._holding[member] -= len(held)
        window.held = {}

    def _window(self, stream: str | None) -> _Window[R]:
        window = self._windows.get(stream)
        if window is None:
            window = self._windows[stream] = _Window(stream, lacking={member: Counter() for member in self._aligned})
        return window

    def _shown(self, parts: list[Part[R]], member: int, entry: _Shown[R], window: _Window[R]) -> None:
        """By a member that is aligned in this stream: new if it has shown it more often than it was delivered."""
        identity, lacking = entry.identity, window.lacking[member]
        if lacking[identity]:
            _count_down(lacking, identity)
            return
        window.forget_outlived()
        window.delivered[identity] += 1
        for other, others in window.lacking.items():
            if other != member:
                others[identity] += 1
        window.log.append((identity, entry.at))
        self._order.append((entry.at, window, identity))
        if len(self._members) > 1:
            self.lags.add(entry.at, window, identity)
        _add(parts, member, entry.shown, entry.place)
        if window.held:
            self._met(parts, identity, entry.at, window)

    def _met(self, parts: list[Part[R]], identity: int, now: float, window: _Window[R]) -> None:
        """What was delivered just now may be what others hold."""
        for other in list(window.held):
            held = window.held.get(other)  # one that was met may bring others along
            if held is not None and identity in held.identities:
                self._flush(parts, other, window.align(other, now, met=identity), window, met=identity)

    def _waits(self, member: int, entry: _Shown[R], window: _Window[R]) -> None:
        """Shown by a member that is not aligned in this stream yet."""
        if window.delivered[entry.identity]:
            self._holding[member] -= len(window.align(member, entry.at, met=entry.identity))
        elif entry.identity not in window.before:
            window.held.setdefault(member, _Queue()).put(entry)
            self._holding[member] += 1

    def _flush(self, parts: list[Part[R]], member: int, held: _Queue[R], window: _Window[R], *, met: int | None = None) -> None:
        """`met`: what was delivered. What it held before that is older than the stream, or comes of the others."""
        self._holding[member] -= len(held)
        places = [place for place, entry in enumerate(held) if entry.identity == met]
        for entry in held[places[0] + 1 :] if places else held:
            self._shown(parts, member, entry, window)

    def _forget(self, now: float) -> None:
        order = self._order
        while order and (len(order) > self._remembered or order[0][0] < now - self._span):
            _, window, identity = order.popleft()
            window.forget(identity, keep_last=not self._repeats)


def _count_down(counts: Counter[int], identity: int) -> None:
    counts[identity] -= 1
    if counts[identity] <= 0:
        del counts[identity]


def _add(parts: list[Part[R]], member: int, shown: R, place: int) -> None:
    if parts and parts[-1].member == member and parts[-1].shown is shown:
        parts[-1].places.append(place)
    else:
        parts.append(Part(member, shown, [place]))
