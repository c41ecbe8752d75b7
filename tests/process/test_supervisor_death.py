"""Row 37 of the fault table: the process that holds the supervisor ends, in any way. Nothing is left, and the peer is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_until
from wsadapter.testing import Exchange

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "tests" / "support" / "scripts"


@contextmanager
def holder(url: str, method: str, way: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPTS / "holder.py"), url, method, way]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        for pid in of_session(process.pid):  # one that is left holds the ends of the pipes that are read here
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def of_session(session: int) -> list[int]:
    """The pids of a session: owners, spares, fork server, resource tracker; whoever was their parent."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def assert_nothing_left(session: int) -> None:
    wait_until(lambda: not of_session(session), 5, lambda: "\n".join(["left:", *map(describe, of_session(session))]))


def describe(pid: int) -> str:
    """What it is and what it waits for."""
    try:
        process = psutil.Process(pid)
        stats = process.as_dict(["ppid", "status", "cmdline", "cpu_times", "create_time"])
        return f"{pid} in {Path(f'/proc/{pid}/wchan').read_text('utf-8')}: {stats}, now {time.time()}"
    except (OSError, psutil.Error) as error:
        return f"{pid}: {error!r}"


def test_row_37_kill_9_leaves_no_process_and_the_peer_sees_a_close(start_method: str) -> None:
    with Exchange(messages=["x"], loop=True, rate=1000) as ex, holder(ex.url, start_method, "wait") as process:
        assert line_of(process) == "up"
        ex.wait_connections(2)
        assert len(of_session(process.pid)) >= 4
        process.kill()
        process.wait(10)
        assert_nothing_left(process.pid)
        ex.wait_connections(0)
        assert sorted(ex.closes.values(), key=str) == [1001, 1001]


def test_row_37_kill_9_leaves_no_process_where_all_of_them_are_stopped(start_method: str) -> None:
    with Exchange() as ex, holder(ex.url, start_method, "wait") as process:
        assert line_of(process) == "up"
        stopped = [pid for pid in of_session(process.pid) if pid != process.pid and "resource_tracker" not in describe(pid)]
        assert len(stopped) >= 4
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        process.kill()
        process.wait(10)
        assert_nothing_left(process.pid)
        ex.wait_connections(0)


def test_row_37_kill_9_leaves_no_process_where_an_owner_is_in_c_code_that_never_returns(start_method: str) -> None:
    with Exchange(messages=["x"]) as ex, holder(ex.url, start_method, "obey") as process:
        assert line_of(process) == "up"
        ex.send("!spin_in_c")
        wait_until(lambda: any(cpu_seconds(pid) > 1 for pid in of_session(process.pid) if pid != process.pid), 20)
        process.kill()
        process.wait(10)
        assert_nothing_left(process.pid)
        ex.wait_connections(0)


def cpu_seconds(pid: int) -> float:
    """That a process has used."""
    try:
        return float(psutil.Process(pid).cpu_times().user)
    except psutil.NoSuchProcess:
        return 0.0


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.06, 0.1, 0.15, 0.25])
def test_row_37_kill_9_while_it_is_spawning_leaves_no_process(start_method: str, delay: float) -> None:
    with Exchange() as ex, holder(ex.url, start_method, "while_spawning") as process:
        assert line_of(process) == "starting"
        time.sleep(delay)  # the moment is what is varied here
        process.kill()
        process.wait(10)
        assert_nothing_left(process.pid)
        ex.wait_connections(0)


@pytest.mark.parametrize(("way", "code"), [("end", 0), ("sys.exit", 3), ("raise", 1), ("os._exit", 4)])
def test_a_program_that_ends_without_a_stop_leaves_nothing_behind(start_method: str, way: str, code: int) -> None:
    with Exchange() as ex, holder(ex.url, start_method, way) as process:
        assert line_of(process) == "up"
        _, errors = process.communicate(timeout=20)
        assert process.returncode == code
        assert errors.count("Traceback") == (way == "raise"), errors
        assert_nothing_left(process.pid)
        ex.wait_connections(0)
        assert set(ex.closes.values()) == {1001}


def test_sigterm_with_its_default_action_leaves_nothing_behind(start_method: str) -> None:
    with Exchange() as ex, holder(ex.url, start_method, "wait") as process:
        assert line_of(process) == "up"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
        assert_nothing_left(process.pid)
        ex.wait_connections(0)
        assert set(ex.closes.values()) == {1001}
