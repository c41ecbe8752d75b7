"""Starts owner processes by `multiprocessing`, without the parts of it that do not suit a library.

Plain `multiprocessing` imports the user's `__main__` into every child: each owner would load the user's whole program, and a
script without a guard would fail. And its one fork server per program may be running already, without our modules in it.
So the fork server here is a private one (fork_server.py), and what is sent to a new process names no main module.

A start can block for ever (on a stopped fork server), so it happens in the thread of a `Launcher`. The caller has a deadline
for the start, and replaces the launcher after it.
"""

from __future__ import annotations

import fcntl
import io
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import (
    forkserver,
    popen_forkserver,
    popen_spawn_posix,
    process,
    reduction,
    spawn,
    util,
)
from multiprocessing.connection import Connection
from multiprocessing.context import set_spawning_popen
from queue import Empty, SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import psutil

from wsadapter import capabilities
from wsadapter.contract.ipc import bootstrap
from wsadapter.loop.descriptors import redirect_to_null
from wsadapter.process.fork_server import SAFE_PATH, ForkServer, preparation

logger = logging.getLogger("wsadapter.supervisor")

_DESCRIPTORS = 20
"""Descriptors that a start needs at one time, the first start of a fork server included."""
_PIDFD_GET_INFO = 0xC040FF0B
"""_IOWR(0xFF, 11, 64 bytes): linux/pidfd.h, `struct pidfd_info` of its first version."""
_PIDFD_INFO_SIZE = 64
_PIDFD_INFO_EXIT = 1 << 3


@dataclass(frozen=True, slots=True)
class StartedOwner:
    """A process that was started, with our ends of its channels."""

    process: LaunchedProcess | AdoptedProcess
    pid: int
    pidfd: int | None
    """None: the platform has no pidfds."""
    data: Connection
    control: socket.socket
    log: Connection
    rejoin: socket.socket | None
    """None: the process ends with this supervisor."""

    def close(self) -> None:
        """Close everything, because the process isn't needed: it exits at the end of its control socket."""
        for end in (self.control, self.data, self.log, self.rejoin):
            if end is not None:
                end.close()
        if self.pidfd is not None:
            os.close(self.pidfd)


class AdoptedProcess:
    """An owner that another supervisor had started. It isn't our child, so its exit status is what the kernel reports."""

    status_is_known = True

    def __init__(self, pidfd: int, lifeline: int | None) -> None:
        """A duplicate of `pidfd` is kept, as `sentinel`. `lifeline` is closed by `close`; see `LaunchedProcess.lifeline`."""
        self.sentinel = os.dup(pidfd)
        self.lifeline = lifeline
        if lifeline is not None:
            _adopted.add(self)

    @property
    def exitcode(self) -> int | None:
        """As of a `multiprocessing.Process`; None while the process runs, and if the kernel does not report the code."""
        return pidfd_exit_code(self.sentinel) if self.sentinel >= 0 else None

    def close(self) -> None:
        """Close the descriptors."""
        if self.sentinel >= 0:
            os.close(self.sentinel)
            self.sentinel = -1
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None


def pidfd_exit_code(pidfd: int) -> int | None:
    """The exit code of a process that was reaped, negative for a signal. None: it was not reaped, or the kernel does not report
    the code (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15)."""
    info = bytearray(_PIDFD_INFO_SIZE)
    info[:8] = _PIDFD_INFO_EXIT.to_bytes(8, "little")
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    if not int.from_bytes(info[:8], "little") & _PIDFD_INFO_EXIT:
        return None
    return os.waitstatus_to_exitcode(int.from_bytes(info[60:64], "little"))


