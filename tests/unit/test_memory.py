"""Free memory of the C library goes back to the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.waiting import wait_until
from wsadapter.cli.memory import Trimming, find_trim

PROGRAM = """
import ctypes, pathlib, sys, time
from wsadapter.cli.memory import Trimming

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text("utf-8").split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
blocks = []
for _ in range(400):  # 40 MB, below the threshold for memory of their own, with small ones between that stay
    blocks.append(libc.malloc(100_000))
    ctypes.memset(blocks[-1], 1, 100_000)
    libc.malloc(2_000)
for block in blocks:
    libc.free(block)
before = resident()
with Trimming(every=0.01):
    deadline = time.monotonic() + 20
    while resident() > before - 30e6 and time.monotonic() < deadline:
        time.sleep(0.01)
print(before - resident())
"""

LARGE = """
import ctypes, threading
from wsadapter.cli.memory import Trimming

class Info(ctypes.Structure):
    _fields_ = [(f"f{n}", ctypes.c_size_t) for n in range(4)] + [("hblkhd", ctypes.c_size_t), ("rest", ctypes.c_size_t * 5)]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.mallinfo2.restype = Info

def mapped_for(size):
    before = libc.mallinfo2().hblkhd
    libc.malloc(size)
    return libc.mallinfo2().hblkhd - before

with Trimming():
    libc.free(libc.malloc(20_000_000))  # after which glibc would serve 20 MB from the heap
    print(mapped_for(1_000_000) >= 1_000_000, mapped_for(100_000))
"""

needs_trim = pytest.mark.skipif(find_trim() is None, reason="the C library has no malloc_trim")


@pytest.mark.native
@needs_trim
def test_a_large_block_has_a_separate_mapping_whatever_was_freed_before() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True", "0"]


@pytest.mark.native
@needs_trim
def test_what_is_free_between_blocks_in_use_goes_back_to_the_kernel() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 30_000_000


def test_it_ends_at_once() -> None:
    with Trimming(every=3600.0) as trimming:
        thread = trimming._thread
        wait_until(lambda: thread.is_alive() or find_trim() is None, 5.0)
    assert not thread.is_alive()
