"""Where a running supervisor is searched, and what is said of the places."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from wsadapter import instance
from wsadapter.instance import Instance, Place, connect, elsewhere, running, search

NAME = f"test-{os.getpid()}"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No place but those of the test."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_one_that_runs_is_found_and_one_that_ran_is_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "wsadapter"
    Instance.acquire("gone").release()
    claim = Instance.acquire(NAME)
    try:
        (found,) = [place for place in search() if place.where == str(folder)]
        assert found == Place(str(folder), (NAME,), ("gone",))
        assert found.describe() == f"{folder}: {NAME}, gone (not running)"
        assert NAME in running()
    finally:
        claim.release()
    assert NAME not in running()


def test_only_a_folder_that_is_named_is_searched(tmp_path: Path) -> None:
    assert [place.describe() for place in search(str(tmp_path / "x"))] == [f"{tmp_path}/x: no such folder"]
    (tmp_path / "x").mkdir()
    assert [place.describe() for place in search(str(tmp_path / "x"))] == [f"{tmp_path}/x: none"]
    (tmp_path / "file").touch()
    assert [place.describe() for place in search(str(tmp_path / "file"))] == [f"{tmp_path}/file: Not a directory"]


def test_without_the_variables_of_a_session_its_folder_is_searched_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = f"/run/user/{os.getuid()}/wsadapter"
    assert usual not in [place.where for place in search()]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert usual in [place.where for place in search()]


def test_the_folder_in_tmp_is_searched_whatever_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    where = [place.where for place in search()]
    assert where[-2:] == [f"{tmp_path}/wsadapter-{os.getuid()}", f"/tmp/wsadapter-{os.getuid()}"]


@pytest.mark.native
def test_one_without_a_folder_is_found_by_its_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Instance._abstract(NAME)
    try:
        place = search()[-1]
        assert place.where == "abstract sockets"
        assert NAME in place.running
    finally:
        claim.release()
    assert NAME not in running()


@pytest.mark.native
def test_one_in_another_folder_is_a_hint_and_not_found_by_itself(tmp_path: Path) -> None:
    other = tmp_path / "other"
    claim = Instance.acquire(NAME, str(other))
    try:
        assert NAME not in running()
        assert other / f"{NAME}.sock" in elsewhere()
        assert other / f"{NAME}.sock" not in elsewhere(str(other))
        (other / f"{NAME}.lock").write_text("no pid")
        assert other / f"{NAME}.sock" not in elsewhere()
    finally:
        claim.release()


def test_a_socket_of_something_else_is_no_hint(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "other.sock"))
        listener.listen()
        assert tmp_path / "other.sock" not in elsewhere()


def test_one_that_takes_no_connection_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "_PATIENCE", 0.05)
    (tmp_path / "wsadapter").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / f"wsadapter/{NAME}.sock"))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(listener.getsockname())
            assert NAME in running()
            with pytest.raises(TimeoutError):
                connect(NAME)


def test_a_long_list_of_those_that_ran_is_cut() -> None:
    described = Place("/x", ("a",), tuple(f"n{number}" for number in range(20))).describe()
    assert described.startswith("/x: a, n0 (not running), ")
    assert described.endswith(", 12 more that do not run")
