"""Where modules are imported from: what Python puts in front for the program is searched last, or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

import wsadapter
from wsadapter import import_path

HOME = str(Path(wsadapter.__file__).parents[1])


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of a program, which is also the working folder, in front of an ordinary path."""
    folder = tmp_path / "program"
    folder.mkdir()
    main = ModuleType("__main__")
    main.__file__ = str(folder / "websocket.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), "/usr/lib/python.zip", HOME, "/elsewhere"])
    return str(folder)


def test_an_owner_does_without_the_folder_of_the_program(program: str) -> None:
    assert import_path.for_owners() == ["/usr/lib/python.zip", HOME, "/elsewhere"]


def test_an_owner_does_without_the_working_folder(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), program, "/usr/lib/python.zip"])
    assert import_path.for_owners() == ["/usr/lib/python.zip"]


def test_the_folder_of_a_linked_script_is_that_of_its_target_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/prog.py").touch()
    (tmp_path / "prog").symlink_to("real/prog.py")
    main = ModuleType("__main__")
    main.__file__ = str(tmp_path / "prog")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "real"), "/usr/lib/python.zip"])
    assert import_path.for_owners() == ["/usr/lib/python.zip"]


def test_a_folder_that_holds_this_package_stays_and_stands_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HOME)
    monkeypatch.setattr(sys, "path", ["", "/usr/lib/python.zip"])
    assert import_path.for_owners() == ["/usr/lib/python.zip", HOME]
    import_path.forget_program_folder()
    assert sys.path == ["", "/usr/lib/python.zip"]


def test_hooks_are_searched_on_the_whole_path_then_beside_the_files_that_name_them(program: str) -> None:
    assert import_path.for_hooks("/etc/feeds", "", "/elsewhere") == (
        program, "/usr/lib/python.zip", HOME, "/elsewhere", "/etc/feeds",
    )  # fmt: skip


def test_a_dialect_of_the_users_own_adds_its_folder() -> None:
    assert import_path.with_dialect_folder(("/a",), "/etc/dialects/mine.toml") == ("/a", "/etc/dialects")
    assert import_path.with_dialect_folder(("/a",), "/a/mine.toml") == ("/a",)
    assert import_path.with_dialect_folder(("/a",), "kraken") == ("/a",)


def test_our_own_commands_forget_the_folder_of_the_program(program: str) -> None:
    import_path.forget_program_folder()
    assert sys.path == ["/usr/lib/python.zip", HOME, "/elsewhere"]
    import_path.forget_program_folder()  # only what Python put there
    assert sys.path == ["/usr/lib/python.zip", HOME, "/elsewhere"]


def test_a_working_folder_that_was_deleted_is_no_error(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "lib", "/usr/lib/python.zip"])
    os.rmdir(program)
    assert import_path.working_folder() == ""
    assert import_path.for_owners() == ["/usr/lib/python.zip"]
    assert import_path.for_hooks("/etc/feeds") == ("/usr/lib/python.zip", "/etc/feeds")
