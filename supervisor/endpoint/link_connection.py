"""What outlives the owners of a link: how its connection is opened, what is subscribed and requested on it, and the connection
itself, while no owner has it.

    owner dies ──> owner_gone ──alive──> custody ──> give_to(the next owner) ──> continued
                        └──not alive, or not wanted──> lost ──> give_to(the next owner) ──> opened
"""

from __future__ import annotations

from dataclasses import dataclass
from time import time_ns
from typing import Protocol

from wsadapter.contract import items
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import Rejoined
from wsadapter.contract.quarantine import Quarantine
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.connect_slot import ConnectSlot
from wsadapter.endpoint.dialer import Dialer, DialerHost, SupervisorHost
from wsadapter.endpoint.epoch import Epoch
from wsadapter.endpoint.link_output import LinkOutput
from wsadapter.endpoint.owner_commands import OwnerCommands
from wsadapter.endpoint.requests import RequestHost, Requests, RequestsSnapshot
from wsadapter.endpoint.subscription_sender import NotifySuccessor, SenderSnapshot, SubscribingLink, SubscriptionSender
from wsadapter.endpoint.subscriptions import Subscriptions
from wsadapter.handoff.custody import Custody
from wsadapter.handoff.held_connection import NotResumable
from wsadapter.handoff.poison import Suspicion
from wsadapter.process.owner_process import OwnerProcess


class ConnectionHost(SubscribingLink, RequestHost, Protocol):
    """What a connection needs of its link."""

    def on_connection_lost(self) -> None:
        """The connection, which had no owner, is over."""
        ...

    def on_process_gone(self) -> None:
        """A process of the link that was no owner has ended."""
        ...


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """Of a connection that has an owner, for another supervisor."""

    attempt: int
    """As `Dialer.attempt`."""
    last_ref: int
    """As `OwnerCommands.last_ref`."""
    sender: SenderSnapshot
    requests: RequestsSnapshot
    suspicion: Suspicion


