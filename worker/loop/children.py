"""What the fork server does at its end: it waits for the owners that it has forked, and kills those that do not leave.

The fork server ends when the last descriptor that leads to it is closed: the supervisor has one for each of its owners
(launcher.py), and hands it on with the owner (takeover). So it ends when whoever watched over them is gone, in any way. An
owner whose loop turns leaves by itself then. One that is stopped (SIGSTOP), or in C code that never returns, can't: nothing of
its own runs. SIGKILL by its parent ends it.
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
"""Seconds in which an owner may close its connection; it takes one."""
_TO_DIE: Final = 1.5
"""Seconds after SIGKILL; one in an uninterruptible sleep takes longer, and is not waited for."""
_INTERVAL: Final = 0.02
_PR_SET_PDEATHSIG: Final = 1


def wait_for_children(grace: float = GRACE) -> None:
    """Returns when this process has no child any more."""
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
                    os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        sleep(_INTERVAL)


def _children() -> list[int]:
    """The pids of our children (proc(5))."""
    mine, found = os.getpid(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == mine:
                    found.append(int(folder.name))
    return found


def continue_without_parent() -> None:
    """Should this process be stopped (SIGSTOP) when its parent ends, it goes on then, and sees that end; SIGCONT does nothing
    to one that runs. Linux; no harm elsewhere (prctl(2), PR_SET_PDEATHSIG)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)
