"""What a test must not leave behind: processes, descriptors, threads."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

import psutil

from tests.support.waiting import wait_until


def _children() -> set[int]:
    tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.pid != tracker and child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _threads() -> set[str]:
    return {f"{thread.name} ({thread.ident})" for thread in threading.enumerate()}


@contextlib.contextmanager
def no_leaks() -> Iterator[None]:
    """Fails where something is left a moment after the block."""
    resource_tracker.ensure_running()  # multiprocessing's own; it lives as long as the program
    before = (_children(), _descriptors(), _threads())
    yield
    gc.collect()
    wait_until(lambda: _children() <= before[0], 5, lambda: f"processes left: {_children() - before[0]}")
    wait_until(lambda: _threads() <= before[2], 5, lambda: f"threads left: {_threads() - before[2]}")

    def new() -> dict[int, str]:
        return {fd: what for fd, what in _descriptors().items() if before[1].get(fd) is None}

    wait_until(lambda: len(_descriptors()) <= len(before[1]), 5, lambda: f"descriptors left: {new()}")
