"""Owners that do not get as far as a connection. Rows 11 to 13 of the fault table."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import util
from pathlib import Path
from typing import Any

import pytest

from tests.support.feeds import (
    DEADLINE,
    SOON,
    all_of,
    beside_a_busy_one,
    collect,
    events_of,
    is_event,
    is_message,
    pid_of,
    supervise,
    to_the_end,
)
from tests.support.waiting import wait_until
from wsadapter import AllFatal, capabilities
from wsadapter.contract.items import Down, Fatal, Item, Up
from wsadapter.process.fork_server import ForkServer
from wsadapter.process.launcher import Launcher, StartedOwner
from wsadapter.testing import Exchange

SCRIPTS = Path(__file__).parents[1] / "support" / "scripts"
HANGS = "import time\ntime.sleep(3600)\n"


def a_module(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module with this text, as a decode hook."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    return f"{name}:decode"


def test_row_11_a_hook_that_raises_at_import_is_fatal_after_five_and_the_status_has_the_reason(
    start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = a_module(tmp_path, "raising", 'raise RuntimeError("no licence file")\n', monkeypatch)
    items: list[Item] = []
    with Exchange() as ex:
        endpoint = ex.endpoint("victim", decode=hook, restart=SOON)
        with beside_a_busy_one(items, endpoint, start_method=start_method) as feed:
            items += collect(feed, all_of(is_event(Fatal, "victim"), is_message("busy")))
            status = feed.status()["endpoints"]["victim"]
            assert status["state"] == "fatal"
            assert "RuntimeError: no licence file" in status["last_exit"]["text"]
            assert ex.accepted == 0
    assert [down.reason.kind for down in events_of(items, "victim", Down)] == ["config"] * 5
    assert [fatal.reason.kind for fatal in events_of(items, "victim", Fatal)] == ["config"]


def test_row_12_a_hook_that_hangs_at_import_is_ended_by_the_startup_deadline_and_not_taken_for_a_hang(
    start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = a_module(tmp_path, "hanging", HANGS, monkeypatch)
    items: list[Item] = []
    with Exchange() as ex:
        endpoint = ex.endpoint("victim", decode=hook, restart=SOON, watchdog={"startup": 4.0, "progress": 0.5})
        with beside_a_busy_one(items, endpoint, start_method=start_method) as feed:
            began = time.monotonic()
            items += collect(feed, is_event(Down, "victim"))
            assert time.monotonic() - began < 2 * 4.0 + 2.0  # until it is ready, and while it imports
    reason = events_of(items, "victim", Down)[0].reason
    assert (reason.kind, reason.text) == ("config", "importing took longer than 4 s")


def an_interpreter_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As long as the returned file is there, every new Python process does this instead of starting."""
    sabotage = folder / "sabotage"
    sabotage.touch()
    (folder / "sitecustomize.py").write_text(f"import os\nif os.path.exists({str(sabotage)!r}):\n    {does}\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return sabotage


def test_row_12_a_process_that_hangs_before_it_is_ready_is_ended_by_the_startup_deadline(
    start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage = an_interpreter_that("import time; time.sleep(3600)", tmp_path, monkeypatch)
    items: list[Item] = []
    with Exchange() as ex:
        endpoint = ex.endpoint("victim", restart=SOON, watchdog={"startup": 6.0})
        with to_the_end(items, endpoint, start_method=start_method, spares=0) as feed:
            began = time.monotonic()
            items += collect(feed, is_event(Down, "victim"))
            took = time.monotonic() - began
            sabotage.unlink()
            items += collect(feed, is_event(Up, "victim"))
    assert 5.9 < took < 6.0 + 3.0
    assert events_of(items, "victim", Down)[0].reason.kind == "start_failed"


@pytest.mark.parametrize("slow", ["the process", "the import of its hook"])
def test_row_14_a_slow_start_is_not_taken_for_a_hang(
    start_method: str, slow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under CPU load: it takes far longer than `watchdog.progress` allows a running owner, and less than `startup`."""
    items: list[Item] = []
    with Exchange() as ex:
        endpoint = ex.endpoint("victim", restart=SOON, watchdog={"startup": 60.0, "progress": 0.3})
        if slow == "the process":
            an_interpreter_that("import time; time.sleep(2)", tmp_path, monkeypatch)
        else:
            hook = a_module(tmp_path, "slow", "import time; time.sleep(2)\ndef decode(data): return data", monkeypatch)
            endpoint = replace(endpoint, decode=hook)
        began = time.monotonic()
        with to_the_end(items, endpoint, start_method=start_method, spares=0) as feed:
            items += collect(feed, is_event(Up, "victim"))
            assert time.monotonic() - began > 2.0, "it was not slow"
            first = events_of(items, "victim", Up)[0].epoch
            downs = events_of(items, "victim", Down)
    assert (first, downs) == (1, [])


def test_row_13_a_process_that_dies_before_it_is_ready_is_a_failed_start(
    start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage = an_interpreter_that("os._exit(7)", tmp_path, monkeypatch)
    items: list[Item] = []
    with (
        Exchange() as ex,
        to_the_end(items, ex.endpoint("victim", restart=SOON), start_method=start_method, spares=0) as feed,
    ):
        items += collect(feed, is_event(Down, "victim", 3))
        assert ex.accepted == 0
        sabotage.unlink()
        items += collect(feed, is_event(Up, "victim"))
        assert feed.status()["endpoints"]["victim"]["restarts"] >= 3
    assert {down.reason.kind for down in events_of(items, "victim", Down)[:3]} == {"start_failed"}


def test_row_13_failed_starts_count_against_the_intensity(
    start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_interpreter_that("os._exit(7)", tmp_path, monkeypatch)
    restart = {**SOON, "intensity": 2, "on_exceeded": "fatal"}
    items: list[Item] = []
    with Exchange() as ex, supervise(ex.endpoint("victim", restart=restart), start_method=start_method, spares=0) as feed:
        items += collect(feed, is_event(Fatal, "victim"))
        with pytest.raises(AllFatal, match="start failed"):
            feed.get(DEADLINE)
    assert [down.epoch for down in events_of(items, "victim", Down)] == [1, 2, 3]


def test_an_owner_forked_from_the_template_imports_nothing_more() -> None:
    """What it imported itself would be memory that it shares with no other owner (row 9 of the benchmarks)."""
    script = (
        "import sys, socket, wsadapter.worker.preload\n"
        "before = set(sys.modules)\n"
        "import multiprocessing.popen_forkserver\n"
        "socket.getaddrinfo('localhost', 80)\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=DEADLINE)
    assert found.stdout.split() == []


def test_the_startup_deadline_does_not_count_the_time_in_the_launcher_s_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten starts of a third of a second each, one after the other; each owner has two seconds."""
    items: list[Item] = []
    launch = Launcher._launch

    def slowly(launcher: Launcher, name: str) -> StartedOwner:
        time.sleep(0.35)
        return launch(launcher, name)

    with Exchange() as ex:
        endpoints = [ex.endpoint(f"e{n}", restart=SOON, watchdog={"startup": 2.0}) for n in range(10)]
        with to_the_end(items, *endpoints, start_method="forkserver", spares=0) as feed:
            monkeypatch.setattr(Launcher, "_launch", slowly)
            items += collect(feed, all_of(*(is_event(Up, endpoint.name) for endpoint in endpoints)))
    assert [item for item in items if isinstance(item, Down) and item.reason.kind != "stopped"] == []


def test_a_launcher_that_is_stuck_hands_those_that_wait_for_their_turn_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    items: list[Item] = []
    launch, stuck, over = Launcher._launch, threading.Event(), threading.Event()

    def once_stuck(launcher: Launcher, name: str) -> StartedOwner:
        if not stuck.is_set():
            stuck.set()
            over.wait(DEADLINE)
            raise OSError("it was stuck")
        return launch(launcher, name)

    with Exchange() as ex:
        endpoints = [ex.endpoint(f"e{n}", restart=SOON, watchdog={"startup": 30.0 if n else 2.0}) for n in range(3)]
        monkeypatch.setattr(Launcher, "_launch", once_stuck)
        with to_the_end(items, *endpoints, start_method="forkserver", spares=0) as feed:
            items += collect(feed, all_of(*(is_event(Up, endpoint.name) for endpoint in endpoints)))
            over.set()
    assert {down.endpoint for down in items if isinstance(down, Down) and down.reason.kind == "start_failed"} == {"e0"}


def test_owners_that_wait_for_their_turn_do_not_delay_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    items: list[Item] = []
    launch, launched = Launcher._launch, []

    def slowly(launcher: Launcher, name: str) -> StartedOwner:
        launched.append(name)
        time.sleep(0.5)
        return launch(launcher, name)

    monkeypatch.setattr(Launcher, "_launch", slowly)
    with Exchange() as ex:
        endpoints = [ex.endpoint(f"e{n}", restart=SOON) for n in range(20)]
        with supervise(*endpoints, start_method="forkserver", spares=0) as feed:
            feed.start()
            wait_until(lambda: launched, DEADLINE)
            began = time.monotonic()
        took = time.monotonic() - began
        items += feed
    assert took < 5
    assert len(launched) < 5


@pytest.mark.native
@pytest.mark.skipif(not capabilities.forkserver(), reason="there is no fork server here")
def test_a_fork_server_whose_socket_was_removed_with_all_temporary_files_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    items: list[Item] = []
    folder = tempfile.mkdtemp(dir="/tmp")  # pytest's own may be too long for a socket
    monkeypatch.setattr(tempfile, "tempdir", folder)
    with (
        Exchange(messages=["x"]) as ex,
        to_the_end(items, ex.endpoint("victim", restart=SOON), start_method="forkserver", spares=0) as feed,
    ):
        items += collect(feed, is_event(Up, "victim"))
        assert os.listdir(folder)
        shutil.rmtree(folder)
        for epoch in (2, 3):
            os.kill(pid_of(feed, "victim"), signal.SIGKILL)
            items += collect(feed, is_event(Up, "victim", epoch))
    reasons = [down.reason for down in events_of(items, "victim", Down)]
    assert [(reason.kind, reason.signal) for reason in reasons[:-1]] == [("crashed", "SIGKILL")] * 2
    assert reasons[-1].kind == "stopped"


@pytest.mark.parametrize("closed", ["<&- >&-", "<&- >&- 2>&-"])
def test_the_pipes_of_owners_never_take_the_place_of_standard_descriptors_that_are_closed(
    start_method: str, closed: str, tmp_path: Path
) -> None:
    script = SCRIPTS / "closed_descriptors.py"
    with Exchange(messages=["x", "y", "z"]) as ex:
        command = f'exec "$0" "$@" {closed}'
        arguments = [sys.executable, str(script), ex.url, start_method, str(tmp_path / "result")]
        done = subprocess.run(["sh", "-c", command, *arguments], timeout=60, check=False)
    assert done.returncode == 0
    assert (tmp_path / "result").read_text("utf-8") == "x y z"


@pytest.mark.parametrize("failure", [errno.EMFILE, errno.EAGAIN, errno.ENOMEM], ids=lambda number: errno.errorcode[number])
def test_row_15_a_start_that_the_kernel_refuses_is_tried_again_with_backoff(
    failure: int, start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[float] = []

    def refuse(real: Callable[..., Any], times: int) -> Callable[..., Any]:
        def start(*arguments: Any) -> Any:
            if len(refused) < times:
                refused.append(time.monotonic())
                raise OSError(failure, os.strerror(failure))
            return real(*arguments)

        return start

    items: list[Item] = []
    with Exchange() as ex:
        restart = {"backoff_initial": 0.2, "backoff_max": 1.0, "intensity": 20}
        with beside_a_busy_one(items, ex.endpoint("victim", restart=restart), start_method=start_method, spares=0) as feed:
            items += collect(feed, all_of(is_event(Up, "victim"), is_message("busy")))
            # The calls that make a process, in the supervisor: all else is real.
            monkeypatch.setattr(ForkServer, "fork", refuse(ForkServer.fork, 4))
            monkeypatch.setattr(util, "spawnv_passfds", refuse(util.spawnv_passfds, 4))
            os.kill(pid_of(feed, "victim"), signal.SIGKILL)
            items += collect(feed, lambda item: is_event(Up, "victim")(item) and item.epoch > 1, 2 * DEADLINE)
    assert len(refused) == 4
    assert refused[-1] - refused[0] < 2 * DEADLINE
    downs = events_of(items, "victim", Down)
    failed = [down.reason for down in downs if down.reason.kind == "start_failed"]
    assert failed
    assert all(os.strerror(failure) in reason.text for reason in failed)
