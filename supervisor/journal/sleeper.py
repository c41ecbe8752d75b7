"""How a reader of a journal sleeps until something new is there: the supervisor that writes the journal wakes it.

There may be no supervisor: before it starts, after it stopped, until the next one has taken the journal. Then nothing wakes the
reader, so it looks by itself now and then.
"""

from __future__ import annotations

import select
import socket
from pathlib import Path
from time import monotonic
from typing import Final

from wsadapter.control.instance import connect
from wsadapter.journal.folder import writer_of

_LOOK: Final = 0.5
"""Seconds that a reader sleeps at most: its name may be taken over, or the supervisor may be another one."""
_LOOK_ALONE: Final = 0.05
"""The same while no supervisor can wake it."""
_AGAIN: Final = 0.2
"""Seconds between two tries to reach a supervisor."""


class Sleeper:
    """That of one reader. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.waker: socket.socket | None = None
        """Readable when something was committed; None: no supervisor is there."""
        self._next_try = 0.0

    def connect(self) -> None:
        """Ask the supervisor, if there is one, to wake us. It sends a byte at once, because something may have been committed
        since the reader looked."""
        if self.waker is not None or monotonic() < self._next_try:
            return
        self._next_try = monotonic() + _AGAIN
        writer = writer_of(self._folder)
        if not writer.name:
            return
        try:
            waker = connect(writer.name, writer.runtime_dir)
            if waker is None:
                return
            waker.sendall(b'{"command": "wake"}\n')
        except OSError:
            return
        waker.setblocking(False)
        self.waker = waker

    @property
    def patience(self) -> float:
        """Seconds to sleep at most."""
        return _LOOK_ALONE if self.waker is None else _LOOK

    def sleep(self, seconds: float, *others: int) -> None:
        """Until something may be there, one of the `others` (descriptors) is readable, or the time is over."""
        self.connect()
        poller = select.poll()
        for fd in others:
            poller.register(fd, select.POLLIN)
        if self.waker is not None:
            poller.register(self.waker, select.POLLIN)
        poller.poll(max(0.0, min(seconds, self.patience)) * 1000)
        self.woken()

    def woken(self) -> None:
        """Read the bytes that woke us. The end of the stream means that the supervisor has ended."""
        if self.waker is None:
            return
        try:
            while chunk := self.waker.recv(4096):
                if len(chunk) < 4096:
                    return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Have nobody wake us."""
        if self.waker is not None:
            self.waker.close()
            self.waker = None
