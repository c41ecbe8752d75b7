"""Checks at intervals while an owner serves: its progress, its memory, and the age of its connection."""

from __future__ import annotations

from random import random
from time import monotonic
from typing import Final, Protocol

import psutil

from wsadapter.contract.endpoint import Endpoint, Watchdog
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process.lifecycle import ProcessState
from wsadapter.process.owner_process import OwnerProcess

_INTERVAL_WITHOUT_PROBES: Final = 5.0
"""Seconds between looks at an owner whose progress is not watched."""
_SLOTS: Final = 20
"""Checks fall on a grid that all endpoints share: one turn of the loop then checks many endpoints."""


class WatchdogHost(Protocol):
    """What the watchdogs need of the link of their owner."""

    @property
    def endpoint(self) -> Endpoint:
        """Its settings."""
        ...

    def too_large(self, resident: int) -> None:
        """Its owner has more memory than `watchdog.memory` allows."""
        ...

    def replace_connection(self, why: str) -> None:
        """Its connection has reached `watchdog.max_age`."""
        ...


def expiry(watchdog: Watchdog, now: float) -> float | None:
    """When a connection that is opened `now` reaches `watchdog.max_age`, both in monotonic seconds; None: it never does."""
    if not watchdog.max_age:
        return None
    return now + max(1.0, watchdog.max_age - random() * watchdog.rollover_window)


class Watchdogs:
    """The watchdogs of one owner. All methods under the reactor's lock."""

    def __init__(self, host: WatchdogHost, reactor: Reactor) -> None:
        self._host = host
        self._reactor = reactor
        self._look: Timer | None = None
        self._due = 0.0
        self._age: Timer | None = None

    def begin(self, process: OwnerProcess) -> None:
        """The owner serves."""
        watchdog = self._host.endpoint.watchdog
        interval = watchdog.progress / 2 or _INTERVAL_WITHOUT_PROBES
        now, slot = monotonic(), interval / _SLOTS
        self._due = (now + interval) // slot * slot + slot
        self._look = self._reactor.call_later(self._due - now, lambda: self._look_at(process))

    def await_max_age(self, expires_at: float | None) -> None:
        """The owner has a connection, which reaches `watchdog.max_age` at this time; see `expiry`. The age is the connection's,
        however many owners it had."""
        if expires_at is not None:
            expired = lambda: self._host.replace_connection("max_age")  # noqa: E731
            self._age = self._reactor.call_later(max(0.0, expires_at - monotonic()), expired)

    def end(self) -> None:
        """The owner has ended."""
        for timer in (self._look, self._age):
            if timer is not None:
                timer.cancel()

    def _look_at(self, process: OwnerProcess) -> None:
        watchdog = self._host.endpoint.watchdog
        if process.state is not ProcessState.SERVING:
            return
        if watchdog.progress:
            process.probe(late=monotonic() - self._due > watchdog.progress / 4)
        if watchdog.memory and process.pid is not None:
            resident = resident_bytes(process.pid)
            process.exit.memory.resident = resident or process.exit.memory.resident
            if resident is not None and resident > watchdog.memory:
                self._host.too_large(resident)
        self.begin(process)


def resident_bytes(pid: int) -> int | None:
    """The process's resident memory; None if the process has ended or can't be read."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):  # the process has ended, or no descriptor is left to read it
        return None
