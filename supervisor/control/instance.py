"""One supervisor per name: a lock, and the address of its control socket.

The kernel holds the lock (`flock`), so the lock of a dead supervisor is free. In addition there is an abstract socket, the
beacon, with the name and the user in its address: two sockets can't be bound to one address. The default folder depends on
variables that cron, systemd and a login set differently; the beacon does not. So a supervisor is found, and is the only one of
its name, in every environment, and also if a cleaner of temporary files has removed its folder, until `restore` has put the
folder back.

A configured folder (`runtime_dir`, `WSADAPTER_RUNTIME_DIR`) is a separate name space: the address of the beacon contains a
digest of that folder, and the same name may be used elsewhere. If no folder can be written (a read-only root without /tmp), the
abstract socket is also the control socket.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from wsadapter import capabilities
from wsadapter.contract.errors import AlreadyRunning, UsageError

logger = logging.getLogger("wsadapter.supervisor")

_LONGEST_PATH = 108
_PATIENCE = 2.0
"""Seconds to wait for a supervisor whose queue of clients is full."""


def configured_folder(configured: str) -> str:
    """The configured folder: of the configuration file or the command line, otherwise of the environment; "": none is
    configured."""
    return configured or os.environ.get("WSADAPTER_RUNTIME_DIR", "")


def _candidates(configured: str) -> Iterator[Path]:
    """The candidates for the runtime folder, best first (REFERENCE: `runtime_dir`)."""
    if configured := configured_folder(configured):
        yield Path(configured)
        return
    if given := os.environ.get("RUNTIME_DIRECTORY"):  # systemd
        yield Path(given.split(":")[0])
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(given) / "wsadapter"
    folder = tempfile.gettempdir() if capabilities.temporary_folder() else "/tmp"  # noqa: S108
    yield Path(folder) / f"wsadapter-{os.getuid()}"


def _searched(configured: str) -> list[Path]:
    """The folders in which a running supervisor may have its control socket: it may have been started with other variables, for
    example by cron, in a login shell or by `su`."""
    folders = [*_candidates(configured)]
    if not configured_folder(configured):
        if "XDG_RUNTIME_DIR" not in os.environ:
            folders.append(Path(f"/run/user/{os.getuid()}/wsadapter"))
        folders.append(Path(f"/tmp/wsadapter-{os.getuid()}"))  # noqa: S108 - the folder without a TMPDIR
    return list(dict.fromkeys(folders))


def runtime_folder(configured: str) -> Path | None:
    """The best runtime folder that only this user can write to; None: there is none."""
    return next((folder for folder in _candidates(configured) if is_ours(folder)), None)


def is_ours(folder: Path) -> bool:
    """Whether the folder exists or can be made, belongs to this user, and no other user may write to it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.lstat()
    except OSError:
        return False
    if distrust := why_distrusted(about.st_mode, about.st_uid, os.getuid()):
        logger.warning("%s: %s; it is ignored", folder, distrust)
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def why_distrusted(mode: int, owner: int, user: int) -> str:
    """Why `user` must not trust the files in a folder; "": only `user` can have written them."""
    if not stat.S_ISDIR(mode):
        return "it is no folder"
    if owner != user:
        return f"it belongs to user {owner}"
    return "others may write in it (chmod 700 it)" if mode & 0o022 else ""


def _distrust(folder: Path) -> str:
    """As `why_distrusted`, for a folder at this path; if it can't be examined, the error."""
    try:
        about = folder.lstat()
    except OSError as error:
        return "no such folder" if isinstance(error, FileNotFoundError) else str(error.strerror)
    return why_distrusted(about.st_mode, about.st_uid, os.getuid())


def _fits(path: Path) -> bool:
    """Whether a socket can have that path (unix(7): 108 bytes, the last a zero)."""
    if len(os.fsencode(path)) < _LONGEST_PATH:
        return True
    logger.warning("%s is too long for a socket; choose a shorter name or runtime_dir", path)
    return False


@dataclass(frozen=True, slots=True)
class InstanceSnapshot:
    """The claim of a name, for another supervisor. Its descriptors: the socket, and the lock if it is `locked`."""

    path: str | None
    """Of the control socket; None: it has only an abstract address."""
    locked: bool


