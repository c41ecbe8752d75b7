"""The folder of a journal: what makes it one, its lock, its segments.

PATH/journal.json                    {"format": 1, "id": "..."}
PATH/lock                            held (flock) by the supervisor that writes; its content names that process
PATH/segment-0000000000000001.db     named by the place of its first item in the stream
PATH/positions/NAME                  how far the consumer NAME has come, see positions.py
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

from wsadapter.contract.errors import JournalError, JournalInUse, NewerJournal, NotAJournal
from wsadapter.journal.schema import FORMAT

_MARKER: Final = "journal.json"
_LOCK: Final = "lock"
POSITIONS: Final = "positions"
_SEGMENT: Final = re.compile(r"segment-(\d{16})\.db")
_BESIDE: Final = ("", "-wal", "-shm")
"""What SQLite has beside a database in WAL mode."""


class Segment(NamedTuple):
    """A file of the journal, by its name."""

    first: int
    """Place of its first item in the stream."""
    path: Path

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files() if file.exists())

    def files(self) -> list[Path]:
        """All that belongs to it."""
        return [self.path.with_name(self.path.name + suffix) for suffix in _BESIDE]


def segment_path(folder: Path, first: int) -> Path:
    """Of the segment that begins at that place."""
    return folder / f"segment-{first:016}.db"


def segments(folder: Path) -> list[Segment]:
    """All segments, the oldest first. Raises `OSError`."""
    found = [(_SEGMENT.fullmatch(name), name) for name in _names(folder)]
    return sorted(Segment(int(match[1]), folder / name) for match, name in found if match)


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def identify(path: str | os.PathLike[str]) -> str:
    """The id of the journal at that path. Raises `NotAJournal`, `NewerJournal`, `JournalError`."""
    folder = Path(path)
    try:
        said = json.loads((folder / _MARKER).read_bytes())
    except FileNotFoundError:
        what = "there is nothing at this path" if not folder.exists() else f"this folder has no {_MARKER}"
        raise NotAJournal(f"{folder}: not a journal: {what}") from None
    except NotADirectoryError:
        raise NotAJournal(f"{folder}: not a journal: this is a file, and a journal is a folder") from None
    except OSError as error:
        raise JournalError(f"{folder}: the journal cannot be read: {error.strerror}") from error
    except ValueError:
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("format"), int) or not isinstance(said.get("id"), str):
        raise NotAJournal(f"{folder}: not a journal: its {_MARKER} was not written by wsadapter")
    if said["format"] > FORMAT:
        raise NewerJournal(str(folder), said["format"], FORMAT)
    return str(said["id"])


def prepare(path: str | os.PathLike[str]) -> str:
    """Make it a journal, if it is not one yet; its id. Raises `NotAJournal`, `NewerJournal`, `JournalError`."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_new = not is_marked(folder)
        if is_new:
            _refuse_other_files(folder)
        (folder / POSITIONS).mkdir(exist_ok=True)
        if is_new:
            write_marker(folder, uuid4().hex)  # last: a consumer that waits for it attaches at once, and stores its position
    except (FileExistsError, NotADirectoryError):
        raise NotAJournal(f"{folder}: not a journal: this is a file, and a journal is a folder") from None
    except OSError as error:
        raise unusable(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise unusable(folder, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    return identify(folder)


def _refuse_other_files(folder: Path) -> None:
    if foreign := [name for name in _names(folder) if name not in (_LOCK, POSITIONS)]:
        text = f"the folder holds other files ({foreign[0]}); give an empty folder, or one that is not there"
        raise NotAJournal(f"{folder}: not a journal: {text}")


def problem_of(path: str | os.PathLike[str]) -> str | None:
    """Why no journal can be begun or continued at this path; None: nothing speaks against it. Nothing is changed."""
    folder = Path(path)
    try:
        if not folder.exists():
            return None
        if is_marked(folder) or not folder.is_dir():
            identify(folder)
        else:
            _refuse_other_files(folder)
    except JournalError as error:
        return str(error)
    except OSError as error:
        return str(unusable(folder, error))
    return None


def unusable(folder: Path, error: OSError) -> JournalError:
    """The error for a folder that cannot be written."""
    return JournalError(f"{folder}: the journal cannot be written: {error.strerror}; check the folder's owner, mode and mount")


def is_marked(folder: Path) -> bool:
    """Whether the folder is marked as a journal."""
    return (folder / _MARKER).exists()


def write_marker(folder: Path, identity: str) -> None:
    """Let the folder be a journal, whole or not at all."""
    write_whole(folder / _MARKER, json.dumps({"format": FORMAT, "id": identity}).encode() + b"\n")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or not at all, also after a power failure."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder outlive a power failure."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def boot_id() -> str:
    """An id that stays the same until the machine starts again; "" if the platform has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Writer(NamedTuple):
    """The supervisor that writes a journal, or the last one that did."""

    pid: int | None
    name: str
    """Name of the supervisor; "": it has no name and no control socket."""
    runtime_dir: str
    boot: str
    closed: bool
    """Whether it has ended in order: everything is written, and on the disk."""


def writer_of(folder: Path) -> Writer:
    """The content of the lock file."""
    try:
        said: Any = json.loads((folder / _LOCK).read_bytes())
    except (OSError, ValueError):
        said = None
    said = said if isinstance(said, dict) else {}
    pid = said.get("pid")
    return Writer(
        pid if isinstance(pid, int) else None, str(said.get("name", "")), str(said.get("runtime_dir", "")),
        str(said.get("boot", "")), bool(said.get("closed")),
    )  # fmt: skip


class Lock:
    """The claim of one supervisor to write the journal. The kernel gives it back if the process dies."""

    def __init__(self, folder: Path) -> None:
        """Raises `JournalInUse`, `JournalError`."""
        self._path = folder / _LOCK
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise unusable(folder, error) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise JournalInUse(str(folder), writer_of(folder).pid) from None
        _held.add(self)

    def describe(self, name: str, runtime_dir: str, *, closed: bool) -> None:
        """Write which supervisor holds the lock, and whether that supervisor has ended in order. Raises `OSError`."""
        said = {"pid": os.getpid(), "name": name, "runtime_dir": runtime_dir, "boot": boot_id(), "closed": closed}
        content = json.dumps(said).encode() + b"\n"
        os.pwrite(self._fd, content, 0)
        os.ftruncate(self._fd, len(content))

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        if self in _held:
            _held.discard(self)
            os.close(self._fd)

    def is_in_place(self) -> bool:
        """Whether the file that is locked is still the one that others would lock."""
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            return False


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """A lock of the kernel is held as long as one descriptor of it is open: a fork of the program must not keep it."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_after_fork_in_child)


def consumers(folder: Path) -> Iterator[Path]:
    """The files of the consumers' positions."""
    try:
        names = _names(folder / POSITIONS)
    except FileNotFoundError:
        return
    yield from (folder / POSITIONS / name for name in names if not name.startswith("."))