class LaunchedProcess(process.BaseProcess):
    """A `multiprocessing` process that the launcher starts."""

    def __init__(self, popen: Callable[[LaunchedProcess], Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._make_popen = popen

    def _Popen(self, process_obj: LaunchedProcess) -> Any:  # noqa: N802 - the name multiprocessing calls
        del process_obj
        return self._make_popen(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # The child gets a plain process, because how it was started concerns the parent only.
        return bootstrap.plain_process, (self._target, self._args, self.name)  # type: ignore[attr-defined]

    @property
    def lifeline(self) -> int | None:
        """A descriptor. When the last of its duplicates is closed, the owner is killed if it does not exit by itself: by its
        fork server (worker/loop/children.py), or by the kernel (contract/ipc/bootstrap.py). None before the start."""
        lifeline: int | None = getattr(self._popen, "lifeline", None)  # type: ignore[attr-defined]
        return lifeline

    @property
    def status_is_known(self) -> bool:
        """False if the fork server died first: the exit code 255 that `multiprocessing` then reports is made up."""
        return not (self.exitcode == 255 and isinstance(self._popen, _ForkServerPopen) and self._popen.server_gone())  # type: ignore[attr-defined]


def _parcel(popen: Any, process_obj: LaunchedProcess) -> bytes:
    """What a new process reads first: how to prepare itself, and which function to run."""
    buffer = io.BytesIO()
    set_spawning_popen(popen)
    try:
        reduction.dump(preparation(process_obj.name), buffer)
        reduction.dump(process_obj, buffer)
    finally:
        set_spawning_popen(None)
    return buffer.getvalue()


class _ForkServerPopen(popen_forkserver.Popen):
    """Forks from the private fork server."""

    _fds: list[int]

    def __init__(self, process_obj: LaunchedProcess, server: ForkServer) -> None:
        self._server = server
        self._server_pid: int | None = None
        self.lifeline: int | None = None
        super().__init__(process_obj)

    def _launch(self, process_obj: LaunchedProcess) -> None:
        parcel = _parcel(self, process_obj)
        self.sentinel, write_end = self._server.fork(self._fds)
        # The child takes the end of this pipe for the death of its parent, so one write end stays open here.
        fds = [self.sentinel, os.dup(write_end)]
        if self._server.lifeline is not None:
            self.lifeline = os.dup(self._server.lifeline)
            fds.append(self.lifeline)
        self.finalizer = util.Finalize(self, _close_fds, fds)
        _popens[self] = tuple(fds)
        with open(write_end, "wb") as pipe:
            pipe.write(parcel)
        self._server_pid = self._server.pid
        self.pid = forkserver.read_signed(self.sentinel)

    def server_gone(self) -> bool:
        return self._server_pid is None or not self._server.reports_exits(self._server_pid)


class _SpawnPopen(popen_spawn_posix.Popen):
    """Starts a fresh interpreter."""

    _fds: list[int]
    lifeline: int | None = None

    def _launch(self, process_obj: LaunchedProcess) -> None:
        parcel = _parcel(self, process_obj)
        parcel_read, parcel_write = os.pipe()
        try:
            self.sentinel, child_alive = os.pipe()
            self.finalizer = util.Finalize(self, _close_fds, (self.sentinel, parcel_write))
            self.lifeline = parcel_write
            _popens[self] = (self.sentinel, parcel_write)
            try:
                executable, *arguments = spawn.get_command_line(pipe_handle=parcel_read)
                command = [executable, *SAFE_PATH, *arguments]
                inherited = [*self._fds, parcel_read, child_alive]
                self.pid = util.spawnv_passfds(spawn.get_executable(), command, inherited)  # type: ignore[arg-type]
            finally:
                os.close(child_alive)
        finally:
            os.close(parcel_read)
        with open(parcel_write, "wb", closefd=False) as pipe:
            pipe.write(parcel)


def _close_fds(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def _check_descriptors(needed: int) -> None:
    """Raises `OSError` if fewer descriptors are free than a start needs: `multiprocessing` leaks two if it runs out in the
    middle."""
    found: list[int] = []
    try:
        for _ in range(needed):
            found.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - what was opened is closed
    finally:
        _close_fds(*found)


def is_child(pid: int) -> bool:
    """Whether a process of that number is our child."""
    try:
        return bool(psutil.Process(pid).ppid() == os.getpid())
    except psutil.NoSuchProcess:
        return False


class StartRequest:
    """One process that a launcher is to start."""

    def __init__(
        self, launcher: Launcher, name: str, done: Callable[[StartedOwner | OSError], None], begun: Callable[[], None]
    ) -> None:
        self.launcher = launcher
        """The launcher that it waits for. That changes if a launcher is stuck."""
        self.name = name
        self.done = done
        self.begun = begun
        self.withdrawn = False
        """The process is not to be started, unless the start has begun."""


class Launcher:
    """Starts owner processes, one after the other, in a separate thread."""

    def __init__(self, start_method: str, *, rejoin: bool = False) -> None:
        """`rejoin`: each process gets a rejoin socket (contract/ipc/rejoin.py)."""
        self.start_method = capabilities.start_method(start_method)
        self._rejoin = rejoin
        self._requests: SimpleQueue[StartRequest | None] = SimpleQueue()
        """None ends the thread."""
        self._server = ForkServer()
        self._abandoned = False
        _launchers.add(self)
        self._thread = threading.Thread(target=self._run, name="wsadapter-launcher", daemon=True)
        self._thread.start()

    def start(
        self, name: str, done: Callable[[StartedOwner | OSError], None], begun: Callable[[], None] = lambda: None
    ) -> StartRequest:
        """Start a process after those that were requested before. The launcher's thread calls `begun` when the start begins,
        and `done` with what was started or with the error."""
        request = StartRequest(self, name, done, begun)
        self._requests.put(request)
        return request

    def take_over(self, request: StartRequest) -> None:
        """Start a process that was requested from another launcher."""
        request.launcher = self
        self._requests.put(request)

    def abandon(self, successor: Launcher) -> None:
        """This launcher is stuck in a start: let `successor` start the processes that wait. If the start ends later, its
        process is asked to exit."""
        self._abandoned = True
        with suppress(Empty):
            while (request := self._requests.get_nowait()) is not None:
                successor.take_over(request)
        self._requests.put(None)
        self._server.kill()  # its children continue to run; we have their pidfds

    def leave_owners(self) -> None:
        """Another supervisor has the owners that were started here: their fork servers are not ended by `close`."""
        self._server.leave_owners()

    def close(self) -> None:
        """End the thread and the fork server, after every owner has ended."""
        self._requests.put(None)
        self._thread.join()
        self._server.close()

    @property
    def lifeline(self) -> int | None:
        """A descriptor: the fork server runs while this descriptor is open."""
        return self._server.lifeline

    def _run(self) -> None:
        # Signals are for the program's own threads. A process that is started here inherits the mask, and lifts it when it is
        # ready for signals (bootstrap.accept_signals).
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (request := self._requests.get()) is not None:
            self._start(request)
        if self._abandoned:
            self._server.close()

    def _start(self, request: StartRequest) -> None:
        if request.withdrawn:
            request.done(OSError("the process is not needed any more"))
        elif self._abandoned:
            request.done(OSError("the launcher was stuck with another start"))
        else:
            request.begun()
            self._try_to_start(request)

    def _try_to_start(self, request: StartRequest) -> None:
        try:
            started = self._launch(request.name)
        except (OSError, EOFError) as error:  # EOFError: the fork server died during the start
            request.done(error if isinstance(error, OSError) else OSError(f"the fork server died: {error}"))
            return
        if self._abandoned:
            started.close()
        else:
            request.done(started)

    def _launch(self, name: str) -> StartedOwner:
        _check_descriptors(_DESCRIPTORS + 2 * self._rejoin)
        bootstrap.hold_standard_descriptors()  # the program may have closed them meanwhile
        ends: list[Connection | socket.socket] = []
        try:
            data, data_child = multiprocessing.Pipe(duplex=False)
            ends += (data, data_child)
            control, its_control = socket.socketpair()
            control_child = Connection(its_control.detach())
            ends += (control, control_child)
            log, log_child = multiprocessing.Pipe(duplex=False)
            ends += (log, log_child)
            rejoin, for_child = None, [data_child, control_child, log_child]
            if self._rejoin:
                rejoin, its_rejoin = socket.socketpair()
                for_child.append(Connection(its_rejoin.detach()))
                ends += (rejoin, for_child[-1])
            owner = LaunchedProcess(self._popen, target=bootstrap.run_owner, args=tuple(for_child), name=name, daemon=True)
            self._start_process(owner)
            # Ours: multiprocessing must not list it in `active_children`, or end it at exit. It has no public way.
            process._children.discard(owner)  # type: ignore[attr-defined]  # noqa: SLF001
            pid = owner.pid
            assert pid is not None
            pidfd = _pidfd(pid) if capabilities.pidfd() else None
        except BaseException:
            for end in ends:
                end.close()
            raise
        for end in for_child:
            end.close()  # at once, because a pipe doesn't end while a write end is open here
        return StartedOwner(owner, pid, pidfd, data, control, log, rejoin)

    def _start_process(self, owner: LaunchedProcess) -> None:
        """Start `owner`. A fork server that can't be reached, or that died, is replaced once: the folder of its socket may have
        been removed, or a waitpid(-1) of the program may have reaped the fork server."""
        try:
            owner.start()
        except (OSError, EOFError) as error:
            if self.start_method != "forkserver" or self._abandoned:
                raise
            logger.warning("the fork server is replaced: %s", str(error) or "it died")
            self._server.renew()
            owner.start()

    def _popen(self, owner: LaunchedProcess) -> Any:
        if self.start_method == "forkserver":
            return _ForkServerPopen(owner, self._server)
        return _SpawnPopen(owner)


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise OSError(f"process {pid} died while it was started") from error


_popens: WeakKeyDictionary[Any, tuple[int, ...]] = WeakKeyDictionary()
"""For each start the descriptors that it left open here."""
_adopted: WeakSet[AdoptedProcess] = WeakSet()
"""The adopted processes that have a lifeline."""
_launchers: WeakSet[Launcher] = WeakSet()


def _disown() -> None:
    """In a forked child, to which the processes don't belong. If a lifeline stayed open here, the parent's death would go
    unseen."""
    fds = [fd for popen, fds in _popens.items() if popen.finalizer.still_active() for fd in fds]
    servers = [*(launcher.lifeline for launcher in _launchers), *(adopted.lifeline for adopted in _adopted)]
    redirect_to_null([*fds, *(fd for fd in servers if fd is not None)])
    _popens.clear()
    _adopted.clear()
    _launchers.clear()


os.register_at_fork(after_in_child=_disown)
