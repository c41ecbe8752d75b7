"""One connection over all its owners: who owns the connection now, and what happens at each change of owner.

The states of a link, and what each event does, are the table in link_state.py. When an owner dies, its pipe is read to the end,
`Down` closes its epoch, the restart policy decides what comes next, and the budget of the host decides when. A spare, or a new
process, gets the subscriptions. If the connection outlived its owner (handoff/held_connection.py), the next owner gets the
connection at once. The link makes the order in which the consumer sees this: complete records, `Down`, `Up`, and a `Gap`
directly behind `Up` if anything may be missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from random import random
from time import monotonic, time_ns
from typing import Any, Protocol

from wsadapter.contract import items
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import ConfigError, NotConnected
from wsadapter.contract.ipc import commands, record
from wsadapter.contract.ipc.commands import Assignment, Command
from wsadapter.contract.ipc.record import ANSWER, Record, SingleMessage
from wsadapter.contract.ipc.reports import parse_report
from wsadapter.contract.quarantine import Quarantine
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.connect_slot import ConnectSlot
from wsadapter.endpoint.dialer import Dialer, DialerHost, Office
from wsadapter.endpoint.epoch import Counters, Epoch
from wsadapter.endpoint.futures import Waiters
from wsadapter.endpoint.link_state import LinkAction, LinkEvent, LinkState, after_death, shown, step
from wsadapter.endpoint.link_subscriptions import LinkSubscriptions
from wsadapter.endpoint.log import Narrator
from wsadapter.endpoint.numbered_stream import NumberedStream
from wsadapter.endpoint.reports import apply_report
from wsadapter.endpoint.requests import Requests
from wsadapter.endpoint.restart_policy import Decision, RestartPolicy, Verdict
from wsadapter.endpoint.rollover import Rollover
from wsadapter.endpoint.subscriptions import Ledger
from wsadapter.endpoint.watchdogs import Watchdogs
from wsadapter.handoff.custody import Custody
from wsadapter.handoff.held_connection import NotResumable
from wsadapter.loop.reactor import Timer
from wsadapter.process.lifecycle import Event, State
from wsadapter.process.owner_process import OwnerListener, OwnerProcess
from wsadapter.status import EndpointState, EndpointStatus, exit_status

logger = logging.getLogger("wsadapter.supervisor")

_OVERRULING = frozenset({"hung", "corrupt", "memory_limit", "overflow"})
"""If the supervisor ended an owner for one of these reasons, that reason is reported, whatever the owner itself reported."""
_UNRESUMABLE = ("corrupt", "overflow")
"""If an owner was ended for one of these reasons, no owner continues with its connection: what it reported can't be trusted, or
the connection is not wanted."""
_RECEIVING = 2.0
"""Seconds without a message after which a connection does not count as receiving."""
_MEMORY_MARGIN = 1.25
"""Over so many times `watchdog.memory` an owner is killed, whether its successor is ready or not."""


class LinkHost(DialerHost, Protocol):
    """What a link needs of its endpoint."""

    @property
    def stream(self) -> NumberedStream: ...
    def on_verdict(self, decision: Decision) -> None:
        """The link decided about its next owner. That may concern other endpoints (strategy, stop of the supervisor)."""
        ...

    def on_settled(self) -> None:
        """The link has no process any more, and gets none by itself."""
        ...


class LinkGroup(Protocol):
    """What the links of one endpoint are to each other."""

    last_exit: Reason | None
    """Why the last connection ended; None: none has."""
    is_replicated: bool
    """Whether an endpoint has several links at the same time, each of which may show what another one showed."""

    def deliver(self, link: Link, received: Record, streams: list[str | None] | None) -> None:
        """Let into the stream what no other link has delivered."""
        ...

    def link_up(self, link: Link) -> bool:
        """Its connection is new; whether the link takes the stream up without a loss, because others delivered meanwhile."""
        ...

    def link_down(self, link: Link, reason: Reason, *, goes_on: bool) -> None:
        """Its owner is dead. `goes_on`: its connection is not."""
        ...

    def connection_lost(self, link: Link) -> None:
        """Its connection, which had no owner, is given up."""
        ...

    def is_news(self, link: Link, event: items.Event) -> bool:
        """Whether an event is to be put into the stream, because no other link has reported the same."""
        ...

    def standing(self, link: Link, *, closing: bool = False) -> tuple[int | None, int | None]:
        """For `Up` and `Down`: which member it is, and how many are live, without itself if it is `closing`."""
        ...

    def may_hand_on(self, link: Link) -> bool:
        """Whether its connection may go to its next owner."""
        ...

    def can_spare(self, link: Link) -> bool:
        """Whether other links deliver all that it delivers."""
        ...

    def overflowed(self) -> None:
        """More waits for the consumer than may."""
        ...


class Link:
    """One connection and its current owner, if it has one. All methods under the reactor's lock."""

    def __init__(self, office: Office, host: LinkHost, group: LinkGroup, number: int = 1) -> None:
        """`number`: among the links of its endpoint, from 1."""
        endpoint, stream = host.endpoint, host.stream
        self.number = number
        self.stream = stream
        self.account = stream.account
        self.last_exit: Reason | None = None
        self.restored_at: float | None = None
        """Monotonic seconds since when all subscriptions of the connection are answered; None: they are not."""
        self.counters = Counters()
        self._office = office
        self._host = host
        self._group = group
        self._policy = RestartPolicy(endpoint.restart, random)
        self.narrate = Narrator(endpoint.name)
        self._life = LinkState.STOPPED
        self._epoch = Epoch(stream.numbers.epoch)
        self._child: OwnerProcess | None = None
        self._timer: Timer | None = None
        self._slot: ConnectSlot | None = None
        """The connect that its owner is to make, until it is made."""
        self.dialer = Dialer(office, host, self.on_process_gone, self._on_holder_said)
        self._custody = Custody(office.reactor, self._give_up_connection)
        self._watchdogs = Watchdogs(self, office.reactor)
        self.rollover = Rollover(self, office.reactor)
        self._refs = count(1)
        self.requests = Requests(self, office.reactor, self.put)
        self.subscriptions = LinkSubscriptions(self, self._custody, self._refs, self.rollover.subscriptions_changed)
        self._up_waiters = Waiters()
        self.ledger.want(endpoint.subscribe)

    # -- what can be asked of it -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.account.name

    @property
    def endpoint(self) -> Endpoint:
        """Its endpoint's settings."""
        return self._host.endpoint

    @property
    def dialect(self) -> dict[str, Any] | None:
        """Its endpoint's dialect."""
        return self._host.dialect

    @property
    def epoch(self) -> int:
        """Of its owner, or of the last one; 0 before the first."""
        return self._epoch.number

    @property
    def ledger(self) -> Ledger:
        """What it wants, and what its connection has."""
        return self.subscriptions.ledger

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
        none = self._child is None and not self.rollover.dropped and not self.dialer.has_holders
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
        self.rollover.drop()
        self._give_up_connection()
        self.step(LinkEvent.STOP)

    def restart(self, why: str = "recycled", *, afresh: bool = False, at_once: bool = False) -> Future[None]:
        """A new owner, whatever the state; the future is done when it is up. It goes on with the connection where that can
        outlive the old owner, but not `afresh`. A connection that is up and has to be replaced is left only when the next one
        is ready, but for `at_once`."""
        future = self._up_waiters.add()
        self._policy.pardon()
        if self._child is None:
            self._cancel_waits()
            self.step(LinkEvent.START)
        elif self._child.connection.in_custody and not afresh:
            self._epoch.planned = why
            self.step(LinkEvent.HAND_OVER)
        elif self.can_overlap and not at_once:
            self.rollover.begin(why)
        else:
            self.leave(why, afresh=afresh)
        return future

    def leave(self, why: str, *, afresh: bool) -> None:
        """End the owner as planned; the next one opens a new connection."""
        self._epoch.planned = why
        if afresh:
            self._epoch.unwanted = True
            self._give_up_connection()
        self._cancel_waits()  # a warm owner may wait for its connect
        self.step(LinkEvent.REPLACE)

    @property
    def has_assignment(self) -> bool:
        """Whether its owner has its assignment, and was not asked to stop."""
        return self.state in ("connecting", "up")

    def use_settings(self, *, alike: bool) -> None:
        """Its endpoint's settings are new: they hold from the next owner on, and the old one goes when that is ready. `alike`:
        connections by the new settings get the same messages."""
        self.rollover.drop()
        self.subscriptions.replace(self.endpoint.subscribe, alike=alike)
        self._policy = RestartPolicy(self.endpoint.restart, random)
        self.dialer.attempt = 0
        if self.can_overlap:
            self.rollover.begin("changed", alike=alike)
        else:
            self.restart("changed", afresh=True)

    def status(self) -> EndpointStatus:
        """For the status. Its `group`, its rates and its process's `memory` are added by those who know them."""
        now, epoch, counters = monotonic(), self._epoch, self.counters
        holder = self._child.connection.holder if self._child is not None else None
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
            "in_custody": self._child is not None and self._child.connection.in_custody,
            "successor": self.rollover.phase,
            "holder": None if holder is None else holder.pid,
            "dropped": self.account.dropped,
            "filtered": counters.filtered,
            "torn": counters.torn,
            "silence": round(now - counters.last_heard, 3) if counters.last_heard is not None else None,
            "rtt": epoch.rtt,
            "buffered": self.account.waiting,
            "pending": self.requests.waiting,
            "memory": None,
            "last_exit": exit_status(self.last_exit),
            "url": self.dialer.url,
            "subscriptions": self.ledger.to_json(),
            "group": None,
        }

    # -- the next owner --------------------------------------------------------------------------------------------------

    def step(self, event: LinkEvent, decision: Decision | None = None) -> None:
        """Let `event` happen to it. `decision`: of the restart policy, where the event is the death of an owner."""
        self._life, action = step(self._life, event)
        self._perform(action, decision or Decision(Verdict.RESTART))

    def _perform(self, action: LinkAction, decision: Decision) -> None:
        match action:
            case LinkAction.NOTHING:
                pass
            case LinkAction.RESERVE_CONNECT:
                self._reserve_connect()
            case LinkAction.ACQUIRE_OWNER:
                self._acquire_owner()
            case LinkAction.ASK_TO_LEAVE:
                assert self._child is not None
                self._child.stop(kind="silence" if self._epoch.planned == "silence" else "recycled")
            case LinkAction.ASK_TO_STOP:
                if self._child is not None:  # else it is dead, and whoever was notified of that stops the endpoint
                    self._child.stop(kind="stopped")
            case LinkAction.KILL:
                assert self._child is not None
                self._child.abort(Reason(kind="recycled", text=self._epoch.planned))  # nothing is lost by it, or waited for
            case LinkAction.ADOPT_SUCCESSOR:
                self._adopt_successor(decision)
            case LinkAction.AWAIT_RETRY:
                self._timer = self._office.reactor.call_later(decision.delay, lambda: self.step(LinkEvent.START))
            case LinkAction.AWAIT_RESUMPTION:
                self._timer = self._office.reactor.call_later(decision.delay, lambda: self.step(LinkEvent.DUE))
            case LinkAction.SETTLE:
                self._settle()
            case LinkAction.SETTLE_FATAL:
                assert self.last_exit is not None
                self.put(items.Fatal(self.name, self.epoch, time_ns(), self.last_exit))
                self._settle()

    def _reserve_connect(self) -> None:
        """Acquire an owner as soon as the host's budget allows a connect."""
        self._slot = self.reserve_connect()
        if self._slot.wait > 0:
            self._slot.when_allowed(lambda: self.step(LinkEvent.DUE))
        else:
            self.step(LinkEvent.DUE)

    def reserve_connect(self) -> ConnectSlot:
        """A connect of its next owner, by the budget of its host."""
        slot = self.dialer.reserve_connect()
        if slot.wait > 0:
            self.narrate.budget(self.epoch + 1, slot.target.host, slot.wait)
        return slot

    def _acquire_owner(self) -> None:
        self._epoch = Epoch(self.stream.numbers.next_epoch())
        self._timer = None
        child = self.hire(self)
        self._child = child
        if child.state is State.WARM:
            self.on_ready(child)

    def on_ready(self, child: OwnerProcess) -> None:
        """The owner is warm: it gets the endpoint."""
        if self._custody.resumption is None and self._slot is None:
            # It was acquired to go on with a connection that was given up meanwhile.
            self._slot = self.reserve_connect()
            if self._slot.wait > 0:
                self.step(LinkEvent.POSTPONE)
                self._slot.when_allowed(lambda: self.on_ready(child))
                return
        try:
            assignment = self.assignment(self.epoch)
        except ConfigError as error:
            self._epoch.last_words = Reason(kind="config", text="; ".join(map(str, error.problems)))
            child.stop()
            return
        self._begin_assignment()
        resumption, holder = self._custody.take()
        if resumption is None:
            slot, self._slot = self._slot, None
            assert slot is not None
            self.dialer.connect(child, assignment, slot)
        else:
            child.assign(assignment, resumption, holder)
            if child.connection.in_custody:
                resume = resumption.resume
                # What was reported with the open connection is the connection's: this owner may die before it reports anything.
                self._epoch.resuming, self._epoch.position, self._epoch.up_fields = True, resume.position, resume.up
            else:
                self._connection_gone()
                self._group.connection_lost(self)
        self._watchdogs.begin(child)

    def _begin_assignment(self) -> None:
        self._epoch.assigned = True
        self.step(LinkEvent.ASSIGN)

    def assignment(self, epoch: int, *, identify: bool = False) -> Assignment:
        """For its owner of that epoch; `identify`: messages carry their identities. Raises `ConfigError`."""
        resumes, numbers = self._custody.resumption is not None, self.stream.numbers
        return self.dialer.assignment(
            epoch,
            identify=identify or self._group.is_replicated,
            requests=self.requests.ids if resumes else (),
            last_number=numbers.last_number,
            last_received_at=numbers.last_received_at,
            **self.subscriptions.for_owner(),
        )

    def on_process_gone(self) -> None:
        """A process of its own that was no owner has ended."""
        if self.settled:
            self._host.on_settled()

    def _on_holder_said(self, line: str) -> None:
        self.narrate.printed(self.epoch, None, f"TLS holder: {line}")

    # -- what the owner sends --------------------------------------------------------------------------------------------

    def on_record(self, child: OwnerProcess, received: Record) -> None:
        """A batch of messages, or a report."""
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
        merge = self.rollover.merge
        if merge is None:
            self._group.deliver(self, received, streams)
        else:
            merge.take(received, streams)
        if self.account.waiting > self.account.buffer.max_bytes:
            self._group.overflowed()

    def on_lone(self, child: OwnerProcess, lone: SingleMessage) -> None:
        """As `on_record`, by a shorter way: a lone message is what somebody waits for."""
        if self.rollover.merge is not None or self._group.is_replicated:
            self.on_record(child, Record.of_single(lone))
            return
        data, _, received_at, position, _ = lone
        epoch, counters = self._epoch, self.counters
        if position > epoch.position:
            counters.bytes += position - epoch.position
        epoch.position = position
        counters.last_heard = monotonic()
        counters.messages += 1
        epoch.messages += 1
        account = self.account
        number = self.stream.numbers.accept(1, received_at)
        message = _make_message(items.Message, (account.name, data, epoch.number, number, received_at, None, False))
        if not self.stream.inbox.put_one(message, account) and account.waiting > account.buffer.max_bytes:
            self._group.overflowed()

    def accept(self, received: Record, streams: list[str | None] | None) -> None:
        """Number these messages, and put them into the stream."""
        self.counters.messages += received.count
        self._epoch.messages += received.count
        self.stream.accept(received, streams, self._epoch.number)

    def on_command(self, child: OwnerProcess, command: Command) -> None:
        """An answer on the control socket."""
        try:
            if command.kind == commands.PROBED:
                rtt = command.json().get("rtt")
                self._epoch.rtt = rtt if isinstance(rtt, int | float) else None
            elif command.kind == commands.TAKEN:
                self.rollover.taken(command.ref)
                self.subscriptions.taken(command.ref)
                self.requests.taken(command.ref)
            elif command.kind in (commands.BEGUN, commands.ANNOUNCE):
                self.requests.begun(command.ref)
            elif command.kind == commands.REFUSED:
                answer = command.json()
                self.requests.refused(command.ref, answer.get("fate"), str(answer.get("text", "refused")))
        except ValueError as error:
            child.abort(Reason(kind="corrupt", text=f"control socket: {error}"))

    def on_log(self, child: OwnerProcess, line: str) -> None:
        """Something user code printed in the owner."""
        self.narrate.printed(self.epoch, child.pid, line)

    def on_dead(self, child: OwnerProcess, reason: Reason) -> None:
        """The owner is gone and its pipe is drained."""
        self._cancel_waits()  # a warm owner may have waited for its connect
        epoch = self._epoch
        if child.data.torn:
            self.counters.torn += 1
            logger.warning("%s/%d: a record of %d bytes was not finished; dropped", self.name, self.epoch, child.data.torn)
        self._outlive(child, reason)
        if epoch.last_words is not None and reason.kind not in _OVERRULING:
            reason = epoch.last_words
        if child.connection.holder is not None and (lost := child.connection.holder.lost(reason)) is not None:
            reason = Reason(kind="holder_lost", text=f"its TLS holder: {lost.describe()}")
        was_asked = self._life in (LinkState.LEAVING, LinkState.STOPPING)
        if reason.kind == "stopped" and not was_asked:  # somebody else sent it a SIGTERM
            reason = Reason(kind="crashed", signal="SIGTERM", code=reason.code)
        reason = replace(reason, text=self.dialer.mask(reason.text), body=self.dialer.mask(reason.body))
        self.requests.owner_gone(self._custody.resumption, heard=child.control.is_drained and reason.kind != "corrupt")
        self._child = None
        self.dialer.leave_host_alone(reason)
        uptime = monotonic() - epoch.up_since if epoch.up_since is not None else None
        if uptime is None and self._custody.resumption is None:
            self.dialer.attempt += 1  # the next address, if there are several
        self._close_epoch(reason, uptime)
        if self._life is LinkState.STOPPING:
            self.step(LinkEvent.END)
        else:
            self._act_on(reason, uptime)

    def _outlive(self, child: OwnerProcess, reason: Reason) -> None:
        """See to it that the connection, if it is alive, goes on to the next owner."""
        epoch = self._epoch
        if self._custody.resumption is not None or not child.connection.in_custody:
            # It died before it had got the connection, or it never had one.
            return
        is_last = self._life is LinkState.STOPPING or epoch.last_words is not None
        if is_last or epoch.unwanted or reason.kind in _UNRESUMABLE or not self._group.may_hand_on(self):
            return
        quarantine = Quarantine(self._host.quarantine, self.name)
        try:
            cut_out = self._custody.keep(child.connection, reason, epoch.up_fields, self.endpoint.timeouts.connect, quarantine)
        except NotResumable as error:
            self.narrate.lost_connection(epoch.number, str(error))
            return
        if cut_out:
            self.narrate.dropped(epoch.number, 1, "poison", cut_out)

    def _give_up_connection(self) -> None:
        """Nobody goes on with it: the peer must see that."""
        if self._custody.give_up():
            self._connection_gone()
            self._group.connection_lost(self)

    def _connection_gone(self) -> None:
        """Nothing is subscribed any more, and nobody completes what was half sent."""
        self.subscriptions.connection_gone()
        self.requests.connection_lost(heard=True)

    def _close_epoch(self, reason: Reason, uptime: float | None) -> None:
        self._watchdogs.end()
        self.rollover.owner_gone()
        self.last_exit = reason
        self.counters.last_lost_at = self.stream.numbers.last_received_at
        goes_on = self._custody.resumption is not None
        self.subscriptions.owner_gone(goes_on=goes_on)
        if not goes_on:
            self._connection_gone()
        down = items.Down(self.name, self.epoch, time_ns(), reason, *self._group.standing(self, closing=True))
        self.put(down)
        self._notify(down)
        self.narrate.down(self.epoch, reason, uptime, self._epoch.messages)
        self._epoch = Epoch(self._epoch.number)
        self._group.link_down(self, reason, goes_on=goes_on)

    def _are_answers_to_come(self) -> bool:
        """Whether the peer confirms subscriptions, and something is wanted."""
        dialect = self.dialect
        return bool(dialect is not None and dialect.get("subscribe") and dialect.get("ack") and self.ledger.wanted)

    def _act_on(self, reason: Reason, uptime: float | None) -> None:
        if self._life is LinkState.LEAVING:
            decision = Decision(Verdict.RESTART)
            self._policy.total += 1
        else:
            decision = self._policy.decide(monotonic(), reason, uptime)
        alive = self._custody.resumption is not None and decision.verdict is Verdict.RESTART
        follows = self.rollover.can_follow and decision.verdict is Verdict.RESTART and not alive
        waits = alive and reason.kind == "start_failed"  # what ended that start may end the next one at once
        self.narrate.next(decision, self.endpoint.restart, resumes=alive, follows=follows, waits=waits)
        if not alive:
            self._give_up_connection()
        if not follows:
            self.rollover.drop()
        self.step(after_death(decision, alive=alive, follows=follows, waits=waits), decision)
        self._host.on_verdict(decision)

    def _adopt_successor(self, decision: Decision) -> None:
        assert self.last_exit is not None
        adopt = partial(self._adopt, replaces=decision.restarts == 0)
        self.rollover.adopt(self.counters.last_lost_at, adopt, in_order=_read_all(self.last_exit))

    def _settle(self) -> None:
        why = self.last_exit.describe() if self.last_exit else "stopped"
        self.fail_waiters(f"{self.name} is {self.state}: {why}")
        self._host.on_settled()

    # -- reports ---------------------------------------------------------------------------------------------------------

    def at_stage(self, stage: str) -> None:
        """Its owner is at this step of the way to a connection."""
        self.narrate.stage(self.epoch, stage, self.dialer.url)

    def leaves(self, reason: Reason) -> None:
        """Its owner reported why it ends, and sends nothing more."""
        self._epoch.last_words = reason
        if self._child is not None:
            self._child.step(Event.LEAVING)

    def came_up(self, headers: dict[str, str], subprotocol: str | None, peer: str, *, resumed: bool) -> None:
        """Its connection is open; `resumed`: the owner goes on with the one that it was handed."""
        epoch, now = self._epoch, time_ns()
        self.step(LinkEvent.UP)
        epoch.up_since = self.counters.last_heard = monotonic()
        if resumed is not epoch.resuming:
            raise ValueError("nothing was resumed" if resumed else "it did not go on with the connection that it was handed")
        interrupted = sorted(map(str, self.rollover.interrupted)) if epoch.continues else ()
        if not resumed:
            self.restored_at = None if self._are_answers_to_come() else monotonic()
            takes_up = self._group.link_up(self) or epoch.continues
            resumed = takes_up and not interrupted
        epoch.up_fields = {"headers": headers, "subprotocol": subprotocol, "peer": peer}
        masked = {name: self.dialer.mask(value) for name, value in headers.items()}
        agreed = subprotocol and self.dialer.mask(subprotocol)
        up = items.Up(self.name, epoch.number, now, agreed, masked, resumed, *self._group.standing(self))
        self.put(up)
        if epoch.resuming:
            self.counters.handoffs += 1
            cut_out, self._custody.cut_out = self._custody.cut_out, []
            for size in cut_out:
                self.account.dropped += 1
                self.put(items.Dropped(self.name, epoch.number, now, None, None, 1, size, "poison"))
            self.subscriptions.catch_up()
        else:
            self._custody.connection_opened()
            if self.stream.numbers.ever_up:
                self.ledger.connection_lost()
                for stream in interrupted or (() if resumed else (None,)):
                    cause = "replaced" if epoch.replaces else "reconnected"
                    self.gap(cause, self.counters.last_lost_at, now, stream=stream)
        self.stream.numbers.ever_up = True
        self._watchdogs.connection_up(resumed=epoch.resuming)
        self._notify(up)
        if not epoch.planned and not self.rollover.under_way:  # else it is the old owner, which is to go
            self._up_waiters.resolve()
        self.narrate.up(epoch.number, self.dialer.url, peer, resumed=resumed)

    def _notify(self, event: items.Up | items.Down) -> None:
        if isinstance(event, items.Up) or not event.live:  # with replicas only the end of the last connection is a Down
            self.stream.notify(event)

    def gap(self, cause: str, last_received_at: int | None, resumed_at: int | None, **more: Any) -> None:
        """Say in the stream that something is, or may be, missing."""
        self.counters.gaps += 1
        self.put(items.Gap(self.name, self.epoch, time_ns(), cause, last_received_at, resumed_at, **more))

    # -- flow and watchdogs ----------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading what its owner receives; one that was asked to leave is read to its last words."""
        if self._child is not None and self._life not in (LinkState.LEAVING, LinkState.STOPPING):
            self._child.data.pause()

    def read_on(self) -> None:
        """Read again."""
        if self._child is not None:
            self._child.data.resume()

    def end(self, reason: Reason) -> None:
        """End its connection, whatever its owner does."""
        self._epoch.unwanted = True
        if self._child is not None:
            self._child.abort(reason)
        self._give_up_connection()

    def too_large(self, child: OwnerProcess, resident: int) -> None:
        """For the watchdogs: its owner is over `watchdog.memory`."""
        allowed = self.endpoint.watchdog.memory
        if self.stays and self._group.can_spare(self):
            self.leave("memory_limit", afresh=False)
        elif resident <= allowed * _MEMORY_MARGIN and self.can_overlap and not child.connection.in_custody:
            self.rollover.begin("memory_limit")
        else:
            child.abort(Reason(kind="memory_limit", text=f"{resident} bytes resident, {allowed} allowed"))

    def replace_connection(self, why: str) -> None:
        """A new connection, as planned."""
        if self._group.is_replicated and not self._group.can_spare(self):
            self.rollover.call_again(self.endpoint.restart.backoff_max, lambda: self.replace_connection(why))
        elif not self.stays:
            return
        elif self.rollover.under_way:
            self.rollover.insist(why)
        elif self.can_overlap:
            self.rollover.begin(why)
        else:
            self.leave(why, afresh=True)

    # -- a planned change (rollover.RollingLink) ------------------------------------------------------------------------

    @property
    def can_overlap(self) -> bool:
        return self.stays and self.endpoint.make_before_break and not self._group.is_replicated

    @property
    def is_receiving(self) -> bool:
        """Whether its connection has delivered something lately."""
        heard = self.counters.last_heard
        return heard is not None and monotonic() - heard < _RECEIVING

    @property
    def is_frozen(self) -> bool:
        """Whether a takeover is under way."""
        return self._child is not None and self._child.is_frozen

    def hire(self, listener: OwnerListener) -> OwnerProcess:
        """For a change: a process."""
        return self._office.hire(listener, self.endpoint)

    def tell_owner(self, kind: int, body: dict[str, Any]) -> int:
        """For a change: send the owner a command that it confirms by TAKEN; returns the ref. Raises `NotConnected`."""
        ref = next(self._refs)
        if self._child is not None:
            self._child.send(kind, ref, body)
        return ref

    def fail_waiters(self, text: str) -> None:
        """Those who wait for its next owner wait in vain."""
        self._up_waiters.fail(lambda: NotConnected(text))

    def _adopt(self, child: OwnerProcess, slot: ConnectSlot, held: list[Record], continues: bool, *, replaces: bool) -> None:
        """The successor is the owner: what it sent so far is read now. `slot`: its connect, made or not. `replaces`: as
        planned."""
        self._epoch = Epoch(self.stream.numbers.next_epoch(), continues=continues, replaces=replaces)
        self._child = child
        self._slot = slot if child.state is not State.SERVING else None
        child.report_to(self)
        if child.state is State.WARM:
            self.on_ready(child)
        elif child.state is State.SERVING:
            self._begin_assignment()
            for received in held:
                self.on_record(child, received)
            child.data.resume()
            self._watchdogs.begin(child)
            if continues:  # then its first snapshots were left out
                self.subscriptions.resubscribe(self.ledger.still_asked(monotonic()))

    # -- small tools -----------------------------------------------------------------------------------------------------

    def put(self, event: items.Event) -> None:
        """Put an event into the stream."""
        if isinstance(event, items.Restored):
            self.restored_at = monotonic()
        if self._group.is_news(self, event):
            self.stream.put(event)

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
            self._child.send(kind, ref, body)
        except NotConnected as error:
            raise NotConnected(f"{self.name}: {error}; nothing was sent") from None
        return ref

    def tell_if_up(self, kind: int, ref: int, body: dict[str, Any]) -> None:
        """For its requests: send the owner a command, if there is an owner that takes commands."""
        if self._child is not None:
            with suppress(NotConnected):  # the owner is leaving, and sends nothing more
                self._child.send(kind, ref, body)


_make_message: Callable[[type[items.Message], tuple[Any, ...]], items.Message] = tuple.__new__


def _read_all(reason: Reason) -> bool:
    """Whether an owner that ended for this reason had read all that its connection brought: it was asked to leave, or the peer
    closed the connection in order."""
    return reason.kind in ("recycled", "stopped") or (reason.kind == "closed_by_peer" and not reason.broke_off)
