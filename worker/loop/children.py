"""The end of the fork server: it waits for the owners that it has forked, and kills those that do not end.

The fork server ends when the last descriptor that keeps it alive is closed. The supervisor has one per owner (launcher.py),
and passes it on together with the owner (takeover). So the fork server ends when every supervisor of its owners has ended, in
any way. An owner whose loop runs ends by itself then. An owner that is stopped (SIGSTOP), or in C code that never returns,
can't, because none of its own code runs: SIGKILL by its parent ends it.
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

GRACE: Final = 3.0
"""Seconds for an owner to close its connection, which takes about one."""
_TO_DIE: Final = 1.5
"""Seconds after SIGKILL. A process in an uninterruptible sleep may take longer, and is not waited for."""
_INTERVAL: Final = 0.02
_PR_SET_PDEATHSIG: Final = 1


def wait_for_children(grace: float = GRACE) -> None:
    """Waits until this process has no child, and kills the children that are left after `grace` seconds."""
    kill_at = monotonic() + grace
    while (now := monotonic()) < kill_at + _TO_DIE:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if now >= kill_at:
            for pid in _children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid can't belong to another process
        sleep(_INTERVAL)


def _children() -> list[int]:
    """The pids of our children (proc(5))."""
    mine, found = os.getpid(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # the process has ended since the folder was listed
                fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == mine:
                    found.append(int(folder.name))
    return found


def continue_without_parent() -> None:
    """If this process is stopped (SIGSTOP) when its parent ends, the kernel continues it, so that it detects the end. SIGCONT
    does nothing to a running process. Linux only; elsewhere without effect (prctl(2), PR_SET_PDEATHSIG)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)
