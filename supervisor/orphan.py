"""A connection that outlived its owner, on its way to the next one.

    owner dies, connection alive ──> waits ──taken──> the next owner's
                                       └── nobody in time, or not wanted ──> closed, so that the peer sees it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wsadapter.child import ConnectionHolder
from wsadapter.custody import Resumption
from wsadapter.reactor import Reactor, Timer

FRUITLESS: Final = 3
"""So many owners may die at the same place of a stream before its connection is given up: its bytes may be why they die."""


class Orphan:
    """The one that an endpoint may have. All methods under the reactor's lock."""

    def __init__(self, reactor: Reactor, expired: Callable[[], None]) -> None:
        """`expired` is called where nobody has taken it in time."""
        self._reactor = reactor
        self._expired = expired
        self._until: Timer | None = None
        self._place = -1
        self._deaths = 0
        self.resumption: Resumption | None = None
        """None: there is none."""
        self.holder: ConnectionHolder | None = None
        """Who holds its TLS, if somebody does. To be taken along with it."""

    def is_fruitless(self, resumption: Resumption) -> bool:
        """Notes that an owner died of what may be its bytes; whether too many did, at the same place."""
        position = resumption.resume.position
        times = self._deaths + 1 if position == self._place else 1
        self._place, self._deaths = position, times if resumption.unread else 0
        return self._deaths >= FRUITLESS

    def forget(self) -> None:
        """There is a new connection: its places are others."""
        self._place, self._deaths = -1, 0

    def keep(self, resumption: Resumption, holder: ConnectionHolder | None, within: float) -> None:
        """Keep it for the next owner, for so many seconds."""
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
