"""Supervision of the sink processes: each is started, watched, started again by the restart policy, and ended.

    starting ──first report──> running ──process ends──> backoff ──> starting
        └──process ends──────────────────────┘  └──too often──> cooling_down ──> starting
                                                └──the same error of the settings, five times──> fatal
    running ──restart──> its process writes the rest of the journal and ends ──> starting
    backoff, cooling_down, fatal ──restart──> starting
    any ──close──> stopped

Each sink has a thread here that does nothing else: neither the supervisor nor another sink waits for a sink.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

from wsadapter.config.settings import SinkSettings
from wsadapter.contract.errors import SupervisorStopped, UnknownSink
from wsadapter.contract.reasons import Reason, from_exit_code
from wsadapter.endpoint.restart_policy import RestartAction, RestartPolicy
from wsadapter.import_path import for_hooks
from wsadapter.loop.signal_guard import FAULTS
from wsadapter.sinks.base import SinkError
from wsadapter.sinks.carry import DRAIN
from wsadapter.sinks.task import LEAVE, Report, Task
from wsadapter.status import SinkState, SinkStatus

logger = logging.getLogger("wsadapter.sinks")

_END_WITHIN: Final = DRAIN + 2.0
_LOOK: Final = 1.0
_CHUNK: Final = 65536


class JournalEnd(NamedTuple):
    """How far the journal has come."""

    seq: int
    bytes: int
    at: int
    """Wall-clock ns of its last message; 0: there is none."""


class SinkChanges(NamedTuple):
    """Names of the sinks that a reload added, removed or changed."""

    added: list[str]
    removed: list[str]
    changed: list[str]


class SinkProcess:
    """One sink, from its first process to its last."""

    def __init__(self, task: Task) -> None:
        self.task = task
        """The task that the next process gets. May be replaced."""
        self.name = task.sink.name
        self._policy = RestartPolicy(task.sink.restart, random.random)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        """Set when an end or a restart was requested."""
        self._is_ending = False
        self._asked: list[Future[None]] = []
        """Requests for a restart that wait for the next process."""
        self._starting: list[Future[None]] = []
        """Requests for a restart that are done when the present process reports."""
        self._kill_at: float | None = None
        """Monotonic seconds at which the present process is killed, after it was asked to end; None: it was not asked."""
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name=f"wsadapter-sink-{self.name}", daemon=True)
        self.state: SinkState = "starting"
        self._last: Report | None = None
        self._last_exit: Reason | None = None
        self._up_at: float | None = None
        _alive.add(self)

    @property
    def restarts(self) -> int:
        """Processes that were replaced."""
        return self._policy.total

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether the last process has ended."""
        return not self._thread.is_alive()

    def restart(self) -> Future[None]:
        """Ask the process to write the rest of the journal and to end, and start a new process, in any state. Returns at once;
        the future is done when the new process has found its position. The future raises `SinkError` if the new process ends
        before that, `SupervisorStopped` if the sink ends instead."""
        restarted: Future[None] = Future()
        with self._lock:
            if self._is_ending:
                restarted.set_exception(SupervisorStopped(f"sink {self.name} is being ended"))
            else:
                self._asked.append(restarted)
                self._let_process_end()
        return restarted

    def ask_to_end(self) -> None:
        """Ask the process to write the rest of the journal and to end. Returns at once."""
        with self._lock:  # after this no new process is started
            if not self._is_ending and self.task.cluster is not None:
                self._say(LEAVE)
            self._is_ending = True
            self._let_process_end()

    def say(self, line: bytes) -> None:
        """Write a line to the standard input of the process; nothing if there is no process."""
        with self._lock:
            self._say(line)

    def _say(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line)
                self._process.stdin.flush()

    def _let_process_end(self) -> None:
        self._kill_at = monotonic() + _END_WITHIN
        self._close_input()
        self._wake.set()

    def close(self, deadline: float) -> None:
        """Wait until the process has ended; kill it at the `deadline` (monotonic). Nothing is lost, because the target has the
        position."""
        self.ask_to_end()
        if self._thread.ident is None:
            return
        self._thread.join(max(0.0, deadline - monotonic()))
        if self._thread.is_alive():
            logger.warning("sink %s does not end: it is killed", self.name)
            with self._lock:
                if self._process is not None:
                    self._process.kill()
            self._thread.join()

    def _close_input(self) -> None:
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def forget(self) -> None:
        """In a fork of this process: the standard input of the sink ends with the supervisor, not with the fork."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    # -- its thread ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)  # signals are for the program's own threads
        try:
            while self._live_once():
                pass
        finally:
            self.state = "stopped"
            with self._lock:
                self._is_ending = True
                waiting, self._asked = self._asked, []
            for restarted in waiting:
                restarted.set_exception(SupervisorStopped(f"sink {self.name} was ended"))

    def _live_once(self) -> bool:
        """Run one process, and wait after its end. Returns whether another process follows."""
        self.state, self._up_at = "starting", None
        reason = self._live()
        self._answer(SinkError(f"sink {self.name} ended: {reason.describe()}"))
        if self._is_ending:
            return False
        self._last_exit = reason
        if self._asked:
            logger.info("sink %s is started again, as asked", self.name)
        else:
            self._wait(reason)
        if self._asked:  # before its end, or in the wait after it
            self._policy.reset()
            self._policy.total += 1
        return not self._is_ending

    def _wait(self, reason: Reason) -> None:
        """Wait for the delay of the restart policy, or until an end or a restart is requested."""
        now = monotonic()
        decision = self._policy.decide(now, reason, None if self._up_at is None else now - self._up_at)
        if decision.action is RestartAction.FATAL:
            self.state = "fatal"
            text = "sink %s: %s. Retries can't fix this; use `wsadapter sinks %s --restart`, or change the settings and reload"
            logger.error(text, self.name, reason.describe(), self.name)
            self._wake.wait()
        else:
            self.state = "cooling_down" if decision.action is RestartAction.COOL_DOWN else "backoff"
            logger.warning("sink %s ended: %s; next start in %.2g s", self.name, reason.describe(), decision.delay)
            self._wake.wait(decision.delay)

    def _answer(self, error: SinkError | None = None) -> None:
        """Resolve the restart requests for which the present process was started."""
        answered, self._starting = self._starting, []
        for restarted in answered:
            if error is None:
                restarted.set_result(None)
            else:
                restarted.set_exception(error)

    def _live(self) -> Reason:
        with self._lock:
            if self._is_ending:
                return Reason(kind="stopped")
            self._starting, self._asked, self._kill_at = self._asked, [], None
            self._wake.clear()
            try:
                process = self._process = subprocess.Popen(  # noqa: S603 - our own modules
                    [sys.executable, "-P", "-m", self.task.module],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C is for the program, which ends its sinks last
                )  # fmt: skip
                assert process.stdin is not None
                process.stdin.write(self.task.encode())
                process.stdin.flush()
            except OSError as error:
                if self._process is not None:
                    self._process.kill()
                    self._process.wait()
                self._process = None
                return Reason(kind="crashed", text=f"the process could not be started: {error}")
        reason = self._watch(process)
        code = process.wait()
        with self._lock:
            self._close_input()
            self._process = None
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        return reason or from_exit_code(code)

    def _watch(self, process: subprocess.Popen[bytes]) -> Reason | None:
        """Read its reports and log lines until both pipes end. Returns the reason that it reported, or for which it was
        killed."""
        assert process.stdout is not None
        assert process.stderr is not None
        reports, log = process.stdout.fileno(), process.stderr.fileno()
        rests = {reports: b"", log: b""}
        reason: Reason | None = None
        heard_at = monotonic()
        while rests:
            asked_at = monotonic()
            readable, _, _ = select.select(list(rests), [], [], _LOOK)
            if monotonic() - asked_at > 2 * _LOOK:
                heard_at = monotonic()  # this process did not run (a frozen machine): the silence proves nothing
            for fd in readable:
                chunk = os.read(fd, _CHUNK)
                *lines, rest = (rests[fd] + chunk).split(b"\n")
                rests[fd] = rest[-_CHUNK:]
                for line in lines:
                    if fd == log:
                        logger.warning("sink %s: %s", self.name, line.decode(errors="replace"))
                    elif (report := Report.parse(line)) is not None:
                        heard_at = monotonic()
                        reason = report.reason or reason
                        self.take(report)
                if not chunk:
                    del rests[fd]
                    if fd == reports:
                        heard_at = monotonic()
            if not readable and process.poll() is not None:
                break  # a process that the user's class has started still holds the pipes
            if self._kill_at is not None and monotonic() > self._kill_at:
                process.kill()  # nothing is lost: its target has its position
            elif reason is None and monotonic() - heard_at > self.task.silence:
                process.kill()
                reason = Reason(kind="hung", text=f"no report for {self.task.silence:g} s")
        return reason

    def take(self, report: Report) -> None:
        """What its process reports, in the thread of the process."""
        if report.reason is not None:
            return
        self._last = report
        if self.state == "starting":
            self.state, self._up_at = "running", monotonic()
            self._answer()

    def status(self, end: JournalEnd) -> SinkStatus:
        """How it is. From any thread."""
        last, process, reason = self._last, self._process, self._last_exit
        behind = 0 if last is None else max(0, end.seq - last.seq)
        since = (end.at - last.at) / 1e9 if last is not None and behind and last.at else 0.0
        return {
            "kind": self.task.sink.kind,
            "state": self.state,
            "pid": None if process is None else process.pid,
            "restarts": self.restarts,
            "position": None if last is None else last.seq,
            "lag": None if last is None else {
                "messages": behind, "bytes": max(0, end.bytes - last.payload_bytes), "seconds": round(max(0.0, since), 3),
            },
            "last_exit": None if reason is None else reason.to_json(),  # type: ignore[typeddict-item]
        }  # fmt: skip


class Sinks:
    """All sinks of a supervisor. Called in its reactor, but for `start` and `close`."""

    def __init__(
        self, journal: str, settings: Iterable[SinkSettings], hook_folder: str, agent: SinkProcess | None = None
    ) -> None:
        """`hook_folder`: where classes of the user's own are searched, behind `sys.path`. `agent`: of a cluster, which no
        reload adds or removes."""
        self._agents = {} if agent is None else {agent.name: agent}
        self._journal = str(Path(journal).absolute())
        self._processes: dict[str, SinkProcess] = {}
        self._leaving: list[SinkProcess] = []
        """Sinks that were removed, or replaced by one with other settings; their processes may still run."""
        self._is_open = False
        self.apply(settings, hook_folder)

    def start(self) -> None:
        """Start all sinks. The journal must exist."""
        self._is_open = True
        for process in self._all().values():
            process.start()

    def _all(self) -> dict[str, SinkProcess]:
        return {**self._processes, **self._agents}

    def apply(self, settings: Iterable[SinkSettings], hook_folder: str) -> SinkChanges:
        """Have these sinks: those whose settings are the same are left alone. The process of one that is new waits until the
        previous process of the same name has written the rest of the journal and ended."""
        wanted = {each.name: Task(self._journal, each, for_hooks(hook_folder)) for each in settings}
        before = {name: process.task.sink for name, process in self._processes.items()}
        added, removed = sorted(wanted.keys() - before.keys()), sorted(before.keys() - wanted.keys())
        changed = sorted(name for name in wanted.keys() & before.keys() if wanted[name].sink != before[name])
        for name in (*removed, *changed):
            process = self._processes.pop(name)
            process.ask_to_end()
            self._leaving.append(process)
        self._leaving = [process for process in self._leaving if not process.has_ended]
        for name in (*changed, *added):
            process = self._processes[name] = SinkProcess(wanted[name])
            if self._is_open:
                process.start()
        self._processes = {name: self._processes[name] for name in wanted}
        return SinkChanges(added, removed, changed)

    def restart(self, name: str) -> Future[None]:
        """See `SinkProcess.restart`. Raises `UnknownSink`."""
        if name not in self._all():
            raise UnknownSink(name, list(self._all()))
        logger.info("sink %s: restart, as asked through the control socket", name)
        return self._all()[name].restart()

    def close(self) -> None:
        """End all sinks, at the same time."""
        processes = [*self._all().values(), *self._leaving]
        for process in processes:
            process.ask_to_end()
        deadline = monotonic() + _END_WITHIN
        for process in processes:
            process.close(deadline)

    def status(self, end: JournalEnd) -> dict[str, SinkStatus]:
        """Of each, by its name; the agent of a cluster is one too."""
        return {name: process.status(end) for name, process in self._all().items()}


_alive: weakref.WeakSet[SinkProcess] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for process in list(_alive):
        process.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
