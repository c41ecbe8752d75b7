"""A planned change of an endpoint's connection, from the wish to the last message that the new one could repeat.

    wish ──> old owner identifies its messages ──> successor gets ready (succession.py) ──> old owner asked to go
         ──> it is gone, all it had is delivered ──> adopted: what is held comes, without what was delivered ──> overlap ends

Where messages have an identity nothing is lost and nothing comes twice, `Up(resumed=True)`, provided that the two connections
are seen to overlap. Where they are not, or messages have none, everything the new connection said comes, behind a `Gap`:
whoever rebuilds on it finds a snapshot and what follows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time_ns
from typing import Any, Protocol

from wsadapter.child import OwnerChild
from wsadapter.contract import commands
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.errors import NotConnected
from wsadapter.contract.reasons import Reason
from wsadapter.contract.record import Record
from wsadapter.merge import Merge, may_repeat, merge_for
from wsadapter.reactor import Reactor, Timer
from wsadapter.succession import Phase, Succession

logger = logging.getLogger("wsadapter.supervisor")

_OVERLAP = 30.0
"""Seconds after the change during which the new connection may repeat what the old one had delivered."""
_LAG = 250_000_000
"""Nanoseconds that one connection may be behind the other with a message that both bring."""
_OLD, _NEW = 0, 1
"""Members of the merge."""


class Changing(Protocol):
    """What a change needs of its endpoint."""

    endpoint: Endpoint
    dialect: dict[str, Any] | None

    def hire_successor(self, succession: Succession) -> OwnerChild: ...
    def assign_successor(self, child: OwnerChild, *, identify: bool) -> None: ...
    def book(self) -> float:
        """A connect, by the budget of its host; the seconds until then."""
        ...

    def wait_again(self) -> float:
        """What was booked is due; the seconds that it is to wait even so."""
        ...

    def give_back(self) -> None:
        """What was booked is not used."""
        ...

    def tell_owner(self, kind: int, body: dict[str, Any]) -> int:
        """Tell the owner something that it answers by TAKEN; the ref."""
        ...

    def let_owner_go(self, why: str) -> None:
        """The successor is ready."""
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
        self.merge: Merge | None = None
        """Of the old connection with the new one; None but for the time in which both may show the same."""
        self._member = _OLD
        self._cut_at = 0
        """Wall clock of the last message of the old connection; 0 but for while what is held is delivered."""
        self._identify_ref = -1
        self._booked: Timer | None = None
        self._overlap: Timer | None = None
        self.dropped = 0
        """Processes of successors on their way out."""

    @property
    def under_way(self) -> bool:
        """Whether a successor is getting ready, or is ready."""
        return self._succession is not None

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
        self.merge = merge_for(endpoint.endpoint, endpoint.dialect) if alike else None
        if self.merge is not None:
            self.merge.lead = _OLD
            try:
                self._identify_ref = endpoint.tell_owner(commands.IDENTIFY, {"on": True})
            except NotConnected:  # it is leaving: there will be no overlap
                self.merge = None
        succession = Succession(
            self._reactor, endpoint.endpoint, self, why, endpoint.confirmed, identified=self.merge is None
        )
        self._succession = succession
        wait = endpoint.book()
        begin = (lambda: self._begin_as_booked(succession)) if wait > 0 else lambda: succession.begin(endpoint.hire_successor)
        self._booked = self._reactor.call_later(wait, begin)

    def insist(self, why: str) -> None:
        """What is under way is wanted for this reason too."""
        if self._succession is not None:
            self._succession.why = why

    def _begin_as_booked(self, succession: Succession) -> None:
        wait = self._endpoint.wait_again()
        if wait > 0:
            self._booked = self._reactor.call_later(wait, lambda: self._begin_as_booked(succession))
        else:
            succession.begin(self._endpoint.hire_successor)

    def drop(self) -> None:
        """No change after all; what is held is thrown away, and the old connection lacks nothing."""
        if self._succession is None:
            return
        if self._succession.phase is Phase.BOOKED and self._booked is not None:
            self._booked.cancel()
            self._endpoint.give_back()
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

    def new(
        self, received: Record, streams: list[str | None] | None
    ) -> tuple[Record, list[str | None] | None] | None:
        """Of a record the messages that were not delivered yet, while there is a `merge`; None where there are none."""
        assert self.merge is not None
        if received.identities is None:
            return received, streams
        leads = received.received_at > self._cut_at if self._cut_at else None
        places = self.merge.new(self._member, received.identities, streams, monotonic(), leads=leads)
        if not places:
            return None
        if len(places) == received.count:
            return received, streams
        return received.only(places), None if streams is None else [streams[place] for place in places]

    def adopt(
        self,
        last_received_at: int | None,
        deliver: Callable[[OwnerChild, list[Record], bool], None],
        *,
        in_order: bool,
    ) -> None:
        """The old owner is gone: the successor is the owner. `deliver` gets it, what it said so far, and whether its stream
        continues the old one without a loss. `in_order`: the old one had read all that its connection brought."""
        succession, self._succession = self._succession, None
        assert succession is not None
        assert succession.child is not None
        continues = self._continues(succession, in_order=in_order)
        if not continues:
            self._end_overlap()
        self._member = _NEW
        self._cut_at = last_received_at or 1
        held = succession.take()
        deliver(succession.child, held, continues)
        self._cut_at = 0
        if self.merge is not None:
            self.merge.lead = _NEW
            self._overlap = self._reactor.call_later(_OVERLAP, self._end_overlap)

    def _continues(self, succession: Succession, *, in_order: bool) -> bool:
        """Whether nothing is missing between the two: the successor has all since it was subscribed, and the old connection
        brought as much. It did where both show the same message; else it may have been mute, or its owner behind with its
        reading when it died. Where it left in order, that is so only if it had the time to bring what the successor shows."""
        if self.merge is None or not succession.subscribed:
            return False
        if may_repeat(self._endpoint.endpoint, self._endpoint.dialect):
            return in_order
        if any(self.merge.knows(*each) for each in succession.shown()):
            return True
        return in_order and not any(succession.shown(before=(succession.ready_at or time_ns()) - _LAG))

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
        self._endpoint.assign_successor(child, identify=self.merge is not None)

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
