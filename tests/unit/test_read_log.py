"""What a supervisor reads goes through memory that outlives it: the bytes are those of the pipe, in their order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.process.read_log import ReadLog

pytestmark = pytest.mark.native
_BLOCK = 512
"""As `st_blocks` counts."""


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    try:
        yield ends
    finally:
        for fd in ends:
            os.close(fd)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20_000), st.integers(1, 30_000), st.booleans()), max_size=12))
def test_what_is_read_is_what_was_written_and_can_be_read_again_behind_each_mark(
    steps: list[tuple[bytes, int, bool]],
) -> None:
    log, written, read, mark = ReadLog(), b"", b"", 0
    with _pipe() as (reads, writes):
        for chunk, room, marks in steps:
            written += chunk
            os.write(writes, chunk)
            buffer = bytearray(room)
            size = log.readv(reads, (memoryview(buffer),))
            read += bytes(buffer[:size])
            if marks:
                mark = log.end
                log.release(mark)
            assert written.startswith(read)
            assert log.end == len(read) == os.fstat(log.fileno()).st_size
            assert b"".join(log.read_again(mark)) == read[mark:]
    log.close()


def test_an_empty_pipe_blocks_and_a_closed_one_ends() -> None:
    log = ReadLog()
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    with pytest.raises(BlockingIOError):
        log.readv(reads, (memoryview(bytearray(10)),))
    os.close(writes)
    assert log.readv(reads, (memoryview(bytearray(10)),)) == 0
    os.close(reads)
    log.close()


def test_the_next_supervisor_goes_on_where_the_one_before_was() -> None:
    with _pipe() as (reads, writes):
        before = ReadLog()
        os.write(writes, b"abcdefgh")
        before.readv(reads, (memoryview(bytearray(5)),))
        after = ReadLog(os.dup(before.fileno()))
        before.close()
        buffer = bytearray(10)
        assert after.end == 5
        assert after.readv(reads, (memoryview(buffer),)) == 3
        assert b"".join(after.read_again(2)) == b"cdefgh"
        after.close()


def test_what_is_released_takes_no_memory() -> None:
    log = ReadLog()
    log.put(bytes(range(256)) * 4096)
    log.release(log.end - 10)
    assert os.fstat(log.fileno()).st_blocks * _BLOCK <= 4096
    assert b"".join(log.read_again(log.end - 10)) == bytes(range(246, 256))
    log.close()


def test_after_the_end_nothing_is_released() -> None:
    """The journal confirms a mark of an owner that is gone."""
    log = ReadLog()
    log.put(b"x" * 10_000)
    log.close()
    log.release(8192)
