"""Hooks are found by one rule, and no file in the working folder is imported for a module of Python or of ours."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.command_line import MODULE, PATIENCE, SCRIPT, Running, environment, write_config
from wsadapter.testing import Exchange

SHADOWS = ("websocket", "queue", "token", "signal", "socket", "orjson", "selectors", "argparse", "psutil")
"""Modules that the supervisor, its fork server or an owner imports."""
SHADOW = "import pathlib\npathlib.Path(__file__).with_name('IMPORTED').touch()\nraise RuntimeError('a file of the user')\n"
PROGRAM = """
import sys
from wsadapter import Endpoint, Message, Supervisor

with Supervisor([Endpoint("a", url=sys.argv[1])], start_method=sys.argv[2]) as feed:
    while not isinstance(item := feed.get(15), Message):
        pass
print("delivered", item.data.decode())
"""
HOOK = "def decode(data, *, binary, stream):\n    return b'decoded ' + data\n"


def config_of(folder: Path, ex: Exchange, start_method: str, more: str = "") -> Path:
    path = write_config(folder / "a.toml", {"a": ex.url}, more=more)
    path.write_text(f'[supervisor]\nstart_method = "{start_method}"\n{path.read_text("utf-8")}')
    return path


@pytest.mark.parametrize("program", [MODULE, SCRIPT], ids=["module", "script"])
def test_files_in_the_working_folder_are_not_imported_for_modules(
    program: Sequence[str], start_method: str, tmp_path: Path
) -> None:
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(SHADOW)
    with Exchange(messages=["x"]) as ex:
        config = config_of(tmp_path, ex, start_method)
        with Running(tmp_path, str(config), program=program, cwd=tmp_path) as running:
            running.wait_until(lambda: running.messages("a"))
            assert running.stop() == 0, running.log
    assert not (tmp_path / "IMPORTED").exists()


@pytest.mark.parametrize("name", ["websocket.py", "prog.py"])
def test_a_program_is_run_once_whatever_it_is_called_and_wherever(name: str, start_method: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(PROGRAM)
    for shadow in ("token", "queue"):  # the program itself is run in another folder
        (tmp_path / f"elsewhere/{shadow}.py").parent.mkdir(exist_ok=True)
        (tmp_path / f"elsewhere/{shadow}.py").write_text(SHADOW)
    with Exchange(messages=["x"]) as ex:
        done = subprocess.run(
            [sys.executable, tmp_path / name, ex.url, start_method],
            cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "delivered x\n"), done.stderr
    assert not (tmp_path / "elsewhere/IMPORTED").exists()


@pytest.mark.parametrize("program", [MODULE, SCRIPT], ids=["module", "script"])
def test_a_hook_is_found_beside_the_configuration_and_not_in_the_working_folder(program: Sequence[str], tmp_path: Path) -> None:
    configured, working = tmp_path / "configured", tmp_path / "working"
    for folder in (configured, working):
        folder.mkdir()
    (configured / "beside.py").write_text(f"import also_beside\n{HOOK}")
    (configured / "also_beside.py").touch()
    (working / "there.py").write_text(HOOK)
    more = '[endpoints.b]\nurl = "{url}"\ndecode = "there:decode"\n[endpoints.a]\nurl = "{url}"\ndecode = "beside:decode"'
    with Exchange(messages=["x"]) as ex:
        config = write_config(configured / "a.toml", {}, more=more.format(url=ex.url))
        with Running(tmp_path, str(config), program=program, cwd=working) as running:
            running.wait_until(lambda: running.messages("a") and running.events("down"))
            assert running.stop() == 0
    assert running.messages("a")[0]["text"] == "decoded x"
    (first, *_) = [event["reason"] for event in running.events("down") if event["endpoint"] == "b"]
    assert first["kind"] == "config"
    assert first["text"].startswith("decode = 'there:decode' can't be imported: there is no module 'there'; modules of hooks")


def test_a_hook_of_a_dialect_is_found_beside_the_dialect(tmp_path: Path) -> None:
    (tmp_path / "dialects").mkdir()
    (tmp_path / "dialects/hooks_of_mine.py").write_text("def decode(payload):\n    return b'unpacked'\n")
    with Exchange(messages=[b"x"]) as ex:
        (tmp_path / "dialects/mine.toml").write_text(
            f'[dialect]\nname = "mine"\ntitle = "Mine"\ndocs = "https://mine.example/"\n[urls]\nlive = "{ex.url}"\n'
            """[subscribe]\nframe = '{"open":"$streams"}'\n[hooks]\ndecode = "hooks_of_mine:decode"\n"""
        )
        config = write_config(tmp_path / "a.toml", {}, more='[endpoints.a]\ndialect = "dialects/mine.toml"')
        with Running(tmp_path, str(config)) as running:
            running.wait_until(lambda: running.messages("a"))
            assert running.stop() == 0
    assert running.messages("a")[0]["text"] == "unpacked"


def test_owners_are_replaced_after_the_working_folder_was_deleted(start_method: str, tmp_path: Path) -> None:
    working = tmp_path / "working"
    working.mkdir()
    with Exchange(messages=["x"]) as ex:
        config = config_of(tmp_path, ex, start_method)
        with Running(tmp_path, str(config), cwd=working) as running:
            running.wait_until(lambda: running.messages("a"))
            shutil.rmtree(working)
            for times in (1, 2):  # the first is replaced by a spare that was started before
                os.kill(running.status()["a"]["pid"], signal.SIGKILL)
                running.wait_until(lambda times=times: len(running.events("up")) == 1 + times)
            assert running.stop() == 0
    assert {event["reason"]["kind"] for event in running.events("down")} == {"crashed", "stopped"}


def test_it_starts_in_a_working_folder_that_was_deleted(start_method: str, tmp_path: Path) -> None:
    working = tmp_path / "working"
    working.mkdir()
    with Exchange(messages=["x"]) as ex:
        config = config_of(tmp_path, ex, start_method)
        command = ["sh", "-c", f'rmdir "{working}" && exec "$@"', "sh", *MODULE, str(config), "--duration", "60"]
        with subprocess.Popen(
            command, cwd=working, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                lines = [process.stdout.readline() for _ in range(4)]
                process.terminate()
                _, log = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
    assert process.returncode == 0, log
    assert '"text":"x"' in lines[3]
