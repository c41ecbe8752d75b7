"""How far a consumer has come, in a file of the journal's folder: stored with every item, and exact after a kill at any moment.

    header   magic, number of endpoints, which bank is valid, whether somebody took the name over, pid
    bank 0   place of a row, items of it that are committed, bytes and time, its endpoint, last number of each endpoint
    bank 1   the same
    names    JSON: the id of the journal, the endpoints in the order of their numbers

The file is mapped into memory, so a commit is a few stores and no system call: the kernel has them when the process is killed
(a power failure may cost the last seconds, and the consumer repeats them). A commit fills the bank that is not valid and then
makes it valid by one store. Within a row only the count of committed items changes, one store each.

The lock (flock) is on the file itself. A takeover of the name writes a new file over the old: what the old consumer commits
from then on goes into a file that has no name any more.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from wsadapter.contract.errors import ConsumerInUse, JournalError, NewerJournal, UnknownConsumer, UsageError
from wsadapter.journal.folder import POSITIONS

_MAGIC: Final = b"wsPos1\0\0"
_HEADER: Final = struct.Struct("<8sQQQQ")
_ACTIVE: Final = 16
_REPLACED: Final = 24
_BANK: Final = struct.Struct("<QQQqQ")
_TAKEN: Final = 8
_NOBODY: Final = (1 << 64) - 1
_PATIENCE: Final = 1.0
"""Seconds for a consumer whose name is taken over to notice this and to stop storing positions."""
_ALLOWED: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:@")
_LONGEST: Final = 128
OF_SINKS: Final = "sink:"
"""Prefix of a sink's name in a list of consumers."""


@dataclass(slots=True)
class Position:
    """How far a consumer has come."""

    seq: int
    """Place in the stream of the first item that it has not committed."""
    bytes: int
    """Payload bytes of the stream in front of it, about: what was committed of a record does not count before all of it is."""
    at: int
    """Wall-clock ns of the last record, or event, that it has begun."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Of each endpoint, the last message that it has committed."""


def check_name(consumer: str) -> None:
    """Raises `UsageError` for what can't be the name of a consumer."""
    if type(consumer) is not str or not 0 < len(consumer) <= _LONGEST or not _ALLOWED.issuperset(consumer):
        raise UsageError(f"consumer {consumer!r}: expected 1 to {_LONGEST} letters, digits and -_.:@")
    if consumer.startswith(OF_SINKS):
        raise UsageError(f"consumer {consumer!r}: names that begin with {OF_SINKS} are those of sinks; use another name")
    if consumer.startswith("."):
        raise UsageError(f"consumer {consumer!r}: a name does not begin with a dot")


def path_of(folder: Path, consumer: str) -> Path:
    """The file of a consumer."""
    return folder / POSITIONS / consumer


def known(folder: Path) -> list[str]:
    """The names of the consumers that have a position."""
    try:
        return sorted(file.name for file in (folder / POSITIONS).iterdir() if not file.name.startswith("."))
    except FileNotFoundError:
        return []


def look(path: Path) -> tuple[Position, int | None] | None:
    """The position in a file, and the pid of the consumer that has it open; None if there is none. For anybody."""
    try:
        with open(path, "rb") as file:
            position, _ = _parse(file.read(), path)
            pid = _holder(file.fileno(), path)
    except (OSError, ValueError, LookupError, TypeError, NewerJournal):
        return None
    return position, pid


def _holder(fd: int, path: Path) -> int | None:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with open(path, "rb") as file:
            return int(_HEADER.unpack(file.read(_HEADER.size))[4])
    fcntl.flock(fd, fcntl.LOCK_UN)
    return None


