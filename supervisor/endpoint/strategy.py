"""Which endpoints are restarted together with one that ended (OTP supervisor, `strategy`). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from wsadapter.config.settings import Strategy


class Restartable(Protocol):
    """An endpoint, as far as a strategy needs it."""

    @property
    def has_ended(self) -> bool:
        """It has no process, and gets none by itself."""
        ...


E = TypeVar("E", bound=Restartable)


def restarted_with(strategy: Strategy, endpoints: Sequence[E], ended: E) -> list[E]:
    """The others that are restarted too; `endpoints` in the order in which they were added. One that has ended stays so."""
    match strategy:
        case "one_for_one":
            concerned: Sequence[E] = ()
        case "one_for_all":
            concerned = endpoints
        case "rest_for_one":
            concerned = endpoints[endpoints.index(ended) + 1 :]
    return [endpoint for endpoint in concerned if endpoint is not ended and not endpoint.has_ended]
