"""What processes cost, read from /proc (Linux)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psutil


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of all their threads, to the nanosecond: `cpu_times` counts in hundredths, too coarse for many that idle."""
    return sum(_thread_ns(task) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def tree_of(pid: int) -> list[int]:
    """A process and all its descendants."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def pss(pid: int) -> float:
    """Its proportional share of memory (each shared page divided by its sharers), MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _thread_ns(task: Path) -> int:
    return int((task / "schedstat").read_text().split()[0])
