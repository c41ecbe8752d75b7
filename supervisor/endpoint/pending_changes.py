"""Changes of subscriptions on their way to an owner, so that none gets lost with one: the next owner of the same connection is
told what its predecessor did not say it had sent. Of new subscriptions it is told only those that the peer had refused before:
an owner asks by itself for what is wanted and was not asked for on its connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc import commands
from wsadapter.endpoint.subscriptions import Ledger, key_of


class Tellings:
    """Those of one endpoint. All methods under the reactor's lock."""

    def __init__(self, refs: Iterator[int], tell_if_up: Callable[[int, int, dict[str, Any]], None]) -> None:
        """`refs`: of the endpoint's commands. `tell_if_up` sends one to the owner: kind, ref, body."""
        self._refs = refs
        self._tell_if_up = tell_if_up
        self._told: dict[int, tuple[int, list[Subscription]]] = {}
        """Those that the owner has not confirmed to have sent."""
        self._untold: list[tuple[int, list[Subscription]]] = []
        """Those that the next owner of the connection has to be told of."""

    def adopt(
        self, refs: Iterator[int], told: list[tuple[int, tuple[int, list[Subscription]]]],
        untold: list[tuple[int, list[Subscription]]],
    ) -> None:  # fmt: skip
        """Go on where another supervisor was."""
        self._refs = refs
        self._told = {ref: (kind, streams) for ref, (kind, streams) in told}
        self._untold = [(kind, streams) for kind, streams in untold]

    def tell(self, kind: int, streams: list[Subscription]) -> None:
        """SUBSCRIBE, UNSUBSCRIBE or RESUBSCRIBE."""
        ref = next(self._refs)
        self._told[ref] = (kind, streams)
        self._tell_if_up(kind, ref, {"streams": streams})

    def put_off(self, kind: int, streams: list[Subscription]) -> None:
        """There is nobody to tell now."""
        self._untold.append((kind, streams))

    def taken(self, ref: int) -> None:
        """The owner has sent it."""
        self._told.pop(ref, None)

    def owner_gone(self, *, goes_on: bool) -> None:
        """`goes_on`: its connection is there, and has not seen what was not confirmed."""
        if goes_on:
            self._untold += self._told.values()
        self._told.clear()

    def connection_gone(self) -> None:
        """The next connection asks for all that is wanted."""
        self._untold.clear()

    def catch_up(self, ledger: Ledger) -> None:
        """Tell the new owner, as far as it still holds."""
        untold, self._untold = self._untold, []
        for kind, streams in untold:
            if kind == commands.SUBSCRIBE:
                held = ledger.refused(streams)
            else:
                held = [stream for stream in streams if (key_of(stream) in ledger.wanted) is (kind != commands.UNSUBSCRIBE)]
            if held:
                self.tell(kind, held)
