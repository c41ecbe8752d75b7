"""Where the fork server's socket may lie."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsadapter.process.fork_server import socket_folder

LONG = "d" * 90


@pytest.fixture
def short() -> Iterator[Path]:
    """pytest's own folders may be too long for a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_a_folder_that_is_too_long_for_a_socket_or_is_not_there_is_passed_over(short: Path) -> None:
    (short / LONG).mkdir()
    made = Path(socket_folder(iter([str(short / LONG), str(short / "gone"), str(short)])))
    assert made.parent == short
    assert made.stat().st_mode & 0o777 == 0o700
    assert list((short / LONG).iterdir()) == []


def test_each_folder_is_another_one(short: Path) -> None:
    assert socket_folder(iter([str(short)])) != socket_folder(iter([str(short)]))


def test_without_a_usable_folder_the_error_names_what_is_missing(short: Path) -> None:
    (short / LONG).mkdir()
    with pytest.raises(OSError, match="short enough for a socket"):
        socket_folder(iter([str(short / LONG)]))
    with pytest.raises(FileNotFoundError, match="gone"):
        socket_folder(iter([str(short / "gone")]))


def test_the_path_counts_in_bytes(short: Path) -> None:
    folder = short / ("ö" * 40)
    folder.mkdir()
    assert len(os.fspath(folder)) < 60
    with pytest.raises(OSError, match="short enough"):
        socket_folder(iter([str(folder)]))
