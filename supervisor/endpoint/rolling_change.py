"""Planned changes of the replicas of one endpoint: one link at a time, the next when the one before has caught up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wsadapter.contract.errors import NotConnected
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.futures import Waiters

if TYPE_CHECKING:
    from wsadapter.endpoint.link import Link


class RollingChangeHost(Protocol):
    """What a change needs of the replicas."""

    last_exit: Reason | None

    @property
    def name(self) -> str: ...
    @property
    def live(self) -> int: ...
    @property
    def primary(self) -> Link: ...
    def is_redundant(self, link: Link) -> bool: ...
    def is_aligned(self, link: Link) -> bool: ...


@dataclass(slots=True)
class _Step:
    """The change of one link."""

    link: Link
    change: Callable[[Link], object]
    together: bool
    """It waits for no other link."""
    begun: bool = False
    _epoch: int = 0

    def begin(self) -> None:
        self.begun = True
        self._epoch = self.link.epoch
        self.change(self.link)

    @property
    def is_up(self) -> bool:
        """Whether the new owner of the link is up."""
        return self.link.state == "up" and self.link.epoch > self._epoch


class RollingChange:
    """The planned changes of one endpoint's links. All methods under the reactor's lock."""

    def __init__(self, replicas: RollingChangeHost, links: Iterable[Link]) -> None:
        """`links`: returns all links."""
        self._replicas = replicas
        self._links = links
        self._steps: deque[_Step] = deque()
        """Changes that are due, in order; the first may be under way."""
        self._waiters = Waiters()

    @property
    def is_under_way(self) -> bool:
        """Whether a link is to be changed, or is being changed."""
        return bool(self._steps)

    def wait(self) -> Future[None]:
        """Done when all links are up and none is to be changed."""
        return self._waiters.add()

    def begin(self, links: Iterable[Link], change: Callable[[Link], object], *, together: bool) -> None:
        """Change these links instead of those of an unfinished change; `together`: all at the same time. Call `go_on` next."""
        self._steps = deque(_Step(link, change, together) for link in links)

    def go_on(self) -> None:
        """Begin the change of the next link if the one before has caught up."""
        while self._steps:
            step = self._steps[0]
            if not step.begun:
                if not step.together and not self._replicas.is_redundant(step.link):
                    return  # another link has to deliver meanwhile
                step.begin()
            if not step.together and not (step.is_up and self._replicas.is_aligned(step.link)):
                return
            self._steps.popleft()
        if self._waiters and all(link.state == "up" or link.has_ended for link in self._links):
            self.end()

    def end(self) -> None:
        """Change no more links. Waiting futures succeed if a link is live, and fail otherwise."""
        self._steps.clear()
        replicas = self._replicas
        if replicas.live:
            self._waiters.resolve()
        else:
            why = replicas.last_exit.describe() if replicas.last_exit else "stopped"
            text = f"{replicas.name} is {replicas.primary.state}: {why}"
            self._waiters.fail(lambda: NotConnected(text))
