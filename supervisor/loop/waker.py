"""A descriptor that another thread or a signal handler makes readable, to end a poll."""

from __future__ import annotations

import os


class Waker:
    """An eventfd, or a pipe if the platform has no eventfd. `set` is safe in any thread and in a signal handler."""

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._read = self._write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def set(self) -> None:
        try:
            os.write(self._write, b"\x01\0\0\0\0\0\0\0")
        except BlockingIOError:
            return  # the descriptor is readable already

    def clear(self) -> None:
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return  # another thread has cleared it

    def close(self) -> None:
        os.close(self._read)
        if self._write != self._read:
            os.close(self._write)
