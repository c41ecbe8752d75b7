"""How a test tells an exchange what to do to streams: the methods of `Exchange` that need a dialect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from wsadapter.contract.endpoint import Subscription
from wsadapter.testing.dialect.conversation_driver import Venue
from wsadapter.testing.dialect.overrides import Refusal
from wsadapter.testing.script import Frame


class Obedient(ABC):
    """Orders hold from now on, on every connection. They may be given from any thread, also before `start()`.

    Each raises `ValueError` where the exchange has no dialect.
    """

    @abstractmethod
    def _tell(self, order: Callable[[Venue], None]) -> None:
        """Carries out `order` in the exchange's own time."""

    @abstractmethod
    def _push(self, message: Frame, connection: int | None) -> None:
        """Sends a message."""

    def reject(
        self, stream: Subscription, text: str = "no such stream", *, whole: bool = False, named: bool | None = None
    ) -> None:
        """Who subscribes it is told no, with this text; a table with several entries: for each of them.

        By an exchange whose answers name frames (`id`), so are the frame's others; with `whole` by any exchange. `named`:
        whether the answer says which stream is meant; by itself only where it would otherwise be about nothing.
        """
        refusal = Refusal(text, whole, named)
        self._tell(lambda venue: venue.orders.rejected.update(dict.fromkeys(venue.names(stream), refusal)))

    def hang_up(self, stream: Subscription) -> None:
        """The connection of who subscribes it is closed without a word."""
        self._tell(lambda venue: venue.orders.fatal.update(venue.names(stream)))

    def ignore(self, stream: Subscription) -> None:
        """Who subscribes it is not answered; by an exchange whose answers name frames, nor are the frame's others."""
        self._tell(lambda venue: venue.orders.ignored.update(venue.names(stream)))

    def silence(self, stream: Subscription) -> None:
        """It is confirmed, but there are no data."""
        self._tell(lambda venue: venue.orders.silent.update(venue.names(stream)))

    def heed(self, stream: Subscription) -> None:
        """Ends `reject`, `hang_up`, `ignore` and `silence` of it."""

        def heed(venue: Venue) -> None:
            for name in venue.names(stream):
                venue.orders.rejected.pop(name, None)
                venue.orders.fatal.discard(name)
                venue.orders.ignored.discard(name)
                venue.orders.silent.discard(name)

        self._tell(heed)

    def revoke(self, stream: Subscription, text: str = "subscription revoked", *, connection: int | None = None) -> None:
        """Who has subscribed it is told by an error that it ends, and gets no more of it.

        Raises `LookupError` where the dialect has no [[error]]."""
        self._tell(lambda venue: venue.revoke(stream, text, connection))

    def gap(self, stream: Subscription) -> None:
        """Leaves out one message of it, on the first connection where the dialect's [[gap]] rules would tell that by the next
        one."""
        self._tell(lambda venue: venue.orders.left_out.append(frozenset(venue.names(stream))))

    def refuse_welcome(self, text: str = "token is invalid") -> None:
        """New clients get an error with this text instead of the dialect's [[ready]]; an empty one ends that."""

        def refuse(venue: Venue) -> None:
            venue.speech.replies.complain(text)
            venue.orders.welcome_refusal = text

        self._tell(refuse)

    def refuse_login(self, text: str = "invalid key") -> None:
        """Logins are refused with this text; an empty one ends that."""

        def refuse(venue: Venue) -> None:
            venue.orders.login_refusal = text

        self._tell(refuse)

    def require_login(self, on: bool = True) -> None:
        """Who has not logged in may not subscribe."""

        def require(venue: Venue) -> None:
            venue.orders.login_required = on

        self._tell(require)

    def notice(self, *, connection: int | None = None) -> None:
        """The dialect's first [[notice]]: clients are asked to connect anew. Raises `LookupError` where it has none."""
        notices: list[Frame] = []
        self._tell(lambda venue: notices.append(venue.notice()))
        self._push(notices[0], connection)
