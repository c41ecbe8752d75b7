"""Warm owners without an endpoint, so that a handoff waits for no process to start."""

from __future__ import annotations

import logging
from collections.abc import Callable

from wsadapter.contract.reasons import Reason
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process.owner_process import IgnoreOwnerEvents, OwnerListener, OwnerProcess

logger = logging.getLogger("wsadapter.supervisor")

_RETRY = (0.5, 30.0)
"""Seconds until another spare is started after one was lost: the first wait, and the longest."""


class Spares(IgnoreOwnerEvents):
    """Keeps `wanted` warm owners. All methods under the reactor's lock."""

    def __init__(self, reactor: Reactor, wanted: int, start: Callable[[OwnerListener], OwnerProcess]) -> None:
        self._reactor = reactor
        self._wanted = wanted
        self._start = start
        self._starting: set[OwnerProcess] = set()
        self._warm: list[OwnerProcess] = []
        self._wait = _RETRY[0]
        self._retry: Timer | None = None
        self._closed = False
        self._emptied: Callable[[], None] | None = None

    @property
    def warm(self) -> int:
        """The number of owners that are ready."""
        return len(self._warm)

    @property
    def alive(self) -> int:
        """The number of processes, ready or not."""
        return len(self._warm) + len(self._starting)

    def fill(self) -> None:
        """Start the spares that are missing."""
        while not self._closed and self._retry is None and self.alive < self._wanted:
            self._starting.add(self._start(self))

    def take(self, listener: OwnerListener) -> OwnerProcess | None:
        """A warm owner, which reports to `listener` from now on; another is started in its place. None: there is none."""
        if not self._warm:
            return None
        process = self._warm.pop(0)
        process.report_to(listener)
        self.fill()
        return process

    def close(self, emptied: Callable[[], None]) -> None:
        """Stop them all; `emptied` is called when the last has ended."""
        self._closed = True
        self._emptied = emptied
        if self._retry is not None:
            self._retry.cancel()
        for process in [*self._warm, *self._starting]:
            process.stop()
        self._check_empty()

    def on_ready(self, process: OwnerProcess) -> None:
        self._starting.discard(process)
        self._warm.append(process)
        self._wait = _RETRY[0]

    def on_dead(self, process: OwnerProcess, reason: Reason) -> None:
        self._starting.discard(process)
        if process in self._warm:
            self._warm.remove(process)
        if self._closed:
            self._check_empty()
            return
        logger.warning("spare owner lost: %s; next start in %.1f s", reason.describe(), self._wait)
        if self._retry is None:
            self._retry = self._reactor.call_later(self._wait, self._try_again)
        self._wait = min(_RETRY[1], self._wait * 2)

    def on_log(self, process: OwnerProcess, line: str) -> None:
        logger.info("spare owner %s printed: %s", process.pid, line)

    def _try_again(self) -> None:
        self._retry = None
        self.fill()

    def _check_empty(self) -> None:
        if self._emptied is not None and not self.alive:
            emptied, self._emptied = self._emptied, None
            emptied()
