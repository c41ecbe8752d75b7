"""The processes of the sinks, as the supervisor sees them: started, watched, started again as the restart policy says, ended.

    starting ──first report──> running ──process ends──> backoff ──> starting
        └──process ends──────────────────────┘  └──too often──> cooling_down ──> starting
                                                └──the same error of the settings, five times──> fatal
    any ──close──> stopped

Each sink has a thread here that does nothing else: neither the supervisor nor another sink waits for a sink.
"""

from __future__ import annotations

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
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

from wsadapter.config.settings import SinkSettings
from wsadapter.contract.endpoint import Restart
from wsadapter.contract.reasons import Reason, from_exit_code
from wsadapter.endpoint.restart_policy import RestartPolicy, Verdict
from wsadapter.import_path import for_hooks
from wsadapter.loop.signal_guard import FAULTS
from wsadapter.sinks.carry import DRAIN
from wsadapter.sinks.task import Report, Task
from wsadapter.status import SinkState, SinkStatus

logger = logging.getLogger("wsadapter.sinks")

_SILENCE: Final = 60.0
"""Seconds without a report after which a process is hung: more than any target may take to answer."""
_END_WITHIN: Final = DRAIN + 2.0
_CHUNK: Final = 65536


class JournalEnd(NamedTuple):
    """How far the journal has come."""

    seq: int
    bytes: int
    at: int
    """Wall-clock ns of its last message; 0: there is none."""


class SinkProcess:
    """One sink, from its first process to its last."""

    def __init__(self, task: Task, restart: Restart | None = None) -> None:
        self.name = task.sink.name
        self.kind = task.sink.kind
        self._task = task
        self._restart = restart or Restart()
        self._policy = RestartPolicy(self._restart, random.random)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
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

    def ask_to_end(self) -> None:
        """Let the process write what is there, and end. Returns at once."""
        with self._lock:  # no other one is started from here on
            self._stopping.set()
            self._close_input()

    def close(self, deadline: float) -> None:
        """Wait until it has ended; at the `deadline` (monotonic) it is killed. Nothing is lost: its target has its position."""
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
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)  # they are the program's
        try:
            while self._live_once():
                pass
        finally:
            self.state = "fatal" if self.state == "fatal" else "stopped"

    def _live_once(self) -> bool:
        """One process, and the wait after it; whether another one follows."""
        self.state, self._up_at = "starting", None
        reason = self._live()
        if self._stopping.is_set():
            return False
        self._last_exit = reason
        now = monotonic()
        decision = self._policy.decide(now, reason, self._uptime(now))
        if decision.verdict is Verdict.FATAL:
            self.state = "fatal"
            logger.error("sink %s: %s. It is not started again: no retry can mend it", self.name, reason.describe())
            return False
        self.state = "cooling_down" if decision.verdict is Verdict.COOL_DOWN else "backoff"
        logger.warning("sink %s ended: %s; next start in %.2g s", self.name, reason.describe(), decision.delay)
        return not self._stopping.wait(decision.delay)

    def _uptime(self, now: float) -> float | None:
        return None if self._up_at is None else now - self._up_at

    def _live(self) -> Reason:
        with self._lock:
            if self._stopping.is_set():
                return Reason(kind="stopped")
            try:
                process = self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "wsadapter.sinks"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C is for the program, which ends its sinks last
                )  # fmt: skip
                assert process.stdin is not None
                process.stdin.write(self._task.encode())
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
        """Read what it reports and logs until both end; the reason that it gives, or for which it was killed."""
        assert process.stdout is not None
        assert process.stderr is not None
        reports, log = process.stdout.fileno(), process.stderr.fileno()
        rests = {reports: b"", log: b""}
        reason: Reason | None = None
        heard_at = monotonic()
        while rests:
            readable, _, _ = select.select(list(rests), [], [], 1.0)
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
                        self._take(report)
                if not chunk:
                    del rests[fd]
                    if fd == reports:
                        heard_at = monotonic()
            if not readable and process.poll() is not None:
                break  # what a class of the user's has started holds the pipes
            if reason is None and monotonic() - heard_at > _SILENCE:
                process.kill()
                reason = Reason(kind="hung", text=f"no report for {_SILENCE:g} s")
        return reason

    def _take(self, report: Report) -> None:
        if report.reason is not None:
            return
        self._last = report
        if self.state == "starting":
            self.state, self._up_at = "running", monotonic()

    def status(self, end: JournalEnd) -> SinkStatus:
        """How it is. From any thread."""
        last, process, reason = self._last, self._process, self._last_exit
        behind = 0 if last is None else max(0, end.seq - last.seq)
        since = (end.at - last.at) / 1e9 if last is not None and behind and last.at else 0.0
        return {
            "kind": self.kind,
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
    """All sinks of a supervisor."""

    def __init__(self, journal: str, settings: Iterable[SinkSettings], hook_folder: str) -> None:
        """`hook_folder`: where classes of the user's own are searched, behind `sys.path`."""
        path = str(Path(journal).absolute())
        self._processes = [SinkProcess(Task(path, each, for_hooks(hook_folder))) for each in settings]

    def start(self) -> None:
        """Start all of them. The journal is there."""
        for process in self._processes:
            process.start()

    def close(self) -> None:
        """End all of them, at the same time."""
        for process in self._processes:
            process.ask_to_end()
        deadline = monotonic() + _END_WITHIN
        for process in self._processes:
            process.close(deadline)

    def status(self, end: JournalEnd) -> dict[str, SinkStatus]:
        """Of each, by its name."""
        return {process.name: process.status(end) for process in self._processes}


_alive: weakref.WeakSet[SinkProcess] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for process in list(_alive):
        process.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
