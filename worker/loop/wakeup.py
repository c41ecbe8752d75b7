"""Wakes the owner's loop from signal handlers and from threads."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


class Wakeup:
    """A pipe whose read end the loop watches. `wake` may be called from any thread."""

    def __init__(self) -> None:
        self.fd, self._write_end = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_end, False)

    def also_on_signals(self) -> None:
        """From now on any signal with a Python handler wakes the loop too. Main thread only."""
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def wake(self) -> None:
        """Makes `fd` readable."""
        with suppress(BlockingIOError):  # the pipe is full of wake-ups that were not read yet: one more is not needed
            os.write(self._write_end, b"\0")

    def drain(self) -> None:
        """Reads all wake-ups: the loop is awake."""
        with suppress(BlockingIOError):
            while os.read(self.fd, 4096):
                pass
