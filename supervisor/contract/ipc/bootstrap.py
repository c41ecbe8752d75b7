"""The start of an owner process. The parent names `run_owner` and never imports the worker, so that imports run one way."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess, parent_process
from typing import Any

WORKER = "wsadapter.worker.main"
TEMPLATE = "wsadapter.worker.preload"
"""The module that the fork server imports, so that every owner starts warm."""


def plain_process(target: Callable[..., None], args: tuple[Any, ...], name: str) -> BaseProcess:
    """The `Process` object that a new process unpickles: a plain class, so that no module of the parent is imported for it."""
    return SpawnProcess(target=target, args=args, name=name, daemon=True)


def run_owner(data: Connection, control: Connection, log: Connection, rejoin: Connection | None = None) -> None:
    """The target of an owner's `Process`: the write end of its data pipe, its control socket, the write end of its log pipe,
    and its rejoin socket (rejoin.py), if another supervisor may follow the one that starts it."""
    hold_standard_descriptors()
    for fd in (1, 2):  # inheritable: a program that user code runs prints into the log too
        os.dup2(log.fileno(), fd)
    accept_signals()
    _leave_the_tracker()
    if not _leave_the_fork_server():
        _end_with_the_supervisor()
    import_module(WORKER).main(data, control, log, rejoin)


def _leave_the_tracker() -> None:
    """Closes the pipe of `multiprocessing`'s resource tracker. The tracker runs as long as a process has its pipe open, and
    has the standard output of its supervisor open. An owner may outlive that supervisor (takeover), and would keep both."""
    _close(resource_tracker._resource_tracker, "_fd")  # noqa: SLF001 - multiprocessing has no public way


def _leave_the_fork_server() -> bool:
    """Closes the descriptor that keeps the fork server alive: the fork server must end when the supervisor has ended, and then
    kill the owners that do not end by themselves. False if no fork server has made this process."""
    return _close(forkserver._forkserver, "_forkserver_alive_fd")  # noqa: SLF001 - multiprocessing has no public way


def _close(holder: object, name: str) -> bool:
    """Closes the descriptor that is an attribute of `holder`. Returns false if there is none."""
    fd = getattr(holder, name)
    if fd is None:
        return False
    os.close(fd)
    setattr(holder, name, None)
    return True


def _end_with_the_supervisor() -> None:
    """Linux, without a fork server: ends this process three seconds after its last supervisor has closed the lifeline, even if
    the process is stopped, or in C code that never returns, where no signal handler of Python and no thread can run.

    The kernel sends two signals when the last write end of the pipe closes (fcntl(2), F_SETSIG; one for each open file).
    SIGCONT continues a stopped process. The handler of SIGQUIT is alarm(2) of the C library itself: a handler gets the number
    of the signal, which is 3, as its argument. SIGALRM then ends the process. An owner whose loop runs has ended by then.
    """
    parent = parent_process()
    if parent is None or not hasattr(fcntl, "F_SETSIG"):
        return
    library = ctypes.CDLL(None)
    library.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    library.signal(signal.SIGQUIT, ctypes.cast(library.alarm, ctypes.c_void_p))
    with suppress(OSError):  # a sandbox forbids it; the alarm of the loop ends the process later (worker/loop/alarm.py)
        _signal_at_end(parent.sentinel, signal.SIGQUIT)
        again = os.open(f"/proc/self/fd/{parent.sentinel}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        _signal_at_end(again, signal.SIGCONT)  # stays open until the process ends


def _signal_at_end(pipe: int, number: signal.Signals) -> None:
    fcntl.fcntl(pipe, fcntl.F_SETSIG, number)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)


def hold_standard_descriptors() -> None:
    """Opens the null device for each of the descriptors 0 to 2 that is closed. Otherwise the next file or pipe would get that
    number, and everything that is printed, also by a C library, would be written into it."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number is this one


def leave_standard_descriptors() -> None:
    """Replaces the descriptors 0 to 2 by the null device. A fork server may outlive the program that started it (takeover),
    and a reader of that program's output must see the end of the output when the program ends."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)


def accept_signals() -> None:
    """Removes the signal mask that the launching thread had set. Ctrl-C and the end of the terminal, which reach the whole
    process group, are ignored: only the supervisor's process handles them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
