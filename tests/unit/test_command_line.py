"""Every command has its help with an example, its completion, and its line in the reference."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from wsadapter import supervise
from wsadapter.__main__ import main
from wsadapter.cli.command_line import COMMANDS, SHELLS, make_parser
from wsadapter.cli.completion import commands_of, script
from wsadapter.config.dialect import bundled
from wsadapter.exporter import __main__ as exporter
from wsadapter.testing import __main__ as testing
from wsadapter.version import VERSION

REFERENCE = (Path(__file__).resolve().parents[2] / "ops/docs/REFERENCE.md").read_text("utf-8")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "run"])
def test_help_has_an_example_that_parses_and_the_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"example: {COMMANDS[name].example}" in said
    assert "exit codes: 0 " in said
    if name != "completion":  # its example is for a shell
        program, *words = shlex.split(COMMANDS[name].example)
        assert program == "wsadapter"
        assert make_parser().parse_args(words).action == name


@pytest.mark.parametrize(
    ("program", "run", "words"),
    [
        ("wsadapter run", main, []),
        ("wsadapter run", main, ["run"]),
        ("python -m wsadapter.supervise", supervise.main, []),
        ("python -m wsadapter.exporter", exporter.main, []),
        ("python -m wsadapter.testing serve", testing.main, []),
        ("python -m wsadapter.testing serve", testing.main, ["serve"]),
        ("python -m wsadapter.testing list", testing.main, ["list"]),
    ],
)
def test_the_help_of_each_program_has_an_example(
    program: str, run: Callable[[list[str]], int], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run([*words, "--help"])
    assert ended.value.code == 0
    assert re.search(rf"examples?:\s+{re.escape(program)}\b", capsys.readouterr().out)


@pytest.mark.parametrize("word", ["feeds.toml", "--demo"])
def test_the_examples_of_the_runner_parse(word: str) -> None:
    options = supervise.parse_arguments([word], "wsadapter run")
    assert options.demo == (word == "--demo")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_each_command(name: str) -> None:
    assert f"`wsadapter {name}" in REFERENCE or name == "run"


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    without = capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out == without
    assert all(re.search(rf"^ +{name}\b", without, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize(
    ("word", "meant"), [("statsu", "status"), ("tial", "tail"), ("relaod", "reload"), ("dialect", "dialects")]
)
def test_a_wrong_word_is_answered_with_the_nearest(word: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([word])
    assert ended.value.code == 2
    assert f"did you mean {meant!r}?" in capsys.readouterr().err


def test_dialects_lists_all_and_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dialects"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(bundled())
    assert main(["dialects", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == bundled().keys()
    assert main(["dialects", "kraken", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["urls"]["live"] == "wss://ws.kraken.com/v2"
    assert json.loads(about["stream"]) == {"channel": "book", "symbol": ["BTC/USD"], "depth": 100}
    assert about["login_needs"] == ["key", "secret"]
    assert main(["dialects", "kraken"]) == 0
    assert "docs: https://docs.kraken.com" in capsys.readouterr().out


def test_an_unknown_dialect_is_2_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dialects", "krakn"]) == 2
    assert "did you mean 'kraken'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(bundled()))
def test_every_dialect_can_be_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dialects", name]) == 0
    assert f"name: {name}\n" in capsys.readouterr().out


def test_version_has_what_a_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["wsadapter"] == VERSION
    assert about["packages"]["orjson"]
    assert main(["version"]) == 0
    assert f"wsadapter {VERSION}, CPython 3." in capsys.readouterr().out


def test_check_as_json_has_each_problem_with_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "feeds.toml"
    path.write_text('[endpoints.a]\nurl = "ws://h/"\n')
    assert main(["check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(path), "problems": [], "endpoints": ["a"]}
    path.write_text('[endpoints.a]\nurl = "ws://h/"\nurll = 1\n[endpoints.b]\n')
    assert main(["check", str(path), "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [problem["path"] for problem in problems] == ["endpoints.a.urll", "endpoints.b.url"]
    assert main(["check", str(path)]) == 2
    assert "endpoints.a.urll" in capsys.readouterr().err


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_has_every_command_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for name, words in commands_of().items():
        assert name in text
        assert all(option.lstrip("-") in text for option in words.options)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_accepts_its_completion(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    checked = subprocess.run([shell, "-n"], input=script(shell), capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["wsadapter", "un"], {"unsubscribe"}),
        (["wsadapter", "status", "--d"], {"--down"}),
        (["wsadapter", "completion", ""], {"bash", "zsh", "fish", "--help", "-h"}),
        (["wsadapter", "check", "--sh"], {"--show"}),
        (["wsadapter", "nonsense", ""], set()),
    ],
)
def test_bash_completes(words: list[str], found: set[str]) -> None:
    array = " ".join(f"'{word}'" for word in words)
    ask = f'COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; _wsadapter; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", f"{script('bash')}\n{ask}"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert set(done.stdout.split()) == found


def test_bash_completes_files_where_a_file_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "feeds.toml").touch()
    ask = "COMP_WORDS=(wsadapter check fe); COMP_CWORD=2; _wsadapter; echo ${COMPREPLY[@]}"
    text = f"{script('bash')}\n{ask}"
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split() == ["feeds.toml"]
