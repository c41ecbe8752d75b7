"""An asyncio loop in a separate thread, for a sink whose client library needs one.

A sink is called from the thread that reads the journal. The loop also runs while nothing is written: the client library answers
the server's pings there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

_CANCEL_AGAIN: Final = 0.1
"""Seconds."""

T = TypeVar("T")


class Tasks:
    """The tasks that an owner has started and may have to cancel. To be used in the loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself holds a task only weakly
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, seconds: float) -> None:
        """Until all tasks have ended, or the time is over."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def cancel(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        while self._tasks:
            for task in tuple(self._tasks):
                task.cancel()
            # `wait_for` of Python 3.11 loses a cancellation that comes together with its result.
            await asyncio.wait(self._tasks, timeout=_CANCEL_AGAIN)


class LoopThread:
    """The loop, its thread and its tasks."""

    def __init__(self, name: str) -> None:
        """`name`: of the thread."""
        self.tasks = Tasks()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def start(self) -> None:
        """Run the loop."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether `wait` may be called."""
        return self._thread.is_alive()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, from another thread; its result. Raises what the coroutine raises."""
        if not self.is_running:  # otherwise nobody would run it, and the result would never come
            work.close()
            raise RuntimeError("the loop isn't running")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def call(self, action: Callable[[], object]) -> None:
        """Have the loop call it soon; from any thread."""
        if self.is_running:
            self._loop.call_soon_threadsafe(action)

    def close(self, timeout: float | None = None) -> None:
        """Cancel the tasks, and end the loop and its thread. `timeout`: seconds to wait for the thread; None: no limit."""
        if self.is_running:
            self.wait(self.tasks.cancel())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout)
        if not self.is_running:
            self._loop.close()
