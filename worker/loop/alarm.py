"""Ends an owner that is stuck in user code after its supervisor has ended: an alarm of the kernel.

SIGALRM has its default action, so no Python code has to run for it to end the process. The loop postpones the alarm as long as
the loop runs.
"""

from __future__ import annotations

import signal
from typing import Final

_SHORTEST: Final = 15.0
_WITHOUT_WATCHDOG: Final = 60.0


class Alarm:
    """`setitimer(ITIMER_REAL)`, armed from the beginning. Main thread only; times are monotonic seconds."""

    def __init__(self) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._delay = _WITHOUT_WATCHDOG
        self._stale = 0.0
        """Until then `postpone` does nothing, to save the system call."""
        self.due = 0.0
        """When to call `postpone` at the latest."""

    def follow(self, progress: float) -> None:
        """Sets the delay by `watchdog.progress`: the process ends after one and a half to three times that without a turn."""
        self._delay = max(_SHORTEST, 3 * progress) if progress else _WITHOUT_WATCHDOG
        self._stale = self.due = 0.0

    def postpone(self, now: float) -> None:
        """The loop is alive. Called at turns that happen anyway, so that an idle owner does not wake up only for this."""
        if now >= self._stale:
            signal.setitimer(signal.ITIMER_REAL, self._delay)
            self._stale = now + self._delay / 6
            self.due = now + self._delay / 2