class Instance:
    """The claim of one running supervisor to its name."""

    def __init__(self, name: str, listener: socket.socket, lock: int | None, path: Path | None, runtime_dir: str = "") -> None:
        self.name = name
        self.listener = listener
        """The control socket, listening."""
        self.beacon: socket.socket | None = None
        """A second, abstract socket that listens; None: the platform has none, or another user has the address."""
        self._lock = lock
        self._path = path
        self._runtime_dir = runtime_dir

    @classmethod
    def acquire(cls, name: str, runtime_dir: str = "") -> Instance:
        """Claim the name. Raises `AlreadyRunning` with the holder's pid, `UsageError` if other files are in the way."""
        for folder in _candidates(runtime_dir):
            if is_ours(folder) and _fits(folder / f"{name}.sock"):
                return cls._in_folder(name, folder, runtime_dir)
        tried = ", ".join(map(str, _candidates(runtime_dir)))
        logger.warning("no runtime folder can be made or used (%s); the control socket of %r is an abstract one", tried, name)
        return cls._abstract(name, runtime_dir)

    @classmethod
    def _in_folder(cls, name: str, folder: Path, runtime_dir: str) -> Instance:
        lock_path, path = folder / f"{name}.lock", folder / f"{name}.sock"
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise UsageError(_unusable("lock", lock_path, error)) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            raise AlreadyRunning(name, int(holder) if holder.isdecimal() else None, str(lock_path)) from None
        try:
            beacon = _light(name, runtime_dir)
        except AlreadyRunning:  # in another folder, or the lock was removed with this one
            os.close(lock)
            raise
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            path.unlink(missing_ok=True)  # of a dead one: the lock is ours
            listener.bind(str(path))
        except OSError as error:
            listener.close()
            os.close(lock)
            if beacon is not None:
                beacon.close()
            raise UsageError(_unusable("control socket", path, error)) from error
        finally:
            os.umask(before)
        claim = cls(name, _listening(listener), lock, path, runtime_dir)
        claim.beacon = beacon
        return claim

    def restore(self) -> socket.socket | None:
        """Put back what was removed from the folder, and the beacon. Returns the listener that was replaced, which the caller
        has to close; None: nothing was removed, or it can't be put back now."""
        if self._path is None or self._lock is None:
            return None
        folder, before = self._path.parent, self.listener
        if self._path.exists() and self._path.with_suffix(".lock").exists():
            with suppress(AlreadyRunning):  # the supervisor that this one has taken over has not ended yet
                self.beacon = self.beacon or _light(self.name, self._runtime_dir)
            return None
        beacon, self.beacon = self.beacon, None
        if beacon is not None:
            beacon.close()
        try:
            if not is_ours(folder):
                return None
            fresh = self._in_folder(self.name, folder, self._runtime_dir)
        except (AlreadyRunning, UsageError) as error:
            logger.error("%s was removed and can't be put back: %s", folder, error)  # noqa: TRY400
            return None
        os.close(self._lock)
        self.listener, self._lock, self.beacon = fresh.listener, fresh._lock, fresh.beacon  # noqa: SLF001 - of this class
        logger.warning("%s was removed: the lock and the control socket of %r are put back", folder, self.name)
        return before

    @classmethod
    def _abstract(cls, name: str, runtime_dir: str) -> Instance:
        listener, address = socket.socket(socket.AF_UNIX), _abstract_address(name, runtime_dir)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise AlreadyRunning(name, _pid_behind(address) or None, f"abstract socket {address[1:]}") from None
        return cls(name, _listening(listener), None, None, runtime_dir)

    @classmethod
    def inherit(cls, name: str, listener: int, lock: int | None, path: str | None, runtime_dir: str = "") -> Instance:
        """The claim of a supervisor that is taken over, by its descriptors."""
        if lock is not None:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        sock = socket.socket(fileno=listener)
        sock.setblocking(False)
        return cls(name, sock, lock, Path(path) if path is not None else None, runtime_dir)

    def snapshot(self) -> tuple[InstanceSnapshot, list[int]]:
        """What `inherit` needs, and the descriptors, which stay open here."""
        snapshot = InstanceSnapshot(str(self._path) if self._path else None, self._lock is not None)
        return snapshot, [self.listener.fileno(), *([self._lock] if self._lock is not None else [])]

    def hand_over(self) -> None:
        """The name belongs to another process now: close everything here. The lock stays, because it belongs to the open
        file."""
        self.listener.close()
        self._put_out()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._path = None

    def _put_out(self) -> None:
        if self.beacon is not None:
            self.beacon.close()
            self.beacon = None

    def describe(self) -> str:
        """The address of the control socket."""
        return str(self._path) if self._path else f"abstract:{_abstract_address(self.name, self._runtime_dir)[1:]}"

    def release(self) -> None:
        """Free the name."""
        self.listener.close()
        self._put_out()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # a fork of this process may have it open too
            os.close(self._lock)  # the file stays: after an unlink, two supervisors could hold a lock of this name
            self._lock = None


