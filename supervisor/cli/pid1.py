"""A program that is pid 1, as in a container without an init, inherits every orphan process and must reap it.

The supervisor itself can't do that, because `waitpid(-1)` would take the exit status of its own children. So pid 1 becomes a
minimal init, and a child process does the work.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Final

_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


def hand_over_if_init() -> None:
    """Returns in the process that does the work. If this process is pid 1, that is a child, and pid 1 ends with its exit code.

    To be called before any thread is started, because it forks.
    """
    if os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)  # pid 1 would lose them until it has handlers
    worker = os.fork()
    if worker:
        _forward_signals(worker)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if worker:
        sys.exit(_reap_until_end_of(worker))


def _forward_signals(worker: int) -> None:
    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(worker, number)

    for number in _FORWARDED:
        signal.signal(number, forward)


def _reap_until_end_of(worker: int) -> int:
    """Its exit code, 128 + n for signal n."""
    while True:
        # It stays a zombie until the signals are off: up to then its pid is its own, and `forward` hits nobody else.
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is not None and ended.si_pid == worker:
            signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
            code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
            return code if code >= 0 else 128 - code
        if ended is not None:
            os.waitpid(ended.si_pid, 0)
