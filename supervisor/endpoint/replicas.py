"""Replicas: several live owners of one endpoint, whose connections become one numbered stream.

    member 1 ──records──┐
    member 2 ──records──┼──> FirstArrival ──> one numbering, one account, one stream
    member 3 ──records──┘

Each member is an endpoint of its own inside (owner, epochs, restarts, connection), and gives what it receives to the group. One
of them dies: nothing is missing, for the others show it all; it comes back: nothing is doubled. A `Gap` stands in the stream
only where nobody was left, or nobody who was known to have everything. Planned changes go round: one member at a time, the
next when the one before is up and has caught up. A member that shows nothing of a stream in which the others show something is
replaced: that is how a feed that is quiet is told from one that is stalled.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, time_ns
from typing import Any, Final
from weakref import WeakSet

from wsadapter.contract import items
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.errors import NotConnected
from wsadapter.contract.ipc.commands import Assignment
from wsadapter.contract.ipc.record import NO_IDENTITY, Lone, Record
from wsadapter.contract.reasons import Reason
from wsadapter.delivery.inbox import Inbox
from wsadapter.delivery.queued import Account
from wsadapter.endpoint.announced import Announced
from wsadapter.endpoint.dedup import Batch, FirstArrival, Part, selected
from wsadapter.endpoint.identities import are_alike, may_repeat, span_for
from wsadapter.endpoint.link import ManagedEndpoint, Office, promise
from wsadapter.endpoint.monitor import Watcher
from wsadapter.endpoint.rates import Count
from wsadapter.endpoint.request_id import Payload
from wsadapter.endpoint.requests import Pending
from wsadapter.endpoint.restart_policy import ConnectBudget, Decision, Verdict
from wsadapter.endpoint.subscriptions import Ledger, Numbers, key_of
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process.owner_process import Listener, OwnerChild
from wsadapter.status import SUMMED, EndpointStatus, MemberStatus, exit_status

logger = logging.getLogger("wsadapter.supervisor")

_TURN: Final = 0.5
"""Seconds between looks at what is due."""
_BEHIND: Final = 5.0
"""Seconds that one connection may be behind another. What waits longer for a member is delivered without it."""
_MOST_HELD: Final = 50_000
"""Messages of one member that may wait to be aligned."""


class Replicas:
    """One endpoint with several members; to its supervisor it is what a `ManagedEndpoint` is. All methods under the reactor's
    lock."""

    def __init__(
        self, office: Office, endpoint: Endpoint, dialect: dict[str, Any] | None, *, numbers: Numbers | None = None
    ) -> None:
        """`numbers` as for `ManagedEndpoint`."""
        self.numbers = numbers or Numbers()
        self.account = Account(endpoint.name, endpoint.buffer)
        self.monitors: WeakSet[Watcher] = WeakSet()
        self.last_exit: Reason | None = None
        self._office = office
        self._endpoint = endpoint
        self._dialect = dialect
        self.merge: FirstArrival[Batch] = FirstArrival(
            span=span_for(endpoint, dialect), repeats=may_repeat(endpoint, dialect)
        )
        """Of its members' connections."""
        self.announced = Announced()
        """What was told of its streams."""
        self._turn: Timer | None = None
        self._round: deque[_Visit] = deque()
        """Members whose planned change is due, or under way for the first of them."""
        self._round_waiters: list[Future[None]] = []
        self._members: dict[int, Member] = {}
        self._leaving: list[Member] = []
        """Members that are no more, but whose process may be."""
        for number in range(1, endpoint.replicas + 1):
            self._members[number] = Member(self, number, endpoint, dialect)

    # -- what can be asked of it -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._endpoint.name

    @property
    def endpoint(self) -> Endpoint:
        """Its settings."""
        return self._endpoint

    @endpoint.setter
    def endpoint(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        for member in self._members.values():
            member.endpoint = endpoint

    @property
    def dialect(self) -> dict[str, Any] | None:
        """Its dialect's data."""
        return self._dialect

    @property
    def settled(self) -> bool:
        """It has no process, and none will come by itself."""
        return all(member.settled for member in (*self._members.values(), *self._leaving))

    @property
    def pid(self) -> int | None:
        """Of the member that speaks for it."""
        return self._speaker.pid

    @property
    def epoch(self) -> int:
        """Of the member that speaks for it."""
        return self._speaker.epoch

    @property
    def ledger(self) -> Ledger:
        """Of the member that speaks for it: all want the same."""
        return self._speaker.ledger

    @property
    def state(self) -> str:
        """The best that a member has."""
        return self._speaker.state

    @property
    def rtt(self) -> float | None:
        """Of the member that speaks for it."""
        return self._speaker.rtt

    @property
    def live(self) -> int:
        """How many members have a connection."""
        return len(self.merge.members)

    @property
    def _speaker(self) -> Member:
        """Who sends what is to be sent: the lead, or whoever is nearest to being up."""
        lead = self._members.get(self.merge.lead or 0)
        if lead is not None and lead.state == "up":
            return lead
        order = {"up": 0, "connecting": 1, "starting": 2, "backoff": 3, "cooling_down": 4, "stopping": 5, "fatal": 6}
        return min(self._members.values(), key=lambda member: order.get(member.state, 7))

    def start(self) -> None:
        """Give each member its first owner."""
        for member in self._members.values():
            member.start()
        self.begin_turns()

    def stop(self) -> None:
        """Let all owners close their connections and go; no new ones come."""
        self._end_round()
        for member in self._members.values():
            member.stop()

    def restart(self, why: str = "recycled", *, afresh: bool = False, at_once: bool = False) -> Future[None]:
        """New owners, one after the other while others deliver, or all `at_once`; the future is done when all are up."""
        future = promise()
        self._round_waiters.append(future)
        together = at_once or self.live < 2
        self._round = deque(
            _Visit(member, partial(member.restart, why, afresh=afresh), together=together)
            for member in self._members.values()
        )
        self.begin_turns()
        self._go_round()
        return future

    def send(self, data: bytes, *, binary: bool) -> Future[None]:
        """By one member."""
        return self._speaker.send(data, binary=binary)

    def request(self, pending: Pending, payload: Payload, timeout: float | None) -> None:
        """By one member."""
        self._speaker.request(pending, payload, timeout)

    def subscribe(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """By all members."""
        streams = list(streams)
        changed = [member.subscribe(streams) for member in self._members.values()]
        self.announced.forget(map(key_of, changed[0]))
        return changed[0]

    def unsubscribe(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """By all members."""
        streams = list(streams)
        changed = [member.unsubscribe(streams) for member in self._members.values()]
        self.announced.forget(map(key_of, changed[0]))
        return changed[0]

    def resubscribe(self, streams: Iterable[Subscription]) -> None:
        """By the lead, whose snapshots are the stream's."""
        lead = self._members.get(self.merge.lead or 0)
        if lead is not None:
            lead.resubscribe(streams)

    def insert(self, data: bytes, *, binary: bool) -> int:
        """Put the user's own record into the stream, in order; its number."""
        return self._speaker.insert(data, binary=binary)

    def enter(self, monitor: Watcher) -> None:
        """Let a monitor see what comes, and what is the case."""
        self.monitors.add(monitor)
        if self.live:
            monitor.notify(items.Up(self.name, self.epoch, time_ns(), live=self.live))
        elif self.last_exit is not None:
            monitor.notify(items.Down(self.name, self.epoch, time_ns(), self.last_exit, live=0))

    def replace_settings(self, endpoint: Endpoint, dialect: dict[str, Any] | None) -> None:
        """New settings from a reload: one member after the other where the connections get the same messages as before, else
        all at once, and a new stream begins."""
        alike = are_alike(self._endpoint, self._dialect, endpoint, dialect)
        same = alike and replace(self._endpoint, replicas=endpoint.replicas) == endpoint
        self.endpoint, self._dialect = endpoint, dialect
        self.account.use(endpoint.buffer)
        self.announced.keep(set(map(key_of, endpoint.subscribe)))
        if not alike:
            self.merge = FirstArrival(span=span_for(endpoint, dialect), repeats=may_repeat(endpoint, dialect))
        self._dismiss(endpoint.replicas)
        together = not alike or self.live < 2
        self._round = deque(
            _Visit(member, partial(member.replace_settings, endpoint, dialect), together=together)
            for member in self._members.values()
            if not same
        )
        for number in range(len(self._members) + 1, endpoint.replicas + 1):
            self._members[number] = member = Member(self, number, endpoint, dialect)
            member.quarantine, member.sys_path = self.quarantine, self.sys_path
            member.start()
        self.begin_turns()
        self._go_round()

    def _dismiss(self, most: int) -> None:
        """Members beyond so many."""
        for number in [number for number in self._members if number > most]:
            member = self._members.pop(number)
            self._leaving.append(member)
            member.stop()

    @property
    def quarantine(self) -> str:
        """As `ManagedEndpoint.quarantine`."""
        return self._members[1].quarantine

    @quarantine.setter
    def quarantine(self, folder: str) -> None:
        for member in self._members.values():
            member.quarantine = folder

    @property
    def sys_path(self) -> tuple[str, ...]:
        """As `ManagedEndpoint.sys_path`."""
        return self._members[1].sys_path

    @sys_path.setter
    def sys_path(self, path: tuple[str, ...]) -> None:
        for member in self._members.values():
            member.sys_path = path

    @property
    def received(self) -> Count:
        """As `ManagedEndpoint.received`, of all members."""
        each = [member.received for member in self._members.values()]
        return Count(sum(count.messages for count in each), sum(count.bytes for count in each))

    def status(self) -> EndpointStatus:
        """As of one endpoint; the sums of all, and each under `members`."""
        each = {number: member.status() for number, member in self._members.items()}
        whole = self._speaker.status()
        for key in SUMMED:
            whole[key] = sum(status[key] for status in each.values())
        heard = [status["silence"] for status in each.values() if status["silence"] is not None]
        whole["silence"] = min(heard, default=None)
        whole["last_exit"] = exit_status(self.last_exit)
        whole["live"] = self.live
        whole["members"] = [self._status_of(number, status) for number, status in each.items()]
        return whole

    def _status_of(self, number: int, status: EndpointStatus) -> MemberStatus:
        return {
            "member": number,
            "lead": number == self.merge.lead,
            "aligned": self.merge.is_settled(number),
            "held": self.merge.holds(number),
            "missed": self.merge.missed[number],
            "state": status["state"],
            "pid": status["pid"],
            "epoch": status["epoch"],
            "uptime": status["uptime"],
            "messages": status["messages"],
            "restarts": status["restarts"],
            "silence": status["silence"],
            "rtt": status["rtt"],
            "memory": None,
            "last_exit": status["last_exit"],
            "subscriptions": status["subscriptions"],
        }

    # -- what the members show -------------------------------------------------------------------------------------------

    def show(self, number: int, received: Record, streams: list[str | None] | None) -> None:
        """A member received these."""
        if number not in self.merge.members:  # it is left behind by new settings
            return
        identities = received.identities or [NO_IDENTITY] * received.count
        now = monotonic()
        self._deliver(self.merge.take(number, (received, streams), identities, streams, now))
        if self.merge.holds(number) > _MOST_HELD:
            self._deliver(self.merge.settle(number, now))

    def _deliver(self, parts: list[Part[Batch]]) -> None:
        for part in parts:
            self._members[part.member].accept(*selected(part))

    # -- who is there ----------------------------------------------------------------------------------------------------

    def joins(self, member: Member) -> bool:
        """Its connection is open; whether it takes up the stream without a loss."""
        takes_up = self.merge.join(member.number, monotonic())
        self.begin_turns()
        return takes_up

    def leaves(self, member: Member, reason: Reason) -> None:
        """Its connection is gone."""
        self.last_exit = reason
        led = self.merge.lead == member.number
        unsure = self.merge.leave(member.number)
        if self.merge.lead is None:
            self.announced.begin()
            return
        lead = self._members[self.merge.lead]
        for stream, error in lead.ledger.rejected.items():  # those that stay may all have been refused what this one had
            lead.put(items.Rejected(self.name, lead.epoch, time_ns(), stream, error))
        if led:
            lead.resubscribe(member.ledger.still_asked(monotonic()))
        if not unsure or lead.is_stopping:  # all are stopping: the stream ends with what is known to be in order
            return
        lead.gap("lead_changed", self.numbers.last_received_at, time_ns())
        lead.resubscribe(filter(None, self.merge.begun_by_snapshot))  # its own were left out
        self._deliver(self.merge.settle(lead.number, monotonic()))

    def is_news(self, member: Member, event: items.Event) -> bool:
        """Whether what a member says is to be told."""
        by_all = isinstance(event, items.Rejected) and all(
            event.stream in other.ledger.rejected for number, other in self._members.items() if number in self.merge.members
        )
        return self.announced.is_news(event, member.number, by_all=by_all)

    def waits_no_more(self, member: Member) -> None:
        """Its owner is dead, but not its connection: what waited of it, another one shows."""
        self.merge.let_go(member.number)

    def has(self, member: Member) -> bool:
        """Whether it has a connection."""
        return member.number in self.merge.members

    def is_settled(self, member: Member) -> bool:
        """Whether it is known to be where the others are."""
        return self.merge.is_settled(member.number)

    def can_spare(self, member: Member) -> bool:
        """Whether nothing is missing without it."""
        others = [(number, other) for number, other in self._members.items() if other is not member]
        return any(other.stays and self.merge.is_settled(number) for number, other in others)

    # -- what is due -----------------------------------------------------------------------------------------------------

    @property
    def members(self) -> list[Member]:
        """All, with a connection or without."""
        return list(self._members.values())

    def member(self, number: int) -> Member:
        """By its number, from 1."""
        return self._members[number]

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing waits to be aligned, no planned change is under way, and nobody is on the way out."""
        return not (self.merge.holding or self._round or self._leaving)

    def begin_turns(self) -> None:
        """Look from time to time at what is due."""
        if self._turn is None:
            self._turn = self._office.reactor.call_later(_TURN, self._look)

    def end_turns(self) -> None:
        """Look no more, until `begin_turns`."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _look(self) -> None:
        self._turn = None
        now = monotonic()
        self._deliver(self.merge.overdue(now - _BEHIND, now))
        for number, member in self._members.items():
            self.merge.settle_by_time(number, member.restored_for(now), now)
        for number, (stream, silence) in self.merge.lagging(now, _BEHIND).items():
            self._members[number].is_stale(stream, silence)
        self._go_round()
        if not self.settled:
            self.begin_turns()

    def _go_round(self) -> None:
        """Planned changes: the next member's, when the one before has caught up."""
        while self._round:
            visit = self._round[0]
            if not visit.begun:
                if not visit.together and not self.can_spare(visit.member):
                    return  # somebody has to deliver meanwhile
                visit.begin()
            if not visit.together and not (visit.is_up and self.merge.is_settled(visit.member.number)):
                return
            self._round.popleft()
        if self._round_waiters and all(member.state == "up" or member.settled for member in self._members.values()):
            self._end_round()

    def _end_round(self) -> None:
        self._round.clear()
        waiters, self._round_waiters = self._round_waiters, []
        for future in waiters:
            if self.live:
                future.set_result(None)
            else:
                why = self.last_exit.describe() if self.last_exit else "stopped"
                future.set_exception(NotConnected(f"{self.name} is {self.state}: {why}"))

    # -- overflow --------------------------------------------------------------------------------------------------------

    def overflowed(self) -> None:
        """More waits for the consumer than may."""
        buffer = self._endpoint.buffer
        match buffer.overflow:
            case "disconnect" if self.account.has_overflowed:
                self._office.inbox_of(self.name).discard(self.account, "overflow")
                text = f"more than {buffer.max_bytes} bytes waited for the consumer"
                for member in self._members.values():
                    member.end(Reason(kind="overflow", text=text))
            case "block":
                inbox = self._office.inbox_of(self.name)
                relieved = lambda: self._office.reactor.post(self._relieve)  # noqa: E731
                if self.account.relieved is not None or inbox.await_relief(self.account, relieved):
                    for member in self._members.values():
                        member.pause()

    def _relieve(self) -> None:
        self.merge.excuse()
        for member in self._members.values():
            member.read_on()

    # -- what its members need (managed.Office) --------------------------------------------------------------------------

    @property
    def reactor(self) -> Reactor:
        """The supervisor's."""
        return self._office.reactor

    @property
    def budget(self) -> ConnectBudget:
        """The supervisor's."""
        return self._office.budget

    @property
    def busy_poll(self) -> float:
        """The supervisor's."""
        return self._office.busy_poll

    def hire(self, listener: Listener, endpoint: Endpoint) -> OwnerChild:
        """For a member: a warm owner, or one on its way."""
        return self._office.hire(listener, endpoint)

    def inbox_of(self, name: str) -> Inbox:
        """For a member: where the endpoint's items go."""
        return self._office.inbox_of(name)

    def on_verdict(self, managed: ManagedEndpoint | Replicas, decision: Decision) -> None:
        """For a member: it concerns the others of the supervisor only where no member delivers any more."""
        del managed
        if not self.live or decision.verdict is Verdict.STOP_SUPERVISOR:
            self._office.on_verdict(self, decision)

    def on_settled(self, managed: ManagedEndpoint | Replicas) -> None:
        """For a member: it has no process any more."""
        self._leaving = [member for member in self._leaving if member is not managed or not member.settled]
        if self.settled:
            self._end_round()
            self._office.on_settled(self)


@dataclass(slots=True)
class _Visit:
    """A planned change of one member, in its turn."""

    member: Member
    action: Callable[[], object]
    together: bool
    """It waits for nobody."""
    begun: bool = False
    _epoch: int = 0

    def begin(self) -> None:
        self.begun = True
        self._epoch = self.member.epoch
        self.action()

    @property
    def is_up(self) -> bool:
        """Whether its new owner is."""
        return self.member.state == "up" and self.member.epoch > self._epoch


class Member(ManagedEndpoint):
    """One of the connections."""

    def __init__(self, group: Replicas, number: int, endpoint: Endpoint, dialect: dict[str, Any] | None) -> None:
        super().__init__(group, endpoint, dialect, numbers=group.numbers)
        self.number = number
        self.account = group.account
        self.monitors = group.monitors
        self._group = group
        self._restored_at: float | None = None
        self._closing = False

    def restored_for(self, now: float) -> float:
        """Seconds since all its subscriptions were answered; 0 where they are not."""
        return 0.0 if self._restored_at is None or self.state != "up" else now - self._restored_at

    def pause(self) -> None:
        """Stop reading what its owner receives."""
        if self._child is not None:
            self._child.pause()

    def read_on(self) -> None:
        """Read again."""
        if self._child is not None:
            self._child.resume()

    def end(self, reason: Reason) -> None:
        """End its connection, whatever its owner is at."""
        self._epoch.unwanted = True
        if self._child is not None:
            self._child.abort(reason)
        self._give_up_connection()

    def is_stale(self, stream: str | None, silence: float) -> None:
        """It shows nothing where others do."""
        where = "" if stream is None else f" of {stream}"
        if self.stays:
            self.end(Reason(kind="silence", text=f"nothing{where} for {silence:.0f} s, while another replica gets messages"))

    # -- what differs from an endpoint that is alone ---------------------------------------------------------------------

    def put(self, event: items.Event) -> None:
        if isinstance(event, items.Restored):
            self._restored_at = monotonic()
        if self._group.is_news(self, event):
            super().put(event)

    def _assignment(self, epoch: int = 0, *, identify: bool = True) -> Assignment:
        del identify
        return super()._assignment(epoch, identify=True)

    def on_lone(self, child: OwnerChild, lone: Lone) -> None:
        self.on_record(child, Record.of_lone(lone))

    def _merge(self, received: Record, streams: list[str | None] | None) -> None:
        self._group.show(self.number, received, streams)

    def _takes_up(self) -> bool:
        self._restored_at = None if self._is_answered and self.ledger.wanted else monotonic()
        self.counters.last_lost_at = self.ledger.numbers.last_received_at
        return self._group.joins(self)

    def _standing(self) -> tuple[int | None, int | None]:
        return self.number, self._group.live - (self._closing and self._group.has(self))

    def _notify(self, event: items.Up | items.Down) -> None:
        if isinstance(event, items.Up) or not event.live:
            super()._notify(event)

    def _outlive(self, child: OwnerChild, reason: Reason) -> None:
        if self._group.is_settled(self):  # else others have what it waits with, and it begins again
            super()._outlive(child, reason)

    def _close_epoch(self, reason: Reason, uptime: float | None) -> None:
        self._closing = True
        super()._close_epoch(reason, uptime)
        self._closing = False
        if self._custody.resumption is None:
            self._group.leaves(self, reason)
        else:
            self._group.waits_no_more(self)

    def _connection_gone(self) -> None:
        super()._connection_gone()
        if not self._closing and self.last_exit is not None:
            self._group.leaves(self, self.last_exit)

    def _forget_relief(self) -> None:
        """The others wait for it still."""

    def _overflowed(self, child: OwnerChild) -> None:
        del child
        self._group.overflowed()

    @property
    def _can_overlap(self) -> bool:
        return False

    def too_large(self, child: OwnerChild, resident: int) -> None:
        if self._group.can_spare(self) and self.stays:
            self._leave("memory_limit", afresh=False)
        else:
            super().too_large(child, resident)

    def replace_connection(self, why: str) -> None:
        if self._group.can_spare(self):
            super().replace_connection(why)
        else:
            again = lambda: self.replace_connection(why)  # noqa: E731
            self._retry = self._office.reactor.call_later(self.endpoint.restart.backoff_max, again)