def _unusable(what: str, path: Path, error: OSError) -> str:
    try:
        about = path.lstat()
        is_file = stat.S_ISREG(about.st_mode) or stat.S_ISSOCK(about.st_mode)
        found = f"a file of user {about.st_uid}" if is_file else f"something else, of user {about.st_uid}"
    except OSError:
        found = "nothing"
    return f"{path} can't be the {what}: {error.strerror}; there is {found}; remove it, or choose another name or runtime_dir"


def _abstract_address(name: str, runtime_dir: str = "") -> str:
    """The address of the beacon, and of the control socket of a supervisor without a folder: one for each name of this user.
    With a configured folder, one for each name in that folder, by a digest of the folder, because an address has at most 107
    bytes."""
    if not (named := configured_folder(runtime_dir)):
        return f"\0wsadapter-{os.getuid()}-{name}"
    digest = hashlib.sha256(os.fsencode(Path(named).absolute())).hexdigest()[:16]
    return f"\0wsadapter-at-{os.getuid()}-{digest}-{name}"


def _light(name: str, runtime_dir: str) -> socket.socket | None:
    """Bind the beacon of a supervisor of that name; None: there can be none. Raises `AlreadyRunning`."""
    if sys.platform != "linux":
        return None
    address = _abstract_address(name, runtime_dir)
    beacon = socket.socket(socket.AF_UNIX)
    try:
        beacon.bind(address)
    except OSError as error:
        beacon.close()
        if error.errno != errno.EADDRINUSE:  # the name is too long
            return None
        pid = _pid_behind(address)
        if pid == 0:
            return None
        raise AlreadyRunning(name, pid, f"abstract socket {address[1:]}") from None
    return _listening(beacon)


def _pid_behind(address: str) -> int | None:
    """The pid of the supervisor that listens there. None: it accepts no connection. 0: it belongs to another user, or is in
    another container, which shares the network but neither processes nor folders."""
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(address)
        except BlockingIOError:  # its queue of clients is full
            return None
        except OSError:  # it has ended since
            return 0
        credentials = credentials_of(client)
    return credentials[0] if credentials is not None and credentials[1] == os.getuid() else 0


def _listening(listener: socket.socket) -> socket.socket:
    listener.listen(16)
    listener.setblocking(False)
    return listener


def connect(name: str, runtime_dir: str = "") -> socket.socket | None:
    """A connection to the control socket of the running supervisor of that name; None: there is none.

    Raises `TimeoutError` if it listens and accepts no connection.
    """
    for address in _addresses(name, runtime_dir):
        client = socket.socket(socket.AF_UNIX)
        try:
            _connect(client, address)
        except TimeoutError:
            client.close()
            raise
        except OSError:  # no such socket, nothing listens, not permitted, the path is too long: try the next one
            client.close()
            continue
        if (configured_folder(runtime_dir) and not address.startswith("\0")) or _is_believed(client):
            return client
        client.close()
    return None


def _is_believed(client: socket.socket) -> bool:
    """Whether this user, or root, listens at the other end."""
    credentials = credentials_of(client)
    if credentials is None or credentials[1] in (os.getuid(), 0):
        return True
    address = os.fsdecode(client.getpeername()).replace("\0", "@")
    logger.warning("%s: another user (%d) listens there; it is ignored", address, credentials[1])
    return False


def _addresses(name: str, runtime_dir: str) -> Iterator[str]:
    """The addresses at which the control socket of a supervisor may be. Only a configured folder may belong to another user."""
    for folder in _searched(runtime_dir):
        if configured_folder(runtime_dir) or not _distrust(folder):
            yield str(folder / f"{name}.sock")
    yield _abstract_address(name, runtime_dir)