def _parse(content: bytes, path: Path) -> tuple[Position, str]:
    """The position, and the id of the journal. Raises `ValueError` for anything else than a file of positions."""
    if len(content) < _HEADER.size:
        raise ValueError(f"{path}: not a position")
    magic, count, active, _, _ = _HEADER.unpack_from(content)
    if magic[:5] == _MAGIC[:5] and magic != _MAGIC:
        raise NewerJournal(str(path), magic[5] - ord("0"), 1)
    size = _BANK.size + 8 * count
    if magic != _MAGIC or active > 1 or len(content) < _HEADER.size + 2 * size:
        raise ValueError(f"{path}: not a position")
    begin = _HEADER.size + active * size
    seq, taken, size_before, at, index = _BANK.unpack_from(content, begin)
    said = json.loads(content[_HEADER.size + 2 * size :])
    numbers = array("Q", content[begin + _BANK.size : begin + size])
    if index != _NOBODY:
        numbers[index] += taken
    return Position(seq + taken, size_before, at, dict(zip(said["names"], numbers, strict=True))), str(said["journal"])


def forget(folder: Path, consumer: str) -> None:
    """Remove the position of a consumer, also a damaged one. Raises `UnknownConsumer`; `JournalError`, also if the consumer is
    attached."""
    path = path_of(folder, consumer)
    try:
        with open(path, "r+b") as file:
            # Locked until the name is gone: a consumer that attaches meanwhile finds no file, instead of this one.
            is_free = _lock(file.fileno()) and os.path.samestat(os.fstat(file.fileno()), path.stat())
            if is_free:  # otherwise another process has it, or has just taken the name over with a file of its own
                path.unlink()
    except FileNotFoundError:
        raise UnknownConsumer(consumer, known(folder)) from None
    except OSError as error:
        raise JournalError(f"{path}: the position cannot be removed: {error.strerror}") from error
    if not is_free:
        found = look(path)
        who = f" by pid {found[1]}" if found and found[1] else ""
        raise JournalError(f"consumer {consumer!r} is attached{who}; end it before its position is removed")


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class PositionFile:
    """The position of one consumer, held by this process."""

    def __init__(self, folder: Path, consumer: str, identity: str) -> None:
        """See `open` and `create`."""
        self._path = path_of(folder, consumer)
        self._consumer = consumer
        self._identity = identity
        self._fd = -1
        self._map: mmap.mmap | None = None
        self._names: list[str] = []
        self._index: dict[str, int] = {}
        self._numbers = array("Q")
        self.taken = memoryview(b"")
        """One number: how many items of the current row are committed. Whoever goes through the row stores it there."""
        self._taken: list[memoryview] = []
        """That of each bank."""

    @classmethod
    def open(cls, folder: Path, consumer: str, identity: str, *, takeover: bool) -> tuple[Self, Position | None]:
        """Take the name, and its position; None if it has none yet. Raises `ConsumerInUse`, `JournalError`."""
        held = cls(folder, consumer, identity)
        position = held.acquire(takeover=takeover)
        return held, position

    def acquire(self, *, takeover: bool) -> Position | None:
        """See `open`."""
        while True:
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise JournalError(f"{self._path}: the position cannot be read: {error.strerror}") from error
            try:
                position = self._read_locked(fd, takeover=takeover)
            except BaseException:
                os.close(fd)
                raise
            if self._is_in_place(fd):
                self._fd = fd
                return position
            os.close(fd)  # another process was faster: use the file that it has created

    def _read_locked(self, fd: int, *, takeover: bool) -> Position:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = int(_HEADER.unpack(os.pread(fd, _HEADER.size, 0))[4])
            if not takeover:
                raise ConsumerInUse(self._consumer, pid) from None
            _ask_to_leave(fd)
        content = os.pread(fd, os.fstat(fd).st_size, 0)
        try:
            position, identity = _parse(content, self._path)
        except (ValueError, LookupError, TypeError) as error:
            text = "the position is damaged; remove the file, and attach with a `start`"
            raise JournalError(f"{self._path}: {text} ({error})") from error
        if identity != self._identity:
            raise JournalError(f"{self._path}: this is a position in another journal; remove the file, or use another name")
        return position

    def _is_in_place(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._path.stat())
        except FileNotFoundError:
            return False

    @property
    def is_replaced(self) -> bool:
        """Whether another process takes the name over, or has done so."""
        return self._map is not None and self._map[_REPLACED] != 0

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the name over. Then `store` has no effect any more."""
        return self.is_replaced and not self._is_in_place(self._fd)

    def store(self, position: Position, endpoint: str = "") -> None:
        """Make `position` the one that counts. `endpoint`: whose messages are there, so that `taken` counts for its number."""
        if self._map is None or position.numbers.keys() - self._index.keys():
            self._write(position)
        assert self._map is not None
        for name, number in position.numbers.items():
            self._numbers[self._index[name]] = number
        self.move(position.seq, position.bytes, position.at, endpoint)

    def move(self, seq: int, size_before: int, at: int, endpoint: str = "") -> None:
        """As `store`, where the numbers are known by `set_number`."""
        assert self._map is not None
        count = len(self._names)
        bank = 1 - self._map[_ACTIVE]
        begin = _HEADER.size + bank * (_BANK.size + 8 * count)
        index = self._index.get(endpoint, _NOBODY)
        _BANK.pack_into(self._map, begin, seq, 0, size_before, at, index)
        self._map[begin + _BANK.size : begin + _BANK.size + 8 * count] = self._numbers.tobytes()
        self.taken = self._taken[bank]
        self._map[_ACTIVE] = bank

    def set_number(self, endpoint: str, number: int) -> bool:
        """The last committed message of an endpoint; it holds from the next `move` on. False: the endpoint is new, and
        `store` is to be called instead."""
        index = self._index.get(endpoint)
        if index is None:
            return False
        self._numbers[index] = number
        return True

    def _write(self, position: Position) -> None:
        """A new file in place of the one before, with room for more endpoints."""
        self._names = list(dict.fromkeys((*self._names, *position.numbers)))
        self._index = {name: index for index, name in enumerate(self._names)}
        numbers = array("Q", (position.numbers.get(name, 0) for name in self._names))
        bank = _BANK.pack(position.seq, 0, position.bytes, position.at, _NOBODY) + numbers.tobytes()
        said = json.dumps({"journal": self._identity, "names": self._names}).encode()
        content = _HEADER.pack(_MAGIC, len(self._names), 0, 0, os.getpid()) + bank + bank + said
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(fd, content)
                if self._fd < 0:
                    self._link_new(fresh)
                elif not self._is_in_place(self._fd):
                    fresh.unlink()  # another process has the name now: this commit has no effect
                else:
                    fresh.replace(self._path)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise JournalError(f"{self._path}: the position cannot be written: {error.strerror}") from error
        replaced = self.is_replaced
        self.close()
        self._fd, self._map = fd, mmap.mmap(fd, len(content))
        self._numbers = numbers
        begins = [_HEADER.size + _TAKEN + bank * (_BANK.size + 8 * len(numbers)) for bank in (0, 1)]
        self._taken = [memoryview(self._map)[begin : begin + 8].cast("Q") for begin in begins]
        if replaced:
            self._map[_REPLACED] = 1

    def _link_new(self, fresh: Path) -> None:
        """The first file of a name; another process may be as quick. Raises `ConsumerInUse`."""
        try:
            os.link(fresh, self._path)
        except FileExistsError:
            found = look(self._path)
            raise ConsumerInUse(self._consumer, found[1] if found else None) from None
        finally:
            fresh.unlink()

    def sync(self) -> None:
        """Have the position on the disk, for a power failure."""
        if self._map is not None:
            self._map.flush()

    def close(self) -> None:
        """Let the name go; a second time does nothing."""
        self.taken = memoryview(b"")
        if self._map is not None:
            while self._taken:
                self._taken.pop().release()
            self._map.close()
            self._map = None
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)  # the map has a descriptor of its own, which would keep the lock
            os.close(self._fd)
            self._fd = -1


def _ask_to_leave(fd: int) -> None:
    """Notify the consumer that has the name, and wait a moment, so that its last commits are stored. Not without a limit: that
    consumer may be stopped, or hang."""
    os.pwrite(fd, b"\x01", _REPLACED)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return
