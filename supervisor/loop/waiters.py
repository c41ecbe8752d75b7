"""Threads that wait for the end of a turn which another thread runs, and callbacks that run after each turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

_LONGEST: Final = 0.05
"""Seconds after which a waiting thread looks again in any case."""


class WaitingThreads:
    """The waiting threads and the callbacks of one loop. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.gates: deque[Any] = deque()
        """An acquired lock for each thread that waits. A plain lock, because an interrupt in the methods of a `Condition` could
        leave the lock of the condition acquired for ever."""
        self.listeners: dict[object, Callable[[], None]] = {}

    def listen(self, key: object, call: Callable[[], None] | None) -> None:
        """Call `call` after each turn, in the thread that ran the turn. None removes what was set for `key`."""
        if call is None:
            self.listeners.pop(key, None)
        else:
            self.listeners[key] = call

    def notify(self) -> None:
        """A turn has ended: wake the threads that wait, so that each asks its condition again."""
        gates = self.gates
        while gates:
            try:
                gates.popleft().release()
            except IndexError:
                break  # another thread, after its own turn, was faster
        for call in tuple(self.listeners.values()):
            call()

    def wait(self, timeout: float | None, is_running: Callable[[], bool]) -> None:
        """Wait for the end of the turn that another thread runs, for at most `timeout` seconds. Returns at once if none
        runs."""
        gate = threading.Lock()
        gate.acquire()  # noqa: SIM115, RUF100 - released by the thread that runs the turn
        self.gates.append(gate)
        if is_running():  # asked after the append: a turn that ends from here on releases the gate
            gate.acquire(timeout=_LONGEST if timeout is None else min(timeout, _LONGEST))
