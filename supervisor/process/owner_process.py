"""One owner process, from its start to its death. What to do at which event is in `lifecycle.TABLE`; here it is done.

    launcher ──started──> OwnerProcess ──┬── data        DataPipe         records: messages, reports
                             ^           ├── control     ControlChannel   commands to it, answers of it
                  lifecycle.step(event)  ├── log         LogPipe          what user code prints
                             │           ├── exit        ExitStatus       pidfd, exit status
                             v           └── connection  OwnerConnection  what outlives it
                          listener

The order of a death: the pipe is drained (every complete record counts, a torn last one is dropped and counted), then the
control socket, then the exit status is awaited, for a bounded time. Only then the listener gets `on_dead`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from time import monotonic
from typing import Any, Final, Protocol, assert_never

from wsadapter.contract.endpoint import Timeouts, Watchdog
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
from wsadapter.process.exit_status import ExitStatus, exit_reason
from wsadapter.process.launcher import Launcher, Order, StartedOwner
from wsadapter.process.lifecycle import Action, Event, State
from wsadapter.process.log_pipe import LogPipe
from wsadapter.process.owner_connection import OwnerConnection

logger = logging.getLogger("wsadapter.supervisor")

_MOST_UNSENT: Final = 64 * 1024 * 1024
"""Bytes that may wait for an owner that does not read its control socket."""
_STUCK: Final = "owner pid %s does not end after SIGKILL (uninterruptible sleep?)"
_serials = count(1)


class OwnerListener(Protocol):
    """Who is told what an owner process does. Called under the reactor's lock."""

    def on_ready(self, child: OwnerProcess) -> None: ...
    def on_record(self, child: OwnerProcess, received: Record) -> None: ...
    def on_lone(self, child: OwnerProcess, lone: SingleMessage) -> None:
        """As `on_record`, of a record that is one text message and nothing else."""
        ...

    def on_command(self, child: OwnerProcess, command: Command) -> None: ...
    def on_log(self, child: OwnerProcess, line: str) -> None: ...
    def on_dead(self, child: OwnerProcess, reason: Reason) -> None:
        """The last call. `reason` is what the supervisor knows: why it ended the process, or the exit status."""
        ...


class IgnoreOwnerEvents:
    """A listener that is interested in nothing; a subclass adds what it is interested in."""

    def on_ready(self, child: OwnerProcess) -> None:
        """Ignored."""

    def on_record(self, child: OwnerProcess, received: Record) -> None:
        """Ignored."""

    def on_lone(self, child: OwnerProcess, lone: SingleMessage) -> None:
        """Ignored."""

    def on_command(self, child: OwnerProcess, command: Command) -> None:
        """Ignored."""

    def on_log(self, child: OwnerProcess, line: str) -> None:
        """Ignored."""

    def on_dead(self, child: OwnerProcess, reason: Reason) -> None:
        """Ignored."""


_NOBODY: Final = IgnoreOwnerEvents()
"""The listener of a process whose death was reported."""


