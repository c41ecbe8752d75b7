"""The process that the user sees, if there is a keeper: it starts the supervisor, and another one if that is killed.

    keeper ──fork──> supervisor ──deposits──> keeper          each owner's descriptors, before it opens a connection
       │ the supervisor is killed
       ├──fork──> the next supervisor, which inherits what was deposited (takeover/keeping.py)
       │ the supervisor exits by itself
       └── exits with its code: the owners end, because nobody has their descriptors any more

It has one thread, parses nothing that comes from outside, and does nothing but wait. It forks, so the next supervisor needs no
new interpreter: it begins with the memory of the keeper, which has started nothing.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Final, NamedTuple

from wsadapter import capabilities
from wsadapter.process.deposits import Deposit, DepositBox

_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)
_STOP: Final = (signal.SIGTERM, signal.SIGINT)
MOST_DEATHS: Final = 5
PERIOD: Final = 60.0
"""Seconds. A supervisor that is killed more often than `MOST_DEATHS` times within them is not replaced any more."""
GAVE_UP: Final = 6
"""The exit code then."""


class Keeping(NamedTuple):
    """What a supervisor gets of its keeper."""

    sock: socket.socket
    """To the keeper."""
    deposits: dict[int, tuple[Deposit, list[int]]]
    """What the supervisor before this one has left."""
    number: int
    """Of this supervisor, from 1."""


def can_keep() -> bool:
    """Whether the platform has what a keeper needs."""
    return capabilities.custody() and hasattr(os, "memfd_create") and hasattr(os, "splice")


def too_many(deaths: list[float], now: float) -> bool:
    """Whether a supervisor that was killed at these times, in monotonic seconds, is not to be replaced once more. Times that do
    not count any more are removed."""
    deaths[:] = [at for at in deaths if at > now - PERIOD]
    return len(deaths) > MOST_DEATHS


def start_supervisors(log: Callable[[int, str], None]) -> Keeping:
    """Returns in each supervisor. In this process, which becomes the keeper, it never returns. To be called before any thread
    is started. `log(level, text)` writes a line."""
    keeper = _Keeper(log)
    while True:
        keeping = keeper.start()
        if keeping is not None:
            return keeping
        code = keeper.await_end()
        if code is not None:
            keeper.box.close()
            sys.exit(code)


class _Keeper:
    def __init__(self, log: Callable[[int, str], None]) -> None:
        self.box = DepositBox()
        self._log = log
        self._number = 0
        self._pid = 0
        self._sock: socket.socket | None = None
        self._deaths: list[float] = []
        self._stop_wanted: int | None = None
        """The signal that asked for it."""
        self._before: dict[int, object] = {}
        """The handlers that a supervisor begins with."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def start(self) -> Keeping | None:
        """Fork a supervisor. Returns None in the keeper."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._number += 1
        signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
        self._pid = os.fork()
        if not self._pid:
            ours.close()
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            return Keeping(theirs, self.box.held, self._number)
        theirs.close()
        self._sock = ours
        for number in _FORWARDED:
            before = signal.signal(number, self._forward)
            self._before.setdefault(number, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        return None

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        if number in _STOP:
            self._stop_wanted = number
        os.kill(self._pid, number)  # it is a zombie at least, until the signals are blocked

    def await_end(self) -> int | None:
        """Serve the supervisor until it has ended. Returns the exit code of this process; None: start the next one."""
        sock = self._sock
        assert sock is not None
        sock.setblocking(False)
        pidfd, poller = os.pidfd_open(self._pid), select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.register(sock, select.POLLIN)
        while not any(fd == pidfd for fd, _ in poller.poll()):
            if not self._receive(sock):
                poller.unregister(sock)
        self._receive(sock)  # what it sent before it died
        os.close(pidfd)
        sock.close()
        signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._next(code)

    def _receive(self, sock: socket.socket) -> bool:
        """Take all deposits that have come. False: the supervisor has closed its end."""
        try:
            while self.box.receive(sock):
                pass
        except BlockingIOError:
            return True
        return False

    def _next(self, code: int) -> int | None:
        if code >= 0:
            return code
        if self._stop_wanted is not None:
            return 128 - code
        self._deaths.append(monotonic())
        name = signal.Signals(-code).name
        if too_many(self._deaths, self._deaths[-1]):
            text = f"the supervisor was killed ({name}) {len(self._deaths)} times within {PERIOD:g} s: the keeper gives up"
            self._log(logging.ERROR, text)
            return GAVE_UP
        self._log(logging.ERROR, f"the supervisor was killed ({name}); another one goes on with {len(self.box.held)} processes")
        return None
