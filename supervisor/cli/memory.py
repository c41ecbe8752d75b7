"""Memory that the C library would hold back: in the runner it goes back to the kernel.

A message of some megabytes passes through several buffers of its size. glibc serves such buffers from the heap once it has
seen one freed (the threshold for a mapping of their own rises, mallopt(3)), and small blocks that lie behind them keep the heap
from shrinking: the process would keep the size of its greatest moment, and that once for each thread, which has a heap of its
own. So the threshold is fixed, there is one heap, and `malloc_trim` gives back every page that is free, once a minute.

Only the runner does this. In a program that uses the library the heap is the program's matter.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

_EVERY: Final = 60.0
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
"""malloc.h; Python has no names for them."""
_OWN_MAPPING: Final = 256 * 1024
"""Bytes from which on a block has a mapping of its own. Less would cost page faults at each read of a flood."""


def find_trim() -> Callable[[], object] | None:
    """`malloc_trim` of the C library; None where there is none (musl, macOS)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return lambda: trim(0)


def keep_heap_small() -> None:
    """From now on a large block has a mapping of its own, which ends with it, and new threads share one heap: the interpreter
    lets only one of them run at a time anyway. For a C library that has `malloc_trim`."""
    library = ctypes.CDLL(None)
    library.mallopt(_M_ARENA_MAX, 1)
    library.mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING)


class Trimming:
    """While it is entered, free memory goes back to the kernel every minute. The thread that does it holds no lock of ours, nor
    the interpreter's."""

    def __init__(self, *, every: float = _EVERY) -> None:
        """`every`: seconds."""
        self._every = every
        self._trim = find_trim()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wsadapter-memory", daemon=True)

    def __enter__(self) -> Self:
        if self._trim is not None:
            keep_heap_small()
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        if self._trim is not None:
            self._thread.join()

    def _run(self) -> None:
        assert self._trim is not None
        while not self._ended.wait(self._every):
            self._trim()
