"""Where a running supervisor is searched, and what is said of the places."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from wsadapter.contract.errors import AlreadyRunning, UsageError
from wsadapter.control import instance
from wsadapter.control.instance import Instance, Place, connect, elsewhere, running, runtime_folder, search, why_distrusted

NAME = f"test-{os.getpid()}"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No place but those of the test."""
    for variable in ("RUNTIME_DIRECTORY", "WSADAPTER_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_a_running_supervisor_is_found_and_an_ended_one_is_distinguished(tmp_path: Path) -> None:
    folder = tmp_path / "wsadapter"
    gone = f"gone-{NAME}"
    Instance.acquire(gone).release()
    claim = Instance.acquire(NAME)
    try:
        (found,) = [place for place in search() if place.where == str(folder)]
        assert found == Place(str(folder), (NAME,), (gone,))
        assert found.describe() == f"{folder}: {NAME}, {gone} (not running)"
        assert NAME in running()
    finally:
        claim.release()
    assert NAME not in running()


def test_only_a_folder_that_is_named_is_searched(tmp_path: Path) -> None:
    assert search(str(tmp_path / "x"))[0].describe() == f"{tmp_path}/x: no such folder"
    (tmp_path / "x").mkdir()
    assert search(str(tmp_path / "x"))[0].describe() == f"{tmp_path}/x: none"
    (tmp_path / "file").touch()
    assert search(str(tmp_path / "file"))[0].describe() == f"{tmp_path}/file: Not a directory"
    assert len([place for place in search(str(tmp_path / "file")) if place.where != "abstract sockets"]) == 1


def test_without_the_variables_of_a_session_its_folder_is_searched_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = f"/run/user/{os.getuid()}/wsadapter"
    assert usual not in [place.where for place in search()]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert usual in [place.where for place in search()]


def test_the_folder_in_tmp_is_searched_whatever_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    where = [place.where for place in search() if place.where != "abstract sockets"]
    assert where[-2:] == [f"{tmp_path}/wsadapter-{os.getuid()}", f"/tmp/wsadapter-{os.getuid()}"]


@pytest.mark.native
def test_one_without_a_folder_is_found_by_its_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Instance._abstract(NAME, "")
    try:
        place = search()[-1]
        assert place.where == "abstract sockets"
        assert NAME in place.running
    finally:
        claim.release()
    assert NAME not in running()


SURROUNDINGS = [
    ({"XDG_RUNTIME_DIR": "{}/run"}, {}),
    ({"RUNTIME_DIRECTORY": "{}/service", "XDG_RUNTIME_DIR": "{}/run"}, {"XDG_RUNTIME_DIR": "{}/run"}),
    ({}, {"XDG_RUNTIME_DIR": "{}/run"}),
    ({"TMPDIR": "{}"}, {}),
    ({"RUNTIME_DIRECTORY": "{}/service"}, {"TMPDIR": "{}"}),
]


@pytest.mark.native
@pytest.mark.parametrize(("started", "asked"), SURROUNDINGS, ids=["login-cron", "unit-login", "cron-login", "tmp", "unit-tmp"])
def test_one_name_is_one_supervisor_wherever_it_was_started_and_is_found_from_there(
    started: dict[str, str], asked: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surround(monkeypatch, tmp_path, started)
    claim = Instance.acquire(NAME)
    try:
        surround(monkeypatch, tmp_path, asked)
        reached(NAME)
        assert NAME in running()
        assert [NAME in place.running for place in search()].count(True) == 1
        with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()} holds"):
            Instance.acquire(NAME)
    finally:
        claim.release()
    assert connect(NAME) is None
    assert NAME not in running()


def surround(monkeypatch: pytest.MonkeyPatch, folder: Path, variables: dict[str, str]) -> None:
    """These variables, with `folder` in the place of {}, and none of the others."""
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.format(folder))


@pytest.mark.native
def test_a_folder_in_the_environment_is_a_separate_name_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = Instance.acquire(NAME)
    monkeypatch.setenv("WSADAPTER_RUNTIME_DIR", str(tmp_path / "named"))
    assert connect(NAME) is None
    assert NAME not in running()
    there = Instance.acquire(NAME)
    try:
        assert [place.where for place in search()] == [str(tmp_path / "named"), "abstract sockets"]
        shutil.rmtree(tmp_path / "named")
        with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()} holds"):
            Instance.acquire(NAME)
        assert NAME in search()[-1].running
        monkeypatch.delenv("WSADAPTER_RUNTIME_DIR")
        reached(NAME)
        assert NAME in search(str(tmp_path / "named"))[-1].running
    finally:
        monkeypatch.delenv("WSADAPTER_RUNTIME_DIR", raising=False)
        there.release()
        everywhere.release()


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


