"""One owner process: started, watched, told, read, signalled, reaped. What to do when is `child_state`'s; here it is done.

Death is the pidfd's word (a sentinel stays silent while a grandchild holds its pipe, and lies when the fork server dies).
After it the pipe is drained: every complete record counts, a torn last one is dropped and counted. Only then the listener
hears of the death, with the exit status if it can be had.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from math import isfinite
from time import monotonic
from typing import Any, Final, Protocol

import orjson

from wsadapter.contract.endpoint import Endpoint, Timeouts, Watchdog
from wsadapter.contract.errors import NotConnected
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.commands import Assignment, Command, CommandReader, Custody, encode_command
from wsadapter.contract.ipc.record import MAX_RECORD, CorruptRecord, Lone, Record, RecordReader
from wsadapter.contract.reasons import Reason, from_exit_code
from wsadapter.handoff.custody import ConnectionHolder
from wsadapter.handoff.held_connection import Announced, HeldConnection, NotResumable, Resumption
from wsadapter.loop import poller
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process import lifecycle
from wsadapter.process.launcher import AdoptedProcess, Launcher, Order, Started, is_child
from wsadapter.process.lifecycle import Action, Event, State
from wsadapter.process.memory_witness import MemoryWitness

logger = logging.getLogger("wsadapter.supervisor")

_READ_SIZE = 1 << 16
_SEND_SIZE = 1 << 18
_DRAIN_MOST = 4 << 20
"""Bytes that are read of what a dead owner left, at most."""
_DRAIN_COMMANDS = 256
"""Reads of its control socket after its death, at most."""
_STATUS_PATIENCE = 1.0
"""Seconds to wait for the exit status after the death: the fork server has to tell it."""
_ADOPTED_STATUS_PATIENCE = 0.02
"""The same of a process that another supervisor had started: whoever reaps it now may not do so at all."""
_STATUS_INTERVAL = 0.005
"""Seconds between looks at it, where the sentinel stays silent: a grandchild may hold it."""
_DUMP_PATIENCE = 0.5
"""Seconds a hung process gets to write down where it hangs."""
_REAP_INTERVAL = 0.25
"""Seconds between looks at the exit status where there is no pidfd."""
_SET_PIPE_SIZE: int | None = getattr(fcntl, "F_SETPIPE_SZ", None)
_LOG_LINE = 4096
_RECORD_MARGIN = 256 * 1024 * 1024
"""Bytes a record may be longer than the longest messages of one read: tables, small messages, what a decode hook adds."""
_UNSENT_LIMIT = 64 * 1024 * 1024
_CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_serials = count(1)


class Listener(Protocol):
    """Who is told what an owner does. Called under the reactor's lock."""

    def on_ready(self, child: OwnerChild) -> None: ...
    def on_record(self, child: OwnerChild, received: Record) -> None: ...
    def on_lone(self, child: OwnerChild, lone: Lone) -> None:
        """As `on_record`, of a record that is one text message and nothing else."""
        ...

    def on_command(self, child: OwnerChild, command: Command) -> None: ...
    def on_log(self, child: OwnerChild, line: str) -> None: ...
    def on_dead(self, child: OwnerChild, reason: Reason) -> None:
        """The last call. `reason` is what the supervisor knows: why it ended the process, or the exit status."""
        ...


class _Nobody:
    """The listener of a process whose death was told."""

    def on_ready(self, child: OwnerChild) -> None: ...
    def on_record(self, child: OwnerChild, received: Record) -> None: ...
    def on_lone(self, child: OwnerChild, lone: Lone) -> None: ...
    def on_command(self, child: OwnerChild, command: Command) -> None: ...
    def on_log(self, child: OwnerChild, line: str) -> None: ...
    def on_dead(self, child: OwnerChild, reason: Reason) -> None: ...


_NOBODY: Final = _Nobody()


