"""The background thread that runs turns of the loop while no other thread does."""

from __future__ import annotations

import select
import signal
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from wsadapter.loop.dispatcher import Dispatcher
from wsadapter.loop.signal_guard import FAULTS
from wsadapter.loop.waker import Waker

GRACE: Final = 0.02
"""Seconds without a turn after which the background thread runs turns."""


class BackgroundRunner:
    """A thread that runs turns while no other thread does."""

    def __init__(self, dispatcher: Dispatcher, try_turn: Callable[[], bool]) -> None:
        """`try_turn` runs one turn without waiting, and returns false if another thread runs the loop."""
        self._dispatcher = dispatcher
        self._try_turn = try_turn
        self._waker = Waker()
        self._stopped = False
        self._sleeps_until = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="wsadapter-background", daemon=True)
        self._thread.start()

    def wake_for(self, when: float) -> None:
        """A timer was set for `when`. Wakes the thread if that is earlier than the end of its sleep."""
        if when < self._sleeps_until:
            self._sleeps_until = when
            self._waker.set()

    def stop(self) -> None:
        self._stopped = True
        self._waker.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._waker.close()

    def disown(self) -> None:
        """Called in a forked child, in which the thread doesn't exist."""
        self._stopped = True
        self._waker.close()

    def _run(self) -> None:
        # Signals are for the program's own threads.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)
        dispatcher = self._dispatcher
        idle = select.poll()
        idle.register(self._waker.fileno(), select.POLLIN)
        ready = select.poll()
        ready.register(self._waker.fileno(), select.POLLIN)
        ready.register(dispatcher.fileno(), select.POLLIN)
        in_charge = False
        seen = dispatcher.turns
        while not self._stopped:
            if not in_charge:
                self._sleep(idle, GRACE)
            if dispatcher.turns != seen:
                in_charge = False
            elif self._pending(ready):
                if not self._try_turn():
                    self._sleep(idle, GRACE)
                in_charge = True
                if dispatcher.failure is not None:
                    return
            else:
                self._sleep_until_due(ready)
            if not in_charge or dispatcher.turns != seen:
                seen = dispatcher.turns

    def _pending(self, ready: select.poll) -> bool:
        return bool(ready.poll(0)) or self._dispatcher.timers.next_due() <= monotonic()

    def _sleep(self, idle: select.poll, seconds: float) -> None:
        if idle.poll(seconds * 1000):
            self._waker.clear()

    def _sleep_until_due(self, ready: select.poll) -> None:
        if self._stopped:
            return  # `stop` may have set the waker during the sleep before, which has cleared it
        # Set before the timers are read: a thread that sets a timer after that must wake this one.
        self._sleeps_until = sys.float_info.max
        self._sleeps_until = self._dispatcher.timers.next_due()
        delay = max(0.0, self._sleeps_until - monotonic())
        ready.poll(None if delay > 86400 else delay * 1000 + 1)
        self._sleeps_until = 0.0
        self._waker.clear()
