"""Memory and CPU time of processes, by their pids. Read here and not in the supervisor, because it takes a moment for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """What a process uses."""

    memory: int
    """Resident bytes."""
    cpu: float
    """Seconds of CPU time since it was started."""


class Processes:
    """The processes that were measured last: each is looked up once, and a pid that is used again is noticed."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def measure(self, pids: Iterable[int]) -> dict[int, Usage]:
        """CPU and memory of each process. Processes that have ended, or can't be read, are left out."""
        self._known = {pid: process for pid in pids if (process := self._process(pid)) is not None}
        usage: dict[int, Usage] = {}
        for pid, process in self._known.items():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    usage[pid] = Usage(process.memory_info().rss, times.user + times.system)
            except psutil.Error:  # it has ended since
                continue
        return usage

    def _process(self, pid: int) -> psutil.Process | None:
        known = self._known.get(pid)
        if known is not None and known.is_running():
            return known
        try:
            return psutil.Process(pid)
        except psutil.Error:
            return None
