"""Messages that are kept: for this user alone, and only where the path leads where it says."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from wsadapter.config import load
from wsadapter.config.settings import Settings
from wsadapter.contract.quarantine import Quarantine
from wsadapter.control import quarantine_folder as module
from wsadapter.control.quarantine_folder import KeptFile, quarantine_folder, remove_surplus, surplus


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_what_is_kept_is_for_this_user_alone(tmp_path: Path) -> None:
    kept = Quarantine(str(tmp_path / "q"), "a/b").keep(b"x", binary=False, error="no")
    assert kept == f"; kept in {tmp_path}/q/a_b.jsonl"
    assert json.loads((tmp_path / "q" / "a_b.jsonl").read_text("utf-8")) == {"error": "no", "binary": False, "data": "eA=="}
    assert stat.S_IMODE((tmp_path / "q").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "q" / "a_b.jsonl").stat().st_mode) == 0o600


def test_nothing_is_written_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "other")
    assert Quarantine(str(tmp_path), "a").keep(b"x", binary=False, error="no").startswith("; not kept: ")
    assert not (tmp_path / "other").exists()


def test_without_a_folder_nothing_is_kept() -> None:
    assert Quarantine("", "a").keep(b"x", binary=False, error="no") == ""


DAY = 86400.0
FILES = [KeptFile(Path(name), size, days * DAY) for name, size, days in (("a", 40, 9), ("b", 30, 8), ("c", 20, 7), ("d", 1, 1))]


@pytest.mark.parametrize(
    ("most_bytes", "most_age", "removed"),
    [
        (1000, 0, []),
        (1000, 2.5 * DAY, ["c", "d"]),
        (91, 30 * DAY, []),
        (90, 30 * DAY, ["d"]),
        (70, 30 * DAY, ["c", "d"]),
        (69, 30 * DAY, ["b", "c", "d"]),
        (39, 30 * DAY, ["a", "b", "c", "d"]),
    ],
)
def test_what_is_too_old_goes_and_the_oldest_of_what_is_too_much(most_bytes: int, most_age: float, removed: list[str]) -> None:
    found = surplus(FILES, now=10 * DAY, most_bytes=most_bytes, most_age=most_age)
    assert sorted(file.path.name for file in found) == removed


def test_of_the_folder_only_files_of_the_quarantine_are_removed_and_folders_that_are_empty(tmp_path: Path) -> None:
    for run, name in (("one", "a.jsonl"), ("one", "b.jsonl"), ("two", "a.jsonl"), ("three", "other")):
        (tmp_path / run).mkdir(exist_ok=True)
        (tmp_path / run / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / run / name, (100, 100))
    (tmp_path / "elsewhere").symlink_to(tmp_path / "three")
    os.utime(tmp_path / "one" / "b.jsonl")
    remove_surplus(tmp_path, most_bytes=1000, most_age=DAY)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["one/b.jsonl", "three/other"]
    assert not (tmp_path / "two").exists()
    remove_surplus(tmp_path / "nowhere", most_bytes=1000, most_age=DAY)


def test_the_quarantine_is_cleaned_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quarantine" / "run").mkdir(parents=True)
    (tmp_path / "quarantine" / "run" / "a.jsonl").write_bytes(b"xx")
    searched: list[threading.Thread] = []

    def search(folder: Path) -> bool:
        searched.append(threading.current_thread())
        return folder == tmp_path

    monkeypatch.setattr(module, "is_ours", search)
    module.QuarantineFolder(str(tmp_path), most_bytes=1, most_age=0.0).clean("")
    wait_until(lambda: not (tmp_path / "quarantine" / "run").exists(), 5.0)
    (thread,) = searched  # the file system of the folder may hang: the loop must not even search it
    assert thread is not threading.current_thread()
    thread.join(5.0)


def test_without_a_thread_it_is_not_cleaned_this_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    module.QuarantineFolder(str(tmp_path), most_bytes=1, most_age=0.0).clean("")
    assert caplog.messages == ["quarantine: no thread can be started to clean it: can't start new thread; next try in 600 s"]


VARIABLES = ("STATE_DIRECTORY", "XDG_STATE_HOME", "HOME", "WSADAPTER_RUNTIME_DIR")


@pytest.mark.parametrize(
    ("variables", "configured", "folder"),
    [
        ({}, "{}/own", "own/quarantine"),
        ({"STATE_DIRECTORY": "{}/unit:{}/b", "XDG_STATE_HOME": "{}/state"}, "", "unit/quarantine"),
        ({"XDG_STATE_HOME": "{}/state", "HOME": "{}"}, "", "state/wsadapter/quarantine"),
        ({"XDG_STATE_HOME": "relative", "HOME": "{}"}, "", ".local/state/wsadapter/quarantine"),
        ({"HOME": "{}"}, "", ".local/state/wsadapter/quarantine"),
        ({"HOME": "/dev/null", "WSADAPTER_RUNTIME_DIR": "{}/run"}, "", "run/quarantine"),
    ],
)
def test_where_it_is(
    variables: dict[str, str], configured: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.format(tmp_path, tmp_path))
    (tmp_path / ".local").mkdir()
    assert quarantine_folder(configured.format(tmp_path), "") == tmp_path / folder


def test_its_limits_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[supervisor]\nquarantine_max_bytes = "4k"\nquarantine_max_age = "7d"\n[endpoints.a]\nurl = "ws://h"\n')
    settings = load(path)
    assert (settings.quarantine_max_bytes, settings.quarantine_max_age, settings.state_dir) == (4096, 7 * DAY, "")
    assert (Settings().quarantine_max_bytes, Settings().quarantine_max_age) == (256 << 20, 30 * DAY)
