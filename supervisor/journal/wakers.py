"""The consumers that a commit wakes: a socket for each attached consumer that sleeps until new items are committed."""

from __future__ import annotations

import socket
import threading


class Wakers:
    """Added by the reactor, used by the writer's thread."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def add(self, waker: socket.socket) -> None:
        """From now on, each commit sends a byte there. The socket is ours."""
        waker.setblocking(False)
        waker.send(b"\n")  # what was committed before this moment may have been missed; there is room for one byte
        with self._lock:
            self._sockets.append(waker)

    def notify(self) -> None:
        """Something was committed. A consumer that has not read the bytes before gets none: it will look anyway."""
        if not self._sockets:
            return
        with self._lock:
            for waker in tuple(self._sockets):
                try:
                    waker.send(b"\n")
                except BlockingIOError:
                    pass
                except OSError:  # the consumer has ended
                    self._sockets.remove(waker)
                    waker.close()

    def close(self) -> None:
        """Let them go: no commit follows."""
        with self._lock:
            while self._sockets:
                self._sockets.pop().close()
