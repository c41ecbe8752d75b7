"""A connection that outlived its owner, on its way to the next one.

    owner dies, connection alive ──> waits ──taken──> the next owner's
                                       └── nobody in time, or not wanted ──> closed, so that the peer sees it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from wsadapter.handoff.held_connection import Resumption
from wsadapter.handoff.poison import Suspicion
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.process.owner_process import ConnectionHolder


class Orphan:
    """The one that an endpoint may have. All methods under the reactor's lock."""

    def __init__(self, reactor: Reactor, expired: Callable[[], None]) -> None:
        """`expired` is called where nobody has taken it in time."""
        self._reactor = reactor
        self._expired = expired
        self._until: Timer | None = None
        self.resumption: Resumption | None = None
        """None: there is none."""
        self.suspicion = Suspicion()
        """Whether its owners die of what stands in it."""
        self.holder: ConnectionHolder | None = None
        """Who holds its TLS, if somebody does. To be taken along with it."""

    def forget(self) -> None:
        """There is a new connection: its places are others."""
        self.suspicion = Suspicion()

    def keep(self, resumption: Resumption, holder: ConnectionHolder | None, within: float) -> None:
        """Keep it for the next owner, for so many seconds."""
        if self.suspicion.holds(resumption.resume.position):
            resumption = replace(resumption, resume=replace(resumption.resume, careful=True))
        self.resumption, self.holder = resumption, holder
        self._until = self._reactor.call_later(within, self._expired)

    def take(self) -> tuple[Resumption | None, ConnectionHolder | None]:
        """It goes to its next owner, or is given up."""
        resumption, self.resumption = self.resumption, None
        holder, self.holder = self.holder, None
        if self._until is not None:
            self._until.cancel()
            self._until = None
        return resumption, holder
