"""What this platform can do. `WSADAPTER_PORTABLE=1` pretends it can do only what every Unix can."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from multiprocessing import spawn

from wsadapter.config.settings import StartMethod
from wsadapter.contract.errors import UnsupportedPlatform, UsageError
from wsadapter.status import Capabilities


def portable() -> bool:
    """Whether the fall-backs are forced."""
    return os.environ.get("WSADAPTER_PORTABLE", "") not in ("", "0")


def epoll() -> bool:
    """epoll is used, instead of `selectors`."""
    return hasattr(select, "epoll") and not portable()


def pidfd() -> bool:
    """Deaths are detected by pidfd, and signals can't hit another process; otherwise the sentinel and `waitpid` are used."""
    return not portable() and _pidfd_works()


@cache
def _pidfd_works() -> bool:
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.EACCES):  # old kernel, seccomp, gVisor
            return False
        raise
    return True


def custody() -> bool:
    """A ws:// connection can outlive its owner: sockets can be passed, and the kernel reports the positions of their
    streams."""
    return sys.platform == "linux" and pidfd() and hasattr(socket, "recv_fds")


def forkserver() -> bool:
    """Owners are forked from a warm template; otherwise each is a fresh interpreter (spawn)."""
    return sys.platform == "linux" and pidfd() and temporary_folder()


def temporary_folder() -> bool:
    """There is a folder for temporary files; the fork server's socket needs one."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def start_method(wanted: str) -> StartMethod:
    """ "forkserver" or "spawn", whichever of the wanted and the possible is to be used."""
    return "forkserver" if wanted == "forkserver" and forkserver() else "spawn"


def summary(wanted_start_method: StartMethod) -> Capabilities:
    """For the status: the optional features of the platform that are used."""
    return {
        "death": "pidfd" if pidfd() else "sentinel and waitpid",
        "poll": "epoll" if epoll() else "selectors",
        "start_method": start_method(wanted_start_method),
        "handoff": "ws:// without loss" if custody() else "reconnect",
    }


def check_platform() -> None:
    """Raises `UnsupportedPlatform` where owners can't be run at all."""
    if sys.platform == "win32":
        raise UnsupportedPlatform(
            "wsadapter needs Unix processes and pipes; on Windows run it inside WSL 2 (configuration checks and "
            "FakeFeed work here)"
        )


def check_frozen() -> None:
    """Raises `UsageError` in a process that a frozen program has started for `multiprocessing`, and that runs the program."""
    if getattr(sys, "frozen", False) and is_for_multiprocessing(sys.argv):
        raise UsageError(
            "this frozen program runs itself again instead of starting an owner: call multiprocessing.freeze_support() first, "
            'right after `if __name__ == "__main__":`'
        )


def is_for_multiprocessing(arguments: Sequence[str]) -> bool:
    """Whether `multiprocessing` has started a program with these arguments, to run a process or a fork server in it."""
    if spawn.is_forking(list(arguments)):
        return True
    return any(flag == "-c" and text.startswith("from multiprocessing.") for flag, text in pairwise(arguments[1:]))
