"""Standard streams of a command that are closed, or cannot be written, or have an encoding with few characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the platform has no /dev/full")


def in_shell(redirection: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@needs_full
@pytest.mark.parametrize("words", [["docs", "guide"], ["docs"], ["dialects"], ["version"], ["completion", "bash"]])
def test_a_full_disk_is_one_line_and_the_code_of_what_was_not_done(words: list[str]) -> None:
    ended = in_shell(">/dev/full", "wsadapter", *words)
    assert ended.stderr == "wsadapter: standard output can't be written: No space left on device\n"
    assert ended.returncode == 1


@needs_full
def test_the_settings_that_a_full_disk_does_not_take_are_a_failed_output(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text('[endpoints.a]\nurl = "ws://127.0.0.1:9/"\n', "utf-8")
    ended = in_shell(">/dev/full", "wsadapter.supervise", str(path), "--check", "--show")
    assert ended.stderr == "python -m wsadapter.supervise: standard output can't be written: No space left on device\n"
    assert ended.returncode == 5


def test_a_closed_standard_error_puts_no_error_on_standard_output() -> None:
    ended = in_shell("2>&-", "wsadapter", "nonsense")
    assert (ended.stdout, ended.returncode) == ("", 2)


def test_a_closed_standard_output_is_no_bug() -> None:
    ended = in_shell(">&-", "wsadapter", "docs", "guide")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)


def test_a_character_that_the_encoding_does_not_have_is_escaped() -> None:
    ended = in_shell("", "wsadapter", "docs", "guide", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0
    assert "\\u2026" in ended.stdout
    assert "\nC" in ended.stdout
