"""Notifies a service manager (systemd: sd_notify(3)) of the runner's state, if $NOTIFY_SOCKET is set.

READY=1       once all endpoints are up, or after a bounded time: one dead exchange must not hold up the start of a machine
STATUS=       "37 of 40 up; down: kraken, okx, htx"
WATCHDOG=1    from a timer of the reactor, so that it ends when the reactor does
RELOADING=1   at the begin of a reload, and READY=1 at its end
STOPPING=1    at the begin of a stop
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping, MutableMapping
from time import monotonic, monotonic_ns
from typing import Final, Protocol

logger = logging.getLogger("wsadapter.runner")

READY_WITHIN: Final = 30.0
"""Seconds after which the service is ready although some endpoints are not up."""
_INTERVAL: Final = 1.0
_LEAST_INTERVAL: Final = 0.05
_MOST_NAMES: Final = 3


class Clock(Protocol):
    """Calls at a time: the reactor, or a test's clock."""

    def call_later(self, delay: float, call: Callable[[], None], /) -> object: ...


class Announcer:
    """Decides which notifications are due. Pure; the clock and the states are passed in."""

    def __init__(self, now: float) -> None:
        """`now`: monotonic seconds at the start."""
        self._ready_by = now + READY_WITHIN
        self.is_ready = False
        self._said = ""

    def next(self, now: float, states: Mapping[str, str]) -> list[str]:
        """The changes since the last call. `states`: of each endpoint."""
        down = [name for name, state in states.items() if state != "up"]
        lines = []
        if not self.is_ready and (not down or now >= self._ready_by):
            self.is_ready = True
            lines.append("READY=1")
        if (status := _summary(len(states), down)) != self._said:
            self._said = status
            lines.append(f"STATUS={status}")
        return lines


def _summary(total: int, down: list[str]) -> str:
    text = f"{total - len(down)} of {total} up"
    if not down:
        return text
    more = f" and {len(down) - _MOST_NAMES} more" if len(down) > _MOST_NAMES else ""
    return f"{text}; down: {', '.join(down[:_MOST_NAMES])}{more}"


class ServiceManager:
    """The service manager that started this process; without one, nothing is sent."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Takes its variables out of `environ`: they are for this process, and neither for owners nor for hooks."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        watchdog, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        del pid  # the kernel reports the sender of the datagram, and under pid 1 the work is done in a child process
        self._watchdog = int(watchdog) / 1e6 if watchdog.isdecimal() else 0.0
        self._announcer: Announcer | None = None

    def begin(self, clock: Clock, states: Callable[[], Mapping[str, str]]) -> None:
        """Under the reactor's lock: the supervisor has started. `states` returns the state of each endpoint."""
        if not self._address:
            return
        interval = max(_LEAST_INTERVAL, min(_INTERVAL, self._watchdog / 3)) if self._watchdog else _INTERVAL
        announcer = self._announcer = Announcer(monotonic())

        def turn() -> None:
            lines = announcer.next(monotonic(), states())
            self._send(*(["WATCHDOG=1"] if self._watchdog else []), *lines)
            clock.call_later(interval, turn)

        turn()

    def reloading(self) -> None:
        """A reload begins."""
        if self._announcer is not None and self._announcer.is_ready:
            self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """The reload has ended, well or not: the service runs on."""
        if self._announcer is not None and self._announcer.is_ready:
            self._send("READY=1")

    def stopping(self) -> None:
        """The stop begins."""
        self._send("STOPPING=1", "STATUS=closing the connections")

    def _send(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)  # it may be called in the reactor
            try:
                notify.sendto("\n".join(lines).encode(), address)
            except BlockingIOError:  # its queue is full: the next turn comes soon
                return
            except OSError as error:
                logger.warning("the service manager cannot be notified (%s): %s", self._address, error)
                self._address = ""
