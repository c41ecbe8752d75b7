"""How the end of a process is noticed, and how its exit status is learned. Every wait for the status has a bound.

    pidfd readable, or waitpid ──> on_end ──> exit code known? ── yes ──────────────────────────────> on_status
                                                  │ no                                                   ^
                                                  └── until the sentinel is readable (the fork server    │
                                                      reports the status to it), checked every 5 ms,     │
                                                      for 1 s at most ───────────────────────────────────┘

Only the pidfd reports the end reliably: a `multiprocessing` sentinel does not become readable while a grandchild holds its
pipe, and it becomes readable too early if the fork server dies. Without a pidfd `waitpid` is called at intervals.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Final

from wsadapter.contract.reasons import Reason, from_exit_code
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process.launcher import AdoptedProcess, LaunchedProcess, is_child
from wsadapter.process.memory_witness import MemoryWitness

_PATIENCE: Final = 1.0
"""Seconds to wait for the status after the end, because the fork server has to report it."""
_ADOPTED_PATIENCE: Final = 0.02
"""The same for a process that another supervisor had started: perhaps no process reaps it."""
_INTERVAL: Final = 0.005
"""Seconds between checks of the status while the sentinel is not readable: a grandchild may hold it."""
_REAP_INTERVAL: Final = 0.25
"""Seconds between checks of the process if there is no pidfd."""


class ExitWatcher:
    """The end of one process. All methods under the reactor's lock."""

    def __init__(self, reactor: Reactor, on_end: Callable[[], None], on_status: Callable[[], None]) -> None:
        """`on_end` is called when the process has ended, `on_status` when its status is known or the wait for it is over."""
        self.memory = MemoryWitness()
        self._reactor = reactor
        self._on_end = on_end
        self._on_status = on_status
        self._process: LaunchedProcess | AdoptedProcess | None = None
        self._pidfd: int | None = None
        self._next_look: Timer | None = None
        self._closed = False
        self.pid: int | None = None
        """None: there is no process, or it is closed."""

    def open(self, process: LaunchedProcess | AdoptedProcess, pid: int, pidfd: int | None) -> None:
        """Watch this process once `watch` is called; `close` closes `pidfd`."""
        self._process, self.pid, self._pidfd = process, pid, pidfd

    @property
    def pidfd(self) -> int | None:
        """The pidfd, to be passed to another supervisor; None: there is none."""
        return self._pidfd

    @property
    def lifeline(self) -> int | None:
        """See `LaunchedProcess.lifeline`."""
        return self._process.lifeline if self._process is not None else None

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, reported or not."""
        if self._process is None:
            return self._closed
        if self._pidfd is None:
            return self._process.exitcode is not None
        look = select.poll()
        look.register(self._pidfd, select.POLLIN)
        return bool(look.poll(0))

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None if it is not known, or not known yet."""
        process = self._process
        return process.exitcode if process is not None and process.status_is_known else None

    def watch(self) -> None:
        """Wait for the end."""
        if self._pidfd is not None:
            self._reactor.dispatcher.register(self._pidfd, self._on_pidfd)
        elif self._process is not None:
            self._look_at_process()

    def unwatch(self) -> None:
        """Stop watching, because another supervisor does. The process must have a pidfd."""
        if self._pidfd is not None:
            self._reactor.dispatcher.unregister(self._pidfd)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one."""
        if self._process is None or self.pid is None:
            return
        try:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            elif self._process.exitcode is None:  # not reaped yet, so the pid is still its own
                os.kill(self.pid, number)
        except ProcessLookupError:
            return  # the process ended meanwhile

    def close(self) -> None:
        """Stop every wait, and drop the references to callbacks."""
        self._cancel_look()
        if self._process is not None:
            self._reactor.dispatcher.unregister(self._process.sentinel)
            self.unwatch()
            if self._pidfd is not None:
                os.close(self._pidfd)
            if self._process.exitcode is not None or isinstance(self._process, AdoptedProcess):
                self._process.close()
        self._process = self._pidfd = self.pid = None
        self._closed = True
        self._on_end = self._on_status = _ignore  # no cycle: both are freed without the garbage collector

    def _look_at_process(self) -> None:
        """Without a pidfd, call `waitpid` at intervals, because a grandchild can't delay its answer. If a `waitpid(-1)` of the
        program took the status, the process is not among our children any more."""
        assert self._process is not None
        assert self.pid is not None
        if self._process.exitcode is None and is_child(self.pid):
            self._next_look = self._reactor.call_later(_REAP_INTERVAL, self._look_at_process)
        else:
            self._end()

    def _on_pidfd(self, _events: int) -> None:
        self.unwatch()
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        self._on_end()
        if self._process.exitcode is None and not self._reactor.dispatcher.is_registered(self._process.sentinel):
            self._reactor.dispatcher.register(
                self._process.sentinel, self._on_sentinel
            )  # the fork server's word comes that way
        self._await_status(monotonic() + self._patience)

    @property
    def _patience(self) -> float:
        return _ADOPTED_PATIENCE if isinstance(self._process, AdoptedProcess) else _PATIENCE

    def _on_sentinel(self, _events: int) -> None:
        assert self._process is not None
        self._reactor.dispatcher.unregister(self._process.sentinel)
        self._await_status(0.0 if self._process.exitcode is not None else monotonic() + self._patience)

    def _await_status(self, deadline: float) -> None:
        assert self._process is not None
        self._cancel_look()
        if self._process.exitcode is None and monotonic() < deadline:
            self._next_look = self._reactor.call_later(_INTERVAL, lambda: self._await_status(deadline))
            return
        self._reactor.dispatcher.unregister(self._process.sentinel)
        self._on_status()

    def _cancel_look(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None


def _ignore() -> None:
    """For calls after `close`."""


def exit_reason(code: int | None, *, memory: str, last_lines: str, was_ready: bool, late: str) -> Reason:
    """The reason of the end of a process that reported none. `code`: as `ExitWatcher.code`; `memory`: as
    `MemoryWitness.testimony`; `last_lines`: what the process printed last; `late`: the text for a start that took too long, or
    empty."""
    reason = from_exit_code(code, text="\n".join(filter(None, (memory, last_lines))))
    if was_ready:
        return reason
    return replace(reason, kind="start_failed", text="\n".join(filter(None, (late, reason.text))))
