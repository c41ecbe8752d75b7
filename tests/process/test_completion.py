"""Completion in real shells, where a person presses Tab."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.terminal import Terminal
from wsadapter.cli.completion import script

TYPED = [
    ("wsadapter unsu", "wsadapter unsubscribe"),
    ("wsadapter status --do", "wsadapter status --down"),
    ("wsadapter completion ba", "wsadapter completion bash"),
    ("wsadapter check fee", "wsadapter check feeds.toml"),
    ("wsadapter run fee", "wsadapter run feeds.toml"),
    ("wsadapter replay jou", "wsadapter replay journal"),
]
"""What is typed before Tab, and what stands there afterwards."""


def start(shell: str, folder: Path) -> Terminal:
    """The shell, interactive, without a person's start-up files, with the completion read. `feeds.toml` is in its folder."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here (Debian: {shell})")
    (folder / "feeds.toml").touch()
    (folder / "journal").mkdir()
    (folder / "completion").write_text(script(shell), "utf-8")
    first = {
        "bash": "bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; . ./completion; PS1='ready> '",
        "zsh": "unset zle_bracketed_paste; autoload -U compinit; compinit -D -u; . ./completion; PS1='ready> '",
    }[shell]
    quiet = {"bash": ("--norc", "--noprofile"), "zsh": ("-f",)}[shell]
    terminal = Terminal(folder, shell, *quiet, "-i", cwd=folder)
    terminal.type(f"{first}\n")
    return terminal


@pytest.fixture(params=["bash", "zsh"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    """A terminal with a shell in it."""
    terminal = start(request.param, tmp_path)
    try:
        terminal.wait(lambda: re.search(r"[\r\n](\x1b\[[^a-zA-Z]*[a-zA-Z])*ready> ", terminal.text), "the shell is ready")
        yield terminal
        terminal.type("\x15exit\n")
        terminal.wait(lambda: terminal.program.poll() is not None, "the shell ends")
    finally:
        terminal.close()


def test_tab_completes_commands_options_words_and_files(terminal: Terminal) -> None:
    for typed, completed in TYPED:
        press_tab(terminal, typed, completed)


def press_tab(terminal: Terminal, typed: str, completed: str) -> None:
    """On an empty line; what the shell adds is drawn behind what was typed."""
    before = len(terminal.text)
    terminal.type(f"\x15{typed}\t")
    rest = completed.removeprefix(typed)
    terminal.wait(lambda: f"{typed[-1]}{rest}" in terminal.text[before:].replace("\x07", ""), f"{typed} -> {completed}")


def completed_by_fish(folder: Path, typed: str) -> set[str]:
    """The words that fish offers."""
    command = f"source {folder / 'completion'}; complete -C {typed!r}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)},
    )  # fmt: skip
    assert done.stderr == ""
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here (Debian: fish)")
@pytest.mark.parametrize(("typed", "completed"), TYPED)
def test_fish_offers_commands_options_words_and_files(typed: str, completed: str, tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(script("fish"), "utf-8")
    (tmp_path / "feeds.toml").touch()
    (tmp_path / "journal").mkdir()
    words = {word.rstrip("/") for word in completed_by_fish(tmp_path, typed)}
    assert words == {completed.split()[-1]}
