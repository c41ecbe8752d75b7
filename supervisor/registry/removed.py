"""Endpoints that were removed. Their processes may not have ended yet, and if an endpoint of the same name is added again, its
numbers go on where they were.

    removed ──has ended──────────────────────────────> only its numbers matter
       └──added again before that──> continues with the new settings, or its successor waits for its end
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.subscriptions import Numbers


class RemovedEndpoints:
    """The removed endpoints of one registry. Not thread-safe: the reactor's lock is held."""

    def __init__(self) -> None:
        self._last: dict[str, EndpointRuntime] = {}
        """The last endpoint of each name; one that was added again is not here."""
        self._successors: dict[EndpointRuntime, EndpointRuntime] = {}
        """Endpoints that have not ended, and who waits for that under the same name."""
        self._numbers: dict[str, Numbers] = {}
        """Of endpoints that another supervisor removed."""

    def __iter__(self) -> Iterator[EndpointRuntime]:
        """All removed endpoints; some may still have a process."""
        return iter((*self._last.values(), *self._successors))

    def add(self, endpoint: EndpointRuntime) -> None:
        """It was removed."""
        self._last[endpoint.name] = endpoint

    def take(self, name: str) -> EndpointRuntime | None:
        """The last one of this name, which is added again; None if there is none."""
        return self._last.pop(name, None)

    def ending(self, name: str, before: EndpointRuntime | None) -> EndpointRuntime | None:
        """Who had this name and has not ended: `before`, or the one that `before` was waiting for itself."""
        if before is not None and not before.has_ended:
            return before
        return next((ending for ending in self._successors if ending.name == name and not ending.has_ended), None)

    def await_end(self, ending: EndpointRuntime, successor: EndpointRuntime) -> None:
        """`successor` is not to be started before `ending` has ended."""
        self._successors[ending] = successor

    def waits(self, endpoint: EndpointRuntime) -> bool:
        """Whether an endpoint waits for the end of the one before it."""
        return endpoint in self._successors.values()

    def take_successor(self, ended: EndpointRuntime) -> EndpointRuntime | None:
        """Who waited for this end; None if nobody did."""
        return self._successors.pop(ended, None)

    @property
    def numbers(self) -> dict[str, Numbers]:
        """The last number and epoch of each, by name."""
        return self._numbers | {name: endpoint.stream.numbers for name, endpoint in self._last.items()}

    def add_numbers(self, numbers: Mapping[str, Numbers]) -> None:
        """Another supervisor had endpoints of these names, and removed them."""
        self._numbers.update(numbers)

    def take_numbers(self, name: str) -> Numbers | None:
        """The last number and epoch of an endpoint of this name in another supervisor; None if there was none."""
        return self._numbers.pop(name, None)
