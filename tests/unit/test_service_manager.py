"""What is said to a service manager, and when; and the unit that it reads."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from wsadapter.cli.service_manager import READY_WITHIN, Announcer, ServiceManager

UNIT = Path(__file__).resolve().parents[2] / "ops/examples/wsadapter@.service"
ANALYZE = shutil.which("systemd-analyze")
NEEDS_SYSTEMD = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here (Debian: systemd)")


def test_ready_once_all_are_up_and_the_status_when_it_changes() -> None:
    announcer = Announcer(100.0)
    assert announcer.next(100.0, {"a": "connecting", "b": "up"}) == ["STATUS=1 of 2 up; down: a"]
    assert announcer.next(101.0, {"a": "connecting", "b": "up"}) == []
    assert announcer.next(102.0, {"a": "up", "b": "up"}) == ["READY=1", "STATUS=2 of 2 up"]
    assert announcer.next(103.0, {"a": "up", "b": "backoff"}) == ["STATUS=1 of 2 up; down: b"]
    assert announcer.next(104.0, {"a": "up", "b": "up"}) == ["STATUS=2 of 2 up"]


def test_ready_after_a_bounded_time_whatever_is_down() -> None:
    announcer = Announcer(100.0)
    states = dict.fromkeys("abcde", "backoff")
    assert announcer.next(100.0, states) == ["STATUS=0 of 5 up; down: a, b, c and 2 more"]
    assert announcer.next(99.9 + READY_WITHIN, states) == []
    assert announcer.next(100.0 + READY_WITHIN, states) == ["READY=1"]


def test_its_variables_are_not_left_for_owners_and_hooks() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1", "HOME": "/"}
    ServiceManager(environ)
    assert environ == {"HOME": "/"}


def test_without_a_service_manager_nothing_is_sent() -> None:
    manager = ServiceManager({})
    manager.begin(None, dict)  # type: ignore[arg-type]  # never asked
    manager.reloading()
    manager.reloaded()
    manager.stopping()


def test_an_abstract_address_is_reached_and_one_that_is_gone_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0wsadapter-test-{tmp_path.name}")
        ServiceManager({"NOTIFY_SOCKET": f"@wsadapter-test-{tmp_path.name}"}).stopping()
        assert receiver.recv(1000).startswith(b"STOPPING=1\n")
    gone = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.stopping()
    gone.stopping()
    assert [record.getMessage() for record in caplog.records] == [
        f"the service manager cannot be notified ({tmp_path / 'gone'}): [Errno 2] No such file or directory"
    ]


def unit_for(folder: Path, *, newer: bool = False) -> Path:
    """The unit with a program that is there; `newer`: as its head says for systemd 253."""
    text = UNIT.read_text("utf-8").replace("/opt/wsadapter/bin/wsadapter", "/bin/true")
    if newer:
        text = re.sub(r"\nExecReload=.*", "", text.replace("\nType=notify\n", "\nType=notify-reload\n"))
        assert "notify-reload\n" in text
    path = folder / "wsadapter@.service"
    path.write_text(text)
    return path


def systemd_version() -> int:
    """Of the one that is here."""
    assert ANALYZE is not None
    said = subprocess.run([ANALYZE, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"systemd (\d+)", said)
    assert found is not None
    return int(found[1])


@NEEDS_SYSTEMD
@pytest.mark.parametrize("newer", [False, True])
def test_systemd_accepts_the_unit(newer: bool, tmp_path: Path) -> None:
    if newer and systemd_version() < 253:
        pytest.skip(f"systemd {systemd_version()} has no notify-reload")
    unit_for(tmp_path, newer=newer)
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / "wsadapter@feeds.service")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@NEEDS_SYSTEMD
def test_the_unit_exposes_little(tmp_path: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit_for(tmp_path))]
    checked = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+) (\w+)", checked.stdout)
    assert found is not None, checked.stdout + checked.stderr
    assert float(found[1]) < 3, checked.stdout
    assert found[2] == "OK"


def test_the_unit_starts_and_stops_within_its_times() -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE))
    assert float(settings["TimeoutStartSec"]) > 2 * READY_WITHIN
    assert settings["Type"] == "notify"  # systemd before 253 ignores notify-reload, and would take the service for a simple one
    assert settings["ExecReload"] == "/bin/sh -c 'kill -HUP $MAINPID'"
    assert settings["RestartPreventExitStatus"] == "2 4"  # CONFIGURATION, ALREADY_RUNNING
