"""Futures that their callers can't cancel."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def uncancellable_future() -> Future[T]:
    """A future that its caller can't cancel: a result that came to a cancelled one would raise in the loop."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    return future


class Waiters:
    """Futures that end together. Not thread-safe."""

    def __init__(self) -> None:
        self._futures: list[Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self._futures)

    def add(self) -> Future[None]:
        """One more, which its caller can't cancel."""
        future: Future[None] = uncancellable_future()
        self._futures.append(future)
        return future

    def resolve(self) -> None:
        """All waiting futures succeed."""
        futures, self._futures = self._futures, []
        for future in futures:
            future.set_result(None)

    def fail(self, error: Callable[[], Exception]) -> None:
        """All waiting futures fail; each gets its own error object."""
        futures, self._futures = self._futures, []
        for future in futures:
            future.set_exception(error())
