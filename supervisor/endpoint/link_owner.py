"""One owner of a link: the listener of its process, and all that begins and ends with it. A new `LinkOwner` is made when a
process is acquired, and dropped as a whole when the process is dead: nothing in it is ever set back.

    process ──ready──────────────> link.on_owner_ready     the link gives the assignment
        │ ──record, single──────> LinkOutput              messages, numbered (after the merge, if there is one)
        │ ──record with report──> apply_report            came_up, leaves, ...
        │ ──command────────────> OwnerCommands            replies, to whoever sent the command
        │ ──log line───────────> log
        └──dead────────────────> link.on_owner_dead       the link decides what follows
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic, time_ns
from typing import Any, Protocol

from wsadapter.contract import items
from wsadapter.contract.ipc import commands, record
from wsadapter.contract.ipc.commands import Command
from wsadapter.contract.ipc.record import ANSWER, Record, SingleMessage
from wsadapter.contract.ipc.reports import ConnectionUp, Rejoined, parse_report
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.dialer import SupervisorHost
from wsadapter.endpoint.epoch import Epoch
from wsadapter.endpoint.futures import Waiters
from wsadapter.endpoint.link_connection import LinkConnection
from wsadapter.endpoint.link_output import LinkOutput
from wsadapter.endpoint.link_state import LinkEvent
from wsadapter.endpoint.owner_end import gaps_behind_up
from wsadapter.endpoint.reports import apply_report
from wsadapter.endpoint.requests import Requests
from wsadapter.endpoint.rollover import Rollover
from wsadapter.endpoint.subscriptions import Subscriptions
from wsadapter.endpoint.watchdogs import Watchdogs, expiry
from wsadapter.process.lifecycle import BEFORE_ITS_END, ProcessEvent
from wsadapter.process.owner_process import OwnerListener, OwnerProcess, ProcessLimits
from wsadapter.process.process_snapshot import ProcessSnapshot, receive, snapshot_of
from wsadapter.process.tls_holder import TlsHolder

logger = logging.getLogger("wsadapter.supervisor")


@dataclass(frozen=True, slots=True)
class OwnerSnapshot:
    """Of an owner whose connection is up, for another supervisor."""

    epoch: Epoch
    process: ProcessSnapshot
    holder: ProcessSnapshot | None
    """The process that holds the TLS of the connection; None: the owner does."""


class OwnerHost(Protocol):
    """What an owner needs of its link."""

    supervisor: SupervisorHost
    output: LinkOutput
    connection: LinkConnection
    rollover: Rollover
    waiters: Waiters

    def step(self, event: LinkEvent) -> None:
        """Let `event` happen to the link."""
        ...

    def on_owner_ready(self) -> None:
        """The process of the owner is warm."""
        ...

    def on_owner_dead(self, reason: Reason) -> None:
        """The owner is dead, and its pipe is drained. `reason`: the supervisor's evidence."""
        ...


