"""How a test controls the streams of an exchange: methods of `Exchange` that need a dialect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from wsadapter.contract.endpoint import Subscription
from wsadapter.testing.dialect.client_driver import DialectServer
from wsadapter.testing.dialect.overrides import StreamRefusal
from wsadapter.testing.script import Frame


class StreamControls(ABC):
    """What these methods set holds from now on, on every connection. They may be called from any thread, also before `start()`.

    Each raises `ValueError` if the exchange has no dialect.
    """

    @abstractmethod
    def _override(self, change: Callable[[DialectServer], None]) -> None:
        """Carry out `change` in the exchange's event loop, if the exchange runs."""

    @abstractmethod
    def _push(self, message: Frame, connection: int | None) -> None:
        """Send a message that is no data."""

    def reject(
        self, stream: Subscription, text: str = "no such stream", *, whole: bool = False, named: bool | None = None
    ) -> None:
        """Refuse subscriptions of a stream, with this text; if the stream is a table with several entries, each of them.

        If the answers of the dialect name frames (`id`), the other streams of the frame are refused too; with `whole` they are
        refused in any dialect. `named`: whether the answer names the stream. None: only if no other field of the answer tells
        what the answer is about.
        """
        refusal = StreamRefusal(text, whole, named)
        self._override(
            lambda dialect_server: dialect_server.overrides.rejected.update(
                dict.fromkeys(dialect_server.names(stream), refusal)
            )
        )

    def hang_up(self, stream: Subscription) -> None:
        """Close the connection of a client that subscribes the stream, without an answer."""
        self._override(lambda dialect_server: dialect_server.overrides.fatal.update(dialect_server.names(stream)))

    def ignore(self, stream: Subscription) -> None:
        """Do not answer a subscription of the stream. If the answers name frames, the whole frame is not answered."""
        self._override(lambda dialect_server: dialect_server.overrides.ignored.update(dialect_server.names(stream)))

    def silence(self, stream: Subscription) -> None:
        """Confirm the stream, but send no data of it."""
        self._override(lambda dialect_server: dialect_server.overrides.silent.update(dialect_server.names(stream)))

    def heed(self, stream: Subscription) -> None:
        """End `reject`, `hang_up`, `ignore` and `silence` of the stream."""

        def heed(dialect_server: DialectServer) -> None:
            for name in dialect_server.names(stream):
                dialect_server.overrides.rejected.pop(name, None)
                dialect_server.overrides.fatal.discard(name)
                dialect_server.overrides.ignored.discard(name)
                dialect_server.overrides.silent.discard(name)

        self._override(heed)

    def revoke(self, stream: Subscription, text: str = "subscription revoked", *, connection: int | None = None) -> None:
        """End the stream for the clients that have subscribed it, with an error of this text.

        Raises `LookupError` if the dialect has no [[error]]."""
        self._override(lambda dialect_server: dialect_server.revoke(stream, text, connection))

    def gap(self, stream: Subscription) -> None:
        """Leave out one message of the stream, on the first connection on which the dialect's [[gap]] rules notice that by the
        next message."""
        self._override(lambda dialect_server: dialect_server.overrides.left_out.append(frozenset(dialect_server.names(stream))))

    def refuse_welcome(self, text: str = "token is invalid") -> None:
        """Send new clients an error with this text instead of the dialect's [[ready]]; an empty text ends that."""

        def refuse(dialect_server: DialectServer) -> None:
            dialect_server.dialect_rules.replies.complain(text)
            dialect_server.overrides.welcome_refusal = text

        self._override(refuse)

    def refuse_login(self, text: str = "invalid key") -> None:
        """Refuse logins with this text; an empty text ends that."""

        def refuse(dialect_server: DialectServer) -> None:
            dialect_server.overrides.login_refusal = text

        self._override(refuse)

    def require_login(self, on: bool = True) -> None:
        """Refuse subscriptions of a client that has not logged in."""

        def require(dialect_server: DialectServer) -> None:
            dialect_server.overrides.login_required = on

        self._override(require)

    def notice(self, *, connection: int | None = None) -> None:
        """Send the dialect's first [[notice]], which asks clients to connect anew. Raises `LookupError` if it has none."""
        notices: list[Frame] = []
        self._override(lambda dialect_server: notices.append(dialect_server.notice()))
        self._push(notices[0], connection)