class LinkConnection:
    """The connection of one link. All methods under the reactor's lock."""

    def __init__(
        self,
        link: ConnectionHost,
        supervisor: SupervisorHost,
        host: DialerHost,
        output: LinkOutput,
        notify_successor: NotifySuccessor,
    ) -> None:
        self._link = link
        self._host = host
        self._output = output
        self.commands = OwnerCommands()
        self.custody = Custody(supervisor.reactor, self.give_up)
        self.dialer = Dialer(supervisor, host, link.on_process_gone, self._on_holder_printed)
        self.requests = Requests(link, self.commands, supervisor.reactor, output.put)
        self.sender = SubscriptionSender(link, self.custody, self.commands, notify_successor)

    @property
    def subscriptions(self) -> Subscriptions:
        """The wanted subscriptions, and those of the connection."""
        return self.sender.subscriptions

    @property
    def awaits_answers(self) -> bool:
        """Whether something is wanted that the peer confirms."""
        dialect = self._host.dialect
        return bool(dialect is not None and dialect.get("subscribe") and dialect.get("ack") and self.subscriptions.wanted)

    def snapshot(self) -> ConnectionSnapshot:
        """For another supervisor. No request may wait for its answer."""
        return ConnectionSnapshot(
            attempt=self.dialer.attempt,
            last_ref=self.commands.last_ref,
            sender=self.sender.snapshot(),
            requests=self.requests.snapshot(),
            suspicion=self.custody.suspicion,
        )

    def restore(self, snapshot: ConnectionSnapshot) -> None:
        """Continue from the state of another supervisor."""
        self.dialer.attempt, self.commands.last_ref = snapshot.attempt, snapshot.last_ref
        self.sender.restore(snapshot.sender)
        self.requests.restore(snapshot.requests)
        self.custody.suspicion = snapshot.suspicion

    def rejoined(self, report: Rejoined) -> None:
        """The owner had another supervisor, which died, and has this one from now on."""
        self.commands.last_ref = max(self.commands.last_ref, report.last_ref)
        self.sender.rejoined(report.wanted, report.changes)
        self.requests.rejoined(report.requests)
        # A rollover of the other supervisor is over, for which the owner may have been asked to identify its messages.
        self.commands.notify(commands.IDENTIFY, 0, {"on": self._output.group.is_replicated})

    def reserve_connect(self) -> ConnectSlot:
        """A connect of the next owner, in the budget of the host."""
        slot = self.dialer.reserve_connect()
        if slot.wait > 0:
            self._output.log.budget(self._output.epoch + 1, slot.target.host, slot.wait)
        return slot

    def assignment(self, epoch: int, *, identify: bool = False) -> Assignment:
        """For the owner of that epoch; `identify`: messages carry their identities. Raises `ConfigError`."""
        continues, numbers = self.custody.resumption is not None, self._output.stream.numbers
        return self.dialer.assignment(
            epoch,
            identify=identify or self._output.group.is_replicated,
            requests=self.requests.ids if continues else (),
            last_number=numbers.last_number,
            last_received_at=numbers.last_received_at,
            **self.sender.for_owner(),
        )

    def give_to(self, process: OwnerProcess, epoch: Epoch, assignment: Assignment, slot: ConnectSlot | None) -> None:
        """Let a warm owner continue with the connection, or open one, which is what `slot` is for."""
        resumption, holder = self.custody.take()
        if resumption is None:
            assert slot is not None
            self.dialer.connect(process, assignment, slot)
            return
        process.assign(assignment, resumption, holder)
        if process.connection.in_custody:
            # The report of the open connection belongs to the connection: this owner may die before it reports anything.
            epoch.resuming, epoch.position, epoch.up_fields = True, resumption.resume.position, resumption.resume.up
        else:
            self.lost()
            self._link.on_connection_lost()

    def opened(self) -> None:
        """The owner has opened a new connection."""
        self.custody.connection_opened()
        if self._output.stream.numbers.ever_up:
            self.subscriptions.connection_lost()

    def continued(self) -> None:
        """The owner continues with the connection: report what was cut out of its stream, and send what was deferred."""
        output = self._output
        output.counters.handoffs += 1
        cut_out, self.custody.cut_out = self.custody.cut_out, []
        for size in cut_out:
            output.backlog.dropped += 1
            output.put(items.Dropped(output.name, output.epoch, time_ns(), None, None, 1, size, "poison"))
        self.sender.catch_up()

    def keep(self, process: OwnerProcess, epoch: Epoch, reason: Reason) -> None:
        """Keep the connection of a dead owner for the next one, if it is alive."""
        if self.custody.resumption is not None or not process.connection.in_custody:
            return  # the owner died before it had got the connection, or it never had one
        output, host = self._output, self._host
        quarantine = Quarantine(host.quarantine, output.name)
        try:
            cut_out = self.custody.keep(process.connection, reason, epoch.up_fields, host.endpoint.timeouts.connect, quarantine)
        except NotResumable as error:
            output.log.lost_connection(epoch.number, str(error))
            return
        if cut_out:
            output.log.dropped(epoch.number, 1, "poison", cut_out)

    def owner_gone(self, reason: Reason, *, was_up: bool, drained: bool) -> bool:
        """The owner is dead, and what it had is kept or not. `drained`: all replies of the owner were read. Returns whether the
        connection goes on."""
        self.commands.owner_gone()
        self.requests.owner_gone(self.custody.resumption, replies_read=drained and reason.kind != "corrupt")
        self.dialer.leave_host_alone(reason)
        goes_on = self.custody.resumption is not None
        if not was_up and not goes_on:
            self.dialer.attempt += 1  # the next address, if there are several
        self.sender.owner_gone(goes_on=goes_on)
        if not goes_on:
            self.lost()
        return goes_on

    def give_up(self) -> None:
        """Close the connection if it has no owner, so that the peer sees its end."""
        if self.custody.give_up():
            self.lost()
            self._link.on_connection_lost()

    def lost(self) -> None:
        """The connection has ended: nothing is subscribed any more, and a partly sent frame is never completed."""
        self.sender.connection_gone()
        self.requests.connection_lost(replies_read=True)

    def _on_holder_printed(self, line: str) -> None:
        self._output.log.printed(self._output.epoch, None, f"TLS holder: {line}")
