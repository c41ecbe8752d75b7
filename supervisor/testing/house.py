"""What the connections of a test exchange share, and whom they tell of what happens."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wsadapter.testing.handshake import Manners
from wsadapter.testing.journal import Ledger
from wsadapter.testing.script import Answer, Frame

if TYPE_CHECKING:
    from wsadapter.testing.connection import Connection


class Attendant(Protocol):
    """Who converses with one client in its exchange's dialect. Times are the event loop's."""

    def opened(self) -> None:
        """The handshake is done."""

    def message(self, message: Frame) -> None:
        """A client's message."""

    def control(self, opcode: int, payload: bytes) -> None:
        """A client's ping or pong; the ping is answered."""

    def sent(self) -> None:
        """Data went out."""

    def gone(self) -> None:
        """The connection has ended."""


def _nothing(connection: Connection) -> None:
    """Until the server says what to do."""


@dataclass(frozen=True, slots=True)
class House:
    """What all connections of an exchange share."""

    manners: Manners
    ledger: Ledger
    answer: Callable[[Frame], Answer]
    welcome: tuple[bytes, ...]
    """Encoded frames."""
    subprotocol: str | None
    tls_context: ssl.SSLContext | None
    coalesce: bool
    attend: Callable[[Connection], Attendant] | None = None
    """Where there is a dialect; the script answers only what that does not know."""
    on_connected: Callable[[Connection], None] = _nothing
    """TCP is there."""
    on_open: Callable[[Connection], None] = _nothing
    on_subscribed: Callable[[Connection], None] = _nothing
    """At the first accepted subscription."""
    on_gone: Callable[[Connection], None] = _nothing