class OwnerChild:
    """One owner process, from the order to the grave. All methods under the reactor's lock."""

    def __init__(
        self,
        reactor: Reactor,
        launcher: Launcher | None,
        listener: Listener,
        *,
        timeouts: Timeouts,
        watchdog: Watchdog,
        pipe_bytes: int,
        renounced: Callable[[Launcher], None],
    ) -> None:
        """Order the process; without a launcher it comes from another supervisor (takeover/process_state.py). `pipe_bytes`:
        what its data pipe should hold, if it may. `renounced` is called with the launcher if that is stuck with it."""
        self.serial = next(_serials)
        self.listener = listener
        self.timeouts = timeouts
        self.watchdog = watchdog
        self.state = State.QUEUED
        self.torn_bytes = 0
        """Bytes of a record that was not finished when it died."""
        self.heard_out = False
        """It is dead, and all it said on its control socket was heard."""
        self.last_words = ""
        """The last lines it printed."""
        self.reading: int | None = None
        """Where in the stream it began to parse what its predecessor left unread; None: it has not, or is through with it."""
        self.memory = MemoryWitness()
        self._reactor = reactor
        self._renounced = renounced
        self._pipe_bytes = pipe_bytes
        self._started: Started | None = None
        self._verdict: Reason | None = None
        self._was_ready = False
        self._records = RecordReader()
        self._commands = CommandReader()
        self._data_fd = -1
        self._paused = False
        self.is_frozen = False
        """Another supervisor may get it."""
        self._log_rest = b""
        self._outgoing = bytearray()
        self._control_waits = False
        self._stop_order: dict[str, Any] = {"code": 1000, "kind": "stopped"}
        self._assignment: Assignment | None = None
        self._resumption: Resumption | None = None
        self._to_hold: tuple[Assignment, socket.socket] | None = None
        self.holder: ConnectionHolder | None = None
        """Who holds the TLS of its connection. Whoever takes the connection from a dead owner takes it too, and leaves None."""
        self._held: HeldConnection | None = None
        self._handed_fd: int | None = None
        self._control: socket.socket | None = None
        self._deadline: Timer | None = None
        self._reaper: Timer | None = None
        self._probe_sent: float | None = None
        self._order: Order | None = None
        if launcher is not None:
            begun = lambda: reactor.post(lambda: self.step(Event.LAUNCHING))  # noqa: E731
            self._order = launcher.start(f"wsadapter-owner-{self.serial}", self._on_launched, begun)

    @property
    def pid(self) -> int | None:
        """None before it is there."""
        return self._started.pid if self._started else None

    @property
    def has_ended(self) -> bool:
        """Whether its process is dead, be that told already or not."""
        started = self._started
        if started is None:
            return self.state is State.DEAD
        if started.pidfd is None:
            return started.process.exitcode is not None
        look = select.poll()
        look.register(started.pidfd, select.POLLIN)
        return bool(look.poll(0))

    def hear(self) -> bool:
        """What it has said on its control socket, and was not read yet; whether that was all."""
        return not all(self._hear_control() for _ in range(_DRAIN_COMMANDS))

    # -- what can be asked of it -----------------------------------------------------------------------------------------

    def assign(
        self, assignment: Assignment, resumption: Resumption | None = None, holder: ConnectionHolder | None = None
    ) -> None:
        """Give it its endpoint, and the connection to go on with, and who holds its TLS. It must be WARM."""
        self._assignment = assignment
        self._resumption = resumption
        self.holder = holder
        self._records = RecordReader(limit=_longest_record(assignment.endpoint))
        self.timeouts = assignment.endpoint.timeouts
        self.watchdog = assignment.endpoint.watchdog
        self.step(Event.ASSIGN)

    def hold(self, assignment: Assignment, sock: socket.socket) -> None:
        """Let it be a TLS holder, with an owner at the other end of `sock`. It must be WARM."""
        self.timeouts = assignment.endpoint.timeouts
        self._to_hold = assignment, sock
        self.step(Event.ASSIGN)
        self._to_hold = None

    def stop(self, *, kind: str = "stopped", code: int = 1000) -> None:
        """Ask it to close the connection and leave; then TERM, then KILL, each after `timeouts.close`."""
        self._stop_order = {"code": code, "kind": kind}
        self._verdict = self._verdict or Reason(kind=kind)
        self.step(Event.STOP)

    def leaving(self) -> None:
        """It said its last word; give it a moment to end."""
        self.step(Event.LEAVING)

    def abort(self, reason: Reason) -> None:
        """Kill it at once, for `reason`."""
        self._verdict = reason
        self.step(Event.ABORT)

    def tell(self, kind: int, ref: int, body: bytes | dict[str, Any]) -> None:
        """Send a command. Raises `NotConnected` where it takes none any more, or too much waits to be taken already."""
        if self._control is None or self.state not in (State.WARM, State.SERVING, State.ASKED):
            raise NotConnected("the owner is leaving")
        if len(self._outgoing) > _UNSENT_LIMIT:
            raise NotConnected(f"{len(self._outgoing)} bytes wait to be taken by the owner already")
        self._post(kind, ref, body)

    def pause(self) -> None:
        """Stop reading its data; it will stop reading the socket when the pipe is full."""
        self._paused = True
        self._listen_to_data(0)

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._listen_to_data(poller.READ)

    def freeze(self) -> None:
        """Another supervisor may get it: nothing of it is read, and nothing is done with it, until `thaw`. It must serve."""
        assert self._started is not None
        started = self._started
        for fd in (started.data.fileno(), started.log.fileno(), started.control.fileno(), started.pidfd):
            if fd is not None:
                self._reactor.unregister(fd)
        self._control_waits = False
        self._probe_sent = None
        self.is_frozen = True

    def thaw(self) -> None:
        """Ours again, or at last: read on, unless it is paused."""
        assert self._started is not None
        self.is_frozen = False
        self._listen(self._started)
        self._write_control()

    def relinquish(self) -> None:
        """It is another supervisor's now: forget it. It must be frozen."""
        self.state = State.DEAD
        self._set_deadline(0)
        if self._held is not None:
            self._held.sock.close()  # our duplicate only
            self._held = None
        self._close()

    def probe(self) -> None:
        """Ask its receive loop for a sign of life, and judge the last answer (`watchdog.progress`)."""
        if self.state is not State.SERVING:
            return
        now = monotonic()
        if self._probe_sent is None:
            self._probe_sent = now
            self._post(commands.PROBE, 0, b"")
        elif now - self._probe_sent >= self.watchdog.progress:
            self._verdict = Reason(kind="hung", text=f"no progress for {now - self._probe_sent:.1f} s")
            self.step(Event.HUNG)

    @property
    def in_custody(self) -> bool:
        """Whether its connection can outlive it."""
        return self._held is not None

    def resumption(self, up: dict[str, Any]) -> Resumption:
        """Its connection, for a successor; to be asked for in `on_dead`. Whoever gets it has to close it.

        Raises `NotResumable`; then it is closed.
        """
        held, self._held = self._held, None
        if held is None:
            raise NotResumable("")
        try:
            return held.resumption(self._records.position, self._records.tail(), up)
        except NotResumable:
            held.close()
            raise

    def probed(self) -> None:
        """It answered."""
        self._probe_sent = None

    def excuse(self) -> None:
        """The supervisor itself was held up (suspended, starved): an answer that is not read yet is not missing."""
        if self._probe_sent is not None:
            self._probe_sent = monotonic()

    # -- the table, and what its actions do ------------------------------------------------------------------------------

    def step(self, event: Event) -> None:
        """Let `event` happen to it."""
        before = self.state
        self.state, action = lifecycle.step(before, event)
        if self.state is not before:
            self._set_deadline(0)
        _ACTIONS[action](self)

    def _nothing(self) -> None:
        """The table says that this changes nothing."""

    def _await_start(self) -> None:
        """The time for it begins now: those before it in the launcher's queue took theirs."""
        self._set_deadline(self.watchdog.startup)

    def _withdraw(self) -> None:
        assert self._order is not None
        self._order.withdrawn = True

    def _watch(self) -> None:
        assert self._started is not None
        started = self._started
        self._set_deadline(self.watchdog.startup)
        self._control = started.control
        self._control.setblocking(False)
        for end in (started.data, started.log):
            os.set_blocking(end.fileno(), False)
        _enlarge(started.data.fileno(), self._pipe_bytes)
        self._data_fd = started.data.fileno()
        self._listen(started)
        if started.pidfd is None:
            self._look_for_death()

    def _listen(self, started: Started) -> None:
        reactor = self._reactor
        reactor.register(self._data_fd, self._read_data, 0 if self._paused else poller.READ)
        reactor.register(started.log.fileno(), self._on_log)
        reactor.register(started.control.fileno(), self._on_control)
        if started.pidfd is not None:
            reactor.register(started.pidfd, self._on_death)

    def _announce(self) -> None:
        self._was_ready = True
        self.listener.on_ready(self)

    def _send_assignment(self) -> None:
        if self._to_hold is not None:
            assignment, sock = self._to_hold
            if not self._send_with(commands.HOLD, orjson.dumps(assignment.to_body()), sock):
                self.abort(Reason(kind="start_failed", text="it could not be handed its end of the connection"))
            return
        assert self._assignment is not None
        assignment, self._assignment = self._assignment, None  # it holds secrets
        if self._resumption is not None:
            resumption, self._resumption = self._resumption, None
            if self._hand(resumption):
                assignment = replace(assignment, resume=resumption.resume)
        elif assignment.held and self.holder is not None and (end := self.holder.owners_end) is not None:
            self._send_with(commands.HANDED, b"", end)  # where it can't be sent, the owner says that it lacks it
            end.close()
            self.holder.owners_end = None
        self._post(commands.ASSIGN, 0, assignment.to_body())

    def _send_with(self, kind: int, body: bytes, sock: socket.socket) -> bool:
        """A command with a socket; whether it is on its way."""
        assert self._control is not None
        frame = encode_command(kind, 0, body)
        try:
            if self._outgoing:
                raise BlockingIOError
            sent = socket.send_fds(self._control, [memoryview(frame)[:_SEND_SIZE]], [sock.fileno()])
        except OSError as error:  # too many descriptors in flight (unix(7)), or it is dying
            logger.warning("a connection could not be handed on: %s", error)
            return False
        self._outgoing += memoryview(frame)[sent:]
        if self._outgoing:
            self._write_control()
        return True

    def _hand(self, resumption: Resumption) -> bool:
        """Send it a live connection; where that can't be, it will open one of its own."""
        if not self._send_with(commands.HANDED, resumption.body, resumption.held.sock):
            resumption.held.close()
            return False
        self._held = resumption.held
        position = resumption.resume.position
        self._records = RecordReader(limit=self._records.limit, position=position, tail=resumption.tail)
        return True

    def _ask(self) -> None:
        self._set_deadline(self.timeouts.close)
        self._post(commands.STOP, 0, self._stop_order)
        if self._paused:
            self.resume()  # its last words are behind what waits in the pipe

    def _await_end(self) -> None:
        self._set_deadline(self.timeouts.close)

    def _dump(self) -> None:
        self._set_deadline(_DUMP_PATIENCE)
        self._signal(signal.SIGUSR2)

    def _terminate(self) -> None:
        self._set_deadline(self.timeouts.close)
        self._signal(signal.SIGTERM)

    def _kill(self) -> None:
        if self._control is None:
            self._watch()  # it was unwanted before it was there
        self._set_deadline(self.timeouts.close)
        self._signal(signal.SIGKILL)

    def _renounce(self) -> None:
        logger.error("owner process %d did not start in %.0f s; a new launcher takes over", self.serial, self.watchdog.startup)
        assert self._order is not None
        self._renounced(self._order.launcher)
        self._order = None
        self._bury()

    def _abandon(self) -> None:
        """It can do nothing more, and may never end: its connection is ended from outside, and its endpoint goes on."""
        self._report_stuck()
        self._reactor.closers.add(self._close)  # should the loop end before it does
        self._drain()
        started = self._started
        assert started is not None
        for end in (started.data, started.log, started.control):
            self._reactor.unregister(end.fileno())
        if self._held is not None:
            self._held.close()
            self._held = None
        self._verdict = self._verdict or Reason(kind="hung", text="it does not end after SIGKILL")
        self._tell_death()

    def _report_stuck(self) -> None:
        self._set_deadline(30.0)
        logger.error("owner pid %s does not end after SIGKILL (uninterruptible sleep?)", self.pid)

    def _forget(self) -> None:
        logger.info("owner pid %s, which SIGKILL had not ended, has ended", self.pid)
        self._set_deadline(0)
        self._reactor.closers.discard(self._close)
        self._close()

    def _bury(self) -> None:
        self._drain()
        for timer in (self._deadline, self._reaper):
            if timer is not None:
                timer.cancel()
        self._close()
        self._tell_death()

    def _tell_death(self) -> None:
        self.listener.on_dead(self, self._verdict or Reason(kind="start_failed", text="the process could not be started"))
        self.listener = _NOBODY  # a listener that keeps us is garbage with us now: it must not wait for the collector either
        if self._held is not None:
            self._held.close()  # nobody wanted it
            self._held = None
        if self.holder is not None:
            self.holder.let_go()
            self.holder = None

    # -- start and death -------------------------------------------------------------------------------------------------

    def _on_launched(self, result: Started | OSError) -> None:
        """In the launcher's thread."""
        self._reactor.post(lambda: self._launched(result))

    def _launched(self, result: Started | OSError) -> None:
        self._order = None  # it knows us too, and what we hold is large: nobody must wait for the garbage collector
        if isinstance(result, OSError):
            self._verdict = self._verdict or Reason(kind="start_failed", text=str(result))
            self.step(Event.FAILED)
            return
        self._started = result
        if self.state is State.DEAD:  # it came after its deadline
            self._close()
            return
        self.step(Event.STARTED)

    def _on_death(self, _events: int) -> None:
        assert self._started is not None
        self._set_deadline(0)  # it is dead; only its status may be late
        if self._started.pidfd is not None:
            self._reactor.unregister(self._started.pidfd)
        self._drain()
        if self._started.process.exitcode is None and not self._reactor.is_registered(self._started.sentinel):
            self._reactor.register(self._started.sentinel, self._on_sentinel)  # the fork server's word comes that way
        self._await_status(monotonic() + self._patience_for_status)

    @property
    def _patience_for_status(self) -> float:
        adopted = self._started is not None and isinstance(self._started.process, AdoptedProcess)
        return _ADOPTED_STATUS_PATIENCE if adopted else _STATUS_PATIENCE

    def _on_sentinel(self, _events: int) -> None:
        assert self._started is not None
        self._reactor.unregister(self._started.sentinel)
        self._await_status(0.0 if self._started.process.exitcode is not None else monotonic() + self._patience_for_status)

    def _await_status(self, deadline: float) -> None:
        assert self._started is not None
        if self._reaper is not None:
            self._reaper.cancel()
        if self._started.process.exitcode is None and monotonic() < deadline:
            self._reaper = self._reactor.call_later(_STATUS_INTERVAL, lambda: self._await_status(deadline))
            return
        self._reactor.unregister(self._started.sentinel)
        self._judge()
        self.step(Event.DEATH)

    def _look_for_death(self) -> None:
        """Without a pidfd: `waitpid` now and then, which no grandchild can keep silent. Where somebody else's `waitpid(-1)`
        took the status, it is gone from our children."""
        assert self._started is not None
        if self._started.process.exitcode is None and is_child(self._started.pid):
            self._reaper = self._reactor.call_later(_REAP_INTERVAL, self._look_for_death)
        else:
            self._on_death(0)

    def _judge(self) -> None:
        assert self._started is not None
        if self._verdict is not None:
            return
        process = self._started.process
        status = process.exitcode if process.status_is_known else None
        testimony = self.memory.testimony(status, self.watchdog.memory)
        reason = from_exit_code(status, text="\n".join(filter(None, (testimony, self.last_words))))
        if not self._was_ready:
            late = f"not ready within {self.watchdog.startup:g} s" if self.state is State.KILLED else ""
            reason = replace(reason, kind="start_failed", text="\n".join(filter(None, (late, reason.text))))
        self._verdict = reason

    # -- reading ---------------------------------------------------------------------------------------------------------

    def _read_data(self, _events: int = poller.READ) -> int:
        """One read of its pipe; how many bytes it gave."""
        fd, records = self._data_fd, self._records
        try:
            size = os.readv(fd, (records.room,))
        except BlockingIOError:
            return 0
        if not size:
            self._reactor.unregister(fd)
            return 0
        try:
            lone = records.lone(size)
            if lone is not None:
                self.listener.on_lone(self, lone)
                return size
            for received in records.advance(size):
                self.listener.on_record(self, received)
        except CorruptRecord as error:
            self._reactor.unregister(fd)
            self.abort(Reason(kind="corrupt", text=str(error)))
        except MemoryError:  # of this message: the others' are smaller
            self._reactor.unregister(fd)
            self._records = RecordReader()  # what it had of the message goes
            self.abort(Reason(kind="overflow", text="the supervisor has no memory for its message: lower `max_message`"))
        return size

    def _drain(self) -> None:
        """Read what the dead have left, bounded: a grandchild may hold the pipe and write on."""
        if self._started is None:
            return
        left = _DRAIN_MOST
        while left > 0 and self._reactor.is_registered(self._data_fd) and (size := self._read_data()):
            left -= size
        self.torn_bytes = self._records.torn
        self.heard_out = self.hear()
        self._on_log(poller.READ)

    def _listen_to_data(self, events: int) -> None:
        if self._started is not None and self._reactor.is_registered(self._started.data.fileno()):
            self._reactor.modify(self._started.data.fileno(), events)

    def _on_log(self, _events: int) -> None:
        assert self._started is not None
        fd = self._started.log.fileno()
        if not self._reactor.is_registered(fd):
            return
        try:
            chunk = os.read(fd, _READ_SIZE)
        except BlockingIOError:
            return
        if not chunk:
            self._reactor.unregister(fd)
        *lines, self._log_rest = (self._log_rest + chunk).split(b"\n")
        if self._log_rest and (not chunk or len(self._log_rest) > _LOG_LINE):
            lines.append(self._log_rest)
            self._log_rest = b""
        for line in lines:
            text = line[:_LOG_LINE].decode(errors="replace").rstrip()
            if text:
                self.last_words = f"{self.last_words}\n{text}"[-2000:].lstrip("\n")
                self.listener.on_log(self, text)

    # -- the control socket ----------------------------------------------------------------------------------------------

    def _on_control(self, events: int) -> None:
        if self._control is None or not self._reactor.is_registered(self._control.fileno()):
            return
        if events & poller.WRITE:
            self._write_control()
        self._hear_control()

    def _hear_control(self) -> bool:
        """One read; whether there may be more."""
        if self._control is None or not self._reactor.is_registered(self._control.fileno()):
            return False
        try:
            chunk, fds, _, _ = socket.recv_fds(self._control, _READ_SIZE, 1, _CLOSE_ON_EXEC)
        except BlockingIOError:
            return False
        except ConnectionError:  # it died with something of ours unread
            chunk, fds = b"", []
        for fd in fds:
            self._forget_handed()
            self._handed_fd = fd
        if not chunk:
            self._reactor.unregister(self._control.fileno())
            return False
        try:
            for command in self._commands.feed(chunk):
                self._hear(command)
        except ValueError as error:
            self._reactor.unregister(self._control.fileno())
            self.abort(Reason(kind="corrupt", text=f"control socket: {error}"))
        return True

    def _hear(self, command: Command) -> None:
        if command.kind == commands.READY:
            self.step(Event.READY)
        else:
            if command.kind == commands.PROBED:
                self.probed()
            elif command.kind == commands.CUSTODY:
                self._take_custody(command)
            elif command.kind == commands.ANNOUNCE and self._held is not None:
                self._held.announce(Announced.from_body(command.ref, command.body))
            elif command.kind == commands.READING:
                self.reading = int.from_bytes(command.body, "little") if command.body else None
            self.listener.on_command(self, command)

    def _take_custody(self, command: Command) -> None:
        fd, self._handed_fd = self._handed_fd, None
        if fd is None:
            logger.debug("owner pid %s: its socket's duplicate did not arrive (too many open files?)", self.pid)
        elif self._held is not None or self.state is not State.SERVING:
            os.close(fd)
        else:
            self._held = _held_of(command, fd)

    def _forget_handed(self) -> None:
        if self._handed_fd is not None:
            os.close(self._handed_fd)
            self._handed_fd = None

    def _post(self, kind: int, ref: int, body: bytes | dict[str, Any]) -> None:
        self._outgoing += encode_command(kind, ref, body)
        self._write_control()

    def _write_control(self) -> None:
        assert self._control is not None
        while self._outgoing:
            try:
                sent = self._control.send(memoryview(self._outgoing)[:_SEND_SIZE])
            except BlockingIOError:
                break
            except (BrokenPipeError, ConnectionResetError):  # it is dying; the pidfd will say so
                self._outgoing.clear()
                return
            del self._outgoing[:sent]
        waits = bool(self._outgoing)
        if waits is not self._control_waits and self._reactor.is_registered(self._control.fileno()):
            self._control_waits = waits
            self._reactor.modify(self._control.fileno(), poller.READ | (poller.WRITE if waits else 0))

    # -- small tools -----------------------------------------------------------------------------------------------------

    def _signal(self, number: signal.Signals) -> None:
        started = self._started
        if started is None:
            return
        try:
            if started.pidfd is not None:
                signal.pidfd_send_signal(started.pidfd, number)
            elif started.process.exitcode is None:  # not reaped yet, so the pid is still its own
                os.kill(started.pid, number)
        except ProcessLookupError:
            return  # it died meanwhile

    def _set_deadline(self, seconds: float) -> None:
        """The time this state may last; 0: no limit."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._reactor.call_later(seconds, lambda: self.step(Event.DEADLINE)) if seconds else None

    def _close(self) -> None:
        started = self._started
        if started is None:
            return
        fds = [started.data.fileno(), started.log.fileno()]
        if started.pidfd is not None:
            fds.append(started.pidfd)
        if self._control is not None:
            fds.append(self._control.fileno())
        for fd in fds:
            self._reactor.unregister(fd)
        for end in (started.data, started.log, started.control):
            end.close()
        if started.pidfd is not None:
            os.close(started.pidfd)
        if started.process.exitcode is not None or isinstance(started.process, AdoptedProcess):
            started.process.close()
        self._forget_handed()
        self._started = None
        self._control = None


def _longest_record(endpoint: Endpoint) -> int:
    """Bytes. Without a limit, a length that is wrong would swallow in silence all that comes after it."""
    return min(MAX_RECORD, 2 * endpoint.max_message + _RECORD_MARGIN)


def _held_of(command: Command, fd: int) -> HeldConnection:
    """`fd` is its own, or closed. Raises `ValueError` where that is no socket, or the counts are none."""
    try:
        body = command.json()
        received, sent = _kernels_count(body["received"]), _kernels_count(body["sent"])
        custody = Custody(received=received, sent=sent, allowed_at=_time(body["allowed_at"]))
        return HeldConnection(socket.socket(fileno=fd), custody)
    except (ValueError, KeyError, OSError) as error:
        os.close(fd)
        raise ValueError(f"a CUSTODY that makes no sense: {error!r:.200}") from error


def _kernels_count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"not a count of bytes: {value!r:.100}")
    return value


def _time(value: object) -> float:
    if not isinstance(value, float | int) or not isfinite(value):
        raise ValueError(f"not a time: {value!r:.100}")
    return float(value)


def _enlarge(pipe: int, size: int) -> None:
    """The kernel bounds a user's pipes in total; a smaller pipe costs speed, nothing else."""
    if _SET_PIPE_SIZE is None:
        return
    try:
        fcntl.fcntl(pipe, _SET_PIPE_SIZE, size)
    except OSError as error:
        logger.debug("a pipe keeps its size: %s", error)


_ACTIONS: dict[Action, Callable[[OwnerChild], None]] = {
    Action.NOTHING: OwnerChild._nothing,
    Action.AWAIT_START: OwnerChild._await_start,
    Action.WITHDRAW: OwnerChild._withdraw,
    Action.WATCH: OwnerChild._watch,
    Action.ANNOUNCE: OwnerChild._announce,
    Action.ASSIGN: OwnerChild._send_assignment,
    Action.ASK: OwnerChild._ask,
    Action.AWAIT_END: OwnerChild._await_end,
    Action.DUMP: OwnerChild._dump,
    Action.TERMINATE: OwnerChild._terminate,
    Action.KILL: OwnerChild._kill,
    Action.RENOUNCE: OwnerChild._renounce,
    Action.ABANDON: OwnerChild._abandon,
    Action.FORGET: OwnerChild._forget,
    Action.REPORT_STUCK: OwnerChild._report_stuck,
    Action.BURY: OwnerChild._bury,
}
