"""The owner's loop: one thread, one poller, and the current phase of the owner's life (phase.py). Nothing in it blocks."""

from __future__ import annotations

import socket
import time

from wsadapter.contract.ipc.commands import PROBE, PROBED, READY
from wsadapter.worker.connect.tls_holder import Hold
from wsadapter.worker.loop.poller import READ, WRITE
from wsadapter.worker.loop.rejoin import Call, RejoinSocket
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.owner.commands import execute
from wsadapter.worker.owner.idle import Idle
from wsadapter.worker.owner.phase import WITHOUT_SUPERVISOR, Host, Stop


class Owner:
    """One owner process. Main thread only, except `ask_to_terminate`, which a signal handler calls."""

    def __init__(self, pipe_fd: int, control: socket.socket, wakeup: Wakeup, rejoin: RejoinSocket | None = None) -> None:
        """`pipe_fd` and `control` must be non-blocking. Without `rejoin` the process ends with its supervisor."""
        self._pipe_fd = pipe_fd
        self._host = Host(pipe_fd, control, wakeup, rejoin)
        self._host.enter(Idle(self._host))
        self._look_at = 0.0
        """When to call `_tick`, monotonic seconds."""
        self._terminate = False
        self._probe: int | None = None
        """The ref of the probe that is not answered yet."""

    @property
    def hold(self) -> Hold | None:
        """After `run`: what to hold if the process is to become a TLS holder; None: it ends."""
        return self._host.hold

    def ask_to_terminate(self) -> None:
        """SIGTERM: closes the connection with 1001 and ends the process."""
        self._terminate = self._host.changed = True

    def run(self) -> int:
        """Runs until the owner's end; returns the exit code: 0 if the reason of the end was written, or there was none."""
        host, wait = self._host, self._host.poller.wait
        host.control.send(READY)
        host.poller.watch(host.wakeup.fd, READ)
        while True:
            now = time.monotonic()
            if host.changed or now >= self._look_at:
                self._tick(now)
                if host.end.code is not None:
                    return host.end.code
            timeout = max(0.0, self._look_at - now)
            for fd, mask in self._spin(timeout) if host.busy_poll else wait(timeout):
                if fd != host.phase.fd:
                    self._serve(fd, mask, time.monotonic())
                    continue
                if mask & WRITE:
                    host.changed = True
                    host.phase.writable(time.monotonic())
                if mask & READ:
                    host.phase.readable(time.monotonic())

    def _spin(self, timeout: float) -> list[tuple[int, int]]:
        """Polls without sleep for up to `busy_poll` seconds, then waits."""
        patience = min(self._host.busy_poll, timeout)
        wait, end = self._host.poller.wait, time.monotonic() + patience
        while True:
            ready = wait(0.0)
            if ready or self._host.changed:
                return ready
            if time.monotonic() >= end:
                return wait(timeout - patience)

    def _tick(self, now: float) -> None:
        """Does everything that may be due. It is skipped after reads that brought only messages, because these make no deadline
        earlier."""
        host = self._host
        host.changed = False
        host.alarm.postpone(now)
        if host.abandoned:
            self._leave_without_supervisor(now)
        if self._terminate:
            self._terminate = False
            host.phase.stop(Stop(1001, "stopped", text="SIGTERM"), now)
        host.output.flush()
        while True:
            phase = host.phase
            phase.tick(now)
            if host.phase is phase:
                break  # otherwise a new phase was entered, which may have something to do at once
        if self._probe is not None:
            self._answer_probe(self._probe, now)
        self._watch()
        self._look_at = min(host.alarm.due, host.phase.deadline())

    def _watch(self) -> None:
        host, watch = self._host, self._host.poller.watch
        if host.control.at_end or host.end.supervisor_gone:
            watch(host.control.fileno(), 0)
        else:
            watch(host.control.fileno(), READ | WRITE if host.control.backlog else READ)
        if host.rejoin is not None:
            watch(host.rejoin.fileno(), 0 if host.rejoin.at_end else READ)
        watch(self._pipe_fd, WRITE if host.outbox.backlog else 0)
        if host.phase.fd >= 0:
            watch(host.phase.fd, host.phase.mask())

    def _serve(self, fd: int, mask: int, now: float) -> None:
        """A descriptor other than the connection's is ready."""
        host = self._host
        host.changed = True
        if fd == host.control.fileno():
            host.control.flush()
            if mask & READ:
                self._execute_received(now)
        elif fd == host.wakeup.fd:
            host.wakeup.drain()
        elif host.rejoin is not None and fd == host.rejoin.fileno():
            call = host.rejoin.receive()
            if call is not None:
                self._rejoin(call, now)

    def _execute_received(self, now: float) -> None:
        """Executes the commands of one read."""
        host = self._host
        for command in host.control.receive():
            if command.kind == PROBE:
                self._probe = command.ref
            else:
                execute(command, host, now)

    def _rejoin(self, call: Call, now: float) -> None:
        """Continues with another supervisor. What the one before had sent completely is executed first, because its callers may
        have been answered; the rest of it is dropped."""
        host = self._host
        assert host.demands is not None
        self._execute_received(now)
        while not host.control.drained:
            self._execute_received(now)
        host.poller.watch(host.control.fileno(), 0)  # before it is closed: see Leaving._is_down
        host.control.replace(call.control)
        self._probe = None
        stage, in_flight = str(host.phase.probe_answer()["stage"]), host.phase.rejoin()
        if in_flight is not None:
            host.output.report(host.demands.report(call.number, stage, *in_flight))

    def _answer_probe(self, ref: int, now: float) -> None:
        """Answers a probe. While a decode hook does not return there is no progress, so the answer waits."""
        host = self._host
        if host.progress and host.output.stuck_for(now) > host.progress / 2:
            return
        self._probe = None
        host.outbox.report_filtered()
        host.control.send(PROBED, ref, host.phase.probe_answer())

    def _leave_without_supervisor(self, now: float) -> None:
        """The supervisor has ended: sends a close frame to the peer, and ends."""
        host = self._host
        if host.end.supervisor_gone:
            return
        host.end.supervisor_gone = host.control.peer_closed = True
        host.outbox.close()
        host.phase.stop(Stop(1001, "supervisor_gone", within=WITHOUT_SUPERVISOR), now)
