"""The lines that user code prints."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest

from wsadapter.loop.reactor import Reactor
from wsadapter.process.log_pipe import LogPipe


class Printed:
    """A pipe, and the lines that came out of it."""

    def __init__(self, reactor: Reactor) -> None:
        self.lines: list[str] = []
        ours, self.theirs = multiprocessing.Pipe(duplex=False)
        self.pipe = LogPipe(reactor, self.lines.append)
        self.pipe.open(ours)
        self.pipe.watch()

    def write(self, data: bytes) -> list[str]:
        """What one read of it brings."""
        _write(self.theirs, data)
        self.lines.clear()
        self.pipe.read()
        return list(self.lines)


def _write(end: Connection, data: bytes) -> None:
    assert os.write(end.fileno(), data) == len(data)


@pytest.fixture
def printed(reactor: Reactor) -> Iterator[Printed]:
    printed = Printed(reactor)
    yield printed
    printed.pipe.close()
    printed.theirs.close()


def test_lines_come_one_by_one_and_an_unfinished_one_waits_for_its_end(printed: Printed) -> None:
    assert printed.write(b"one\ntwo\nthr") == ["one", "two"]
    assert printed.pipe.rest == b"thr"
    assert printed.write(b"ee\n\n  \n") == ["three"]
    assert printed.pipe.last_lines == "one\ntwo\nthree"


def test_an_unfinished_line_is_reported_at_the_end_of_the_stream(printed: Printed) -> None:
    assert printed.write(b"oh") == []
    printed.theirs.close()
    printed.pipe.read()
    assert printed.lines == ["oh"]
    printed.pipe.read()  # at the end nothing more is read
    assert printed.lines == ["oh"]


def test_a_line_without_an_end_is_cut(printed: Printed) -> None:
    (line,) = printed.write(b"x" * 5000)
    assert line == "x" * 4096
    assert printed.pipe.rest == b""


def test_what_is_no_text_is_shown_all_the_same_and_only_the_last_lines_are_kept(printed: Printed) -> None:
    assert printed.write(b"\xff\n") == ["\N{REPLACEMENT CHARACTER}"]
    printed.write(b"".join(b"%d\n" % n for n in range(2000)))
    assert 1990 < len(printed.pipe.last_lines) <= 2000
    assert printed.pipe.last_lines.endswith("1998\n1999")


def test_lines_that_are_printed_while_the_pipe_is_not_watched_wait_in_it(printed: Printed) -> None:
    printed.pipe.unwatch()
    assert printed.write(b"one\n") == []
    printed.pipe.watch()
    printed.pipe.read()
    assert printed.lines == ["one"]
