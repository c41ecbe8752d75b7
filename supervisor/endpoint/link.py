"""One connection over all its owners: which process owns the connection now, and what follows when the owner dies.

The states of a link, and what each event does, are the table in link_state.py. The objects, and how long each of them lives:

    Link ── state, restart policy: what follows
     │ one for the life of the link:
     ├── LinkOutput ────── numbers, events, counters, log ──> the stream of the endpoint
     ├── LinkConnection ── subscriptions, requests, commands, dialer, custody: what one owner leaves to the next
     ├── ConnectWait ───── backoff and connect budget, until the next owner may start
     ├── Rollover ──────── planned changes: the next owner starts while the current one runs
     │ one for each owner process, from its acquisition to its death:
     └── LinkOwner ─────── Epoch, OwnerProcess, Watchdogs; the listener of the process

    user: start, stop, restart, use_settings ──┐                 ┌──> acquire, ask to leave, kill, wait, report the end
    owner: ready, up, dead ────────────────────┼──> step(event) ─┤
    budget or backoff: due ────────────────────┘   (the table)   └──> host: on_decision, on_ended

When an owner dies, its pipe is read to the end, `Down` closes its epoch, the restart policy decides what comes next, and the
budget of the host decides when. A spare, or a new process, gets the subscriptions. If the connection outlived its owner
(handoff/held_connection.py), the next owner gets the connection at once. The consumer sees this order: complete records,
`Down`, `Up`, and a `Gap` directly behind `Up` if anything may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from random import random
from time import monotonic, time_ns
from typing import Protocol

from wsadapter.contract import items
from wsadapter.contract.errors import ConfigError, NotConnected
from wsadapter.contract.ipc.record import Record
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.connect_slot import ConnectSlot
from wsadapter.endpoint.connect_wait import ConnectWait
from wsadapter.endpoint.dialer import DialerHost, SupervisorHost
from wsadapter.endpoint.epoch import Epoch
from wsadapter.endpoint.futures import Waiters
from wsadapter.endpoint.link_connection import ConnectionSnapshot, LinkConnection
from wsadapter.endpoint.link_output import LinkOutput, OutputGroup, OutputSnapshot
from wsadapter.endpoint.link_owner import LinkOwner, OwnerSnapshot
from wsadapter.endpoint.link_state import LinkAction, LinkEvent, LinkState, after_death, shown, step
from wsadapter.endpoint.numbered_stream import NumberedStream
from wsadapter.endpoint.owner_end import end_reason, may_continue, read_all
from wsadapter.endpoint.replacement import Replacement, Situation, for_restart
from wsadapter.endpoint.restart_policy import Decision, RestartAction, RestartPolicy
from wsadapter.endpoint.rollover import Rollover
from wsadapter.process.lifecycle import ProcessState
from wsadapter.process.owner_process import OwnerListener, OwnerProcess
from wsadapter.status import EndpointState


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSnapshot:
    """A link whose connection is up, for another supervisor. `Link.receive` takes over a living owner from this value and the
    descriptors of the owner; there is no other way."""

    number: int
    """Among the links of its endpoint."""
    restarts: int
    output: OutputSnapshot
    connection: ConnectionSnapshot
    owner: OwnerSnapshot


class LinkGroup(OutputGroup, Protocol):
    """What a link needs of the other links of its endpoint."""

    last_exit: Reason | None
    """Why the last connection ended; None: none has."""

    def link_down(self, link: Link, reason: Reason, *, goes_on: bool) -> None:
        """The owner of `link` is dead. `goes_on`: the connection is still open."""
        ...

    def connection_lost(self, link: Link) -> None:
        """The connection of `link` had no owner, and is given up."""
        ...

    def may_hand_off(self, link: Link) -> bool:
        """Whether the next owner of `link` may continue on the connection."""
        ...

    def is_redundant(self, link: Link) -> bool:
        """Whether other links deliver everything that `link` delivers."""
        ...


class LinkHost(DialerHost, Protocol):
    """What a link needs of its endpoint."""

    group: LinkGroup

    @property
    def stream(self) -> NumberedStream: ...
    def on_decision(self, decision: Decision) -> None:
        """The link decided about its next owner. That may concern other endpoints (strategy, stop of the supervisor)."""
        ...

    def on_ended(self) -> None:
        """The link has no process any more, and none will start by itself."""
        ...


class Link:
    """One connection and its current owner, if it has one. All methods under the reactor's lock."""

    def __init__(self, supervisor: SupervisorHost, host: LinkHost, number: int = 1) -> None:
        """`number`: among the links of its endpoint, from 1."""
        self.supervisor = supervisor
        self.owner: LinkOwner | None = None
        self.last_exit: Reason | None = None
        """Why the last owner ended; None: none has."""
        self.waiters = Waiters()
        """The futures of callers that wait until the next owner is up."""
        self.policy = RestartPolicy(host.endpoint.restart, random)
        self._host = host
        self._life = LinkState.STOPPED
        self.output = LinkOutput(number, host.stream, host.group)
        changed = lambda kind, streams: self.rollover.subscriptions_changed(kind, streams)  # noqa: E731
        self.connection = LinkConnection(self, supervisor, host, self.output, changed)
        self.rollover: Rollover = Rollover(self, host)
        self.wait = ConnectWait(supervisor.reactor, self.connection.reserve_connect)
        self.connection.subscriptions.add(host.endpoint.subscribe)

    # -- its state -------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The endpoint's."""
        return self.output.name

    @property
    def epoch(self) -> int:
        """The epoch of the owner, or of the last owner; 0 before the first owner."""
        return self.output.epoch

    @property
    def state(self) -> EndpointState:
        """The state for users."""
        epoch = None if self.owner is None else self.owner.epoch
        assigned, was_up = epoch is not None and epoch.assigned, epoch is not None and epoch.up_since is not None
        return shown(self._life, assigned=assigned, was_up=was_up)

    @property
    def stays(self) -> bool:
        """Whether the connection is open, and the owner was not asked to leave."""
        return self._life is LinkState.UP

    @property
    def is_between_owners(self) -> bool:
        """Whether the connection has outlived its owner, and the next owner does not serve it yet."""
        resuming = self.owner is not None and self.owner.epoch.resuming and self._life is LinkState.CONNECTING
        return resuming or self.connection.custody.resumption is not None

    @property
    def has_ended(self) -> bool:
        """The link has no process, and none will start by itself."""
        none = self.owner is None and not self.rollover.dropped and not self.connection.dialer.has_holders
        return none and self._life in (LinkState.STOPPED, LinkState.FATAL)

    @property
    def situation(self) -> Situation:
        """What decides how the connection is replaced (replacement.py)."""
        group, owner = self._host.group, self.owner
        return Situation(
            has_owner=owner is not None,
            stays=self.stays,
            in_custody=owner is not None and owner.process.connection.in_custody,
            rolls_over=self.rollover.under_way,
            make_before_break=self._host.endpoint.make_before_break,
            is_replicated=group.is_replicated,
            is_redundant=group.is_redundant(self),
        )

    # -- what users and watchdogs want -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the first owner."""
        if self.has_ended:
            self.step(LinkEvent.START)

    def stop(self) -> None:
        """Ask the owner to close the connection and exit; no owner follows."""
        self.wait.cancel()
        self.rollover.drop()
        self.connection.give_up()
        self.step(LinkEvent.STOP)

    def restart(self, why: str = "recycled", *, new_connection: bool = False, at_once: bool = False) -> Future[None]:
        """Start a new owner, in any state; the future is done when the owner is up. The new owner continues on the connection
        if the connection can outlive the old owner, except with `new_connection`. A connection that is up and has to be
        replaced is closed when the next one is ready, except with `at_once`."""
        future = self.waiters.add()
        self.policy.reset()
        match for_restart(self.situation, new_connection=new_connection, at_once=at_once):
            case Replacement.START:
                self.wait.cancel()
                self.step(LinkEvent.START)
            case Replacement.HAND_OVER:
                assert self.owner is not None
                self.owner.epoch.planned = why
                self.step(LinkEvent.HAND_OVER)
            case Replacement.ROLL_OVER:
                self.rollover.begin(why)
            case _:
                self.leave(why, new_connection=new_connection)
        return future

    def leave(self, why: str, *, new_connection: bool) -> None:
        """Ask the owner to leave, as planned. `new_connection`: the current connection is closed, even if the next owner
        could continue on it."""
        if self.owner is not None:
            self.owner.epoch.planned = why
            self.owner.epoch.unwanted |= new_connection
        if new_connection:
            self.connection.give_up()
        self.wait.cancel()  # a warm owner may wait for its connect
        self.step(LinkEvent.REPLACE)

    def kill(self, reason: Reason, *, with_connection: bool) -> None:
        """End the owner at once. `with_connection`: close the connection too, which otherwise may outlive the owner."""
        if self.owner is not None:
            self.owner.epoch.unwanted |= with_connection
            self.owner.process.abort(reason)
        if with_connection:
            self.connection.give_up()

    def use_settings(self, *, same_messages: bool) -> None:
        """Apply the new settings of the endpoint: the next owner uses them, and the old owner leaves when the next owner is
        ready. `same_messages`: a connection with the new settings gets the same messages."""
        endpoint = self._host.endpoint
        self.rollover.drop()
        self.connection.sender.replace(endpoint.subscribe, same_messages=same_messages)
        self.policy = RestartPolicy(endpoint.restart, random)
        self.connection.dialer.attempt = 0
        if self.situation.can_overlap:
            self.rollover.begin("changed", same_messages=same_messages)
        else:
            self.restart("changed", new_connection=True)

    # -- the table, and what its actions do ------------------------------------------------------------------------------

    def step(self, event: LinkEvent, decision: Decision | None = None) -> None:
        """Apply `event`. `decision`: of the restart policy, if the event is the death of an owner."""
        self._life, action = step(self._life, event)
        owner, decision = self.owner, decision or Decision(RestartAction.RESTART)
        match action:
            case LinkAction.NOTHING:
                pass
            case LinkAction.RESERVE_CONNECT:
                if self.wait.reserve_connect(lambda: self.step(LinkEvent.DUE)):
                    self.step(LinkEvent.DUE)
            case LinkAction.ACQUIRE_OWNER:
                acquire, endpoint = self.supervisor.acquire_owner, self._host.endpoint
                epoch = Epoch(self.output.stream.numbers.next_epoch(), messages_before=self.output.counters.messages)
                self.owner = LinkOwner(self, epoch, lambda listener: acquire(listener, endpoint))
                if self.owner.process.state is ProcessState.WARM:
                    self.on_owner_ready()
            case LinkAction.ASK_TO_LEAVE | LinkAction.ASK_TO_STOP | LinkAction.KILL:
                if owner is not None:  # None: it died just now, and `on_owner_dead` has handled the stop
                    _end(owner, action)
            case LinkAction.ADOPT_SUCCESSOR:
                assert self.last_exit is not None
                adopt = partial(self._adopt, replaces=decision.restarts == 0)
                self.rollover.adopt(self.output.counters.last_lost_at, adopt, in_order=read_all(self.last_exit))
            case LinkAction.AWAIT_RETRY | LinkAction.AWAIT_RESUMPTION:
                event = LinkEvent.START if action is LinkAction.AWAIT_RETRY else LinkEvent.DUE
                self.wait.back_off(decision.delay, lambda: self.step(event))
            case LinkAction.DISOWN:
                if owner is not None:
                    owner.disown()
                self.owner = None
                self.connection.commands.owner_gone()
                self.connection.dialer.forget_holders()
            case LinkAction.REPORT_END | LinkAction.REPORT_FATAL:
                self._report_end(fatal=action is LinkAction.REPORT_FATAL)

    def _report_end(self, *, fatal: bool) -> None:
        if fatal:
            assert self.last_exit is not None
            self.output.put(items.Fatal(self.name, self.epoch, time_ns(), self.last_exit))
        why = self.last_exit.describe() if self.last_exit else "stopped"
        text = f"{self.name} is {self.state}: {why}"
        self.waiters.fail(lambda: NotConnected(text))
        self._host.on_ended()

    # -- takeover by another supervisor ----------------------------------------------------------------------------------

    def snapshot(self) -> tuple[LinkSnapshot, list[int]]:
        """With the descriptors of its owner, which stay open here. The owner must be frozen."""
        assert self.owner is not None
        owner, fds = self.owner.snapshot()
        snapshot = LinkSnapshot(
            number=self.output.number,
            restarts=self.policy.total,
            output=self.output.snapshot(),
            connection=self.connection.snapshot(),
            owner=owner,
        )
        return snapshot, fds

    def receive(self, snapshot: LinkSnapshot, fds: Iterator[int]) -> None:
        """Continue where another supervisor was. The owner is frozen until `thaw`; the link takes the owner's descriptors from
        `fds`."""
        self.policy.total = snapshot.restarts
        self.output.restore(snapshot.output)
        self.connection.restore(snapshot.connection)
        self.owner = LinkOwner.receive(self, snapshot.owner, fds)
        self.step(LinkEvent.RECEIVE)

    # -- its owner (link_owner.OwnerHost) --------------------------------------------------------------------------------

    def on_owner_ready(self) -> None:
        """The process of the owner is warm: give it the assignment, as soon as it may connect."""
        owner, connection = self.owner, self.connection
        assert owner is not None
        # There is no slot if the owner was acquired for an open connection, and that connection was closed since:
        is_reserved = connection.custody.resumption is not None or self.wait.slot is not None
        if not is_reserved and not self.wait.reserve_connect(self.on_owner_ready):
            self.step(LinkEvent.POSTPONE)
            return
        try:
            assignment = connection.assignment(owner.epoch.number)
        except ConfigError as error:
            owner.epoch.last_words = Reason(kind="config", text="; ".join(map(str, error.problems)))
            owner.process.stop()
            return
        owner.epoch.assigned = True
        self.step(LinkEvent.ASSIGN)
        slot = self.wait.take_slot() if connection.custody.resumption is None else None
        connection.give_to(owner.process, owner.epoch, assignment, slot)
        owner.watchdogs.begin(owner.process)

    def on_owner_dead(self, reason: Reason) -> None:
        """The owner is dead and its pipe is drained: its epoch ends here. `reason`: the supervisor's evidence."""
        owner, connection, output, group = self.owner, self.connection, self.output, self._host.group
        assert owner is not None
        self.wait.cancel()  # a warm owner may have waited for its connect
        process, epoch, uptime, messages = owner.process, owner.epoch, owner.uptime, owner.messages
        is_last = self._life is LinkState.STOPPING or epoch.last_words is not None
        if may_continue(reason, is_last=is_last, unwanted=epoch.unwanted) and group.may_hand_off(self):
            connection.keep(process, epoch, reason)
        holder, was_asked = process.connection.holder, self._life in (LinkState.LEAVING, LinkState.STOPPING)
        holder_lost = (lambda _: None) if holder is None else holder.lost
        reason = end_reason(reason, epoch.last_words, was_asked=was_asked, holder_lost=holder_lost)
        mask = connection.dialer.mask
        self.last_exit = reason = replace(reason, text=mask(reason.text), body=mask(reason.body))
        goes_on = connection.owner_gone(reason, was_up=uptime is not None, drained=process.control.is_drained)
        self.owner = None
        self.rollover.owner_gone()
        output.down(reason)
        output.log.down(epoch.number, reason, uptime, messages)
        group.link_down(self, reason, goes_on=goes_on)
        if self._life is LinkState.STOPPING:
            self.step(LinkEvent.END)
        else:
            self._decide(reason, uptime)

    def _decide(self, reason: Reason, uptime: float | None) -> None:
        """Decide the next action after the death of the owner."""
        if self._life is LinkState.LEAVING:
            decision = Decision(RestartAction.RESTART)
            self.policy.total += 1
        else:
            decision = self.policy.decide(monotonic(), reason, uptime)
        restarts = decision.action is RestartAction.RESTART
        alive = self.connection.custody.resumption is not None and restarts
        follows = self.rollover.can_follow and restarts and not alive
        waits = alive and reason.kind == "start_failed"  # the next start may fail in the same way, so it waits
        self.output.log.next(decision, self._host.endpoint.restart, resumes=alive, follows=follows, waits=waits)
        if not alive:
            self.connection.give_up()
        if not follows:
            self.rollover.drop()
        self.step(after_death(decision, alive=alive, follows=follows, waits=waits), decision)
        self._host.on_decision(decision)

    def _adopt(self, process: OwnerProcess, slot: ConnectSlot, held: list[Record], continues: bool, *, replaces: bool) -> None:
        """The successor becomes the owner, and the records that it has sent so far are read now. `slot`: the connect of the
        successor, used or not. `replaces`: the change was planned."""

        def report_to(listener: OwnerListener) -> OwnerProcess:
            process.report_to(listener)
            return process

        number, before = self.output.stream.numbers.next_epoch(), self.output.counters.messages
        epoch = Epoch(number, messages_before=before, continues=continues, replaces=replaces)
        self.owner = owner = LinkOwner(self, epoch, report_to)
        if process.state is not ProcessState.SERVING:
            self.wait.slot = slot
            if process.state is ProcessState.WARM:
                self.on_owner_ready()
            return
        epoch.assigned = True
        self.step(LinkEvent.ASSIGN)
        for received in held:
            owner.on_record(process, received)
        process.data.resume()
        owner.watchdogs.begin(process)
        if continues:  # the merge has dropped the first snapshots of the new connection
            self.connection.sender.resubscribe(self.connection.subscriptions.still_asked(monotonic()))

    # -- its connection and its processes (link_connection.ConnectionHost) -----------------------------------------------

    def on_connection_lost(self) -> None:
        """The connection had no owner, and is lost."""
        self._host.group.connection_lost(self)

    def on_process_gone(self) -> None:
        """The process of a TLS holder, or of a successor that was dropped, has ended."""
        if self.has_ended:
            self._host.on_ended()


def _end(owner: LinkOwner, action: LinkAction) -> None:
    """End the process of an owner, as the table requires."""
    match action:
        case LinkAction.ASK_TO_LEAVE:
            owner.process.stop(kind="silence" if owner.epoch.planned == "silence" else "recycled")
        case LinkAction.ASK_TO_STOP:
            owner.process.stop(kind="stopped")
        case LinkAction.KILL:
            # The next owner continues with the connection: a kill loses nothing, and need not be waited for.
            owner.process.abort(Reason(kind="recycled", text=owner.epoch.planned))
