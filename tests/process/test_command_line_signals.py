"""Signals of the runner: reload, status dump, a closing terminal; and what it does as pid 1."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.command_line import PATIENCE, Running, environment, write_config, wsadapter
from tests.support.trees import lives
from tests.support.waiting import wait_until
from wsadapter.cli.hang_ups import TOGETHER
from wsadapter.testing import Exchange


def waiting_in(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


TICKS = ['{"n":1}', '{"n":2}']


def test_row_47_a_reload_touches_only_what_changed(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex, Exchange(messages=TICKS) as other:
        config = write_config(tmp_path / "a.toml", {"same": ex.url, "changed": ex.url, "gone": ex.url})
        with Running(tmp_path, str(config)) as running:
            ex.wait_connections(3)
            running.wait_until(lambda: len(running.messages("same")) == len(running.messages("changed")) == 2)
            before = running.status()
            write_config(config, {"same": ex.url, "changed": other.url, "new": other.url})
            running.process.send_signal(signal.SIGHUP)
            running.wait_for_log("reloaded")
            other.wait_connections(2)
            ex.wait_connections(1)
            running.wait_until(lambda: len(running.messages("changed")) == 4)
            after = running.status()
            assert set(after) == {"same", "changed", "new"}
            assert after["same"]["pid"] == before["same"]["pid"]
            assert after["changed"]["pid"] != before["changed"]["pid"]
            assert running.stop() == 0
    assert [message["number"] for message in running.messages("changed")] == [1, 2, 3, 4]
    story = [line["event"] for line in running.output if line.get("endpoint") == "changed" and "event" in line]
    assert [event for event in story if event in ("up", "down", "gap")] == ["up", "down", "up", "gap", "down"]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are Linux's")
def test_one_sigterm_ends_it_when_there_is_no_memory_for_another_thread(tmp_path: Path) -> None:
    with Exchange(messages=TICKS, rate=50, loop=True) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            running.wait_until(lambda: len(running.messages("a")) > 2)
            pid = running.process.pid
            little = psutil.Process(pid).memory_info().vms + (4 << 20)  # the stack of a thread takes 8 MiB
            resource.prlimit(pid, resource.RLIMIT_AS, (little, little))
            assert running.stop() == 0
    assert running.log
    assert not [line for line in running.log if "Traceback" in line]


def test_row_46_a_bad_file_keeps_the_old_configuration_running(tmp_path: Path) -> None:
    with Exchange(messages=TICKS, rate=20, loop=True) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            ex.wait_connections(1)
            pid = running.status()["a"]["pid"]
            texts = {
                "[endpoints.a]\nurll = 1": "endpoints.a.urll",
                "not = [toml": "line 1, column 8: not valid TOML",
                f"x = {'[' * 3000}{']' * 3000}": "nested too deep",
                f"x = {'9' * 5000}": "Exceeds the limit",
            }
            for text, said in texts.items():
                config.write_text(text)
                running.process.send_signal(signal.SIGHUP)
                running.wait_for_log(said)
            config.unlink()
            running.process.send_signal(signal.SIGHUP)
            running.wait_for_log("can't be read")
            assert sum("the old configuration stays in use" in line for line in running.log) == 5
            seen = len(running.messages("a"))
            running.wait_until(lambda: len(running.messages("a")) > seen)
            assert running.status()["a"]["pid"] == pid
            assert running.stop() == 0


def test_row_44_a_storm_of_signals_is_survived_and_makes_few_reloads(tmp_path: Path) -> None:
    with Exchange(messages=TICKS, rate=20, loop=True) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            ex.wait_connections(1)
            pid = running.status()["a"]["pid"]
            for _ in range(5000):
                running.process.send_signal(signal.SIGHUP)
                running.process.send_signal(signal.SIGCHLD)
            running.wait_for_log("reloaded")
            assert running.status()["a"]["pid"] == pid
            for _ in range(100):
                running.process.send_signal(signal.SIGTERM)
            assert running.wait() == 0
        assert sum("reloaded" in line for line in running.log) < 1000
        wait_until(lambda: ex.closes == {1: 1000}, 10)


def test_sigusr1_prints_stacks_and_status(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            ex.wait_connections(1)
            running.process.send_signal(signal.SIGUSR1)
            running.wait_for_log("status, as asked by SIGUSR1")
            status = next(line for line in running.log if "status, as asked" in line).partition("SIGUSR1: ")[2]
            assert "a" in json.loads(status)["endpoints"]
            assert any("thread MainThread:" in line for line in running.log)
            assert running.stop() == 0


def test_a_closing_terminal_means_stop(tmp_path: Path) -> None:
    terminal, ours = pty.openpty()
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})

        def control_it() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        with Running(tmp_path, str(config), stdin=ours, start_new_session=True, preexec_fn=control_it) as running:
            os.close(ours)
            running.wait_until(lambda: len(running.messages("a")) == 2)
            running.process.send_signal(signal.SIGHUP)  # the terminal is there: a reload
            running.wait_for_log("reloaded")
            os.close(terminal)
            assert running.wait() == 0
        wait_until(lambda: ex.closes == {1: 1000}, 10)
    assert any("the terminal was closed" in line for line in running.log)


def test_a_hang_up_long_after_the_terminal_has_gone_is_a_reload(tmp_path: Path) -> None:
    terminal, ours = pty.openpty()
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})

        def control_it() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        in_the_background = ["sh", "-mc", '"$0" -m wsadapter.supervise "$@" & wait', sys.executable]
        settings: dict[str, Any] = {"stdin": ours, "start_new_session": True, "preexec_fn": control_it}
        with Running(tmp_path, str(config), program=in_the_background, **settings) as running:
            os.close(ours)
            running.wait_until(lambda: len(running.messages("a")) == 2)
            runner = psutil.Process(json.loads(wsadapter(tmp_path, "status", "--json").stdout)["pid"])
            assert os.getpgid(runner.pid) != os.getpgid(running.process.pid)
            os.close(terminal)
            time.sleep(TOGETHER + 2.0)  # what comes earlier may be the terminal's own
            runner.send_signal(signal.SIGHUP)
            running.wait_for_log("reloaded")
            runner.terminate()
            wait_until(lambda: not lives(runner), PATIENCE)
    assert not any("the terminal was closed" in line for line in running.log)


def test_with_nohup_a_hang_up_reloads_and_the_end_of_the_terminal_changes_nothing(tmp_path: Path) -> None:
    terminal, ours = pty.openpty()
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})

        def control_it() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

        with Running(tmp_path, str(config), stdin=ours, start_new_session=True, preexec_fn=control_it) as running:
            os.close(ours)
            running.wait_until(lambda: len(running.messages("a")) == 2)
            running.process.send_signal(signal.SIGHUP)
            running.wait_for_log("reloaded")
            os.close(terminal)
            running.wait_for_log("the supervisor continues, as with nohup")
            assert ex.connections == 1
            assert running.stop() == 0


def test_a_stop_is_not_held_up_for_ever_by_a_named_pipe_without_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url}, output=str(tmp_path / "pipe"))
        with Running(tmp_path, str(config)) as running:
            running.wait_for_log("a/1 up")  # a connection whose handshake is not over is left without a close frame
            running.wait_for_log("waiting for a reader")
            assert running.stop() == 0
        wait_until(lambda: ex.closes == {1: 1000}, 10)
    assert any("the stop waits for the output" in line for line in running.log)


def test_a_stop_is_not_held_up_for_ever_by_a_full_pipe(tmp_path: Path) -> None:
    read, write = os.pipe()
    with Exchange(messages=["x" * 500_000]) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        command = [sys.executable, "-m", "wsadapter.supervise", str(config)]
        with subprocess.Popen(command, env=environment(tmp_path), stdout=write, stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_until(lambda: waiting_in(read) > 16_384, PATIENCE)
                process.terminate()
                _, log = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
                os.close(read)
                os.close(write)
    assert process.returncode == 5, log
    assert "the stop waits for the output standard output" in log


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="a new pid namespace needs root and unshare")
def test_row_41_as_pid_1_it_reaps_orphans_and_ends_with_the_exit_code(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c"]
        # The shell leaves an orphan behind and becomes the runner, as pid 1.
        script = f"(sleep 0.2 & ) ; exec {sys.executable} -m wsadapter.supervise {config} --duration 4"
        ended = subprocess.run(
            [*command, script], env=environment(tmp_path), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count('"number"') == 2
