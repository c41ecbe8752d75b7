"""Make before break: the next owner opens its connection, logs in and subscribes while the old owner still delivers.

    BOOKED ──connect budget──> HIRED ──warm, and the old one identifies──> CONNECTING ──restored──> SETTLING ──> READY
       └─────────────┴──────────────────────┴──── it ends, is too slow, stays mute ────┴──> failed: the old one stays

All records of the successor are held, in order and bounded: above the bound its pipe is not read any more, so it waits in the
pipe and at the peer. READY means that the old owner may leave. When the old owner is dead, and its records are delivered, the
link adopts the successor with the held records (`Link._adopt`). Until then the consumer sees nothing of the successor, and its
failure costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from time import monotonic, time_ns
from typing import Protocol

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc import record
from wsadapter.contract.ipc.commands import Command
from wsadapter.contract.ipc.record import Record, SingleMessage
from wsadapter.contract.ipc.reports import ConnectionDown, OwnerReport, StreamNamed, SubscriptionsRestored, parse_report
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.connect_slot import ConnectSlot
from wsadapter.endpoint.dialer import Dialer
from wsadapter.endpoint.held_records import HeldRecords
from wsadapter.endpoint.link_output import LinkOutput
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process.lifecycle import ProcessState
from wsadapter.process.owner_process import OwnerProcess

_AFTER_CONFIRMED = 0.5
"""Seconds from the last confirmation to the change, because snapshots follow the confirmations."""
_QUIET = 5.0
"""Seconds that a successor may receive nothing while the old owner receives messages."""
_PATIENCE = 30.0
"""Seconds that a successor may take, besides the deadlines of its single steps."""


class Phase(Enum):
    """How far the successor has come."""

    BOOKED = auto()
    """It waits for the connect budget."""
    HIRED = auto()
    """Its process starts, or waits for the old owner to identify its messages."""
    CONNECTING = auto()
    SETTLING = auto()
    """Its subscriptions are confirmed."""
    READY = auto()
    """The old owner may leave."""
    OVER = auto()
    """Adopted, failed or dropped."""


class SuccessorHost(Protocol):
    """What a succession needs."""

    output: LinkOutput
    """Of the old owner."""
    dialer: Dialer

    def assign_successor(self, process: OwnerProcess) -> None:
        """Give it its assignment."""
        ...

    def successor_ready(self) -> None:
        """The old owner may leave."""
        ...

    def successor_failed(self, text: str) -> None:
        """The old owner stays."""
        ...

    def successor_gone(self) -> None:
        """The process of one that was dropped has ended."""
        ...


class Successor:
    """One attempt, and the listener of its process until the link adopts the process. All methods under the reactor's lock."""

    def __init__(
        self, reactor: Reactor, endpoint: Endpoint, host: SuccessorHost, why: str, confirmed: frozenset[str],
        slot: ConnectSlot, *, identified: bool,
    ) -> None:  # fmt: skip
        """`confirmed`: the names of the streams that the old connection has; a successor that lacks one of them fails. `slot`:
        the connect that the successor makes. `identified`: the successor need not wait for the old owner to identify its
        messages."""
        timeouts = endpoint.timeouts
        self.why = why
        self.phase = Phase.BOOKED
        self.process: OwnerProcess | None = None
        self.held = HeldRecords(endpoint.buffer.max_bytes)
        self.slot = slot
        self._reactor = reactor
        self._host = host
        self._confirmed = confirmed
        self._identified = identified
        self._patience = timeouts.resolve + timeouts.connect + timeouts.handshake + _PATIENCE
        self._deadline: Timer | None = None
        self._check: Timer | None = None
        self._quiet_since = 0.0
        self._dropped = False
        self.ready_at: int | None = None
        """Wall clock in ns since when the old owner may leave; None: it may not."""

    # -- what the link decides -------------------------------------------------------------------------------------------

    def begin(self, acquire: Callable[[Successor], OwnerProcess]) -> None:
        """The connect budget allows it: acquire a process."""
        self.phase = Phase.HIRED
        self.process = acquire(self)
        if self.process.state is ProcessState.WARM:
            self.on_ready(self.process)

    def identified(self) -> None:
        """The messages of the old owner have their identities from here on."""
        self._identified = True
        if self.phase is Phase.HIRED and self.process is not None and self.process.state is ProcessState.WARM:
            self.on_ready(self.process)

    def change(self, kind: int, body: dict[str, object]) -> None:
        """Subscriptions have changed. A successor without an assignment gets the change with its assignment."""
        if self.process is not None and self.process.state is ProcessState.SERVING:
            self.process.send(kind, 0, body)

    def take(self) -> list[Record]:
        """The link adopts the successor. Returns the held records."""
        self.phase = Phase.OVER
        self._cancel()
        return self.held.take()

    def drop(self) -> bool:
        """The successor is not wanted any more. Returns whether it has a process, whose end `successor_gone` will report."""
        self.phase = Phase.OVER
        self._dropped = True
        self.slot.cancel()
        self._cancel()
        self.held.take()
        if self.process is None or self.process.state is ProcessState.DEAD:
            return False
        self.process.stop(kind="recycled")
        return True

    # -- what its process sends ------------------------------------------------------------------------------------------

    def on_ready(self, process: OwnerProcess) -> None:
        if self._deadline is None:  # before that, `watchdog.startup` bounds its start, without the time in a queue
            late = f"not ready within {self._patience:g} s"
            self._deadline = self._reactor.call_later(self._patience, lambda: self._fail(late))
        if self.phase is Phase.HIRED and self._identified:
            self.phase = Phase.CONNECTING
            self._host.assign_successor(process)

    def on_record(self, process: OwnerProcess, received: Record) -> None:
        """Hold the record, and note how far the successor has come."""
        if self._dropped:
            return
        self.held.add(received)
        if received.kind == record.REPORT:
            try:
                self._on_report(parse_report(received.report), received.received_at)
            except ValueError as error:
                process.abort(Reason(kind="corrupt", text=f"a report that makes no sense: {error!r}"[:300]))
        if self.held.is_full:
            process.data.pause()
            if self.phase is Phase.SETTLING:
                self._ready()

    def on_single(self, process: OwnerProcess, single: SingleMessage) -> None:
        """Hold the message."""
        self.on_record(process, Record.of_single(single))

    def on_command(self, process: OwnerProcess, command: Command) -> None:
        """Ignored: nothing was sent that it replies to."""

    def on_log(self, process: OwnerProcess, line: str) -> None:
        self._host.output.log.printed(self._host.output.epoch + 1, process.pid, line)

    def on_dead(self, _child: OwnerProcess, reason: Reason) -> None:
        if self._dropped:
            self._host.successor_gone()
        else:
            self._fail(reason.describe())

    def _on_report(self, report: OwnerReport, at: int) -> None:
        match report:
            case StreamNamed():
                self.held.name_stream(report.name)
            case SubscriptionsRestored():
                lost = self._confirmed.intersection(report.failed)
                if lost:
                    self._fail(f"not subscribed: {', '.join(sorted(lost))}")
                elif self.phase is Phase.CONNECTING:
                    self.held.subscriptions_confirmed(at)
                    self.phase = Phase.SETTLING
                    self._quiet_since = monotonic()
                    self._check = self._reactor.call_later(_AFTER_CONFIRMED, self._check_received)
            case ConnectionDown():
                self._host.dialer.leave_host_alone(report.reason)
                self._fail(report.reason.describe())

    def _check_received(self) -> None:
        """The old owner may leave when the successor has received a message, or when the old owner receives none either."""
        if self.held.messages or not self._host.output.is_receiving:
            self._ready()
        elif monotonic() - self._quiet_since >= _QUIET:
            self._fail(f"connected, and mute for {_QUIET:g} s while the old connection is not")
        else:
            self._check = self._reactor.call_later(_AFTER_CONFIRMED, self._check_received)

    def _ready(self) -> None:
        self.phase = Phase.READY
        self.ready_at = time_ns()
        self._cancel()
        self._host.successor_ready()

    def _fail(self, text: str) -> None:
        if self.phase is not Phase.OVER:
            self._host.successor_failed(text)

    def _cancel(self) -> None:
        for timer in (self._deadline, self._check):
            if timer is not None:
                timer.cancel()
