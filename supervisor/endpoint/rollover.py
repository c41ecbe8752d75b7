"""Planned changes of a link's connection, from the reason to the last message that the new connection could repeat.

    reason ──> old owner identifies its messages ──> successor gets ready (successor.py) ──> old owner asked to go
         ──> it is dead, its records are delivered ──> successor adopted: its held records, without copies ──> overlap ends

If messages have an identity, and the two connections are seen to overlap (overlap.py), nothing is lost and nothing comes twice:
`Up(resumed=True)`. Otherwise all that the new connection received is delivered, behind a `Gap`, so a consumer that rebuilds its
state at the `Gap` finds a snapshot and what follows it. The same holds for single streams: if a stream was silent since the old
owner began to identify its messages, the peer may repeat older messages of it to the new connection.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.errors import ConfigError, NotConnected
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.record import Record
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.connect_slot import ConnectSlot
from wsadapter.endpoint.dialer import DialerHost, SupervisorHost
from wsadapter.endpoint.futures import Waiters
from wsadapter.endpoint.identities import identity_rule
from wsadapter.endpoint.link_connection import LinkConnection
from wsadapter.endpoint.link_output import LinkOutput
from wsadapter.endpoint.overlap_merge import NOTHING_FOUND, OverlapMerge
from wsadapter.endpoint.replacement import Replacement, Situation, for_memory, for_new_connection
from wsadapter.endpoint.successor import Phase, Successor
from wsadapter.loop.reactor import Timer
from wsadapter.process.owner_process import OwnerProcess

_OVERLAP: Final = 30.0
"""Seconds after a change in which the new connection may repeat messages that the old one delivered."""
_INSISTENT: Final = ("max_age", "changed", "notice", "silence", "memory_limit")
"""Reasons of changes that are tried again until they succeed, or until the old connection ends."""
_LATER: Final = 1.0
"""Seconds to the next try while a takeover is under way."""


class RollingLink(Protocol):
    """What a rollover needs of its link."""

    supervisor: SupervisorHost
    output: LinkOutput
    connection: LinkConnection
    waiters: Waiters

    @property
    def stays(self) -> bool:
        """Whether its connection is open, and not on its way out."""
        ...

    @property
    def situation(self) -> Situation: ...
    def leave(self, why: str, *, new_connection: bool) -> None:
        """End the owner as planned; the next one opens a new connection."""
        ...

    def kill(self, reason: Reason, *, with_connection: bool) -> None:
        """End the owner at once; `with_connection`: its connection too, which otherwise may outlive the owner."""
        ...

    def on_process_gone(self) -> None:
        """A process of the rollover that was not an owner has ended."""
        ...


class Rollover:
    """The planned changes of one link, one at a time. All methods under the reactor's lock."""

    def __init__(self, link: RollingLink, host: DialerHost) -> None:
        self.output = link.output
        self.dialer = link.connection.dialer
        self.merge: OverlapMerge | None = None
        """Of the old connection with the new one; None but for the time in which both may show the same."""
        self.dropped = 0
        """Processes of successors on their way out."""
        self._link = link
        self._host = host
        self._connection = link.connection
        self._reactor = link.supervisor.reactor
        self._successor: Successor | None = None
        self._overlap: Timer | None = None
        self._retry: Timer | None = None
        """Of a change that can't begin now, or that failed."""

    @property
    def endpoint(self) -> Endpoint:
        """The settings of now."""
        return self._host.endpoint

    @property
    def under_way(self) -> bool:
        """Whether a successor is getting ready, or is ready."""
        return self._successor is not None

    @property
    def interrupted(self) -> frozenset[str | None]:
        """The streams that the new connection does not continue, although it continues others; known while the held records are
        delivered."""
        return NOTHING_FOUND.interrupted if self.merge is None else self.merge.found.interrupted

    @property
    def phase(self) -> str | None:
        """For the status."""
        return None if self._successor is None else self._successor.phase.name.lower()

    @property
    def can_follow(self) -> bool:
        """Whether a successor can follow if the old owner ends now."""
        return self._successor is not None and self._successor.process is not None

    # -- subscriptions ---------------------------------------------------------------------------------------------------

    def replace_connection(self, why: str) -> None:
        """Another connection is wanted, for one of the reasons of a planned change."""
        match for_new_connection(self._link.situation):
            case Replacement.LATER:
                self._call_again(self.endpoint.restart.backoff_max, lambda: self.replace_connection(why))
            case Replacement.INSIST:
                assert self._successor is not None
                self._successor.why = why
            case Replacement.ROLL_OVER:
                self.begin(why)
            case Replacement.LEAVE:
                self._link.leave(why, new_connection=True)

    def too_large(self, resident: int) -> None:
        """The owner has more memory than `watchdog.memory` allows."""
        allowed = self.endpoint.watchdog.memory
        match for_memory(self._link.situation, resident, allowed):
            case Replacement.LEAVE:
                self._link.leave("memory_limit", new_connection=False)
            case Replacement.ROLL_OVER:
                self.begin("memory_limit")
            case Replacement.KILL:
                reason = Reason(kind="memory_limit", text=f"{resident} bytes resident, {allowed} allowed")
                self._link.kill(reason, with_connection=False)

    def begin(self, why: str, *, same_messages: bool = True) -> None:
        """Start a successor, unless there is one. `same_messages`: the new connection gets the messages that the old connection
        gets."""
        if self._successor is not None:
            return
        self._end_overlap()
        connection, endpoint = self._connection, self.endpoint
        if same_messages and identity_rule(endpoint, self._host.dialect):
            merge = self.merge = OverlapMerge(endpoint, self._host.dialect, self.output.accept)
            try:
                connection.commands.send(commands.IDENTIFY, {"on": True}, lambda _reply, _text: self._on_identified(merge))
            except NotConnected:  # it is leaving: there will be no overlap
                self.merge = None
        confirmed, slot = frozenset(connection.subscriptions.connection.confirmed), connection.reserve_connect()
        successor = Successor(self._reactor, endpoint, self, why, confirmed, slot, identified=self.merge is None)
        self._successor = successor
        acquire = self._link.supervisor.acquire_owner
        slot.when_allowed(partial(successor.begin, lambda listener: acquire(listener, endpoint)))

    def _on_identified(self, merge: OverlapMerge) -> None:
        """The owner's messages carry their identities from here on, as it was asked for `merge`."""
        if self.merge is merge and self._successor is not None:
            self._successor.identified()

    def _call_again(self, delay: float, call: Callable[[], None]) -> None:
        """Call `call` later, unless the owner has ended by then."""
        self._retry = self._reactor.call_later(delay, call)

    def drop(self) -> None:
        """Cancel the change, and drop the held records: the old connection has delivered all of them."""
        if self._successor is None:
            return
        self.dropped += self._successor.drop()
        self._successor = None
        if self.merge is not None and not self.merge.has_new:
            self._end_overlap()

    def owner_gone(self) -> None:
        """The owner is dead: a change that failed is not tried again."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def subscriptions_changed(self, kind: int, streams: list[Subscription]) -> None:
        """The old owner was sent the change; the successor must be sent it too."""
        if self._successor is not None and streams:
            with suppress(NotConnected):  # the successor is leaving, and reports that itself
                self._successor.change(kind, {"streams": streams})

    def adopt(
        self,
        last_received_at: int | None,
        deliver: Callable[[OwnerProcess, ConnectSlot, list[Record], bool], None],
        *,
        in_order: bool,
    ) -> None:
        """The old owner is dead, and the successor becomes the owner. `deliver` gets its process, its connect, its held
        records, and whether it continues the stream without a loss, except for streams that are `interrupted`. `in_order`: the
        old owner had read all that its connection received."""
        successor, self._successor = self._successor, None
        assert successor is not None
        assert successor.process is not None
        merge = self.merge
        found = NOTHING_FOUND if merge is None else merge.compare(successor, in_order=in_order)
        if merge is not None and found.continues:
            merge.join(found, last_received_at)
        else:
            self._end_overlap()
        deliver(successor.process, successor.slot, successor.take(), found.continues)
        if (
            self.merge is not None and self.merge is merge
        ):  # otherwise the consumer of the delivered items has begun the next change
            merge.held_delivered()
            self._overlap = self._reactor.call_later(_OVERLAP, self._end_overlap)

    def _end_overlap(self) -> None:
        if self._overlap is not None:
            self._overlap.cancel()
            self._overlap = None
        if self.merge is not None:
            self.merge = None
            self._connection.commands.notify(commands.IDENTIFY, 0, {"on": False})

    # -- what its successor needs (successor.SuccessorHost) --------------------------------------------------------------

    def assign_successor(self, process: OwnerProcess) -> None:
        """Give it its assignment."""
        assert self._successor is not None
        try:
            assignment = self._connection.assignment(self.output.epoch + 1, identify=self.merge is not None)
        except ConfigError as error:
            self.successor_failed("; ".join(map(str, error.problems)))
        else:
            self.dialer.connect(process, assignment, self._successor.slot)

    def successor_ready(self) -> None:
        """The old owner may go, when its requests are answered."""
        assert self._successor is not None
        why = self._successor.why
        self._connection.requests.when_idle(self.endpoint.timeouts.close, partial(self._let_owner_go, why))

    def _let_owner_go(self, why: str) -> None:
        is_ready = self._successor is not None and self._successor.phase is Phase.READY
        if is_ready and self._link.stays:
            self._link.leave(why, new_connection=True)

    def successor_failed(self, text: str) -> None:
        """The successor can't be used, and the old owner stays."""
        assert self._successor is not None
        output, why = self.output, self._successor.why
        self.drop()
        text = self.dialer.mask(text)
        output.log.change_failed(output.epoch, why, text)
        failure = f"{output.name}: the successor failed, the old connection stays: {text}"
        self._link.waiters.fail(lambda: NotConnected(failure))
        if why in _INSISTENT and self._link.stays:
            self._call_again(self.endpoint.restart.backoff_max, lambda: self._try_again(why))

    def _try_again(self, why: str) -> None:
        if self._connection.commands.is_frozen:
            self._call_again(_LATER, lambda: self._try_again(why))
        elif self._link.situation.can_overlap:
            self.begin(why)

    def successor_gone(self) -> None:
        """The process of a dropped successor has ended."""
        self.dropped -= 1
        self._link.on_process_gone()
