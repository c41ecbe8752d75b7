"""The runner under a stand-in for systemd's notify socket."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, monotonic_ns

import pytest

from tests.support.command_line import Running, write_config, wsadapter
from tests.support.waiting import wait_until
from wsadapter.testing import Exchange

TICKS = ['{"n":1}']


class Notified:
    """What was sent to the notify socket."""

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver
        receiver.setblocking(False)
        self.lines: list[str] = []

    def read(self) -> list[str]:
        """All lines so far."""
        while True:
            try:
                self.lines += self._receiver.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.lines

    def wait(self, line: str, times: int = 1) -> None:
        """Until a line has come so often."""
        wait_until(lambda: self.read().count(line) >= times, 40, lambda: f"{line}: {self.lines}")


@pytest.fixture
def notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notified]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        yield Notified(receiver)


def test_ready_only_when_all_are_up_then_reloading_then_stopping(tmp_path: Path, notified: Notified) -> None:
    with Exchange(messages=TICKS) as ex, Exchange(messages=TICKS) as slow:
        slow.refuse(503)
        config = write_config(tmp_path / "feeds.toml", {"a": ex.url, "b": slow.url})
        with Running(tmp_path, str(config)) as running:
            notified.wait("STATUS=1 of 2 up; down: b")
            notified.wait("WATCHDOG=1", 3)
            assert "READY=1" not in notified.read()
            slow.refuse(0)
            assert wsadapter(tmp_path, "restart", "b").returncode == 0
            notified.wait("READY=1")
            notified.wait("STATUS=2 of 2 up")
            asked = monotonic_ns() // 1000
            running.process.send_signal(signal.SIGHUP)
            notified.wait("READY=1", 2)
            began = re.search(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", "\n".join(notified.lines))
            assert began is not None
            assert asked <= int(began[1]) <= monotonic_ns() // 1000
            config.write_text("nonsense")
            running.process.send_signal(signal.SIGHUP)
            notified.wait("READY=1", 3)  # the old configuration stays in use
            assert "STOPPING=1" not in notified.read()
            assert running.stop() == 0
        assert notified.read().count("STOPPING=1") >= 1


def test_the_watchdog_is_not_fed_while_the_reactor_is_stopped(tmp_path: Path, notified: Notified) -> None:
    config = tmp_path / "feeds.toml"
    with Exchange(messages=TICKS) as ex, Running(tmp_path, str(write_config(config, {"a": ex.url}))) as running:
        notified.wait("WATCHDOG=1", 2)
        running.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{running.process.pid}/stat").read_text("utf-8").split(") ")[1][0] == "T", 10)
        before = notified.read().count("WATCHDOG=1")
        end = monotonic() + 0.9  # the time after which systemd would act, and a half of it
        wait_until(lambda: monotonic() > end, 10)
        assert notified.read().count("WATCHDOG=1") == before
        running.process.send_signal(signal.SIGCONT)
        notified.wait("WATCHDOG=1", before + 1)
        assert running.stop() == 0


def test_with_a_keeper_the_next_supervisor_notifies_too_and_signals_reach_it(tmp_path: Path, notified: Notified) -> None:
    with Exchange(messages=TICKS) as ex:
        config = tmp_path / "feeds.toml"
        config.write_text(f'[journal]\npath = "journal"\nkeeper = true\n[endpoints.a]\nurl = "{ex.url}"\n')
        with Running(tmp_path, str(config)) as running:
            notified.wait("READY=1")
            supervisor = json.loads(wsadapter(tmp_path, "status", "--json").stdout)["pid"]
            assert supervisor != running.process.pid
            os.kill(supervisor, signal.SIGKILL)
            notified.wait("READY=1", 2)
            notified.wait("WATCHDOG=1", notified.lines.count("WATCHDOG=1") + 2)
            running.process.send_signal(signal.SIGHUP)
            notified.wait("RELOADING=1")
            notified.wait("READY=1", 3)
            assert running.stop() == 0
        assert "STOPPING=1" in notified.read()
