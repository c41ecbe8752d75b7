"""Warm owners without an endpoint, so that a handoff waits for no process to start."""

from __future__ import annotations

import logging
from collections.abc import Callable

from wsadapter.contract.reasons import Reason
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process.owner_process import IgnoreOwnerEvents, OwnerListener, OwnerProcess

logger = logging.getLogger("wsadapter.supervisor")

_RETRY = (0.5, 30.0)
"""Seconds before a spare that could not be started is tried again: the first wait, and the longest."""


class Spares(IgnoreOwnerEvents):
    """Keeps `wanted` warm owners. All methods under the reactor's lock."""

    def __init__(self, reactor: Reactor, wanted: int, order: Callable[[OwnerListener], OwnerProcess]) -> None:
        self._reactor = reactor
        self._wanted = wanted
        self._order = order
        self._coming: set[OwnerProcess] = set()
        self._warm: list[OwnerProcess] = []
        self._wait = _RETRY[0]
        self._retry: Timer | None = None
        self._closed = False
        self._emptied: Callable[[], None] | None = None

    @property
    def warm(self) -> int:
        """How many are ready."""
        return len(self._warm)

    @property
    def alive(self) -> int:
        """How many processes there are, ready or not."""
        return len(self._warm) + len(self._coming)

    def fill(self) -> None:
        """Order what is missing."""
        while not self._closed and self._retry is None and self.alive < self._wanted:
            self._coming.add(self._order(self))

    def take(self, listener: OwnerListener) -> OwnerProcess | None:
        """A warm owner for `listener`, or None; another is ordered in its place."""
        if not self._warm:
            return None
        child = self._warm.pop(0)
        child.report_to(listener)
        self.fill()
        return child

    def close(self, emptied: Callable[[], None]) -> None:
        """Stop them all; `emptied` is called when the last is gone."""
        self._closed = True
        self._emptied = emptied
        if self._retry is not None:
            self._retry.cancel()
        for child in [*self._warm, *self._coming]:
            child.stop()
        self._check_empty()

    def on_ready(self, child: OwnerProcess) -> None:
        self._coming.discard(child)
        self._warm.append(child)
        self._wait = _RETRY[0]

    def on_dead(self, child: OwnerProcess, reason: Reason) -> None:
        self._coming.discard(child)
        if child in self._warm:
            self._warm.remove(child)
        if self._closed:
            self._check_empty()
            return
        logger.warning("spare owner lost: %s; next start in %.1f s", reason.describe(), self._wait)
        if self._retry is None:
            self._retry = self._reactor.call_later(self._wait, self._try_again)
        self._wait = min(_RETRY[1], self._wait * 2)

    def on_log(self, child: OwnerProcess, line: str) -> None:
        logger.info("spare owner %s printed: %s", child.pid, line)

    def _try_again(self) -> None:
        self._retry = None
        self.fill()

    def _check_empty(self) -> None:
        if self._emptied is not None and not self.alive:
            emptied, self._emptied = self._emptied, None
            emptied()
