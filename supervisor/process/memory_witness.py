"""Whether an owner was probably killed because memory ran out: the kernel sends SIGKILL and reports no cause to us."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

_CGROUP: Final = Path("/proc/self/cgroup")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_MACHINE: Final = Path("/proc/vmstat")
_COUNTER: Final = "oom_kill"
_NEAR: Final = 0.8
"""Of `watchdog.memory`: more than that is near it."""


class MemoryWitness:
    """Measurements of the memory of one owner while it runs. Used under the reactor's lock."""

    def __init__(self) -> None:
        self.resident = 0
        """Bytes at the watchdog's last look; 0: it did not look."""
        self._kills = oom_kills()

    def testimony(self, exit_code: int | None, allowed: int) -> str:
        """A text about memory for the reason of its death; "": memory was not the cause. `allowed`: `watchdog.memory`, 0 for no
        limit."""
        return judged(exit_code, kills=oom_kills() - self._kills, resident=self.resident, allowed=allowed)


def judged(exit_code: int | None, *, kills: int, resident: int, allowed: int) -> str:
    """See `MemoryWitness.testimony`; `kills`: processes that the OOM killer ended while the owner ran."""
    if exit_code != -signal.SIGKILL:
        return ""
    if kills > 0:
        return f"out of memory is likely: the kernel's OOM killer has ended {kills} process(es) since it started"
    if allowed and resident > _NEAR * allowed:
        return f"out of memory is likely: it had {resident} bytes resident, {allowed} are allowed"
    return ""


def oom_kills(membership: Path = _CGROUP, cgroups: Path = _CGROUPS, machine: Path = _MACHINE) -> int:
    """The number of processes that the OOM killer has ended: in our control group (v2), else on the machine; 0 where
    the kernel does not report it."""
    for line in _lines(membership):
        if line.startswith("0::/"):
            count = _count(cgroups / line[len("0::/") :] / "memory.events")
            if count is not None:
                return count
    return _count(machine) or 0


def _count(file: Path) -> int | None:
    for line in _lines(file):
        name, _, value = line.partition(" ")
        if name == _COUNTER and value.isdecimal():
            return int(value)
    return None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:  # another system than Linux, or hidden from us
        return []
