"""A connection that outlived its owner, until the next owner gets it.

owner dies, connection alive ──> waits ──taken──> the next owner's
                                   └── no owner in time, or not wanted ──> closed, so that the peer sees its end
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Protocol

from wsadapter.contract.quarantine import Quarantine
from wsadapter.contract.reasons import Reason
from wsadapter.handoff.held_connection import NotResumable, Resumption
from wsadapter.handoff.poison import FRUITLESS, Suspicion, cut_out
from wsadapter.loop.reactor import Reactor, Timer

_POISONED: Final = ("crashed", "hung", "memory_limit")
"""Reasons for which an owner may have ended because of the message that it was parsing."""


class ConnectionHolder(Protocol):
    """The process that holds the TLS of an owner's connection."""

    owners_end: socket.socket | None
    """The socket to pass to the owner, which is closed here then; None: it was passed."""

    def lost(self, owners: Reason) -> Reason | None:
        """Why this process ended, if nobody had asked it to and that is why its owner ended, for the reason `owners`; None: it
        is not the cause."""
        ...

    @property
    def pid(self) -> int | None: ...
    def let_go(self) -> None:
        """The connection is over: end the process."""
        ...


class DeadOwner(Protocol):
    """The connection of an owner that is dead."""

    reading: int | None
    """The position in the stream at which the owner had begun to parse what its predecessor left unread; None: it had not
    begun, or had finished."""
    holder: ConnectionHolder | None

    def resumption(self, up: dict[str, Any]) -> Resumption:
        """The connection for the next owner. Raises `NotResumable`; then the connection is closed."""
        ...


class Custody:
    """The connection that a link may have without an owner. All methods under the reactor's lock."""

    def __init__(self, reactor: Reactor, expired: Callable[[], None]) -> None:
        """`expired` is called if no owner has taken the connection in time."""
        self._reactor = reactor
        self._expired = expired
        self._until: Timer | None = None
        self.suspicion = Suspicion()
        """Whether owners die because of a message in the stream."""
        self.resumption: Resumption | None = None
        """None: there is no connection without an owner."""
        self.holder: ConnectionHolder | None = None
        """The process that holds its TLS; None: there is none. It goes with the connection."""
        self.cut_out: list[int] = []
        """Sizes in bytes of the messages that were cut out of the stream, to be reported behind the next `Up`."""

    def keep(self, owner: DeadOwner, reason: Reason, up: dict[str, Any], within: float, quarantine: Quarantine) -> str:
        """Keep the connection of a dead owner for the next one, for `within` seconds. `up`: what was reported when it opened.

        Returns a text for the log about a message that was cut out of the stream because it killed owners; empty if there is
        none. Raises `NotResumable` if no owner can continue with the connection; then it is closed.
        """
        resumption, text = owner.resumption(up), ""
        if reason.kind in _POISONED and self.suspicion.died(resumption.resume.position, owner.reading):
            found = cut_out(resumption)
            if found is None:
                resumption.held.close()
                raise NotResumable(f"{FRUITLESS} owners died at the same place of its stream")
            resumption, frames = found
            error = f"{FRUITLESS} owners died of it"
            text = error + quarantine.keep(frames, binary=True, error=error + "; these are its frames")
            self.cut_out.append(len(frames))
        if self.suspicion.holds(resumption.resume.position):
            resumption = replace(resumption, resume=replace(resumption.resume, careful=True))
        self.resumption = resumption
        # The holder goes with the connection: the end of the owner must not end the holder too.
        self.holder, owner.holder = owner.holder, None
        self._until = self._reactor.call_later(within, self._expired)
        return text

    def connection_opened(self) -> None:
        """There is a new connection: its positions mean something else, and what was cut out of the connection before is
        missing like everything else."""
        self.suspicion = Suspicion()
        self.cut_out.clear()

    def take(self) -> tuple[Resumption | None, ConnectionHolder | None]:
        """The connection for its next owner. The caller has to close it."""
        resumption, self.resumption = self.resumption, None
        holder, self.holder = self.holder, None
        if self._until is not None:
            self._until.cancel()
            self._until = None
        return resumption, holder

    def give_up(self) -> bool:
        """Close the connection, so that the peer sees its end. Returns whether there was one."""
        resumption, holder = self.take()
        if holder is not None:
            holder.let_go()
        if resumption is None:
            return False
        resumption.held.close()
        return True
