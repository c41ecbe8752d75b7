"""`--check`, and impossible command lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import supervise, write_config, wsadapter


def test_a_good_configuration_is_0_and_nothing_is_started(tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.toml", {"a": "ws://127.0.0.1:1/"})
    ended = supervise(tmp_path, str(config), "--check")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "no problems, 1 endpoint" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text(
        '[supervisor]\nspares = "many"\n[output]\nkind = "xml"\n[endpoints.a]\nurll = "ws://x/"\n'
        '[endpoints.b]\nurl = "http://x/"\n[endpoints.b.timeouts]\nconnect = "soon"\n'
    )
    for words in ([str(config), "--check"], [str(config)]):
        ended = supervise(tmp_path, *words)
        assert (ended.returncode, ended.stdout) == (2, "")
        places = ("supervisor.spares", "output.kind", "endpoints.a.urll", "endpoints.b.url", "endpoints.b.timeouts.connect")
        assert [place for place in places if place not in ended.stderr] == []
        assert "Traceback" not in ended.stderr


def test_a_path_that_cannot_be_the_journal_is_a_problem_and_is_left_alone(tmp_path: Path) -> None:
    for made in ("file", "folder", "newer", "empty", "nothing"):
        path = tmp_path / made
        if made == "file":
            path.write_text("mine")
        elif made != "nothing":
            path.mkdir()
        if made == "folder":
            (path / "mine.txt").write_text("mine")
        elif made == "newer":
            (path / "journal.json").write_text('{"format": 99, "id": "x"}')
        config = write_config(
            tmp_path / "a.toml", {"a": "ws://127.0.0.1:1/"}, more=f'[journal]\npath = "{path}"', output=str(tmp_path / "out")
        )
        ended = supervise(tmp_path, str(config), "--check")
        if made in ("empty", "nothing"):
            assert ended.returncode == 0
            assert not path.exists() or not list(path.iterdir())
        else:
            assert ended.returncode == 2
            assert f"journal.path: {path}: " in ended.stderr
            (problem,) = json.loads(wsadapter(tmp_path, "check", str(config), "--json").stdout)["problems"]
            assert problem["path"] == "journal.path"


def test_a_connect_limit_that_makes_endpoints_wait_is_reported_with_the_arithmetic(tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.toml", dict.fromkeys("abc", "ws://127.0.0.1:1/"))
    config.write_text("[defaults]\nlimits = { connects = 1, connects_period = 60 }\n" + config.read_text("utf-8"))
    ended = supervise(tmp_path, str(config), "--check")
    assert ended.returncode == 0
    text = "3 endpoints connect to 127.0.0.1: at most 1 in 60 s (limits.connects), so the last one connects after about 2 min"
    assert text in ended.stderr


def test_the_limit_of_a_dialect_and_the_shards_that_it_makes_count(tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    tables = "".join(f'[endpoints.e{number}]\ndialect = "bitfinex"\n' for number in range(60))
    config.write_text(tables)
    ended = supervise(tmp_path, str(config), "--check")
    assert ended.returncode == 0
    assert "60 endpoints connect to api-pub.bitfinex.com: at most 20 in 60 s" in ended.stderr
    config.write_text('[endpoints.e]\ndialect = "bitfinex"\nsubscribe_file = "s"\n')
    (tmp_path / "s").write_text("\n".join(f'{{"channel": "ticker", "symbol": "t{number}"}}' for number in range(1500)))
    ended = supervise(tmp_path, str(config), "--check")
    assert "60 endpoints connect to api-pub.bitfinex.com: at most 20 in 60 s" in ended.stderr


def test_show_prints_the_effective_settings_without_secrets(tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.toml", {"a": "ws://me:hunter2@127.0.0.1:1/?token=hunter2"})
    ended = supervise(tmp_path, str(config), "--check", "--show")
    assert ended.returncode == 0
    assert "[endpoints.a.timeouts]" in ended.stdout
    assert "hunter2" not in ended.stdout + ended.stderr


def test_secrets_need_not_be_there_for_a_check_without_them(tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.toml", {"a": "wss://${NO_SUCH_HOST}/?key=${file:no.such.file}"})
    with_them = supervise(tmp_path, str(config), "--check")
    without = supervise(tmp_path, str(config), "--check", "--no-secrets")
    assert with_them.returncode == 2
    assert "${NO_SUCH_HOST}: the environment variable NO_SUCH_HOST is not set" in with_them.stderr
    assert (without.returncode, without.stdout) == (0, "")


@pytest.mark.parametrize(("name", "said"), [("nowhere.toml", "No such file"), (".", "Is a directory")])
def test_a_file_that_can_not_be_read_is_2(tmp_path: Path, name: str, said: str) -> None:
    ended = supervise(tmp_path, str(tmp_path / name))
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "words",
    [[], ["a.toml", "--demo"], ["--demo", "--check"], ["a.toml", "--show"], ["a.toml", "--no-secrets"],
     ["a.toml", "--duration", "-1"], ["a.toml", "--duration", "nan"],
     ["a.toml", "--duration", "soon"], ["a.toml", "b.toml"], ["a.toml", "--no-such"]],
)  # fmt: skip
def test_impossible_arguments_exit_with_2(tmp_path: Path, words: list[str]) -> None:
    ended = supervise(tmp_path, *words)
    assert ended.returncode == 2
    assert "usage:" in ended.stderr


def test_a_name_that_is_none_is_2(tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.toml", {"a": "ws://127.0.0.1:1/"})
    ended = supervise(tmp_path, str(config), "--name", "../x")
    assert ended.returncode == 2
    assert "--name: a name must not hold '/'" in ended.stderr


def test_run_is_the_same_as_supervise(tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.toml", {"a": "ws://127.0.0.1:1/"})
    assert wsadapter(tmp_path, "run", str(config), "--check").returncode == 0
    assert wsadapter(tmp_path, "run").returncode == 2


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert wsadapter(tmp_path, "--version").stdout.startswith("wsadapter ")


def test_a_hook_that_can_not_be_called_is_2(tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.toml", {"a": "ws://127.0.0.1:1/"})
    config.write_text(config.read_text("utf-8") + 'decode = "os:replace"\n')
    ended = supervise(tmp_path, str(config), "--check")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "endpoints.a.decode: decode = 'os:replace' can't be called: it takes (src, dst, " in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: wsadapter"),
        (["statsu"], "there is no command 'statsu'; did you mean 'status'?"),
        (["feeds.toml"], "to run that configuration: wsadapter run feeds.toml"),
        (["frobnicate", "--json"], "there is no command 'frobnicate'; known: run, status, "),
        (["restart"], "usage: wsadapter restart"),
        (["status", "--jsn"], "unrecognized arguments: --jsn"),
    ],
)
def test_a_wrong_command_is_2_with_what_is_probably_meant(tmp_path: Path, words: list[str], said: str) -> None:
    ended = wsadapter(tmp_path, *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["status", "restart", "stop", "docs", "run"])
def test_every_command_has_its_help(tmp_path: Path, command: str) -> None:
    ended = wsadapter(tmp_path, command, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"usage: wsadapter {command}")
    assert "exit codes:" in ended.stdout or command == "docs"
    assert f"    {command} " in wsadapter(tmp_path, "--help").stdout