def credentials_of(peer: socket.socket) -> tuple[int, int] | None:
    """pid and uid of the process at the other end; None: the platform does not report them (the folder's mode protects the
    socket)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    layout = struct.Struct("3i")  # struct ucred: pid, uid, gid
    pid, uid, _ = layout.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size))
    return pid, uid


def _connect(client: socket.socket, address: str) -> None:
    client.setblocking(False)  # a full queue says so at once; with a timeout set, too
    deadline = monotonic() + _PATIENCE
    while True:
        try:
            client.connect(address)
        except BlockingIOError:
            if monotonic() > deadline:
                raise TimeoutError(f"the supervisor at {address} takes no connection; is it stopped (SIGSTOP)?") from None
            sleep(0.02)
        else:
            client.setblocking(True)
            return


_MOST_STOPPED = 8
"""Names of supervisors that do not run any more that are shown of one place."""


class Place(NamedTuple):
    """One place in which a running supervisor was searched."""

    where: str
    """The folder; or "abstract sockets"."""
    running: tuple[str, ...]
    """Names of those that run."""
    stopped: tuple[str, ...] = ()
    """Names of those that ran once: nothing answers on their control sockets."""
    problem: str = ""
    """Why the folder could not be searched; "" if it could."""

    def describe(self) -> str:
        """In one line."""
        if self.problem:
            return f"{self.where}: {self.problem}"
        stopped = [f"{name} (not running)" for name in self.stopped[:_MOST_STOPPED]]
        more = [f"{len(self.stopped) - _MOST_STOPPED} more that do not run"] if len(self.stopped) > _MOST_STOPPED else []
        return f"{self.where}: {', '.join([*self.running, *stopped, *more]) or 'none'}"


def search(runtime_dir: str = "") -> list[Place]:
    """The supervisors that run, place by place. One that is in several places is in the first alone."""
    named = configured_folder(runtime_dir)
    places = [_search_folder(folder, distrust="" if named else _distrust(folder)) for folder in _searched(runtime_dir)]
    shown = {name for place in places for name in place.running}
    names = [name for name in _abstract_names(runtime_dir) if name not in shown]
    alive = [name for name in names if _answers(_abstract_address(name, runtime_dir))]
    return [*places, Place("abstract sockets", tuple(alive))] if sys.platform == "linux" else places


def running(runtime_dir: str = "") -> list[str]:
    """The names of the supervisors that run."""
    return sorted({name for place in search(runtime_dir) for name in place.running})


def _search_folder(folder: Path, *, distrust: str) -> Place:
    if distrust:
        return Place(str(folder), (), problem=distrust)
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        return Place(str(folder), (), problem="no such folder" if isinstance(error, FileNotFoundError) else str(error.strerror))
    known = sorted({file.stem for file in files if file.suffix in (".sock", ".lock")})
    alive = [name for name in known if _answers(str(folder / f"{name}.sock"))]
    return Place(str(folder), tuple(alive), tuple(name for name in known if name not in alive))


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            _connect(client, address)
        except TimeoutError:  # it listens, but is stuck
            return True
        except OSError:
            return False
        return not address.startswith("\0") or _is_believed(client)  # any user may bind an abstract address


def elsewhere(runtime_dir: str = "") -> list[Path]:
    """Control sockets of this user's supervisors, for root of every user's, in folders that `search` does not search, as far as
    the kernel lists them.

    They are only shown to a person: nothing is done to a supervisor of another session unless its name or folder is given.
    """
    searched = {str(folder) for folder in _searched(runtime_dir)}
    paths = [Path(path) for path in _bound_addresses() if path.startswith("/") and path.endswith(".sock")]
    return sorted(path for path in paths if str(path.parent) not in searched and _is_control_socket(path))


def _is_control_socket(path: Path) -> bool:
    """Whether there is a lock of a supervisor that answers this user in the same folder, and a process answers."""
    try:
        lock = path.with_suffix(".lock").read_bytes()
        ours = os.getuid() in (path.stat().st_uid, 0)
    except OSError:
        return False
    return ours and lock.strip().isdigit() and _answers(str(path))


def _abstract_names(runtime_dir: str) -> list[str]:
    """The names of all supervisors of this user, or of those of the configured folder, as far as the kernel lists them."""
    prefix = "@" + _abstract_address("", runtime_dir)[1:]
    return sorted(address.removeprefix(prefix) for address in _bound_addresses() if address.startswith(prefix))


def _bound_addresses() -> set[str]:
    """The addresses of all Unix sockets: paths, and abstract names after an "@". Empty on other systems than Linux
    (proc(5))."""
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return set()
    return {fields[7] for line in lines if len(fields := line.split(maxsplit=7)) == 8}
