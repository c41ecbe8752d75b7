"""Marks: how far the journal has what was read from an owner, in memory that outlives the supervisor.

    reactor:  record, record, mark ──> the journal's queue ──> thread: rows committed ──> the mark is stored, what was read
                                                                                          before it is released

A mark has the state of an endpoint between two records of its owner, and the place of this moment in what was read from the
owner (process/read_log.py). It goes through the journal's queue behind the items of all records before it. So once it is
stored, none of these records is needed again. The next supervisor goes on from the last mark that was stored.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final
from zlib import crc32

_HEAD: Final = struct.Struct("<4sQQI")
"""Magic, serial number, size, and CRC32 of all of this and the body."""
_MAGIC: Final = b"wsM1"
_SLOT: Final = 1 << 32
"""Bytes between the two slots; the file has holes."""


class MarkFile:
    """The last mark of one owner, in a file without a name. There are two slots, written in turn, so a supervisor that is
    killed while it writes one leaves the other. Any thread may use it."""

    def __init__(self, fd: int | None = None) -> None:
        """`fd`: of a supervisor that died; None: a new one. Raises `OSError`."""
        self._fd = os.memfd_create("wsadapter-mark") if fd is None else fd
        self._serial = max((serial for serial, _ in self._slots()), default=0)
        self._lock = Lock()

    def fileno(self) -> int:
        """The descriptor, for the keeper."""
        return self._fd

    def store(self, body: bytes) -> bool:
        """Replace the last mark. False: it is closed. Raises `OSError`; the mark before is still there then."""
        with self._lock:
            if self._fd < 0:
                return False
            serial = self._serial + 1
            unsealed = _HEAD.pack(_MAGIC, serial, len(body), 0)
            head = _HEAD.pack(_MAGIC, serial, len(body), crc32(body, crc32(unsealed)))
            _write(self._fd, head + body, serial % 2 * _SLOT)
            self._serial = serial
            return True

    def load(self) -> bytes | None:
        """The last mark; None: there is none."""
        return max(self._slots(), default=(0, None))[1]

    def _slots(self) -> list[tuple[int, bytes]]:
        """The serial numbers and bodies of what is whole."""
        found = []
        for at in (0, _SLOT):
            head = os.pread(self._fd, _HEAD.size, at)
            if len(head) < _HEAD.size:
                continue
            magic, serial, size, checksum = _HEAD.unpack(head)
            body = os.pread(self._fd, size, at + _HEAD.size) if magic == _MAGIC and size < _SLOT else b""
            if crc32(body, crc32(_HEAD.pack(_MAGIC, serial, size, 0))) == checksum and len(body) == size:
                found.append((serial, body))
        return found

    def close(self) -> None:
        """Close it here."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


def _write(fd: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written


@dataclass(slots=True, eq=False)
class Mark:
    """On its way through the journal's queue."""

    body: bytes
    file: MarkFile
    release: Callable[[], None]
    """Frees what was read before it."""

    def confirm(self) -> None:
        """The journal has everything that was put in front of it. Raises `OSError`."""
        if self.file.store(self.body):
            self.release()
