"""Reports which file descriptors are ready: one epoll object on Linux, `selectors` elsewhere and with WSADAPTER_PORTABLE=1."""

from __future__ import annotations

import os
import select
import selectors
from typing import Final, Protocol

READ: Final = 1
WRITE: Final = 4
_TROUBLE: Final = 8 | 16
"""EPOLLERR and EPOLLHUP."""


class Poller(Protocol):
    """What the loop asks of the operating system. Errors and hang-ups count as readable and writable."""

    def watch(self, fd: int, mask: int) -> None:
        """From now on report `fd` for `mask` (READ, WRITE, both), or with 0 not at all."""

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """(fd, mask) of the descriptors that are ready within `timeout` seconds; empty if none is, or after a signal."""

    def close(self) -> None:
        """Closes the epoll object or selector."""


class _Epoll:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._masks: dict[int, int] = {}

    def watch(self, fd: int, mask: int) -> None:
        known = self._masks.get(fd, 0)
        if mask == known:
            return
        if not mask:
            del self._masks[fd]
            self._epoll.unregister(fd)
            return
        self._masks[fd] = mask
        if known:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        ready = self._epoll.poll(timeout)
        for _, mask in ready:
            if mask & _TROUBLE:
                return [(fd, mask | READ | WRITE if mask & _TROUBLE else mask) for fd, mask in ready]
        return ready

    def close(self) -> None:
        self._epoll.close()


class _Selectors:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._masks: dict[int, int] = {}

    def watch(self, fd: int, mask: int) -> None:
        known = self._masks.get(fd, 0)
        if mask == known:
            return
        if known:
            self._selector.unregister(fd)
            del self._masks[fd]
        if mask:
            self._selector.register(fd, _events(mask))
            self._masks[fd] = mask

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        ready = []
        for key, events in self._selector.select(timeout):
            mask = READ if events & selectors.EVENT_READ else 0
            ready.append((key.fd, mask | (WRITE if events & selectors.EVENT_WRITE else 0)))
        return ready

    def close(self) -> None:
        self._selector.close()


def _events(mask: int) -> int:
    return (selectors.EVENT_READ if mask & READ else 0) | (selectors.EVENT_WRITE if mask & WRITE else 0)


def make_poller() -> Poller:
    """The best poller of this platform."""
    if hasattr(select, "epoll") and os.environ.get("WSADAPTER_PORTABLE") != "1":
        return _Epoll()
    return _Selectors()
