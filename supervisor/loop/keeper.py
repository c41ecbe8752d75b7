"""The background thread that runs the loop's turns while nobody else does."""

from __future__ import annotations

import select
import signal
import sys
import threading
from time import monotonic
from typing import Final, Protocol

from wsadapter.loop.signal_guard import FAULTS
from wsadapter.loop.timers import Timers
from wsadapter.loop.waker import Waker

GRACE: Final = 0.02
"""Seconds without a turn after which the keeper takes over."""


class KeptLoop(Protocol):
    """The loop, as far as the keeper needs it."""

    timers: Timers
    turns: int
    """How many turns were begun."""
    failure: BaseException | None
    """What ended the loop."""

    def fileno(self) -> int: ...
    def try_turn(self) -> bool: ...


class Keeper:
    """The thread that runs turns while nobody else does."""

    def __init__(self, reactor: KeptLoop) -> None:
        self._reactor = reactor
        self._waker = Waker()
        self._stopped = False
        self._sleeps_until = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="wsadapter-keeper", daemon=True)
        self._thread.start()

    def heed(self, when: float) -> None:
        """A timer was set; it may be due before the keeper meant to wake."""
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
        self._stopped = True
        self._waker.close()

    def _run(self) -> None:
        # Signals are the program's, in its own threads.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)
        reactor = self._reactor
        idle = select.poll()
        idle.register(self._waker.fileno(), select.POLLIN)
        ready = select.poll()
        ready.register(self._waker.fileno(), select.POLLIN)
        ready.register(reactor.fileno(), select.POLLIN)
        in_charge = False
        seen = reactor.turns
        while not self._stopped:
            if not in_charge:
                self._sleep(idle, GRACE)
            if reactor.turns != seen:
                in_charge = False
            elif self._pending(ready):
                if not reactor.try_turn():
                    self._sleep(idle, GRACE)
                in_charge = True
                if reactor.failure is not None:
                    return
            else:
                self._sleep_until_due(ready)
            if not in_charge or reactor.turns != seen:
                seen = reactor.turns

    def _pending(self, ready: select.poll) -> bool:
        return bool(ready.poll(0)) or self._reactor.timers.next_due() <= monotonic()

    def _sleep(self, idle: select.poll, seconds: float) -> None:
        if idle.poll(seconds * 1000):
            self._waker.clear()

    def _sleep_until_due(self, ready: select.poll) -> None:
        if self._stopped:
            return  # the sleep before took the wake-up that came with it
        self._sleeps_until = sys.float_info.max  # before the look: who sets a timer after it must wake us
        self._sleeps_until = self._reactor.timers.next_due()
        delay = max(0.0, self._sleeps_until - monotonic())
        ready.poll(None if delay > 86400 else delay * 1000 + 1)
        self._sleeps_until = 0.0
        self._waker.clear()
