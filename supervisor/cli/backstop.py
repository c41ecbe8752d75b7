"""A stop that is blocked by the output: a named pipe without a reader, a full pipe. That is logged, and bounded in time.

The main thread is then in a system call that can't be ended. So another thread measures how long the call takes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final, Self

logger = logging.getLogger("wsadapter.runner")

PATIENCE: Final = 8.0
"""Seconds after the stop that the output may block."""
_INTERVAL: Final = 0.2
_SOON: Final = 1.0
"""Seconds after which a log line names the output that the stop waits for."""


class Backstop:
    """Watches the calls of the output in one thread, once a stop is wanted. The other methods may be called from any thread.

    The watching thread exists while this context is entered, because the process may have no memory for another thread when a
    stop is wanted.
    """

    def __init__(self, output: str, give_up: Callable[[], None]) -> None:
        """`output`: its name in the log. `give_up` is called at most once, in the watching thread, if the output has blocked
        for too long."""
        self._output = output
        self._give_up = give_up
        self._since: float | None = None
        self._stop_at: float | None = None
        self._wanted = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wsadapter-backstop", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over()
        self._wanted.set()
        self._thread.join()

    def begin(self) -> None:
        """The output is called."""
        self._since = monotonic()

    def end(self) -> None:
        """It has returned."""
        self._since = None

    def stop_wanted(self) -> None:
        """From now on no call may take for ever. A second time does nothing."""
        if self._stop_at is None:
            self._stop_at = monotonic()
            self._wanted.set()

    def over(self) -> None:
        """The output is closed: nothing is watched any more."""
        self._over.set()

    def blocked_for(self, now: float) -> float:
        """Seconds since the stop that the present call has taken; 0: there is none."""
        since, stop_at = self._since, self._stop_at
        return 0.0 if since is None or stop_at is None else now - max(since, stop_at)

    def _run(self) -> None:
        self._wanted.wait()
        told = False
        while not self._over.wait(_INTERVAL):
            blocked = self.blocked_for(monotonic())
            if blocked >= _SOON and not told:
                told = True
                logger.warning("the stop waits for the output %s, which is not read: %g s at most", self._output, PATIENCE)
            if blocked >= PATIENCE:
                self._give_up()
                return
