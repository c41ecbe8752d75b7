"""What the connections of a test exchange share, and the callbacks that they call."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wsadapter.testing.handshake import Misbehaviour
from wsadapter.testing.journal import Journal
from wsadapter.testing.script import Frame, ScriptedAnswer

if TYPE_CHECKING:
    from wsadapter.testing.connection import ClientConnection


class ClientHandler(Protocol):
    """Handles one client in the dialect of the exchange. Times are those of the event loop."""

    def opened(self) -> None:
        """The handshake is done."""

    def message(self, message: Frame) -> None:
        """The client sent a message."""

    def control(self, opcode: int, payload: bytes) -> None:
        """The client sent a ping, which is answered already, or a pong."""

    def sent(self) -> None:
        """Data were sent."""

    def gone(self) -> None:
        """The connection has ended."""


def _nothing(connection: ClientConnection) -> None:
    """Default of the callbacks, which the server replaces."""


@dataclass(frozen=True, slots=True)
class ExchangeContext:
    """What all connections of an exchange share."""

    misbehaviour: Misbehaviour
    journal: Journal
    answer: Callable[[Frame], ScriptedAnswer]
    welcome: tuple[bytes, ...]
    """Encoded frames."""
    subprotocol: str | None
    tls_context: ssl.SSLContext | None
    coalesce: bool
    make_handler: Callable[[ClientConnection], ClientHandler] | None = None
    """Makes the handler of a client if there is a dialect. The script then answers only frames that the dialect has no rule
    for."""
    on_connected: Callable[[ClientConnection], None] = _nothing
    """TCP is connected."""
    on_open: Callable[[ClientConnection], None] = _nothing
    on_subscribed: Callable[[ClientConnection], None] = _nothing
    """At the first accepted subscription."""
    on_gone: Callable[[ClientConnection], None] = _nothing
