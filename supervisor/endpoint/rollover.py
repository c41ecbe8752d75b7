"""A planned change of an endpoint's connection, from the wish to the last message that the new one could repeat.

    wish ──> old owner identifies its messages ──> successor gets ready (succession.py) ──> old owner asked to go
         ──> it is gone, all it had is delivered ──> adopted: what is held comes, without what was delivered ──> overlap ends

Where messages have an identity nothing is lost and nothing comes twice, `Up(resumed=True)`, provided that the two connections
are seen to overlap (overlap.py). Where they are not, or messages have none, everything the new connection said comes, behind a
`Gap`: whoever rebuilds on it finds a snapshot and what follows. The same holds for single streams, as for one that was silent
since the old owner identifies its messages, of which the peer then repeats to the new connection what was sent before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time_ns
from typing import Any, Protocol

from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.errors import NotConnected
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.record import NO_IDENTITY, SNAPSHOT, Record
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.connect_slot import ConnectSlot
from wsadapter.endpoint.dedup import Batch, FirstArrival, Part, selected
from wsadapter.endpoint.identities import identity_rule, may_repeat, span_for
from wsadapter.endpoint.overlap import Overlap, overlap
from wsadapter.endpoint.succession import Phase, Succession
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process.owner_process import OwnerChild

logger = logging.getLogger("wsadapter.supervisor")

_OVERLAP = 30.0
"""Seconds after the change during which the new connection may repeat what the old one had delivered."""
_NOTHING_FOUND = Overlap(continues=False)
_OLD, _NEW = 0, 1
"""Members of the merge."""


class Changing(Protocol):
    """What a change needs of its endpoint."""

    endpoint: Endpoint
    dialect: dict[str, Any] | None

    def hire_successor(self, succession: Succession) -> OwnerChild: ...
    def assign_successor(self, child: OwnerChild, slot: ConnectSlot, *, identify: bool) -> None: ...
    def reserve_connect(self) -> ConnectSlot:
        """A connect, by the budget of its host."""
        ...

    def tell_owner(self, kind: int, body: dict[str, Any]) -> int:
        """Tell the owner something that it answers by TAKEN; the ref."""
        ...

    def let_owner_go(self, why: str) -> None:
        """The successor is ready."""
        ...

    def accept(self, received: Record, streams: list[str | None] | None) -> None:
        """Number these messages, and put them into the stream."""
        ...

    def leave_host_alone(self, reason: Reason) -> None:
        """Where the peer said for how long."""
        ...

    def change_failed(self, why: str, text: str) -> None:
        """The old owner stays."""
        ...

    def successor_printed(self, child: OwnerChild, line: str) -> None: ...
    def successor_gone(self) -> None:
        """A successor that was dropped has ended."""
        ...

    @property
    def is_receiving(self) -> bool: ...
    @property
    def confirmed(self) -> frozenset[str]:
        """The streams that the connection has, by name."""
        ...


class Changeover:
    """The planned changes of one endpoint, one at a time. All methods under the reactor's lock."""

    def __init__(self, endpoint: Changing, reactor: Reactor) -> None:
        self._endpoint = endpoint
        self._reactor = reactor
        self._succession: Succession | None = None
        self.merge: FirstArrival[Batch] | None = None
        """Of the old connection with the new one; None but for the time in which both may show the same."""
        self._member = _OLD
        self._cut_at = 0
        """Wall clock of the last message of the old connection; 0 but for while what is held is delivered."""
        self._began_at = 0.0
        """When identities were asked for, in monotonic seconds."""
        self._found = _NOTHING_FOUND
        """How the new connection continues the old one; while what is held is delivered."""
        self._identify_ref = -1
        self._overlap: Timer | None = None
        self.dropped = 0
        """Processes of successors on their way out."""

    @property
    def under_way(self) -> bool:
        """Whether a successor is getting ready, or is ready."""
        return self._succession is not None

    @property
    def interrupted(self) -> frozenset[str | None]:
        """While what is held is delivered: the streams that the new connection does not continue, though it does the others."""
        return self._found.interrupted

    @property
    def overlaps(self) -> bool:
        """Whether the new connection may still repeat what the old one had delivered."""
        return self.merge is not None

    @property
    def phase(self) -> str | None:
        """For the status."""
        return None if self._succession is None else self._succession.phase.name.lower()

    @property
    def is_ready(self) -> bool:
        """Whether the old owner may go."""
        return self._succession is not None and self._succession.phase is Phase.READY

    @property
    def can_follow(self) -> bool:
        """Whether there is a successor to go on with, should the old owner end now."""
        return self._succession is not None and self._succession.child is not None

    def begin(self, why: str, *, alike: bool = True) -> None:
        """Get a successor, unless one is on its way. `alike`: it gets the messages that the old connection gets."""
        if self._succession is not None:
            return
        self._end_overlap()
        endpoint = self._endpoint
        self._member = _OLD
        self._began_at = monotonic()
        if alike and identity_rule(endpoint.endpoint, endpoint.dialect):
            settings = endpoint.endpoint, endpoint.dialect
            self.merge = FirstArrival(span=span_for(*settings), repeats=may_repeat(*settings))
            self.merge.join(_OLD, self._began_at)
            try:
                self._identify_ref = endpoint.tell_owner(commands.IDENTIFY, {"on": True})
            except NotConnected:  # it is leaving: there will be no overlap
                self.merge = None
        succession = Succession(
            self._reactor, endpoint.endpoint, self, why, endpoint.confirmed, endpoint.reserve_connect(),
            identified=self.merge is None,
        )  # fmt: skip
        self._succession = succession
        succession.slot.when_allowed(lambda: succession.begin(endpoint.hire_successor))

    def insist(self, why: str) -> None:
        """What is under way is wanted for this reason too."""
        if self._succession is not None:
            self._succession.why = why

    def drop(self) -> None:
        """No change after all; what is held is thrown away, and the old connection lacks nothing."""
        if self._succession is None:
            return
        self.dropped += self._succession.drop()
        self._succession = None
        if self._member == _OLD:
            self._end_overlap()

    def taken(self, ref: int) -> None:
        """The owner did what it was told."""
        if ref == self._identify_ref and self._succession is not None:
            self._succession.identified()

    def subscriptions_changed(self, kind: int, streams: list[Subscription]) -> None:
        """The old owner is told; so must be the successor."""
        if self._succession is not None and streams:
            with suppress(NotConnected):  # it is leaving, which it tells
                self._succession.change(kind, {"streams": streams})

    def take(self, received: Record, streams: list[str | None] | None) -> None:
        """Accept of a record the messages that were not delivered yet, while there is a `merge`."""
        assert self.merge is not None
        if received.identities is None and self._member == _OLD:  # it was read before identities were asked for
            self._endpoint.accept(received, streams)
            return
        identities = received.identities or [NO_IDENTITY] * received.count
        late = bool(self._cut_at) and received.received_at > self._cut_at
        batch = (received, streams)
        self._deliver(self.merge.take(self._member, batch, identities, streams, monotonic(), unidentified=late))

    def _deliver(self, parts: list[Part[Batch]]) -> None:
        for part in parts:
            received, streams = part.shown
            if received.received_at < self._found.due:
                part.places = [place for place in part.places if self._is_due(received, streams, place)]
            if part.places:
                self._endpoint.accept(*selected(part))

    def _is_due(self, received: Record, streams: list[str | None] | None, place: int) -> bool:
        """Whether a message is to be delivered that the old connection had the time to bring, and that is not known from it."""
        stream = None if streams is None else streams[place]
        identified = received.identities is not None and received.identities[place] not in (NO_IDENTITY, SNAPSHOT)
        return stream in self._found.interrupted or not identified

    def adopt(
        self,
        last_received_at: int | None,
        deliver: Callable[[OwnerChild, ConnectSlot, list[Record], bool], None],
        *,
        in_order: bool,
    ) -> None:
        """The old owner is gone: the successor is the owner. `deliver` gets its process, its connect, what it said so far, and
        whether its stream continues the old one without a loss, but for streams that are `interrupted`. `in_order`: the old one
        had read all that its connection brought."""
        succession, self._succession = self._succession, None
        assert succession is not None
        assert succession.child is not None
        found = self._compare(succession, in_order=in_order)
        if found.continues:
            self._join(found)
        else:
            self._end_overlap()
        self._member = _NEW
        self._cut_at = last_received_at or 1
        self._found = found
        held = succession.take()
        deliver(succession.child, succession.slot, held, found.continues)
        self._found = _NOTHING_FOUND
        self._cut_at = 0
        if self.merge is not None:
            self._deliver(self.merge.settle(_NEW, monotonic()))
            self.merge.leave(_OLD)
            self._overlap = self._reactor.call_later(_OVERLAP, self._end_overlap)

    def _compare(self, succession: Succession, *, in_order: bool) -> Overlap:
        """How the successor continues the old connection."""
        if self.merge is None or succession.subscribed_at is None:
            return Overlap(continues=False)
        shown = succession.shown()
        if may_repeat(self._endpoint.endpoint, self._endpoint.dialect):  # that two messages are alike proves nothing
            unidentified = frozenset(stream for stream, identity, _, _ in shown if identity == NO_IDENTITY)
            return Overlap(continues=in_order, interrupted=unidentified - {None})
        left_at = (succession.ready_at or time_ns()) if in_order else None
        return overlap(self.merge.delivered, shown, subscribed_at=succession.subscribed_at, left_at=left_at)

    def _join(self, found: Overlap) -> None:
        """The successor's messages are merged with what the old connection brought since identities were asked for."""
        assert self.merge is not None
        self.merge.join(_NEW, self._began_at)
        if may_repeat(self._endpoint.endpoint, self._endpoint.dialect):
            self.merge.settle(_NEW, monotonic())
        for stream in found.interrupted:
            self.merge.begin_anew(stream, _NEW)
        self.merge.align(_NEW, found.apart, monotonic())

    def _end_overlap(self) -> None:
        if self._overlap is not None:
            self._overlap.cancel()
            self._overlap = None
        if self.merge is not None:
            self.merge = None
            self._identify_ref = -1
            with suppress(NotConnected):  # then nobody identifies anything any more
                self._endpoint.tell_owner(commands.IDENTIFY, {"on": False})

    # -- what the succession says ----------------------------------------------------------------------------------------

    def assign_successor(self, child: OwnerChild) -> None:
        assert self._succession is not None
        self._endpoint.assign_successor(child, self._succession.slot, identify=self.merge is not None)

    def successor_ready(self) -> None:
        assert self._succession is not None
        self._endpoint.let_owner_go(self._succession.why)

    def successor_leaves(self, reason: Reason) -> None:
        self._endpoint.leave_host_alone(reason)

    def successor_failed(self, text: str) -> None:
        assert self._succession is not None
        why = self._succession.why
        self.drop()
        self._endpoint.change_failed(why, text)

    def successor_printed(self, child: OwnerChild, line: str) -> None:
        self._endpoint.successor_printed(child, line)

    def successor_gone(self) -> None:
        self.dropped -= 1
        self._endpoint.successor_gone()

    @property
    def is_receiving(self) -> bool:
        """Whether the old connection is alive."""
        return self._endpoint.is_receiving
