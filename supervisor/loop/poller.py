"""Waiting for descriptors: epoll if the platform has it, otherwise what `selectors` chooses (kqueue on macOS)."""

from __future__ import annotations

import select
import selectors
from typing import Protocol

from wsadapter import capabilities

READ = 1
WRITE = 4
"""The values of EPOLLIN and EPOLLOUT. Errors and hang-ups count as readable."""


class Poller(Protocol):
    """What the loop needs of the operating system."""

    def register(self, fd: int, events: int) -> None: ...
    def modify(self, fd: int, events: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """The ready descriptors with their events. `timeout` in seconds; None: without a limit."""
        ...

    def fileno(self) -> int: ...
    def close(self) -> None: ...


class SelectorsPoller:
    """For platforms without epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._silent: set[int] = set()

    def register(self, fd: int, events: int) -> None:
        self._selector.register(fd, _to_selectors(events))

    def modify(self, fd: int, events: int) -> None:
        if not events:
            self.unregister(fd)
            self._silent.add(fd)
        elif fd in self._silent:
            self._silent.discard(fd)
            self.register(fd, events)
        else:
            self._selector.modify(fd, _to_selectors(events))

    def unregister(self, fd: int) -> None:
        if fd in self._silent:
            self._silent.discard(fd)
        else:
            self._selector.unregister(fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return [(key.fd, _from_selectors(events)) for key, events in self._selector.select(timeout)]

    def fileno(self) -> int:
        return self._selector.fileno()

    def close(self) -> None:
        self._selector.close()


def _to_selectors(events: int) -> int:
    return (selectors.EVENT_READ if events & READ else 0) | (selectors.EVENT_WRITE if events & WRITE else 0)


def _from_selectors(events: int) -> int:
    return (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0)


def make() -> Poller:
    """The best poller of this platform."""
    return select.epoll() if capabilities.epoll() else SelectorsPoller()
