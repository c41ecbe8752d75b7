"""What a supervisor has read from the pipe of one owner, in memory that outlives the supervisor.

    pipe ──splice──> memory file ──pread──> RecordReader        the keeper has duplicates of the pipe and of the file
                     [released, punched out | kept ........]
                                            ^ the last mark      ^ size of the file: how far the pipe was read

A supervisor that is killed has read bytes that are in no pipe any more, and not in the journal yet. So it does not read the
pipe into its own memory: the kernel moves the bytes into a file without a name (memfd_create(2)). At any instruction each byte
is in the pipe or in the file, and the size of the file says in which. The next supervisor reads the file from the last mark on,
and goes on with the pipe. What is before the last mark is punched out of the file, so its memory is bounded; offsets only
grow.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from threading import Lock
from typing import Final

_PAGE: Final = 4096
_CHUNK: Final = 1 << 18
_KEEP_SIZE_AND_PUNCH: Final = 0x01 | 0x02
"""FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, fallocate(2)."""


class ReadLog:
    """That of one pipe. `release` and `close` are safe in any thread; the rest is for the thread that reads the pipe."""

    def __init__(self, fd: int | None = None) -> None:
        """`fd`: of a supervisor that died; None: a new one. Raises `OSError`."""
        self._fd = os.memfd_create("wsadapter-read-log") if fd is None else fd
        self.end = os.fstat(self._fd).st_size
        """Bytes that were read from the pipe since the process began."""
        self._released = 0
        self._lock = Lock()
        """`release` runs in the thread of the journal: the number of a closed descriptor may be another file's by then."""

    @property
    def size(self) -> int:
        """Bytes that were not released, about."""
        return self.end - self._released

    def fileno(self) -> int:
        """The descriptor, for the keeper."""
        return self._fd

    def readv(self, pipe: int, buffers: tuple[memoryview]) -> int:
        """As `os.readv` of one buffer, through the file. Raises `OSError`, `BlockingIOError`."""
        (room,) = buffers
        end = self.end
        size = os.splice(pipe, self._fd, len(room), offset_dst=end, flags=os.SPLICE_F_NONBLOCK)
        if size:
            os.preadv(self._fd, (room[:size],), end)
            self.end = end + size
        return size

    def put(self, data: bytes) -> None:
        """Bytes of the pipe that were read in another way."""
        while data:
            written = os.pwrite(self._fd, data, self.end)
            self.end, data = self.end + written, data[written:]

    def read_again(self, position: int) -> Iterator[bytes]:
        """What was read from the pipe behind `position`."""
        while position < self.end:
            chunk = os.pread(self._fd, min(_CHUNK, self.end - position), position)
            position += len(chunk)
            yield chunk

    def release(self, position: int) -> None:
        """Nothing before `position` is read again: free its memory. Raises `OSError`."""
        with self._lock:
            until = position // _PAGE * _PAGE
            if self._fd >= 0 and until > self._released:
                _punch(self._fd, self._released, until - self._released)
                self._released = until

    def close(self) -> None:
        """Close it here."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


def _punch(fd: int, begin: int, size: int) -> None:
    """Make a hole in a file; the standard library has no call for it. Raises `OSError`."""
    if _libc.fallocate(fd, _KEEP_SIZE_AND_PUNCH, ctypes.c_long(begin), ctypes.c_long(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc: Final = ctypes.CDLL(None, use_errno=True)
