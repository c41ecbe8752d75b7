"""One owner process, from its start to its death. `lifecycle.TABLE` names the actions of an event; this module performs them.

    launcher ──started──> OwnerProcess ──┬── data        DataPipe         records: messages, reports
                             ^           ├── control     ControlChannel   commands to the process, and its answers
                  lifecycle.step(event)  ├── log         LogPipe          what user code prints
                             │           ├── exit        ExitWatcher      pidfd, exit status
                             v           └── connection  OwnerConnection  the part of its connection that outlives it
                          listener

At a death, the pipe is drained first (every complete record counts, an incomplete last one is dropped and counted), then the
control socket is read, and then the exit status is awaited, for a bounded time. Only after that `on_dead` of the listener is
called.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from time import monotonic
from typing import Any, Final, Protocol, assert_never

from wsadapter.contract.endpoint import Endpoint, Timeouts, Watchdog
from wsadapter.contract.errors import NotConnected
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import Command
from wsadapter.contract.ipc.record import Record, SingleMessage
from wsadapter.contract.reasons import Reason
from wsadapter.handoff.custody import ConnectionHolder
from wsadapter.handoff.held_connection import Resumption
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process import lifecycle
from wsadapter.process.control_channel import ControlChannel
from wsadapter.process.data_pipe import DataPipe
from wsadapter.process.deposits import Kept
from wsadapter.process.exit_status import ExitWatcher, exit_reason
from wsadapter.process.launcher import Launcher, StartedOwner, StartRequest
from wsadapter.process.lifecycle import ProcessAction, ProcessEvent, ProcessState
from wsadapter.process.log_pipe import LogPipe
from wsadapter.process.owner_connection import OwnerConnection

logger = logging.getLogger("wsadapter.supervisor")

_MOST_UNSENT: Final = 64 * 1024 * 1024
"""Bytes that may wait for an owner that does not read its control socket."""
_STUCK: Final = "owner pid %s does not end after SIGKILL (uninterruptible sleep?)"
_serials = count(1)


class OwnerListener(Protocol):
    """What an owner process reports to. Called under the reactor's lock."""

    def on_ready(self, process: OwnerProcess, /) -> None: ...
    def on_record(self, process: OwnerProcess, received: Record, /) -> None: ...
    def on_single(self, process: OwnerProcess, single: SingleMessage, /) -> None:
        """As `on_record`, for a record that is one text message and nothing else."""
        ...

    def on_command(self, process: OwnerProcess, command: Command, /) -> None: ...
    def on_log(self, process: OwnerProcess, line: str, /) -> None: ...
    def on_dead(self, process: OwnerProcess, reason: Reason, /) -> None:
        """The last call. `reason`: why the supervisor ended the process, or the reason that the exit status gives."""
        ...


class IgnoreOwnerEvents:
    """A listener that ignores all events; a subclass overrides those that it needs."""

    def on_ready(self, process: OwnerProcess, /) -> None:
        """Ignored."""

    def on_record(self, process: OwnerProcess, received: Record, /) -> None:
        """Ignored."""

    def on_single(self, process: OwnerProcess, single: SingleMessage, /) -> None:
        """Ignored."""

    def on_command(self, process: OwnerProcess, command: Command, /) -> None:
        """Ignored."""

    def on_log(self, process: OwnerProcess, line: str, /) -> None:
        """Ignored."""

    def on_dead(self, process: OwnerProcess, reason: Reason, /) -> None:
        """Ignored."""


_NOBODY: Final = IgnoreOwnerEvents()
"""The listener of a process whose death was reported."""


@dataclass(slots=True)
class _Start:
    """The start of a process, until the process is ready."""

    replace_launcher: Callable[[Launcher], None]
    request: StartRequest | None = None
    """None once the launcher has started the process, or has failed to."""

    def give_up(self) -> None:
        """The launcher is stuck with this start."""
        if self.request is not None:
            self.replace_launcher(self.request.launcher)
            self.request = None


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """How long an owner process may take to start, to close and to answer, and how much memory it may use."""

    timeouts: Timeouts
    watchdog: Watchdog


