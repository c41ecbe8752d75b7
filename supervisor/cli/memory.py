"""Returns free memory to the kernel, which the C library would otherwise keep.

A message of some megabytes passes through several buffers of its size. After glibc has freed one such buffer, it allocates the
next ones on the heap (the threshold for separate mappings rises, mallopt(3)), and small blocks after them on the heap keep it
from shrinking. The process would keep its largest size, once for each thread, because each thread has a separate heap. So the
threshold is fixed, there is one heap, and `malloc_trim` returns every free page once a minute.

Only the runner does this. In a program that uses the library, the program decides about its heap.
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
"""Bytes from which on a block gets a separate mapping. A smaller threshold would cause page faults at each read of a flood."""


def find_trim() -> Callable[[], object] | None:
    """`malloc_trim` of the C library; None: it has none (musl, macOS)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return lambda: trim(0)


def keep_heap_small() -> None:
    """From now on a large block gets a separate mapping, which ends with the block, and new threads share one heap: the
    interpreter runs only one of them at a time anyway. For a C library that has `malloc_trim`."""
    library = ctypes.CDLL(None)
    library.mallopt(_M_ARENA_MAX, 1)
    library.mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING)


class Trimming:
    """While this context is entered, a thread returns free memory to the kernel every minute. It holds no lock meanwhile, not
    even that of the interpreter."""

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