@dataclass(slots=True)
class _Start:
    """The start of a process; gone when the process is ready."""

    replace_launcher: Callable[[Launcher], None]
    order: Order | None = None
    """None once the launcher has done its part."""

    def give_up(self) -> None:
        """The launcher is stuck with it."""
        if self.order is not None:
            self.replace_launcher(self.order.launcher)
            self.order = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an owner process may take for what, and how much memory it may use."""

    timeouts: Timeouts
    watchdog: Watchdog


class OwnerProcess:
    """One owner process. All methods under the reactor's lock."""

    def __init__(
        self,
        reactor: Reactor,
        listener: OwnerListener,
        limits: Limits,
        *,
        pipe_bytes: int = 0,
        launcher: Launcher | None = None,
        replace_launcher: Callable[[Launcher], None] = lambda _: None,
    ) -> None:
        """Order the process from `launcher`; without one, `adopt` has to follow. `pipe_bytes`: what its data pipe should hold,
        if the kernel allows it. `replace_launcher` is called with the launcher if that is stuck with this process."""
        self.serial = next(_serials)
        self.state = State.QUEUED
        self.is_frozen = False
        """Another supervisor may get it."""
        self.data: DataPipe[OwnerProcess] = DataPipe(reactor, self, listener, self.abort, pipe_bytes)
        self.control = ControlChannel(
            reactor, self._on_command, lambda error: self.abort(Reason(kind="corrupt", text=f"control socket: {error}"))
        )
        self.log = LogPipe(reactor, lambda line: self._listener.on_log(self, line))
        self.exit = ExitStatus(reactor, self._on_end, self._on_status)
        self.connection = OwnerConnection(self.data)
        self._listener = listener
        self._limits = limits
        self._reactor = reactor
        self._verdict: Reason | None = None
        """Why the supervisor ended it; None: it did not."""
        self._deadline: Timer | None = None
        self._probe_sent: float | None = None
        self._start: _Start | None = None
        """None: it is, or was, ready."""
        if launcher is not None:
            self._start = _Start(replace_launcher)
            begun = lambda: reactor.post(lambda: self.step(Event.LAUNCHING))  # noqa: E731
            done = lambda result: reactor.post(lambda: self._launched(result))  # noqa: E731
            self._start.order = launcher.start(f"wsadapter-owner-{self.serial}", done, begun)

    @property
    def pid(self) -> int | None:
        """None before it is there, and after its death."""
        return self.exit.pid

    def report_to(self, listener: OwnerListener) -> None:
        """From now on `listener` is told what it does."""
        self._listener = self.data.listener = listener

    # -- commands of its host --------------------------------------------------------------------------------------------

    def assign(
        self, assignment: Assignment, resumption: Resumption | None = None, holder: ConnectionHolder | None = None
    ) -> None:
        """Give it its endpoint, and the connection to go on with, and who holds its TLS. It must be WARM."""
        self.connection.holder = holder
        self.data.expect(assignment.endpoint)
        self._limits = Limits(assignment.endpoint.timeouts, assignment.endpoint.watchdog)
        if self.step(Event.ASSIGN) is not Action.ASSIGN:
            return
        if resumption is not None:
            if self.control.send_descriptor(commands.HANDOFF, resumption.body, resumption.held.sock):
                self.connection.held = resumption.held
                self.data.continue_at(resumption.resume.position, resumption.tail)
                assignment = replace(assignment, resume=resumption.resume)
            else:
                resumption.held.close()  # it opens a connection of its own
        elif assignment.held and holder is not None and (end := holder.owners_end) is not None:
            self.control.send_descriptor(commands.HANDOFF, b"", end)  # if it does not arrive, the owner reports that
            end.close()
            holder.owners_end = None
        self.control.send(commands.ASSIGN, 0, assignment.to_body())

    def hold(self, assignment: Assignment, end: socket.socket) -> None:
        """Let it be a TLS holder, with an owner at the other end of `end`. It must be WARM."""
        self._limits = Limits(assignment.endpoint.timeouts, self._limits.watchdog)
        if self.step(Event.ASSIGN) is not Action.ASSIGN:
            return
        if not self.control.send_descriptor(commands.HOLD, assignment.to_body(), end):
            self.abort(Reason(kind="start_failed", text="it could not be handed its end of the connection"))

    def stop(self, *, kind: str = "stopped", code: int = 1000) -> None:
        """Ask it to close the connection and leave; then TERM, then KILL, each after `timeouts.close`."""
        self._verdict = self._verdict or Reason(kind=kind)
        if self.step(Event.STOP) is Action.ASK:
            self.control.send(commands.STOP, 0, {"code": code, "kind": kind})
            self.data.resume()  # its last words are behind what waits in the pipe

    def abort(self, reason: Reason) -> None:
        """Kill it at once, for `reason`."""
        self._verdict = reason
        self.step(Event.ABORT)

    def send(self, kind: int, ref: int, body: bytes | dict[str, Any]) -> None:
        """Send a command. Raises `NotConnected` if it takes none any more, or if too much waits to be taken already."""
        if self.state not in (State.WARM, State.SERVING, State.ASKED):
            raise NotConnected("the owner is leaving")
        if self.control.unsent > _MOST_UNSENT:
            raise NotConnected(f"{self.control.unsent} bytes wait to be taken by the owner already")
        self.control.send(kind, ref, body)

    def probe(self, *, late: bool = False) -> None:
        """Ask its receive loop for a sign of life, and judge the last answer (`watchdog.progress`). `late`: the supervisor
        itself was held up (suspended, starved), so an answer that is not read yet is not missing."""
        if self.state is not State.SERVING:
            return
        now = monotonic()
        if self._probe_sent is None:
            self._probe_sent = now
            self.control.send(commands.PROBE, 0, b"")
        elif late:
            self._probe_sent = now
        elif now - self._probe_sent >= self._limits.watchdog.progress:
            self._verdict = Reason(kind="hung", text=f"no progress for {now - self._probe_sent:.1f} s")
            self.step(Event.HUNG)

    # -- on its way to another supervisor --------------------------------------------------------------------------------

    def adopt(self) -> None:
        """It serves already, started by another supervisor, and its parts are open: it is frozen here, until `thaw`."""
        self.state = State.SERVING
        self.is_frozen = True

    def freeze(self) -> None:
        """Another supervisor may get it: nothing of it is read, and nothing is done with it, until `thaw`. It must serve."""
        for part in (self.data, self.log, self.control, self.exit):
            part.unwatch()
        self._probe_sent = None
        self.is_frozen = True

    def thaw(self) -> None:
        """It is ours (again): read what it writes, and look after it."""
        self.is_frozen = False
        for part in (self.data, self.log, self.control, self.exit):
            part.watch()

    def disown(self) -> None:
        """It is another supervisor's now: forget it. It must be frozen."""
        self.state = State.DEAD
        self._set_deadline(0)
        self.connection.disown()
        self._close()

    # -- the table, and what its actions do ------------------------------------------------------------------------------

    def step(self, event: Event) -> Action:
        """Let `event` happen to it; the action that the table gives, which is done but for ASSIGN and ASK."""
        before = self.state
        self.state, action = lifecycle.step(before, event)
        limit = lifecycle.time_limit(action, self._limits.timeouts, self._limits.watchdog)
        if limit or self.state is not before:
            self._set_deadline(limit)
        self._act(action)
        return action

    def _launched(self, result: StartedOwner | OSError) -> None:
        """The launcher has done its part."""
        if self._start is not None:
            self._start.order = None  # it knows us too, and what we hold is large: nobody must wait for the garbage collector
        if isinstance(result, OSError):
            self._verdict = self._verdict or Reason(kind="start_failed", text=str(result))
            self.step(Event.FAILED)
        elif self.state is State.DEAD:  # it came after its deadline
            result.close()
        else:
            self.data.open(result.data)
            self.control.open(result.control)
            self.log.open(result.log)
            self.exit.open(result.process, result.pid, result.pidfd)
            self.step(Event.STARTED)
            self.thaw()

    def _act(self, action: Action) -> None:
        match action:
            case Action.WITHDRAW:
                if self._start is not None and self._start.order is not None:
                    self._start.order.withdrawn = True
            case Action.REPORT_READY:
                self._start = None
                self._listener.on_ready(self)
            case Action.GIVE_UP_START:
                assert self._start is not None
                seconds = self._limits.watchdog.startup
                logger.error("owner process %d did not start in %.0f s; a new launcher takes over", self.serial, seconds)
                self._start.give_up()
                self._finish()
            case Action.GIVE_UP_ON_STUCK:
                self._give_up_on_stuck()
            case Action.REPORT_STUCK:
                logger.error(_STUCK, self.pid)
            case Action.RELEASE_STUCK:
                logger.info("owner pid %s, which SIGKILL had not ended, has ended", self.pid)
                self._reactor.closers.discard(self._close)
                self._close()
            case Action.FINISH:
                self._finish()
            case Action.DUMP | Action.TERMINATE | Action.KILL:
                self.exit.send_signal(lifecycle.SIGNALS[action])
            case Action.NOTHING | Action.AWAIT_START | Action.AWAIT_READY | Action.AWAIT_END:
                pass  # at most a time limit
            case Action.ASSIGN | Action.ASK:
                pass  # the method that brought the event knows what to send
            case _:
                assert_never(action)

    def _give_up_on_stuck(self) -> None:
        """It can do nothing more, and may never end: its connection is ended from outside, and its endpoint goes on."""
        logger.error(_STUCK, self.pid)
        self._reactor.closers.add(self._close)  # should the loop end before it does
        self._drain()
        for part in (self.data, self.log, self.control):
            part.unwatch()
        self.connection.end()
        self._verdict = self._verdict or Reason(kind="hung", text="it does not end after SIGKILL")
        self._report_death()

    def _finish(self) -> None:
        self._drain()  # again: what came while the exit status was awaited
        self._close()
        self._report_death()

    def _report_death(self) -> None:
        self._listener.on_dead(self, self._verdict or Reason(kind="start_failed", text="the process could not be started"))
        self._listener = _NOBODY  # a listener that keeps the process must not wait for the garbage collector together with it
        self.connection.release()

    # -- what it does ----------------------------------------------------------------------------------------------------

    def _on_command(self, command: Command) -> None:
        match command.kind:
            case commands.READY:
                self.step(Event.READY)
                return
            case commands.PROBED:
                self._probe_sent = None
            case commands.CUSTODY:
                descriptor = self.control.sock.take_descriptor()
                self.connection.hold(command, descriptor, is_wanted=self.state is State.SERVING)
            case commands.ANNOUNCE:
                self.connection.announce(command)
            case commands.READING:
                self.connection.on_reading(command)
        self._listener.on_command(self, command)

    def _on_end(self) -> None:
        self._set_deadline(0)  # it is dead; only its status may be late
        self._drain()

    def _on_status(self) -> None:
        if self._verdict is None:
            code, watchdog = self.exit.code, self._limits.watchdog
            late = f"not ready within {watchdog.startup:g} s" if self.state is State.KILLED else ""
            self._verdict = exit_reason(
                code,
                memory=self.exit.memory.testimony(code, watchdog.memory),
                last_lines=self.log.last_lines,
                was_ready=self._start is None,
                late=late,
            )
        self.step(Event.DEATH)

    def _drain(self) -> None:
        """Read what it has left, in the order that counts: records first, then what it answered."""
        self.data.drain()
        self.control.read_all()
        self.log.read()

    # -- small tools -----------------------------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float) -> None:
        """The time this state may last; 0: no limit."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._reactor.call_later(seconds, lambda: self.step(Event.DEADLINE)) if seconds else None

    def _close(self) -> None:
        self._set_deadline(0)
        for part in (self.data, self.log, self.control, self.exit):
            part.close()
