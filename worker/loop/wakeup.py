"""Waking the owner's loop from signal handlers and from helper threads."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


class Wakeup:
    """A pipe to oneself. `wake` may be called from any thread."""

    def __init__(self) -> None:
        self.fd, self._write_end = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_end, False)

    def also_on_signals(self) -> None:
        """Let the arrival of any signal that has a Python handler wake too. Main thread only."""
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def wake(self) -> None:
        """Makes `fd` readable."""
        with suppress(BlockingIOError):  # full of wake-ups that are not yet seen: one more says nothing new
            os.write(self._write_end, b"\0")

    def drain(self) -> None:
        """The loop is awake."""
        with suppress(BlockingIOError):
            while os.read(self.fd, 4096):
                pass
