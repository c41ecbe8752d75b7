"""The files that an output has open, and the lines that wait for each of them.

A file is opened when lines are written to it. The number of open files is limited; above that, a random one is closed to open
another. So in any order of writes most files are still open at their next write. (If the files are written in a fixed order,
the least recently used file is exactly the one that is needed next.)
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import select
import stat
from collections.abc import Iterator
from pathlib import Path
from random import randrange
from typing import Final

logger = logging.getLogger("wsadapter.runner")

_ENOUGH: Final = 256 * 1024
_LEAST_FILES: Final = 64
_SHARE: Final = 4
_TOO_MANY: Final = (errno.EMFILE, errno.ENFILE)
_SETTLED: Final = -1


def allowed_files() -> int:
    """A quarter of the files that the process may have open: owners and connections need the rest."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if allowed == resource.RLIM_INFINITY else max(_LEAST_FILES, allowed // _SHARE)


class OutputFile:
    """One file with the lines that wait for it."""

    __slots__ = ("_size", "_waiting", "fd", "owned", "path", "period", "place")

    def __init__(self, path: str, period: str, fd: int | None = None) -> None:
        """`period`: the date in its name. `fd`: the descriptor of a file that is not to be closed here."""
        self.path = path
        self.period = period
        self.fd = fd
        """None: it is not open."""
        self.owned = fd is None
        self.place = _SETTLED
        """Among the open files."""
        self._waiting: list[bytes] = []
        self._size = 0

    def add(self, lines: bytes) -> bool:
        """Keep lines. Returns whether there are enough for a write."""
        self._waiting.append(lines)
        self._size += len(lines)
        return self._size >= _ENOUGH

    def drain(self) -> Iterator[int]:
        """Write the waiting lines; yields after each write the number of lines that it completed. The file must be open. Raises
        `OSError`."""
        # A single piece may be a message of many MiB: it is not copied.
        lines = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting, self._size = [], 0
        written = 0
        with memoryview(lines) as data:
            while written < len(data):
                before, written = written, written + self._write(data[written:])
                yield lines.count(b"\n", before, written)

    def _write(self, data: memoryview) -> int:
        assert self.fd is not None
        while True:
            try:
                return os.write(self.fd, data)
            except BlockingIOError:  # standard output may be a pipe that somebody else made non-blocking
                poller = select.poll()
                poller.register(self.fd, select.POLLOUT)
                poller.poll()


class OpenFiles:
    """Those that are open, of all sinks. Not thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: list[OutputFile] = []

    def open(self, sink: OutputFile) -> None:
        """Open it, unless it is; another one may be closed for it. Raises `OSError`."""
        if sink.fd is not None:
            return
        while len(self._open) >= self._most:
            self._close_one()
        while sink.fd is None:
            try:
                sink.fd = _open_to_append(sink.path)
            except OSError as error:
                if error.errno not in _TOO_MANY or not self._open:
                    raise
                self._close_one()
        sink.place = len(self._open)
        self._open.append(sink)

    def close(self, sink: OutputFile) -> None:
        """Close it; a second time does nothing. Standard output stays open."""
        if not sink.owned or sink.fd is None:
            return
        last = self._open.pop()
        if last is not sink:
            self._open[sink.place] = last
            last.place = sink.place
        fd, sink.fd, sink.place = sink.fd, None, _SETTLED
        os.close(fd)

    def _close_one(self) -> None:
        self.close(self._open[randrange(len(self._open))])


def _open_to_append(path: str) -> int:
    """The descriptor; parents are made, and a torn last line is ended."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    kind = _kind_of(path)
    if kind is not None and stat.S_ISFIFO(kind):
        return _open_named_pipe(path, flags | os.O_WRONLY)
    if kind is not None and not stat.S_ISREG(kind):
        return os.open(path, flags | os.O_WRONLY)  # a device: nothing in it to look at
    fd = os.open(path, flags | os.O_RDWR, 0o666)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            os.write(fd, b"\n")
    except OSError:
        os.close(fd)
        raise
    return fd


def _open_named_pipe(path: str, flags: int) -> int:
    """Waits for a reader, and logs that it waits."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        logger.warning("the output %s is a named pipe that nobody reads yet: waiting for a reader", path)
        return os.open(path, flags)
    os.set_blocking(fd, True)
    return fd


def _kind_of(path: str) -> int | None:
    try:
        return Path(path).stat().st_mode
    except FileNotFoundError:
        return None
