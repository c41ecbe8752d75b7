"""The last resort against an owner that is stuck in user code while its supervisor is gone: an alarm of the kernel.

SIGALRM keeps its default action, so nothing of Python has to run for it to end the process. The loop puts it off as long as it
turns.
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
        """From when on it is worth a system call."""
        self.due = 0.0
        """When to put it off at the latest."""

    def follow(self, progress: float) -> None:
        """Takes its delay from `watchdog.progress`: its patience is one and a half times to three times that."""
        self._delay = max(_SHORTEST, 3 * progress) if progress else _WITHOUT_WATCHDOG
        self._stale = self.due = 0.0

    def postpone(self, now: float) -> None:
        """The loop is alive. Done where it turns anyway, so that an idle owner need not wake for this alone."""
        if now >= self._stale:
            signal.setitimer(signal.ITIMER_REAL, self._delay)
            self._stale = now + self._delay / 6
            self.due = now + self._delay / 2