class OwnerProcess:
    """One owner process. All methods under the reactor's lock."""

    def __init__(
        self,
        reactor: Reactor,
        listener: OwnerListener,
        limits: ProcessLimits,
        *,
        pipe_bytes: int = 0,
        launcher: Launcher | None = None,
        replace_launcher: Callable[[Launcher], None] = lambda _: None,
        keeper: Callable[[OwnerProcess, Endpoint], Kept | None] | None = None,
    ) -> None:
        """Have `launcher` start the process; without a launcher, `adopt` must follow. `pipe_bytes`: the size of its data pipe,
        if the kernel allows it. `replace_launcher` is called with the launcher if that is stuck with this start.
        `keeper`: see `DataPipe.keeper`."""
        self.serial = next(_serials)
        self.state = ProcessState.QUEUED
        self.is_frozen = False
        """Whether a takeover by another supervisor may be under way, so that nothing is read from the process."""
        self.data: DataPipe[OwnerProcess] = DataPipe(reactor, self, listener, self.abort, pipe_bytes)
        self.data.keeper = keeper
        self.control = ControlChannel(
            reactor, self._on_command, lambda error: self.abort(Reason(kind="corrupt", text=f"control socket: {error}"))
        )
        self.log = LogPipe(reactor, lambda line: self._listener.on_log(self, line))
        self.exit = ExitWatcher(reactor, self._on_end, self._on_status)
        self.connection = OwnerConnection(self.data)
        self._listener = listener
        self._limits = limits
        self._reactor = reactor
        self._verdict: Reason | None = None
        """Why the supervisor ended the process; None: it did not."""
        self._deadline: Timer | None = None
        self._probe_sent: float | None = None
        self._start: _Start | None = None
        """None: the process is ready, or was."""
        if launcher is not None:
            self._start = _Start(replace_launcher)
            begun = lambda: reactor.post(lambda: self.step(ProcessEvent.LAUNCHING))  # noqa: E731
            done = lambda result: reactor.post(lambda: self._launched(result))  # noqa: E731
            self._start.request = launcher.start(f"wsadapter-owner-{self.serial}", done, begun)

    @property
    def pid(self) -> int | None:
        """None before the process is started, and after its death."""
        return self.exit.pid

    def report_to(self, listener: OwnerListener) -> None:
        """Report to `listener` from now on."""
        self._listener = self.data.listener = listener

    # -- commands of its host --------------------------------------------------------------------------------------------

    def assign(
        self, assignment: Assignment, resumption: Resumption | None = None, holder: ConnectionHolder | None = None
    ) -> None:
        """Assign an endpoint to the process, with the connection to continue on, if there is one, and the process that holds
        its TLS. It must be WARM."""
        self.connection.holder = holder
        self.data.expect(assignment.endpoint)
        self._limits = ProcessLimits(assignment.endpoint.timeouts, assignment.endpoint.watchdog)
        if self.step(ProcessEvent.ASSIGN) is not ProcessAction.ASSIGN:
            return
        self.data.deposit(assignment.endpoint)
        if resumption is not None:
            if self.control.send_descriptor(commands.HANDOFF, resumption.body, resumption.held.sock):
                self.connection.held = resumption.held
                self.data.continue_at(resumption.resume.position, resumption.tail)
                assignment = replace(assignment, resume=resumption.resume)
            else:
                resumption.held.close()  # the owner opens a connection of its own
        elif assignment.held and holder is not None and (end := holder.owners_end) is not None:
            self.control.send_descriptor(commands.HANDOFF, b"", end)  # if it does not arrive, the owner reports that
            end.close()
            holder.owners_end = None
        self.control.send(commands.ASSIGN, 0, assignment.to_body())

    def hold(self, assignment: Assignment, end: socket.socket) -> None:
        """Make the process a TLS holder, with an owner at the other end of `end`. It must be WARM."""
        self._limits = ProcessLimits(assignment.endpoint.timeouts, self._limits.watchdog)
        if self.step(ProcessEvent.ASSIGN) is not ProcessAction.ASSIGN:
            return
        self.data.deposit(assignment.endpoint)
        if not self.control.send_descriptor(commands.HOLD, assignment.to_body(), end):
            self.abort(Reason(kind="start_failed", text="its end of the connection could not be passed to it"))

    def stop(self, *, kind: str = "stopped", code: int = 1000) -> None:
        """Ask the process to close the connection and exit; then send SIGTERM, then SIGKILL, each after `timeouts.close`."""
        self._verdict = self._verdict or Reason(kind=kind)
        if self.step(ProcessEvent.STOP) is ProcessAction.ASK:
            self.control.send(commands.STOP, 0, {"code": code, "kind": kind})
            self.data.resume()  # its last reports follow the records that wait in the pipe

    def abort(self, reason: Reason) -> None:
        """Kill the process at once, for `reason`."""
        self._verdict = reason
        self.step(ProcessEvent.ABORT)

    def send(self, kind: int, ref: int, body: bytes | dict[str, Any]) -> None:
        """Send a command. Raises `NotConnected` if the process accepts none any more, or does not read what was sent before."""
        if self.state not in (ProcessState.WARM, ProcessState.SERVING, ProcessState.ASKED):
            raise NotConnected("the owner is leaving")
        if self.control.unsent > _MOST_UNSENT:
            raise NotConnected(f"the owner has not read {self.control.unsent} bytes that were sent before")
        self.control.send(kind, ref, body)

    def probe(self, *, late: bool = False) -> None:
        """Ask the receive loop for a sign of life, and check that the last probe was answered in time (`watchdog.progress`).
        `late`: the supervisor itself was delayed (suspended, without CPU time), so an answer that it has not read yet isn't
        missing."""
        if self.state is not ProcessState.SERVING:
            return
        now = monotonic()
        if self._probe_sent is None:
            self._probe_sent = now
            self.control.send(commands.PROBE, 0, b"")
        elif late:
            self._probe_sent = now
        elif now - self._probe_sent >= self._limits.watchdog.progress:
            self._verdict = Reason(kind="hung", text=f"no progress for {now - self._probe_sent:.1f} s")
            self.step(ProcessEvent.HUNG)

    # -- on its way to another supervisor --------------------------------------------------------------------------------

    def adopt(self) -> None:
        """The process serves already, started by another supervisor, and its parts are open. It is frozen here until `thaw`."""
        self.state = ProcessState.SERVING
        self.is_frozen = True

    def freeze(self) -> None:
        """Another supervisor may get the process: read nothing from the process and send it nothing until `thaw`. It must be
        SERVING."""
        for part in (self.data, self.log, self.control, self.exit):
            part.unwatch()
        self._probe_sent = None
        self.is_frozen = True

    def thaw(self) -> None:
        """The process belongs to this supervisor (again): read what it writes, and watch it."""
        self.is_frozen = False
        for part in (self.data, self.log, self.control, self.exit):
            part.watch()

    def disown(self) -> None:
        """The process belongs to another supervisor now: close everything here. It must be frozen."""
        self.state = ProcessState.DEAD
        self._set_deadline(0)
        self.connection.disown()
        self._close()

    # -- the table, and what its actions do ------------------------------------------------------------------------------

    def step(self, event: ProcessEvent) -> ProcessAction:
        """Apply `event`. Returns the action of the table, which is carried out except ASSIGN and ASK: these are the
        caller's."""
        before = self.state
        self.state, action = lifecycle.step(before, event)
        limit = lifecycle.time_limit(action, self._limits.timeouts, self._limits.watchdog)
        if limit or self.state is not before:
            self._set_deadline(limit)
        self._act(action)
        return action

    def _launched(self, result: StartedOwner | OSError) -> None:
        """The launcher has started the process, or has failed to."""
        if self._start is not None:
            # The request refers to this object too, and this object holds large buffers: they must not wait for the garbage
            # collector.
            self._start.request = None
        if isinstance(result, OSError):
            self._verdict = self._verdict or Reason(kind="start_failed", text=str(result))
            self.step(ProcessEvent.FAILED)
        elif self.state is ProcessState.DEAD:  # the process came after its deadline
            result.close()
        else:
            self.data.open(result.data)
            self.control.open(result.control)
            self.control.rejoin = result.rejoin
            self.log.open(result.log)
            self.exit.open(result.process, result.pid, result.pidfd)
            self.step(ProcessEvent.STARTED)
            self.thaw()

    def _act(self, action: ProcessAction) -> None:
        match action:
            case ProcessAction.WITHDRAW:
                if self._start is not None and self._start.request is not None:
                    self._start.request.withdrawn = True
            case ProcessAction.REPORT_READY:
                self._start = None
                self._listener.on_ready(self)
            case ProcessAction.GIVE_UP_START:
                assert self._start is not None
                seconds = self._limits.watchdog.startup
                logger.error("owner process %d did not start in %.0f s; the launcher is replaced", self.serial, seconds)
                self._start.give_up()
                self._finish()
            case ProcessAction.GIVE_UP_ON_STUCK:
                self._give_up_on_stuck()
            case ProcessAction.REPORT_STUCK:
                logger.error(_STUCK, self.pid)
            case ProcessAction.RELEASE_STUCK:
                logger.info("owner pid %s, which did not end after SIGKILL, has ended now", self.pid)
                self._reactor.closers.discard(self._close)
                self._close()
            case ProcessAction.FINISH:
                self._finish()
            case ProcessAction.DUMP | ProcessAction.TERMINATE | ProcessAction.KILL:
                self.exit.send_signal(lifecycle.SIGNALS[action])
            case ProcessAction.NOTHING | ProcessAction.AWAIT_START | ProcessAction.AWAIT_READY | ProcessAction.AWAIT_END:
                pass  # at most a time limit
            case ProcessAction.ASSIGN | ProcessAction.ASK:
                pass  # the method that applied the event sends the command
            case _:
                assert_never(action)

    def _give_up_on_stuck(self) -> None:
        """The process does nothing more, and may never end: its connection is ended from outside, and the endpoint gets another
        owner."""
        logger.error(_STUCK, self.pid)
        self._reactor.closers.add(self._close)  # the loop may be closed before the process ends
        self._drain()
        for part in (self.data, self.log, self.control):
            part.unwatch()
        self.connection.end()
        self._verdict = self._verdict or Reason(kind="hung", text="it does not end after SIGKILL")
        self._report_death()

    def _finish(self) -> None:
        self._drain()  # again, because a grandchild may have written while the exit status was awaited
        self._close()
        self._report_death()

    def _report_death(self) -> None:
        self._listener.on_dead(self, self._verdict or Reason(kind="start_failed", text="the process could not be started"))
        self._listener = _NOBODY  # no cycle: a listener that keeps the process must be freed without the garbage collector
        self.connection.release()

    # -- what the process does -------------------------------------------------------------------------------------------

    def _on_command(self, command: Command) -> None:
        match command.kind:
            case commands.READY:
                self.step(ProcessEvent.READY)
                return
            case commands.PROBED:
                self._probe_sent = None
            case commands.CUSTODY:
                descriptor = self.control.sock.take_descriptor()
                self.connection.hold(command, descriptor, is_wanted=self.state is ProcessState.SERVING)
            case commands.ANNOUNCE:
                self.connection.announce(command)
            case commands.READING:
                self.connection.on_reading(command)
        self._listener.on_command(self, command)

    def _on_end(self) -> None:
        self._set_deadline(0)  # the process is dead; only its status may be late
        self._drain()

    def _on_status(self) -> None:
        if self._verdict is None:
            code, watchdog = self.exit.code, self._limits.watchdog
            late = f"not ready within {watchdog.startup:g} s" if self.state is ProcessState.KILLED else ""
            self._verdict = exit_reason(
                code,
                memory=self.exit.memory.testimony(code, watchdog.memory),
                last_lines=self.log.last_lines,
                was_ready=self._start is None,
                late=late,
            )
        self.step(ProcessEvent.DEATH)

    def _drain(self) -> None:
        """Read everything that the process has written: records first, because an answer on the control socket may be about
        them."""
        self.data.drain()
        self.control.read_all()
        self.log.read()

    # -- small tools -----------------------------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float) -> None:
        """Set the time that this state may last; 0: no limit."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._reactor.call_later(seconds, lambda: self.step(ProcessEvent.DEADLINE)) if seconds else None

    def _close(self) -> None:
        self._set_deadline(0)
        for part in (self.data, self.log, self.control, self.exit):
            part.close()
