"""What processes cost, read from /proc (Linux)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of all their threads, to the nanosecond: `cpu_times` counts in hundredths, too coarse for many that idle."""
    return sum(_thread_ns(task) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def tree_of(pid: int) -> list[int]:
    """A process and all its descendants."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


class Memory(NamedTuple):
    """MB."""

    rss: float = 0.0
    pss: float = 0.0
    """The proportional share: each shared page divided by its sharers."""
    private: float = 0.0


def memory_of(pid: int) -> Memory:
    """Raises `OSError` of a process that is gone."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines())
    kib = {words[0]: int(words[1]) for words in lines if words[-1] == "kB"}
    return Memory(kib["Rss:"] / 1024, kib["Pss:"] / 1024, (kib["Private_Clean:"] + kib["Private_Dirty:"]) / 1024)


def _thread_ns(task: Path) -> int:
    return int((task / "schedstat").read_text("utf-8").split()[0])
