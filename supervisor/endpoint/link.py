"""One endpoint over all its owners: who owns it now, what happens at each change of owner. `link_state` has its life.

An owner dies; its pipe is drained; `Down` closes its epoch; the restart policy decides; the connect budget says when; a spare,
or a new process, gets the ledger. Where the connection outlived its owner (handoff/held_connection.py), the next one gets it at
once. The order of what the consumer sees is made here: complete records, `Down`, `Up`, and a `Gap` at once where anything may
be missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from random import random
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from wsadapter import capabilities
from wsadapter.config.interpolate import expand_endpoint, secrets_of
from wsadapter.contract import items
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.errors import ConfigError, NotConnected
from wsadapter.contract.ipc import commands, record
from wsadapter.contract.ipc.commands import Assignment, Command
from wsadapter.contract.ipc.record import ANSWER, Lone, Record
from wsadapter.contract.ipc.reports import parse_report
from wsadapter.contract.masking import Secrets, mask_url
from wsadapter.contract.quarantine import Quarantine
from wsadapter.contract.reasons import Reason
from wsadapter.delivery.inbox import Inbox
from wsadapter.delivery.queued import Account, arrival_of, arrival_of_one
from wsadapter.endpoint.connect_slot import ConnectSlot, connect_target
from wsadapter.endpoint.epoch import Counters, Epoch
from wsadapter.endpoint.identities import are_alike
from wsadapter.endpoint.link_state import LinkAction, LinkEvent, LinkState, after_death, shown, step
from wsadapter.endpoint.log import Narrator
from wsadapter.endpoint.monitor import Watcher
from wsadapter.endpoint.pending_changes import Tellings
from wsadapter.endpoint.rates import Count
from wsadapter.endpoint.reports import apply_report
from wsadapter.endpoint.request_id import Payload
from wsadapter.endpoint.requests import Pending, Requests
from wsadapter.endpoint.restart_policy import ConnectBudget, Decision, RestartPolicy, Verdict, asked_to_wait
from wsadapter.endpoint.rollover import Changeover
from wsadapter.endpoint.subscriptions import Ledger, Numbers
from wsadapter.endpoint.succession import Succession
from wsadapter.endpoint.watchdogs import Watchdogs
from wsadapter.handoff.custody import Custody
from wsadapter.handoff.held_connection import NotResumable
from wsadapter.import_path import with_dialect_folder
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process.lifecycle import State
from wsadapter.process.owner_process import Listener, OwnerChild
from wsadapter.process.tls_holder import TlsHolder
from wsadapter.status import EndpointState, EndpointStatus, exit_status

if TYPE_CHECKING:
    from wsadapter.endpoint.replicas import Replicas

logger = logging.getLogger("wsadapter.supervisor")

_OVERRULING = frozenset({"hung", "corrupt", "memory_limit", "overflow"})
"""What the supervisor says of an owner it ended for these counts more than the owner's own last words."""
_UNRESUMABLE = ("corrupt", "overflow")
"""The connection of an owner that was ended for these is not gone on with: it can't be believed, or it is not wanted."""
_INSISTENT = ("max_age", "changed", "notice", "silence", "memory_limit")
"""Changes of connection that are tried again until they succeed, or the old connection ends."""
_RECEIVING = 2.0
"""Seconds without a message after which a connection does not count as receiving."""
_LATER = 1.0
"""Seconds to the next look where a takeover is under way."""
_MEMORY_MARGIN = 1.25
"""Over so many times `watchdog.memory` an owner is killed, whether its successor is ready or not."""


class Office(Protocol):
    """What an endpoint needs of its supervisor."""

    @property
    def reactor(self) -> Reactor: ...
    @property
    def budget(self) -> ConnectBudget: ...
    @property
    def busy_poll(self) -> float: ...

    def hire(self, listener: Listener, endpoint: Endpoint) -> OwnerChild:
        """An owner, warm or on its way."""
        ...

    def inbox_of(self, name: str) -> Inbox: ...
    def on_verdict(self, managed: ManagedEndpoint | Replicas, decision: Decision) -> None:
        """It decided about its next owner; for what concerns the others (strategy, the end of it all)."""
        ...

    def on_settled(self, managed: ManagedEndpoint | Replicas) -> None:
        """It has no process any more and will get none by itself."""
        ...


