"""The fork server that owners are forked from: a private one, which is replaced if the files that it needs were removed.

`multiprocessing` has one fork server per program, which may be running already, without our modules in it. And that server
keeps what it was started with for as long as the program runs: its socket is in a folder that was made once, and after a
cleaner of temporary files has removed the folder, no start succeeds. So this fork server is private, its socket is in a new
folder at each start of a server, and `renew` starts another server beside one that can't be reached any more.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec, module_from_spec
from multiprocessing import process, spawn, util
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from wsadapter import import_path
from wsadapter.contract.ipc import bootstrap

SAFE_PATH: Final = () if getattr(sys, "frozen", False) else ("-P",)
"""Flags of the interpreter (`python -P`): no module is imported from the working folder."""
_SOCKET: Final = "listener"
_LONGEST_PATH: Final = 100
"""Bytes of a socket's path: unix(7) allows 107, other systems fewer than that (macOS 103)."""


def preparation(name: str) -> dict[str, Any]:
    """As `multiprocessing.spawn.get_preparation_data`, without the user's main module, and without its folder in `sys.path`. A
    deleted working folder is no error here."""
    spawn._check_not_importing_main()  # type: ignore[attr-defined]  # noqa: SLF001 - as get_preparation_data does
    data = {
        "name": name,
        "authkey": process.current_process().authkey,
        "sys_path": import_path.for_owners(),
        "sys_argv": sys.argv,
        "orig_dir": process.ORIGINAL_DIR,  # type: ignore[attr-defined]
        "dir": import_path.working_folder(),
        "start_method": multiprocessing.get_start_method(allow_none=True),
    }
    return {key: value for key, value in data.items() if value}


class ForkServer:
    """Starts at the first use. Used by one thread, except `kill`, `lifeline` and `reports_exits`."""

    def __init__(self) -> None:
        self._forget_folder: Callable[[], None] = lambda: None
        self._server = _new_server(self._new_address)
        self._retired: list[int] = []
        self._has_heirs = False

    @property
    def pid(self) -> int | None:
        """None before the first use."""
        pid: int | None = self._server._forkserver_pid  # noqa: SLF001 - multiprocessing has no public way
        return pid

    @property
    def lifeline(self) -> int | None:
        """A descriptor: the fork server runs while this descriptor is open."""
        fd: int | None = self._server._forkserver_alive_fd  # noqa: SLF001 - multiprocessing has no public way
        return fd

    def fork(self, fds: list[int]) -> tuple[int, int]:
        """Start a process with copies of `fds`. Returns two descriptors: of the first its pid and its exit code are read, and
        to the second its task is written. Raises `OSError`; `renew` may help then."""
        self._retired = [pid for pid in self._retired if not _is_reaped(pid)]
        ends: tuple[int, int] = self._server.connect_to_new_process(fds)
        return ends

    def renew(self) -> None:
        """Let the next process be forked from a new server. The present server ends when the lifelines of the processes that it
        has forked are closed, because only this server can read their exit codes."""
        pid, lifeline = self.pid, self.lifeline
        self._forget_folder()
        self._server = _new_server(self._new_address)
        if lifeline is not None:
            os.close(lifeline)
        if pid is not None and not _is_reaped(pid):
            self._retired.append(pid)

    def reports_exits(self, pid: int) -> bool:
        """Whether the server with that pid is alive: only then can it report the exit codes of its processes."""
        return pid in (self.pid, *self._retired) and is_alive(pid)

    def kill(self) -> None:
        """End the server at once. The processes that it has forked continue to run."""
        if self.pid is not None:
            _kill(self.pid)

    def leave_owners(self) -> None:
        """Another supervisor has the lifelines of processes that were forked: `close` does not end the servers."""
        self._has_heirs = True

    def close(self) -> None:
        """Kill all servers, and wait for their end. They are not asked to end, because they would then wait for every process
        that inherited a lifeline, also for one that is not an owner."""
        pids = [*self._retired, *([self.pid] if self.pid is not None else [])] if not self._has_heirs else []
        for pid in pids:
            _kill(pid)
        for pid in pids:
            with suppress(ChildProcessError):  # somebody else's waitpid(-1) was faster
                os.waitpid(pid, 0)
        self._retired.clear()
        if self.lifeline is not None:
            os.close(self.lifeline)
        self._server = _new_server(self._new_address)
        self._forget_folder()

    def _new_address(self, family: str) -> str:
        """Replaces `multiprocessing.connection.arbitrary_address`. Raises `OSError` if no folder can be used."""
        del family
        self._forget_folder()
        folder = socket_folder(temporary_folders())
        self._forget_folder = util.Finalize(self, _remove, (folder,), exitpriority=0)
        return str(Path(folder, _SOCKET))


def temporary_folders() -> Iterator[str]:
    """Where a folder for a socket can be made, best first."""
    with suppress(FileNotFoundError):
        yield tempfile.gettempdir()
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield runtime
    yield from ("/tmp", "/var/tmp")  # noqa: S108 - mkdtemp makes a folder there that only this user may enter


def socket_folder(candidates: Iterator[str]) -> str:
    """A new folder that only this user may enter, in the first of `candidates` in which a folder can be made and the path of a
    socket is short enough. Raises `OSError`."""
    problem: OSError = OSError("no folder for temporary files has a path that is short enough for a socket")
    for base in candidates:
        if len(os.fsencode(Path(base, "wsadapter-12345678", _SOCKET))) > _LONGEST_PATH:
            continue
        try:
            return tempfile.mkdtemp(prefix="wsadapter-", dir=base)
        except OSError as error:
            problem = error
    raise problem


def is_alive(pid: int) -> bool:
    """Whether a process with that pid is alive; a zombie is not."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # the process has ended, or the pid belongs to another user's process now
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:  # no /proc here, or no descriptor left to look at it
        return True


def _is_reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # somebody else's waitpid(-1) was faster
        return True


def _kill(pid: int) -> None:
    if is_alive(pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _remove(folder: str) -> None:
    with suppress(OSError):  # a cleaner of temporary files was faster, or has made the folder unreadable
        Path(folder, _SOCKET).unlink(missing_ok=True)
        Path(folder).rmdir()


def _new_server(address: Callable[[str], str]) -> Any:
    """A `multiprocessing` fork server, made from a copy of its module: it starts with `SAFE_PATH`, also if the working folder
    was deleted, and needs no resource tracker. The program's own fork server stays as it is.

    A resource tracker would be one more process, which would import modules from the working folder, and an owner does not need
    it (`bootstrap.run_owner` closes the descriptor that takes the tracker's place here)."""
    spec = find_spec("multiprocessing.forkserver")
    assert spec is not None
    assert spec.loader is not None
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.ForkServer()
    flags = [*util._args_from_interpreter_flags(), *SAFE_PATH]  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
    module.util = SimpleNamespace(**{**vars(util), "_args_from_interpreter_flags": lambda: flags})
    module.spawn = SimpleNamespace(**{**vars(spawn), "get_preparation_data": preparation})
    module.connection = SimpleNamespace(**{**vars(module.connection), "arbitrary_address": address})
    alive_fd = "_forkserver_alive_fd"  # it takes the place of the resource tracker's descriptor
    module.resource_tracker = SimpleNamespace(ensure_running=lambda: None, getfd=lambda: getattr(server, alive_fd))
    server.set_forkserver_preload([bootstrap.TEMPLATE])
    return server
