"""`multiprocessing`, without what does not suit a library.

Plain `multiprocessing` imports the user's `__main__` into every child: each owner would load the user's whole program, and a
script without a guard would fail. And its one fork server per program may be running already, without our modules in it.
So the fork server here is a private one (fork_server.py), and what is sent to a new process says nothing of a main module.

A start can block for ever (on a stopped fork server), so it happens in a thread of its own, the `Launcher`; whoever asked
keeps the deadline and replaces the launcher when it passes.
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
"""So many a start needs at one time, the first of a fork server included."""
_PIDFD_GET_INFO = 0xC040FF0B
"""_IOWR(0xFF, 11, 64 bytes): linux/pidfd.h, `struct pidfd_info` of its first version."""
_PIDFD_INFO_SIZE = 64
_PIDFD_INFO_EXIT = 1 << 3


@dataclass(frozen=True, slots=True)
class StartedOwner:
    """A process that was started, with our ends of its three channels."""

    process: LaunchedProcess | AdoptedProcess
    pid: int
    pidfd: int | None
    """None where the platform has none."""
    data: Connection
    control: socket.socket
    log: Connection

    def close(self) -> None:
        """Close all of it. Nobody wants the process: it leaves at the end of its control socket."""
        for end in (self.control, self.data, self.log):
            end.close()
        if self.pidfd is not None:
            os.close(self.pidfd)


class AdoptedProcess:
    """An owner that another supervisor had started: not our child. Its exit status is what the kernel tells of it."""

    status_is_known = True

    def __init__(self, pidfd: int, lifeline: int | None) -> None:
        """A duplicate of `pidfd` is kept, as `sentinel`. `lifeline`, ours from here on: as of an `LaunchedProcess`."""
        self.sentinel = os.dup(pidfd)
        self.lifeline = lifeline
        if lifeline is not None:
            _adopted.add(self)

    @property
    def exitcode(self) -> int | None:
        """As of a `multiprocessing.Process`; None while it lives, and where the kernel does not tell."""
        return pidfd_exit_code(self.sentinel) if self.sentinel >= 0 else None

    def close(self) -> None:
        """Give back what is kept."""
        if self.sentinel >= 0:
            os.close(self.sentinel)
            self.sentinel = -1
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None


def pidfd_exit_code(pidfd: int) -> int | None:
    """The exit code of a process that was reaped, negative for a signal; None where it was not, or the kernel does not tell
    (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15)."""
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
    """A `multiprocessing` process that is started by the launcher's own means."""

    def __init__(self, popen: Callable[[LaunchedProcess], Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._make_popen = popen

    def _Popen(self, process_obj: LaunchedProcess) -> Any:  # noqa: N802 - the name multiprocessing calls
        del process_obj
        return self._make_popen(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # What travels to the child: a plain process; how it was started is the parent's affair.
        return bootstrap.plain_process, (self._target, self._args, self.name)  # type: ignore[attr-defined]

    @property
    def lifeline(self) -> int | None:
        """A descriptor. When the last of its duplicates is closed, the owner is ended, unless it leaves by itself: by its fork
        server (worker/loop/children.py), or by the kernel (contract/ipc/bootstrap.py). None before the start."""
        lifeline: int | None = getattr(self._popen, "lifeline", None)  # type: ignore[attr-defined]
        return lifeline

    @property
    def status_is_known(self) -> bool:
        """False where the fork server died first: the exit code 255 that `multiprocessing` reports then is made up."""
        return not (self.exitcode == 255 and isinstance(self._popen, _ForkServerPopen) and self._popen.server_gone())  # type: ignore[attr-defined]


def _parcel(popen: Any, process_obj: LaunchedProcess) -> bytes:
    """What a new process reads first: how to prepare itself, and what to run."""
    buffer = io.BytesIO()
    set_spawning_popen(popen)
    try:
        reduction.dump(preparation(process_obj.name), buffer)
        reduction.dump(process_obj, buffer)
    finally:
        set_spawning_popen(None)
    return buffer.getvalue()


class _ForkServerPopen(popen_forkserver.Popen):
    """Forks from a fork server of our own."""

    _fds: list[int]

    def __init__(self, process_obj: LaunchedProcess, server: ForkServer) -> None:
        self._server = server
        self._server_pid: int | None = None
        self.lifeline: int | None = None
        super().__init__(process_obj)

    def _launch(self, process_obj: LaunchedProcess) -> None:
        parcel = _parcel(self, process_obj)
        self.sentinel, write_end = self._server.fork(self._fds)
        # The child takes the end of this pipe for its parent's death, so one write end stays open here.
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
        return self._server_pid is None or not self._server.told_by(self._server_pid)


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


def _check_descriptors() -> None:
    """Raises `OSError` where there are too few for a start: `multiprocessing` leaks two where it runs out half-way."""
    found: list[int] = []
    try:
        for _ in range(_DESCRIPTORS):
            found.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - what was opened is closed
    finally:
        _close_fds(*found)


def is_child(pid: int) -> bool:
    """Whether a process of that number is our child."""
    try:
        return bool(psutil.Process(pid).ppid() == os.getpid())
    except psutil.NoSuchProcess:
        return False


class Order:
    """One process that a launcher is to start."""

    def __init__(
        self, launcher: Launcher, name: str, done: Callable[[StartedOwner | OSError], None], begun: Callable[[], None]
    ) -> None:
        self.launcher = launcher
        """Whose turn it waits for: another one's, where that one was stuck."""
        self.name = name
        self.done = done
        self.begun = begun
        self.withdrawn = False
        """It is not to be started, unless that is under way."""


class Launcher:
    """Starts owner processes, one after the other, in a thread of its own."""

    def __init__(self, start_method: str) -> None:
        self.start_method = capabilities.start_method(start_method)
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._server = ForkServer()
        self._abandoned = False
        _launchers.add(self)
        self._thread = threading.Thread(target=self._run, name="wsadapter-launcher", daemon=True)
        self._thread.start()

    def start(
        self, name: str, done: Callable[[StartedOwner | OSError], None], begun: Callable[[], None] = lambda: None
    ) -> Order:
        """Start one when its turn comes. Both are called in the launcher's thread: `begun` at its turn, `done` with what was
        started or why it could not be."""
        order = Order(self, name, done, begun)
        self._orders.put(order)
        return order

    def abandon(self, successor: Launcher) -> None:
        """It is stuck in a start: let it be, and let `successor` start what waits for its turn. Should that start ever end, its
        process is told to go."""
        self._abandoned = True
        with suppress(Empty):
            while (order := self._orders.get_nowait()) is not None:
                order.launcher = successor
                successor._orders.put(order)
        self._orders.put(None)
        self._server.kill()  # its children live on; we have their pidfds

    def leave_owners(self) -> None:
        """Others watch over owners that it has started: their fork servers are not ended with it."""
        self._server.leave_owners()

    def close(self) -> None:
        """End the thread and the fork server, after every owner is gone."""
        self._orders.put(None)
        self._thread.join()
        self._server.close()

    @property
    def lifeline(self) -> int | None:
        """While it is open, the fork server lives."""
        return self._server.lifeline

    def _run(self) -> None:
        # Signals are the program's, in its own threads. What is started here inherits the mask, and lifts it when it is
        # ready for them (bootstrap.accept_signals).
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (order := self._orders.get()) is not None:
            self._start(order)
        if self._abandoned:
            self._server.close()

    def _start(self, order: Order) -> None:
        if order.withdrawn:
            order.done(OSError("it was not wanted any more"))
        elif self._abandoned:
            order.done(OSError("the launcher was stuck with another start"))
        else:
            order.begun()
            self._try_to_start(order)

    def _try_to_start(self, order: Order) -> None:
        try:
            started = self._launch(order.name)
        except (OSError, EOFError) as error:  # EOFError: the fork server died over it
            order.done(error if isinstance(error, OSError) else OSError(f"the fork server died: {error}"))
            return
        if self._abandoned:
            started.close()
        else:
            order.done(started)

    def _launch(self, name: str) -> StartedOwner:
        _check_descriptors()
        bootstrap.hold_standard_descriptors()  # the program may have closed them since
        ends: list[Connection | socket.socket] = []
        try:
            data, data_child = multiprocessing.Pipe(duplex=False)
            ends += (data, data_child)
            control, its_control = socket.socketpair()
            control_child = Connection(its_control.detach())
            ends += (control, control_child)
            log, log_child = multiprocessing.Pipe(duplex=False)
            ends += (log, log_child)
            owner = LaunchedProcess(
                self._popen, target=bootstrap.run_owner, args=(data_child, control_child, log_child), name=name, daemon=True
            )
            self._start_process(owner)
            process._children.discard(owner)  # type: ignore[attr-defined]  # ours: not to be listed, or ended at exit, by others
            pid = owner.pid
            assert pid is not None
            pidfd = _pidfd(pid) if capabilities.pidfd() else None
        except BaseException:
            for end in ends:
                end.close()
            raise
        for end in (data_child, control_child, log_child):
            end.close()  # at once: while we hold a write end, its pipe never ends
        return StartedOwner(owner, pid, pidfd, data, control, log)

    def _start_process(self, owner: LaunchedProcess) -> None:
        """A fork server that can't be reached, or that died, is replaced once: the folder of its socket was removed, somebody
        else's waitpid(-1) reaped it."""
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
"""What each start left open here."""
_adopted: WeakSet[AdoptedProcess] = WeakSet()
"""Those with a lifeline."""
_launchers: WeakSet[Launcher] = WeakSet()


def _disown() -> None:
    """In a forked child: the processes are the parent's. Were a lifeline open here too, the parent's death would go unseen."""
    fds = [fd for popen, fds in _popens.items() if popen.finalizer.still_active() for fd in fds]
    servers = [*(launcher.lifeline for launcher in _launchers), *(adopted.lifeline for adopted in _adopted)]
    redirect_to_null([*fds, *(fd for fd in servers if fd is not None)])
    _popens.clear()
    _adopted.clear()
    _launchers.clear()


os.register_at_fork(after_in_child=_disown)