class ManagedEndpoint:
    """One endpoint and its current owner, if it has one. All methods under the reactor's lock."""

    def __init__(
        self,
        office: Office,
        endpoint: Endpoint,
        dialect: dict[str, Any] | None,
        *,
        numbers: Numbers | None = None,
    ) -> None:
        """`numbers` go on where an endpoint of this name was removed before: they are never reused."""
        self.endpoint = endpoint
        self.ledger = Ledger() if numbers is None else Ledger(numbers=numbers)
        self.account = Account(endpoint.name, endpoint.buffer)
        self.monitors: WeakSet[Watcher] = WeakSet()
        self.last_exit: Reason | None = None
        self.counters = Counters()
        self._office = office
        self.dialect = dialect
        self._policy = RestartPolicy(endpoint.restart, random)
        self.narrate = Narrator(endpoint.name)
        self._life = LinkState.STOPPED
        self._epoch = Epoch(self.ledger.numbers.epoch)
        self._child: OwnerChild | None = None
        self._timer: Timer | None = None
        self._slot: ConnectSlot | None = None
        """The connect that its owner is to make, until it is made."""
        self._holders: set[TlsHolder] = set()
        """Processes that hold TLS, those on their way out included."""
        self._custody = Custody(office.reactor, self._give_up_connection)
        self._watchdogs = Watchdogs(self, office.reactor)
        self._retry: Timer | None = None
        """Of a planned change that failed."""
        self._change = Changeover(self, office.reactor)
        self._secrets: Secrets | None = None
        """What its owner sent that no text may show; None: another supervisor had that owner."""
        self._was_confirmed: list[Subscription] = []
        self._url = 0
        self._refs = count(1)
        self.requests = Requests(self, office.reactor, self.put)
        self._tellings = Tellings(self._refs, self.tell_if_up)
        self._up_waiters: list[Future[None]] = []
        self.ledger.want(endpoint.subscribe)

    # -- what can be asked of it -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def epoch(self) -> int:
        """Of its owner, or of the last one; 0 before the first."""
        return self._epoch.number

    @property
    def streams(self) -> list[str | None]:
        """The names of its owner's streams, by the index that the owner gave them."""
        return self._epoch.streams

    @property
    def rtt(self) -> float | None:
        """Seconds of the last heartbeat's round trip in this epoch; None: not measured."""
        return self._epoch.rtt

    @property
    def state(self) -> EndpointState:
        """For users."""
        return shown(self._life, assigned=self._epoch.assigned, was_up=self._epoch.up_since is not None)

    @property
    def stays(self) -> bool:
        """Whether its connection is open, and not on its way out."""
        return self._life is LinkState.UP

    @property
    def is_stopping(self) -> bool:
        """Whether no owner is to follow."""
        return self._life in (LinkState.STOPPING, LinkState.STOPPED)

    @property
    def is_handed_on(self) -> bool:
        """Whether its connection is on its way from a dead owner to the next one."""
        return self._custody.resumption is not None or (self._epoch.resuming and self._life is LinkState.CONNECTING)

    @property
    def settled(self) -> bool:
        """It has no process, and none will come by itself."""
        none = self._child is None and not self._change.dropped and not self._holders
        return none and self._life in (LinkState.STOPPED, LinkState.FATAL)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Give it its first owner."""
        if self.settled:
            self.step(LinkEvent.START)

    def stop(self) -> None:
        """Let the owner close the connection and go; no new one comes."""
        self._cancel_waits()
        self._change.drop()
        self._give_up_connection()
        self.step(LinkEvent.STOP)

    def restart(self, why: str = "recycled", *, afresh: bool = False, at_once: bool = False) -> Future[None]:
        """A new owner, whatever the state; the future is done when it is up. It goes on with the connection where that can
        outlive the old owner, but not `afresh`. A connection that is up and has to be replaced is left only when the next one
        is ready, but for `at_once`."""
        future = promise()
        self._up_waiters.append(future)
        self._policy.pardon()
        if self._child is None:
            self._cancel_waits()
            self.step(LinkEvent.START)
        elif self._child.in_custody and not afresh:
            self._epoch.planned = why
            self.step(LinkEvent.HAND_OVER)
        elif self._can_overlap and not at_once:
            self._change.begin(why)
        else:
            self._leave(why, afresh=afresh)
        return future

    def _leave(self, why: str, *, afresh: bool) -> None:
        """End the owner as planned; the next one opens a new connection."""
        self._epoch.planned = why
        if afresh:
            self._epoch.unwanted = True
            self._give_up_connection()
        self._cancel_waits()  # a warm owner may wait for its connect
        self.step(LinkEvent.REPLACE)

    def send(self, data: bytes, *, binary: bool) -> Future[None]:
        """Done when the owner has handed all bytes to the kernel."""
        return self.requests.send(data, binary=binary)

    def request(self, pending: Pending, payload: Payload, timeout: float | None) -> None:
        """`pending` is done when the peer has answered; see `Requests.request`."""
        self.requests.request(pending, payload, self.endpoint.request, timeout)

    def subscribe(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Want these too; they are requested at once where there is an owner that can, else at the next `Up`. What was
        rejected is requested again."""
        streams = list(streams)
        again = self.ledger.refused(streams)
        self.ledger.forgive(again)
        new = self.ledger.want(streams) + again
        if new and self._custody.resumption is not None:
            self._tellings.put_off(commands.SUBSCRIBE, new)
        elif new and self.state in ("connecting", "up"):
            self._tellings.tell(commands.SUBSCRIBE, new)
        self._change.subscriptions_changed(commands.SUBSCRIBE, new)
        return new

    def unsubscribe(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Want these no more."""
        gone = self.ledger.unwant(streams)
        if gone and self.is_handed_on:
            self._tellings.put_off(commands.UNSUBSCRIBE, gone)  # an owner that is not up only forgets what it was to ask for
        elif gone and self.state in ("connecting", "up"):
            self._tellings.tell(commands.UNSUBSCRIBE, gone)
        self._change.subscriptions_changed(commands.UNSUBSCRIBE, gone)
        return gone

    def resubscribe(self, streams: Iterable[Subscription]) -> None:
        """Ask anew for those of them that are wanted; a new connection does so by itself."""
        anew = self.ledger.ask_anew(streams, monotonic())
        if anew and self.is_handed_on:
            self._tellings.put_off(commands.RESUBSCRIBE, anew)
        elif anew and self.state in ("connecting", "up"):
            self._tellings.tell(commands.RESUBSCRIBE, anew)

    def insert(self, data: bytes, *, binary: bool) -> int:
        """Put the user's own record into the stream, in order; its number."""
        at = time_ns()
        number = self.ledger.numbers.accept(1, at)
        arrival = arrival_of_one(data, self.account, epoch=self.epoch, number=number, received_at=at, binary=binary)
        self._inbox.put(arrival)
        return number

    def enter(self, monitor: Watcher) -> None:
        """Let a monitor see what comes, and what is the case."""
        self.monitors.add(monitor)
        if self.state == "up":
            monitor.notify(items.Up(self.name, self.epoch, time_ns()))
        elif self.last_exit is not None:
            monitor.notify(items.Down(self.name, self.epoch, time_ns(), self.last_exit))

    def replace_settings(self, endpoint: Endpoint, dialect: dict[str, Any] | None) -> None:
        """New settings from a reload; they hold from the next owner on. The old one goes when that is ready."""
        alike = are_alike(self.endpoint, self.dialect, endpoint, dialect)
        self._change.drop()
        paces = dict(self.ledger.paces) if alike else {}
        self.ledger.unwant(list(self.ledger.wanted.values()))
        self.ledger.want(endpoint.subscribe)
        self.ledger.paces.update((name, longest) for name, longest in paces.items() if name in self.ledger.wanted)
        self.endpoint = endpoint
        self.account.use(endpoint.buffer)
        self.dialect = dialect
        self._policy = RestartPolicy(endpoint.restart, random)
        self._url = 0
        if self._can_overlap:
            self._change.begin("changed", alike=alike)
        else:
            self.restart("changed", afresh=True)

    @property
    def received(self) -> Count:
        """What was received since it was added."""
        return Count(self.counters.messages, self.counters.bytes)

    def status(self) -> EndpointStatus:
        """For the status. Its `group`, its rates and its process's `memory` are added by those who know them."""
        now, epoch, counters = monotonic(), self._epoch, self.counters
        return {
            "state": self.state,
            "pid": self.pid,
            "epoch": epoch.number,
            "uptime": round(now - epoch.up_since, 3) if epoch.up_since is not None else None,
            "messages": counters.messages,
            "bytes": counters.bytes,
            "rate": None,
            "byte_rate": None,
            "restarts": self._policy.total,
            "gaps": counters.gaps,
            "handoffs": counters.handoffs,
            "in_custody": self._child is not None and self._child.in_custody,
            "successor": self._change.phase,
            "holder": self._child.holder.pid if self._child is not None and self._child.holder is not None else None,
            "dropped": self.account.dropped,
            "filtered": counters.filtered,
            "torn": counters.torn,
            "silence": round(now - counters.last_heard, 3) if counters.last_heard is not None else None,
            "rtt": epoch.rtt,
            "buffered": self.account.waiting,
            "pending": self.requests.waiting,
            "memory": None,
            "last_exit": exit_status(self.last_exit),
            "url": mask_url(self._current_url()),
            "subscriptions": self.ledger.to_json(),
            "group": None,
        }

    # -- the next owner --------------------------------------------------------------------------------------------------

    def step(self, event: LinkEvent, decision: Decision | None = None) -> None:
        """Let `event` happen to it. `decision`: of the restart policy, where the event is the death of an owner."""
        self._life, action = step(self._life, event)
        _ACTIONS[action](self, decision or Decision(Verdict.RESTART))

    def _nothing(self, decision: Decision) -> None:
        """The table says that nothing is to be done."""

    def _reserve_connect(self, decision: Decision) -> None:
        """Acquire an owner as soon as the host's budget allows a connect."""
        del decision
        self._slot = self.reserve_connect()
        if self._slot.wait > 0:
            self._slot.when_allowed(lambda: self.step(LinkEvent.DUE))
        else:
            self.step(LinkEvent.DUE)

    def reserve_connect(self) -> ConnectSlot:
        """A connect of its next owner, by the budget of its host."""
        target = connect_target(self.endpoint, self._current_url())
        slot = ConnectSlot(self._office.budget, target, self._office.reactor)
        if slot.wait > 0:
            self.narrate.budget(self.epoch + 1, target.host, slot.wait)
        return slot

    def leave_host_alone(self, reason: Reason) -> None:
        """Apply Retry-After to every endpoint on this host, because the peer limits by host and address, not by endpoint."""
        if wait := asked_to_wait(reason):
            key = connect_target(self.endpoint, self._current_url()).key
            self._office.budget.hold(key, monotonic() + wait)

    def _acquire_owner(self, decision: Decision) -> None:
        del decision
        self._epoch = Epoch(self.ledger.numbers.next_epoch())
        self._timer = None
        child = self._office.hire(self, self.endpoint)
        self._child = child
        if child.state is State.WARM:
            self.on_ready(child)

    def on_ready(self, child: OwnerChild) -> None:
        """The owner is warm: it gets the endpoint."""
        if self._custody.resumption is None and self._slot is None:
            # It was acquired to go on with a connection that was given up meanwhile.
            self._slot = self.reserve_connect()
            if self._slot.wait > 0:
                self.step(LinkEvent.POSTPONE)
                self._slot.when_allowed(lambda: self.on_ready(child))
                return
        try:
            assignment = self._assignment()
        except ConfigError as error:
            self._epoch.last_words = Reason(kind="config", text="; ".join(map(str, error.problems)))
            child.stop()
            return
        self._begin_assignment()
        resumption, holder = self._custody.take()
        if resumption is None:
            slot, self._slot = self._slot, None
            assert slot is not None
            self._assign(child, assignment, slot)
        else:
            child.assign(assignment, resumption, holder)
            if child.in_custody:
                resume = resumption.resume
                # What was reported with the open connection is the connection's: this owner may die before it reports anything.
                self._epoch.resuming, self._epoch.position, self._epoch.up_fields = True, resume.position, resume.up
            else:
                self._connection_gone()
        self._watchdogs.begin(child)

    def _begin_assignment(self) -> None:
        self._epoch.assigned = True
        self.step(LinkEvent.ASSIGN)

    def _assign(self, child: OwnerChild, assignment: Assignment, slot: ConnectSlot) -> None:
        """Let it open a connection."""
        slot.use()
        if not (assignment.endpoint.tls.holder and assignment.url.startswith("wss:")):
            child.assign(assignment)
            return
        try:
            holder = TlsHolder(self._holder_gone, self._holder_said).hired(self._office.hire, assignment)
        except OSError as error:
            child.abort(Reason(kind="connect_failed", text=f"no loopback connection to a TLS holder: {error}"))
            return
        self._holders.add(holder)
        child.assign(holder.for_owner(assignment), None, holder)

    def _holder_gone(self, holder: TlsHolder) -> None:
        self._holders.discard(holder)
        if self.settled:
            self._office.on_settled(self)

    def _holder_said(self, line: str) -> None:
        self.narrate.printed(self.epoch, None, f"TLS holder: {line}")

    def _assignment(self, epoch: int = 0, *, identify: bool = False) -> Assignment:
        endpoint = expand_endpoint(self.endpoint)
        self._secrets = secrets_of(self.endpoint)
        return Assignment(
            endpoint=endpoint,
            epoch=epoch or self.epoch,
            identify=identify,
            url=endpoint.urls[self._url % len(endpoint.urls)],
            dialect=self.dialect,
            wanted=tuple(self.ledger.wanted.values()),
            confirmed=tuple(self._was_confirmed if self._custody.resumption is None else self._still_subscribed()),
            channels={} if self._custody.resumption is None else dict(self.ledger.channels),
            live=() if self._custody.resumption is None else tuple(sorted(self.ledger.live)),
            rejected={} if self._custody.resumption is None else dict(self.ledger.rejected),
            blamed=self.ledger.blame.for_owner(monotonic()),
            retry_at=self.ledger.blame.retries(monotonic()),
            paces=dict(self.ledger.paces),
            login_at=None if self._custody.resumption is None else self.ledger.login_at,
            challenge=None if self._custody.resumption is None else self.ledger.challenge,
            heartbeat_at=None if self._custody.resumption is None else self.ledger.heartbeat_at,
            token=None if self._custody.resumption is None else self.ledger.token,
            requests=() if self._custody.resumption is None else self.requests.ids,
            custody=capabilities.custody(),
            busy_poll=self._office.busy_poll,
            last_number=self.ledger.numbers.last_number,
            last_received_at=self.ledger.numbers.last_received_at,
            quarantine=self.quarantine,
            sys_path=with_dialect_folder(self.sys_path, endpoint.dialect),
        )

    quarantine = ""
    """Folder for the messages a decode hook fails on; set by the supervisor."""
    sys_path: tuple[str, ...] = ()
    """Where hooks are importable from; set by the supervisor."""

    # -- what the owner says ---------------------------------------------------------------------------------------------

    def on_record(self, child: OwnerChild, received: Record) -> None:
        """A batch of messages, or something said between them."""
        epoch, counters = self._epoch, self.counters
        counters.filtered += received.filtered
        if received.kind == record.REPORT:
            try:
                apply_report(self, parse_report(received.report))
            except ValueError as error:
                child.abort(Reason(kind="corrupt", text=f"a report that makes no sense: {error!r}"[:300]))
            return
        counters.bytes += max(0, received.position - epoch.position)
        epoch.position = received.position
        if not received.count:
            return
        try:
            if received.streams is not None and ANSWER in received.streams:
                rest = self.requests.take_answers(received)
                if rest is None:
                    return
                received = rest
            streams = None if received.streams is None else [epoch.streams[index] for index in received.streams]
        except (IndexError, ValueError):
            child.abort(Reason(kind="corrupt", text="a message of a stream that was not announced"))
            return
        counters.last_heard = monotonic()
        self._merge(received, streams)
        if self.account.waiting > self.account.buffer.max_bytes:
            self._overflowed(child)

    def on_lone(self, child: OwnerChild, lone: Lone) -> None:
        """As `on_record`, by a shorter way: a lone message is what somebody waits for."""
        if self._change.merge is not None:
            self.on_record(child, Record.of_lone(lone))
            return
        data, _, received_at, position, _ = lone
        epoch, counters = self._epoch, self.counters
        if position > epoch.position:
            counters.bytes += position - epoch.position
        epoch.position = position
        counters.last_heard = monotonic()
        counters.messages += 1
        epoch.messages += 1
        account, office = self.account, self._office
        number = self.ledger.numbers.accept(1, received_at)
        message = _make_message(items.Message, (account.name, data, epoch.number, number, received_at, None, False))
        reactor = office.reactor
        if office.inbox_of(account.name).put_one(message, account, reactor.serves):
            reactor.served = True
        elif account.waiting > account.buffer.max_bytes:
            self._overflowed(child)

    def _merge(self, received: Record, streams: list[str | None] | None) -> None:
        """Let into the stream what no other connection of the endpoint has delivered."""
        if self._change.merge is None:
            self.accept(received, streams)
        else:
            self._change.take(received, streams)

    def accept(self, received: Record, streams: list[str | None] | None) -> None:
        """Number these messages, and put them into the stream."""
        first = self.ledger.numbers.accept(received.count, received.received_at)
        self.counters.messages += received.count
        self._epoch.messages += received.count
        account = self.account
        inbox = self._office.inbox_of(account.name)
        inbox.put(arrival_of(received, account, epoch=self._epoch.number, first=first, streams=streams))

    def on_command(self, child: OwnerChild, command: Command) -> None:
        """An answer on the control socket."""
        try:
            if command.kind == commands.PROBED:
                rtt = command.json().get("rtt")
                self._epoch.rtt = rtt if isinstance(rtt, int | float) else None
            elif command.kind == commands.TAKEN:
                self._taken(command.ref)
            elif command.kind in (commands.BEGUN, commands.ANNOUNCE):
                self.requests.begun(command.ref)
            elif command.kind == commands.REFUSED:
                answer = command.json()
                self.requests.refused(command.ref, answer.get("fate"), str(answer.get("text", "refused")))
        except ValueError as error:
            child.abort(Reason(kind="corrupt", text=f"control socket: {error}"))

    def _taken(self, ref: int) -> None:
        self._change.taken(ref)
        self._tellings.taken(ref)
        self.requests.taken(ref)

    def on_log(self, child: OwnerChild, line: str) -> None:
        """Something user code printed in the owner."""
        self.narrate.printed(self.epoch, child.pid, line)

    def on_dead(self, child: OwnerChild, reason: Reason) -> None:
        """The owner is gone and its pipe is drained."""
        self._cancel_waits()  # a warm owner may have waited for its connect
        epoch = self._epoch
        if child.torn_bytes:
            self.counters.torn += 1
            logger.warning("%s/%d: a record of %d bytes was not finished; dropped", self.name, self.epoch, child.torn_bytes)
        self._outlive(child, reason)
        if epoch.last_words is not None and reason.kind not in _OVERRULING:
            reason = epoch.last_words
        if child.holder is not None and (lost := child.holder.lost(reason)) is not None:
            reason = Reason(kind="holder_lost", text=f"its TLS holder: {lost.describe()}")
        was_asked = self._life in (LinkState.LEAVING, LinkState.STOPPING)
        if reason.kind == "stopped" and not was_asked:  # somebody else sent it a SIGTERM
            reason = Reason(kind="crashed", signal="SIGTERM", code=reason.code)
        reason = replace(reason, text=self.mask(reason.text), body=self.mask(reason.body))
        self.requests.owner_gone(self._custody.resumption, heard=child.heard_out and reason.kind != "corrupt")
        self._child = None
        self.leave_host_alone(reason)
        uptime = monotonic() - epoch.up_since if epoch.up_since is not None else None
        if uptime is None and self._custody.resumption is None:
            self._url += 1  # the next address, where there are several
        self._close_epoch(reason, uptime)
        if self._life is LinkState.STOPPING:
            self.step(LinkEvent.END)
        else:
            self._act_on(reason, uptime)

    def _outlive(self, child: OwnerChild, reason: Reason) -> None:
        """See to it that the connection, if it is alive, goes on to the next owner."""
        epoch = self._epoch
        if self._custody.resumption is not None or not child.in_custody:  # it died before it had got it, or it never had one
            return
        is_last = self._life is LinkState.STOPPING or epoch.last_words is not None
        if is_last or epoch.unwanted or reason.kind in _UNRESUMABLE:
            return
        quarantine = Quarantine(self.quarantine, self.name)
        try:
            cut_out = self._custody.keep(child, reason, epoch.up_fields, self.endpoint.timeouts.connect, quarantine)
        except NotResumable as error:
            self.narrate.lost_connection(epoch.number, str(error))
            return
        if cut_out:
            self.narrate.dropped(epoch.number, 1, "poison", cut_out)

    def _give_up_connection(self) -> None:
        """Nobody goes on with it: the peer must see that."""
        if self._custody.give_up():
            self._connection_gone()

    def _connection_gone(self) -> None:
        """Nothing is subscribed any more, and nobody completes what was half sent."""
        self._was_confirmed = self.ledger.connection_lost()
        self._tellings.connection_gone()
        self.requests.connection_lost(heard=True)

    def _close_epoch(self, reason: Reason, uptime: float | None) -> None:
        self._watchdogs.end()
        if self._retry is not None:
            self._retry.cancel()
        self.last_exit = reason
        self.counters.last_lost_at = self.ledger.numbers.last_received_at
        goes_on = self._custody.resumption is not None
        self._tellings.owner_gone(goes_on=goes_on)
        if not goes_on:
            self._connection_gone()
        self._forget_relief()
        down = items.Down(self.name, self.epoch, time_ns(), reason, *self._standing())
        self.put(down)
        self._notify(down)
        self.narrate.down(self.epoch, reason, uptime, self._epoch.messages)
        self._epoch = Epoch(self._epoch.number)

    def _still_subscribed(self) -> list[Subscription]:
        """What the next owner need not ask for on a connection that goes on: what the peer has answered, and, where nothing
        confirms, what was sent."""
        ledger = self.ledger
        return [stream for key, stream in ledger.wanted.items() if ledger.is_answered(key) or key in ledger.asked]

    @property
    def _is_answered(self) -> bool:
        """Whether the peer says what it has subscribed."""
        return bool(self.dialect is not None and self.dialect.get("subscribe") and self.dialect.get("ack"))

    def _act_on(self, reason: Reason, uptime: float | None) -> None:
        if self._life is LinkState.LEAVING:
            decision = Decision(Verdict.RESTART)
            self._policy.total += 1
        else:
            decision = self._policy.decide(monotonic(), reason, uptime)
        alive = self._custody.resumption is not None and decision.verdict is Verdict.RESTART
        follows = self._change.can_follow and decision.verdict is Verdict.RESTART and not alive
        waits = alive and reason.kind == "start_failed"  # what ended that start may end the next one at once
        self.narrate.next(decision, self.endpoint.restart, resumes=alive, follows=follows, waits=waits)
        if not alive:
            self._give_up_connection()
        if not follows:
            self._change.drop()
        self.step(after_death(decision, alive=alive, follows=follows, waits=waits), decision)
        self._office.on_verdict(self, decision)

    def _await_retry(self, decision: Decision) -> None:
        self._timer = self._office.reactor.call_later(decision.delay, lambda: self.step(LinkEvent.START))

    def _await_resumption(self, decision: Decision) -> None:
        self._timer = self._office.reactor.call_later(decision.delay, lambda: self.step(LinkEvent.DUE))

    def _ask_to_leave(self, decision: Decision) -> None:
        del decision
        assert self._child is not None
        self._child.stop(kind="silence" if self._epoch.planned == "silence" else "recycled")

    def _ask_to_stop(self, decision: Decision) -> None:
        del decision
        if self._child is not None:  # else it is dead, and whoever was notified of that stops the endpoint
            self._child.stop(kind="stopped")

    def _kill(self, decision: Decision) -> None:
        del decision
        assert self._child is not None
        self._child.abort(Reason(kind="recycled", text=self._epoch.planned))  # nothing is lost by it, or waited for

    def _adopt_successor(self, decision: Decision) -> None:
        assert self.last_exit is not None
        adopt = partial(self._adopt, replaces=decision.restarts == 0)
        self._change.adopt(self.counters.last_lost_at, adopt, in_order=_read_all(self.last_exit))

    def _settle_fatal(self, decision: Decision) -> None:
        assert self.last_exit is not None
        self.put(items.Fatal(self.name, self.epoch, time_ns(), self.last_exit))
        self._settle(decision)

    def _settle(self, decision: Decision) -> None:
        del decision
        for future in self._up_waiters:
            why = self.last_exit.describe() if self.last_exit else "stopped"
            future.set_exception(NotConnected(f"{self.name} is {self.state}: {why}"))
        self._up_waiters.clear()
        self._office.on_settled(self)

    # -- reports ---------------------------------------------------------------------------------------------------------

    def at_stage(self, stage: str) -> None:
        """Its owner is at this step of the way to a connection."""
        self.narrate.stage(self.epoch, stage, mask_url(self._current_url()))

    def leaves(self, reason: Reason) -> None:
        """Its owner has said its last word."""
        self._epoch.last_words = reason
        if self._child is not None:
            self._child.leaving()

    def came_up(self, headers: dict[str, str], subprotocol: str | None, peer: str, *, resumed: bool) -> None:
        """Its connection is open; `resumed`: the owner goes on with the one that it was handed."""
        epoch, now = self._epoch, time_ns()
        self.step(LinkEvent.UP)
        epoch.up_since = self.counters.last_heard = monotonic()
        if resumed is not epoch.resuming:
            raise ValueError("nothing was resumed" if resumed else "it did not go on with the connection that it was handed")
        interrupted = sorted(map(str, self._change.interrupted)) if epoch.continues else ()
        resumed = resumed or (self._takes_up() and not interrupted)
        epoch.up_fields = {"headers": headers, "subprotocol": subprotocol, "peer": peer}
        masked = {name: self.mask(value) for name, value in headers.items()}
        agreed = subprotocol and self.mask(subprotocol)
        up = items.Up(self.name, epoch.number, now, agreed, masked, resumed, *self._standing())
        self.put(up)
        if epoch.resuming:
            self.counters.handoffs += 1
            cut_out, self._custody.cut_out = self._custody.cut_out, []
            for size in cut_out:
                self.account.dropped += 1
                self.put(items.Dropped(self.name, epoch.number, now, None, None, 1, size, "poison"))
            self._tellings.catch_up(self.ledger)
        else:
            self._custody.connection_opened()
            if self.ledger.numbers.ever_up:
                self.ledger.connection_lost()
                for stream in interrupted or (() if resumed else (None,)):
                    cause = "replaced" if epoch.replaces else "reconnected"
                    self.gap(cause, self.counters.last_lost_at, now, stream=stream)
        self.ledger.numbers.ever_up = True
        self._watchdogs.connection_up(resumed=epoch.resuming)
        self._notify(up)
        if not epoch.planned and not self._change.under_way:  # else it is the old owner, which is to go
            for future in self._up_waiters:
                future.set_result(None)
            self._up_waiters.clear()
        self.narrate.up(epoch.number, mask_url(self._current_url()), peer, resumed=resumed)

    def _takes_up(self) -> bool:
        """Whether the new connection continues the stream without a loss."""
        return self._epoch.continues

    def _standing(self) -> tuple[int | None, int | None]:
        """For `Up` and `Down`: the member it is, and how many are live."""
        return None, None

    def _notify(self, event: items.Up | items.Down) -> None:
        for monitor in self.monitors:
            monitor.notify(event)

    def gap(self, cause: str, last_received_at: int | None, resumed_at: int | None, **more: Any) -> None:
        """Say in the stream that something is, or may be, missing."""
        self.counters.gaps += 1
        self.put(items.Gap(self.name, self.epoch, time_ns(), cause, last_received_at, resumed_at, **more))

    # -- flow and watchdogs ----------------------------------------------------------------------------------------------

    def _overflowed(self, child: OwnerChild) -> None:
        match self.endpoint.buffer.overflow:
            case "disconnect" if self.account.has_overflowed:
                self._inbox.discard(self.account, "overflow")
                text = f"more than {self.endpoint.buffer.max_bytes} bytes waited for the consumer"
                child.abort(Reason(kind="overflow", text=text))
            case "block" if self.account.relieved is None and self._life is not LinkState.STOPPING:
                relieved = lambda: self._office.reactor.post(lambda: self._relieve(child))  # noqa: E731
                if self._inbox.await_relief(self.account, relieved):
                    child.pause()

    def _forget_relief(self) -> None:
        """Who waited for it is gone."""
        self.account.relieved = None

    def _relieve(self, child: OwnerChild) -> None:
        if self._child is child:
            child.resume()

    def too_large(self, child: OwnerChild, resident: int) -> None:
        """For the watchdogs: its owner is over `watchdog.memory`."""
        allowed = self.endpoint.watchdog.memory
        if resident <= allowed * _MEMORY_MARGIN and self._can_overlap and not child.in_custody:
            self._change.begin("memory_limit")
        else:
            child.abort(Reason(kind="memory_limit", text=f"{resident} bytes resident, {allowed} allowed"))

    def too_old(self) -> None:
        """For the watchdogs: its connection has reached `watchdog.max_age`."""
        self.replace_connection("max_age")

    def asked_to_reconnect(self, text: str) -> None:
        """The peer is going to close its connection, in these words."""
        self.narrate.said(self.epoch, "warning", f"the peer asks for a new connection: {text}")
        self.replace_connection("notice")

    def gave_up(self, stream: str | None, silence: float) -> None:
        """A stream is silent all the same after it was subscribed anew."""
        self.narrate.stalled(self.epoch, stream, silence, "it needs a new connection")
        self.replace_connection("silence")

    def replace_connection(self, why: str) -> None:
        """A new connection, as planned."""
        if not self.stays:
            return
        if self._change.under_way:
            self._change.insist(why)
        elif self._can_overlap:
            self._change.begin(why)
        else:
            self._leave(why, afresh=True)

    # -- a planned change (changeover.Changing) --------------------------------------------------------------------------

    @property
    def _can_overlap(self) -> bool:
        return self.stays and self.endpoint.make_before_break

    @property
    def is_receiving(self) -> bool:
        """Whether its connection has delivered something lately."""
        heard = self.counters.last_heard
        return heard is not None and monotonic() - heard < _RECEIVING

    @property
    def confirmed(self) -> frozenset[str]:
        """The streams that its connection has, by name."""
        return frozenset(self.ledger.confirmed)

    def hire_successor(self, succession: Succession) -> OwnerChild:
        """For a change: a process."""
        return self._office.hire(succession, self.endpoint)

    def assign_successor(self, child: OwnerChild, slot: ConnectSlot, *, identify: bool) -> None:
        """For a change: let the successor connect."""
        try:
            self._assign(child, self._assignment(self.epoch + 1, identify=identify), slot)
        except ConfigError as error:
            self._change.successor_failed("; ".join(map(str, error.problems)))

    def tell_owner(self, kind: int, body: dict[str, Any]) -> int:
        """For a change: tell the owner something that it answers by TAKEN; the ref."""
        ref = next(self._refs)
        if self._child is not None:
            self._child.tell(kind, ref, body)
        return ref

    def let_owner_go(self, why: str) -> None:
        """For a change: the successor is ready."""
        self.requests.when_idle(self.endpoint.timeouts.close, lambda: self._let_owner_go(why))

    def _let_owner_go(self, why: str) -> None:
        if self._change.is_ready and self._child is not None and self._life is not LinkState.LEAVING:
            self._leave(why, afresh=True)

    def change_failed(self, why: str, text: str) -> None:
        """For a change: the successor is of no use, the old owner stays."""
        text = self.mask(text)
        self.narrate.change_failed(self.epoch, why, text)
        for future in self._up_waiters:
            future.set_exception(NotConnected(f"{self.name}: the successor failed, the old connection stays: {text}"))
        self._up_waiters.clear()
        if why in _INSISTENT and self.stays:
            self._retry = self._office.reactor.call_later(self.endpoint.restart.backoff_max, lambda: self._try_again(why))

    def _try_again(self, why: str) -> None:
        if self._child is not None and self._child.is_frozen:
            self._retry = self._office.reactor.call_later(_LATER, lambda: self._try_again(why))
        elif self._can_overlap:
            self._change.begin(why)

    def successor_printed(self, child: OwnerChild, line: str) -> None:
        """For a change: user code printed something in the successor."""
        self.narrate.printed(self.epoch + 1, child.pid, line)

    def successor_gone(self) -> None:
        """For a change: the process of one that was dropped has ended."""
        if self.settled:
            self._office.on_settled(self)

    def _adopt(
        self, child: OwnerChild, slot: ConnectSlot, held: list[Record], continues: bool, *, replaces: bool
    ) -> None:
        """The successor is the owner: what it said so far happens now. `slot`: its connect, made or not. `replaces`: as
        planned."""
        self._epoch = Epoch(self.ledger.numbers.next_epoch(), continues=continues, replaces=replaces)
        self._child = child
        self._slot = slot if child.state is not State.SERVING else None
        child.listener = self
        if child.state is State.WARM:
            self.on_ready(child)
        elif child.state is State.SERVING:
            self._begin_assignment()
            for received in held:
                self.on_record(child, received)
            child.resume()
            self._watchdogs.begin(child)
            if continues:  # then its first snapshots were left out
                self.resubscribe(self.ledger.still_asked(monotonic()))

    def mask(self, text: str) -> str:
        """What a peer said, without the secrets that it was sent."""
        if self._secrets is None:
            self._secrets = secrets_of(self.endpoint)
        return self._secrets.mask(text)

    # -- small tools -----------------------------------------------------------------------------------------------------

    @property
    def _inbox(self) -> Inbox:
        return self._office.inbox_of(self.name)

    def put(self, event: items.Event) -> None:
        self._inbox.put_event(event, self.account)

    def _current_url(self) -> str:
        urls = self.endpoint.urls
        return urls[self._url % len(urls)] if urls else ""

    def _cancel_waits(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._slot is not None:
            self._slot.cancel()
            self._slot = None

    def post(self, kind: int, body: bytes) -> int:
        """For its requests: hand the owner something to send; the ref. Raises `NotConnected` where it is not up."""
        if self.state != "up" or self._child is None:
            remedy = f"wait for its Up (feed.monitor({self.name!r}).wait_up())"
            raise NotConnected(f"{self.name} is {self.state}: nothing was sent; {remedy}")
        ref = next(self._refs)
        try:
            self._child.tell(kind, ref, body)
        except NotConnected as error:
            raise NotConnected(f"{self.name}: {error}; nothing was sent") from None
        return ref

    def tell_if_up(self, kind: int, ref: int, body: dict[str, Any]) -> None:
        """For its requests: tell the owner something, where there is one that listens."""
        if self._child is not None:
            with suppress(NotConnected):  # it is leaving: nothing of it is sent any more
                self._child.tell(kind, ref, body)


_make_message: Callable[[type[items.Message], tuple[Any, ...]], items.Message] = tuple.__new__


def promise() -> Future[None]:
    """A future that its caller can't cancel: an answer that came to a cancelled one would raise in the loop."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future


def _read_all(reason: Reason) -> bool:
    """Whether an owner that ended so had read all that its connection brought: it went on asked, or the peer said goodbye."""
    return reason.kind in ("recycled", "stopped") or (reason.kind == "closed_by_peer" and not reason.broke_off)


_ACTIONS: dict[LinkAction, Callable[[ManagedEndpoint, Decision], None]] = {
    LinkAction.NOTHING: ManagedEndpoint._nothing,
    LinkAction.RESERVE_CONNECT: ManagedEndpoint._reserve_connect,
    LinkAction.ACQUIRE_OWNER: ManagedEndpoint._acquire_owner,
    LinkAction.ASK_TO_LEAVE: ManagedEndpoint._ask_to_leave,
    LinkAction.ASK_TO_STOP: ManagedEndpoint._ask_to_stop,
    LinkAction.KILL: ManagedEndpoint._kill,
    LinkAction.ADOPT_SUCCESSOR: ManagedEndpoint._adopt_successor,
    LinkAction.AWAIT_RETRY: ManagedEndpoint._await_retry,
    LinkAction.AWAIT_RESUMPTION: ManagedEndpoint._await_resumption,
    LinkAction.SETTLE: ManagedEndpoint._settle,
    LinkAction.SETTLE_FATAL: ManagedEndpoint._settle_fatal,
}
