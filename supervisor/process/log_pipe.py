"""What user code prints in an owner process: its standard output and error, line by line."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final

from wsadapter.loop.reactor import Reactor

_READ_SIZE: Final = 1 << 16
_LONGEST_LINE: Final = 4096
"""Bytes. A longer line becomes several lines."""
_LAST_LINES: Final = 2000
"""Characters of the last lines that are kept: they may show why the process died."""


class LogPipe:
    """The read end of one pipe. All methods under the reactor's lock."""

    def __init__(self, reactor: Reactor, on_line: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._on_line = on_line
        self._end: Connection | None = None
        self.rest = b""
        """The beginning of an unfinished line."""
        self.last_lines = ""
        """What the process printed last."""

    def open(self, end: Connection, rest: bytes = b"") -> None:
        """Read from `end` once `watch` is called. `rest`: an unfinished line that another supervisor has read."""
        os.set_blocking(end.fileno(), False)
        self._end, self.rest = end, rest

    def fileno(self) -> int:
        """The descriptor, to be given to another supervisor. It must be open."""
        assert self._end is not None
        return self._end.fileno()

    def watch(self) -> None:
        """Read from the pipe."""
        if self._end is not None:
            self._reactor.dispatcher.register(self._end.fileno(), self.read)

    def unwatch(self) -> None:
        """Stop reading; new bytes stay in the pipe."""
        if self._end is not None:
            self._reactor.dispatcher.unregister(self._end.fileno())

    def read(self, _events: int = 0) -> None:
        """Read once, if the pipe is watched."""
        if self._end is None or not self._reactor.dispatcher.is_registered(self._end.fileno()):
            return
        try:
            chunk = os.read(self._end.fileno(), _READ_SIZE)
        except BlockingIOError:
            return
        if not chunk:
            self.unwatch()
        for line in self._lines(chunk):
            text = line[:_LONGEST_LINE].decode(errors="replace").rstrip()
            if text:
                self.last_lines = f"{self.last_lines}\n{text}"[-_LAST_LINES:].lstrip("\n")
                self._on_line(text)

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes; at the end of the stream (an empty chunk) the unfinished one too."""
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        if self.rest and (not chunk or len(self.rest) > _LONGEST_LINE):
            lines.append(self.rest)
            self.rest = b""
        return lines

    def close(self) -> None:
        """Close the end, and drop the reference to the callback."""
        self.unwatch()
        if self._end is not None:
            self._end.close()
            self._end = None
        self._on_line = _ignore  # no cycle: the pipe and its owner process are freed without the garbage collector


def _ignore(_line: str) -> None:
    """For calls after `close`."""
