"""`wsadapter top` in a real terminal: it draws, follows the size, and leaves the terminal as it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.command_line import Running, environment, write_config, wsadapter
from tests.support.terminal import Terminal
from wsadapter import Supervisor
from wsadapter.testing import Exchange

WSADAPTER = (sys.executable, "-m", "wsadapter")


def test_top_draws_follows_the_size_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    with Exchange(messages=['{"n":1}'], rate=20, loop=True) as ex:
        config = str(write_config(tmp_path / "f.toml", {"zorblax": ex.url}))
        with Running(tmp_path, config) as running:
            running.wait_until(lambda: running.events("up"))
            terminal = Terminal(tmp_path, *WSADAPTER, "top")
            try:
                terminal.wait(lambda: "zorblax" in terminal.text and "1 of 1 endpoints up" in terminal.text, "it is drawn")
                assert "\x1b[?1049h" in terminal.text  # the other screen, so that the first one stays
                terminal.type("l")
                terminal.wait(lambda: "The supervisor's log" in terminal.text and "INFO zorblax" in terminal.text, "the log")
                terminal.type("q")
                before = len(terminal.text)
                terminal.resize(60)
                terminal.program.send_signal(signal.SIGWINCH)
                terminal.wait(lambda: "zorblax" in terminal.text[before:], "it is drawn anew")
                terminal.type("q")
                terminal.wait(lambda: "\x1b[?1049l" in terminal.text, "the first screen is back")
                assert terminal.program.wait(20) == 0
            finally:
                terminal.close()
            assert running.stop() == 0


def test_without_a_supervisor_or_textual_top_says_what_to_do(tmp_path: Path) -> None:
    assert wsadapter(tmp_path, "top").returncode == 3
    config = tmp_path / "f.toml"
    with Exchange(messages=['{"n":1}']) as ex, Running(tmp_path, str(write_config(config, {"a": ex.url}))) as running:
        running.wait_until(lambda: running.events("up"))
        code = (
            "import sys, importlib.util as u; found = u.find_spec\n"
            "u.find_spec = lambda name, *a: None if name == 'textual' else found(name, *a)\n"
            "from wsadapter.__main__ import main; sys.exit(main(['top']))"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, timeout=20, check=False
        )
        assert ended.returncode == 2
        assert "pip install 'wsadapter[console]'" in ended.stderr
        assert "wsadapter status --watch" in ended.stderr
        assert running.stop() == 0


def test_top_refuses_what_is_no_terminal(tmp_path: Path) -> None:
    config = tmp_path / "f.toml"
    with Exchange(messages=['{"n":1}']) as ex, Running(tmp_path, str(write_config(config, {"a": ex.url}))) as running:
        running.wait_until(lambda: running.events("up"))
        refused = wsadapter(tmp_path, "top")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "top needs a terminal; for a pipe or a file there is: wsadapter status --watch" in refused.stderr
        assert running.stop() == 0


def test_status_watch_shows_the_table_again_and_again(tmp_path: Path) -> None:
    config = tmp_path / "f.toml"
    with Exchange(messages=['{"n":1}']) as ex, Running(tmp_path, str(write_config(config, {"zorblax": ex.url}))) as running:
        running.wait_until(lambda: running.events("up"))
        terminal = Terminal(tmp_path, *WSADAPTER, "status", "--watch")
        try:
            terminal.wait(lambda: "zorblax" in terminal.text, "a table")
            with Supervisor([], name="another", runtime_dir=str(tmp_path / "wsadapter")):
                seen = terminal.text.count("zorblax")
                terminal.wait(lambda: terminal.text.count("zorblax") >= seen + 2, "two tables more")
            assert terminal.text.count("\x1b[H\x1b[J") >= 3
            terminal.program.send_signal(signal.SIGINT)
            terminal.wait(lambda: terminal.program.poll() is not None, "it ends")
            assert terminal.program.wait(10) == 0
        finally:
            terminal.close()
        assert running.stop() == 0