@pytest.mark.native
@pytest.mark.parametrize(("user", "is_shown"), [(0, True), (12345, True), (12346, False)])
def test_one_of_another_user_is_a_hint_for_root_alone(
    user: int, is_shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Instance.acquire(NAME, str(tmp_path / "service"))
    socket_path = tmp_path / f"service/{NAME}.sock"
    stat_of = Path.stat

    def stat_of_other(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        about = stat_of(path, follow_symlinks=follow_symlinks)
        return os.stat_result((*about[:4], 12345, *about[5:])) if path == socket_path else about

    monkeypatch.setattr(Path, "stat", stat_of_other)
    monkeypatch.setattr(os, "getuid", lambda: user)
    try:
        assert (socket_path in elsewhere()) == is_shown
    finally:
        monkeypatch.undo()
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


@pytest.mark.parametrize(
    ("mode", "owner", "why"),
    [
        (stat.S_IFDIR | 0o700, 7, ""),
        (stat.S_IFDIR | 0o755, 7, ""),
        (stat.S_IFDIR | 0o700, 8, "it belongs to user 8"),
        (stat.S_IFDIR | 0o777, 7, "others may write in it (chmod 700 it)"),
        (stat.S_IFDIR | 0o720, 7, "others may write in it (chmod 700 it)"),
        (stat.S_IFLNK | 0o777, 7, "it is no folder"),
    ],
)
def test_what_lies_in_a_folder_is_believed_if_only_this_user_can_have_put_it_there(mode: int, owner: int, why: str) -> None:
    assert why_distrusted(mode, owner, 7) == why


def test_a_socket_in_a_folder_that_others_may_write_to_is_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "wsadapter"
    folder.mkdir()
    folder.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / f"{NAME}.sock"))
        listener.listen()
        assert connect(NAME) is None
        assert f"{folder}: others may write in it (chmod 700 it)" in [place.describe() for place in search()]
        peer = connect(NAME, str(folder))  # named: whoever it is
        assert peer is not None
        peer.close()


@pytest.mark.native
def test_a_socket_of_another_user_is_ignored(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(instance, "credentials_of", lambda _: (1, 4711))
    claim, other = Instance.acquire(NAME), f"other-{NAME}"
    abstract = Instance._abstract(other, "")
    try:
        assert connect(NAME) is None
        assert connect(other) is None
        assert "another user (4711) listens there; it is ignored" in caplog.text
        assert [place for place in search() if place.where == "abstract sockets" and other in place.running] == []
    finally:
        claim.release()
        abstract.release()


def test_without_a_folder_of_this_user_alone_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert runtime_folder("") == tmp_path / "wsadapter"
    (tmp_path / "wsadapter").chmod(0o777)
    (tmp_path / f"wsadapter-{os.getuid()}").symlink_to(tmp_path)
    assert runtime_folder("") is None


@pytest.mark.parametrize("ending", ["lock", "sock"])
def test_something_else_in_the_place_of_its_files_is_a_clear_error(tmp_path: Path, ending: str) -> None:
    trap = tmp_path / "wsadapter" / f"{NAME}.{ending}"
    trap.mkdir(parents=True)
    (tmp_path / "wsadapter").chmod(0o700)
    said = rf"{NAME}\.{ending} can't be the .*; there is something else, of user {os.getuid()}; remove it"
    with pytest.raises(UsageError, match=said):
        Instance.acquire(NAME)
    trap.rmdir()
    Instance.acquire(NAME).release()


def test_a_long_list_of_those_that_ran_is_cut() -> None:
    described = Place("/x", ("a",), tuple(f"n{number}" for number in range(20))).describe()
    assert described.startswith("/x: a, n0 (not running), ")
    assert described.endswith(", 12 more that do not run")


@pytest.mark.native
def test_a_supervisor_whose_folder_was_removed_is_found_and_unique_and_puts_the_folder_back(tmp_path: Path) -> None:
    claim = Instance.acquire(NAME)
    try:
        shutil.rmtree(tmp_path / "wsadapter")
        reached(NAME)
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            Instance.acquire(NAME)
        shutil.rmtree(tmp_path / "wsadapter")
        replaced = claim.restore()
        assert replaced is not None
        replaced.close()
        assert claim.restore() is None
        assert NAME in running()
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            Instance.acquire(NAME)
    finally:
        claim.release()
    assert connect(NAME) is None
    Instance.acquire(NAME).release()


def test_a_lock_file_that_was_removed_is_put_back(tmp_path: Path) -> None:
    claim = Instance.acquire(NAME)
    try:
        lock = tmp_path / f"wsadapter/{NAME}.lock"
        lock.unlink()
        replaced = claim.restore()
        assert replaced is not None
        replaced.close()
        assert lock.read_text("utf-8") == f"{os.getpid()}\n"
        reached(NAME)
    finally:
        claim.release()


@pytest.mark.native
@pytest.mark.parametrize("stranger", [(0, os.getuid()), (1, os.getuid() + 1)], ids=["another-container", "another-user"])
def test_another_user_at_the_address_of_the_beacon_prevents_no_start(
    stranger: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "credentials_of", lambda _: stranger)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(instance._abstract_address(NAME))
        other.listen()
        claim = Instance.acquire(NAME)
        assert claim.beacon is None
        other.close()
        assert claim.restore() is None
        assert claim.beacon is not None
        claim.release()


def reached(name: str) -> None:
    """Somebody answers by that name."""
    client = connect(name)
    assert client is not None
    client.close()