class LinkOwner:
    """One owner. All methods under the reactor's lock."""

    @classmethod
    def receive(cls, link: OwnerHost, snapshot: OwnerSnapshot, fds: Iterator[int]) -> LinkOwner:
        """The owner that another supervisor had, frozen. It takes its own descriptors from `fds`."""
        reactor, endpoint = link.supervisor.reactor, link.rollover.endpoint
        limits = ProcessLimits(endpoint.timeouts, endpoint.watchdog)
        owner = cls(link, snapshot.epoch, lambda listener: receive(reactor, listener, limits, snapshot.process, fds))
        if (holder := snapshot.holder) is not None:
            take = lambda listener: receive(reactor, listener, limits, holder, fds)  # noqa: E731
            owner.process.connection.holder = link.connection.dialer.receive_holder(take)
        return owner

    def __init__(self, link: OwnerHost, epoch: Epoch, acquire: Callable[[OwnerListener], OwnerProcess]) -> None:
        """`acquire` returns the process, which reports to its argument from then on."""
        self.epoch = epoch
        self.output = link.output
        self.connection = link.connection
        self.rollover = link.rollover
        self.watchdogs = Watchdogs(link.rollover, link.supervisor.reactor)
        self._link = link
        # Those of each single message, without a detour:
        self._stream, self._backlog, self._counters = link.output.stream, link.output.backlog, link.output.counters
        self.output.epoch = epoch.number
        self.process = acquire(self)
        self.connection.commands.send_to(self.process)

    # -- what the process does (owner_process.OwnerListener) -------------------------------------------------------------

    def on_ready(self, process: OwnerProcess) -> None:  # noqa: ARG002 - the protocol's
        """It is warm."""
        self._link.on_owner_ready()

    def on_record(self, process: OwnerProcess, received: Record) -> None:
        """A batch of messages, or a report."""
        epoch, counters = self.epoch, self._counters
        self._backlog.record = received.sequence
        counters.filtered += received.filtered
        if received.kind == record.REPORT:
            try:
                apply_report(self, parse_report(received.report))
            except ValueError as error:
                process.abort(Reason(kind="corrupt", text=f"a report that makes no sense: {error!r}"[:300]))
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
            process.abort(Reason(kind="corrupt", text="a message of a stream that was not announced"))
            return
        counters.last_heard = monotonic()
        merge, group = self.rollover.merge, self.output.group
        if merge is None:
            group.deliver(self.output, received, streams)
        else:
            merge.take(received, streams)
        if self._backlog.waiting > self._backlog.buffer.max_bytes:
            group.overflowed()

    def on_single(self, process: OwnerProcess, single: SingleMessage) -> None:
        """As `on_record`, with fewer steps, because a consumer may wait for this message."""
        if self.rollover.merge is not None or self.output.group.is_replicated:
            self.on_record(process, Record.of_single(single))
            return
        backlog = self._backlog
        data, backlog.record, received_at, position, _ = single
        epoch, counters = self.epoch, self._counters
        if position > epoch.position:
            counters.bytes += position - epoch.position
        epoch.position = position
        counters.last_heard = monotonic()
        counters.messages += 1
        number = self._stream.numbers.accept(1, received_at)
        message = _make_message(items.Message, (backlog.name, data, epoch.number, number, received_at, None, False))
        if not self._stream.inbox.put_single(message, backlog) and backlog.waiting > backlog.buffer.max_bytes:
            self.output.group.overflowed()

    def on_command(self, process: OwnerProcess, command: Command) -> None:
        """A reply, or another command of the owner."""
        try:
            if command.kind == commands.PROBED:
                rtt = command.json().get("rtt")
                self.epoch.rtt = rtt if isinstance(rtt, int | float) else None
            else:
                self.connection.commands.on_command(command)
        except ValueError as error:
            process.abort(Reason(kind="corrupt", text=f"control socket: {error}"))

    def on_log(self, process: OwnerProcess, line: str) -> None:
        """User code printed this in the process."""
        self.output.log.printed(self.epoch.number, process.pid, line)

    def on_dead(self, process: OwnerProcess, reason: Reason) -> None:
        """The process is dead and its pipe is drained."""
        self.watchdogs.end()
        if torn := process.data.torn:
            self._counters.torn += 1
            name, epoch = self.output.name, self.epoch.number
            logger.warning("%s/%d: a record of %d bytes was not finished; dropped", name, epoch, torn)
        self._link.on_owner_dead(reason)

    # -- reports of the owner (reports.ReportingOwner) -------------------------------------------------------------------

    @property
    def streams(self) -> list[str | None]:
        return self.epoch.streams

    @property
    def subscriptions(self) -> Subscriptions:
        return self.connection.subscriptions

    @property
    def requests(self) -> Requests:
        return self.connection.requests

    def reached(self, stage: str) -> None:
        """It is at this step of the way to a connection."""
        self.output.log.stage(self.epoch.number, stage, self.connection.dialer.url)

    def leaves(self, reason: Reason) -> None:
        """It ends for this reason, and sends nothing more."""
        self.epoch.last_words = reason
        self.process.step(ProcessEvent.LEAVING)

    def rejoined(self, report: Rejoined) -> None:
        """It has another supervisor, which may be this one. Raises `ValueError` if no supervisor can have called it."""
        called = self.process.control.called
        if called is None:
            raise ValueError("it has another supervisor, but nobody has called it")
        if report.number == called:  # otherwise it answers a supervisor before this one, which has died
            self.connection.commands.send_to(self.process)
            self.connection.rejoined(report)

    def came_up(self, report: ConnectionUp) -> None:
        """The owner's connection is open. Raises `ValueError` if the owner did not follow its assignment."""
        epoch, output, now = self.epoch, self.output, time_ns()
        self._link.step(LinkEvent.UP)
        epoch.up_since = self._counters.last_heard = monotonic()
        if report.resumed is not epoch.resuming:
            raise ValueError(
                "nothing was resumed" if report.resumed else "it did not continue on the connection that it was given"
            )
        epoch.up_fields = {"headers": report.headers, "subprotocol": report.subprotocol, "peer": report.peer}
        if epoch.resuming:
            up = self._put_up(report, now, resumed=True)
            self.connection.continued()
        else:
            interrupted = tuple(sorted(map(str, self.rollover.interrupted))) if epoch.continues else ()
            output.restored_at = None if self.connection.awaits_answers else monotonic()
            continues = output.group.link_up(output) or epoch.continues
            up = self._put_up(report, now, resumed=continues and not interrupted)
            self.connection.opened()
            if self._stream.numbers.ever_up:
                for cause, stream in gaps_behind_up(resumed=up.resumed, interrupted=interrupted, replaces=epoch.replaces):
                    output.gap(cause, self._counters.last_lost_at, now, stream=stream)
            self.subscriptions.connection.expires_at = expiry(self.rollover.endpoint.watchdog, monotonic())
        self._stream.numbers.ever_up = True
        self.watchdogs.await_max_age(self.subscriptions.connection.expires_at)
        self._stream.notify(up)
        if not epoch.planned and not self.rollover.under_way:  # else it is the old owner, which is to go
            self._link.waiters.resolve()
        dialer = self.connection.dialer
        output.log.up(epoch.number, dialer.url, dialer.resolved, report.peer, resumed=up.resumed)

    def _put_up(self, report: ConnectionUp, now: int, *, resumed: bool) -> items.Up:
        output, mask = self.output, self.connection.dialer.mask
        masked = {name: mask(value) for name, value in report.headers.items()}
        agreed = report.subprotocol and mask(report.subprotocol)
        up = items.Up(output.name, self.epoch.number, now, agreed, masked, resumed, *output.group.standing(output))
        output.put(up)
        return up

    # -- what its link wants ---------------------------------------------------------------------------------------------

    @property
    def messages(self) -> int:
        """How many were delivered in its epoch."""
        return self._counters.messages - self.epoch.messages_before

    @property
    def uptime(self) -> float | None:
        """Seconds since its connection is open; None: it was not open."""
        return monotonic() - self.epoch.up_since if self.epoch.up_since is not None else None

    @property
    def processes(self) -> list[OwnerProcess]:
        """Its own, behind the one that holds the TLS of its connection, if there is one."""
        holder = self.process.connection.holder
        if holder is None:
            return [self.process]
        assert isinstance(holder, TlsHolder)
        return [holder.process, self.process]

    def pause(self) -> None:
        """Stop reading what it receives, unless it is on its way out: then it is read to its end."""
        if self.process.state in BEFORE_ITS_END:
            self.process.data.pause()

    def read_on(self) -> None:
        """Read again."""
        self.process.data.resume()

    # -- on its way to another supervisor --------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Another supervisor may get the owner: read nothing and send nothing until `thaw`. Its connection must be up."""
        self.watchdogs.end()
        for process in self.processes:
            process.freeze()

    def thaw(self) -> None:
        """The owner stays with this supervisor: read again."""
        for process in self.processes:
            process.thaw()
        self.watchdogs.begin(self.process)
        self.watchdogs.await_max_age(self.subscriptions.connection.expires_at)

    def snapshot(self) -> tuple[OwnerSnapshot, list[int]]:
        """With the descriptors of its processes, which stay open here. It must be frozen."""
        process, fds = snapshot_of(self.process)
        holder = None
        for other in self.processes[:-1]:
            holder, more = snapshot_of(other)
            fds = fds + more
        return OwnerSnapshot(self.epoch, process, holder), fds

    def disown(self) -> None:
        """It is another supervisor's now. It must be frozen."""
        for process in self.processes:
            process.disown()


_make_message: Callable[[type[items.Message], tuple[Any, ...]], items.Message] = tuple.__new__
