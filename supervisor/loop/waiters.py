"""Threads that wait for a turn which another thread runs, and callers that are notified after each turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

_LONGEST: Final = 0.05
"""Seconds after which a thread looks again in any case."""


class Waiters:
    """Of one loop. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.gates: deque[Any] = deque()
        """A taken lock for each thread that waits. A plain lock, because an interrupt in the methods of a `Condition` could
        leave its lock taken for ever."""
        self.listeners: dict[object, Callable[[], None]] = {}

    def listen(self, key: object, call: Callable[[], None] | None) -> None:
        """Call it after each turn, in the thread that ran the turn; None ends that."""
        if call is None:
            self.listeners.pop(key, None)
        else:
            self.listeners[key] = call

    def notify(self) -> None:
        """A turn has ended: those who wait look whether what they wait for is done."""
        gates = self.gates
        while gates:
            try:
                gates.popleft().release()
            except IndexError:
                break  # another turn was faster
        for call in tuple(self.listeners.values()):
            call()

    def wait(self, timeout: float | None, is_running: Callable[[], bool]) -> None:
        """Wait for the end of the turn that somebody runs, at most `timeout` seconds. Returns at once if nobody runs one."""
        gate = threading.Lock()
        gate.acquire()  # noqa: SIM115, RUF100 - released by who runs the turn
        self.gates.append(gate)
        if is_running():  # looked at behind the append: a turn that ends from here on releases the gate
            gate.acquire(timeout=_LONGEST if timeout is None else min(timeout, _LONGEST))
