"""Where owner processes come from: a spare that is warm, otherwise a new process from the launcher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wsadapter.config.settings import StartMethod
from wsadapter.contract.endpoint import Endpoint
from wsadapter.loop.reactor import Reactor
from wsadapter.process.deposits import Kept
from wsadapter.process.launcher import Launcher
from wsadapter.process.owner_process import OwnerListener, OwnerProcess, ProcessLimits
from wsadapter.process.spares import Spares

_LARGEST_PIPE: Final = 1 << 20
_PIPES_TOGETHER: Final = 32 << 20
"""Bytes of pipe that all owners share evenly: an ordinary user's total is bounded, and beyond it new pipes shrink to 8 KiB."""


class OwnerSource:
    """The launcher and the spares of one supervisor. All methods but `open` and `close` under the reactor's lock."""

    def __init__(self, reactor: Reactor, start_method: StartMethod, spares: int, endpoints: Callable[[], int]) -> None:
        """`endpoints` returns how many endpoints share the pipes."""
        self._reactor = reactor
        self._endpoints = endpoints
        self.start_method: StartMethod = start_method
        self.launcher: Launcher | None = None
        self.keeper: Callable[[OwnerProcess, Endpoint], Kept | None] | None = None
        """Deposits processes, so that they outlive this supervisor; None: there is no keeper. To be set before `open`."""
        self.spares = Spares(reactor, spares, self._start_spare)

    def open(self) -> None:
        """Make the launcher; no process is started yet."""
        self.launcher = Launcher(self.start_method, rejoin=self.keeper is not None)

    def acquire(self, listener: OwnerListener, endpoint: Endpoint) -> OwnerProcess:
        """An owner for an endpoint: ready, or starting."""
        return self.spares.take(listener) or self._start(listener, endpoint)

    def leave_owners(self) -> None:
        """All owners belong to another supervisor now: the end of this one must not end them."""
        if self.launcher is not None:
            self.launcher.leave_owners()

    def close(self) -> None:
        """End the launcher's own processes. Owners are not touched."""
        if self.launcher is not None:
            self.launcher.close()

    def _start_spare(self, listener: OwnerListener) -> OwnerProcess:
        return self._start(listener, Endpoint("spare"))

    def _start(self, listener: OwnerListener, endpoint: Endpoint) -> OwnerProcess:
        assert self.launcher is not None
        return OwnerProcess(
            self._reactor,
            listener,
            ProcessLimits(endpoint.timeouts, endpoint.watchdog),
            launcher=self.launcher,
            pipe_bytes=min(_LARGEST_PIPE, _PIPES_TOGETHER // max(1, self._endpoints())),
            replace_launcher=self._replace_launcher,
            keeper=self.keeper,
        )

    def _replace_launcher(self, stuck: Launcher) -> None:
        """A start did not return in time: `stuck` is left to itself, and later starts go to a new launcher."""
        if self.launcher is stuck:
            self.launcher = Launcher(self.start_method, rejoin=self.keeper is not None)
            stuck.abandon(self.launcher)
