"""How the end of a process is noticed, and what is said of it; with real processes, and by every way that the platform has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from time import monotonic

import pytest

from tests.support.feeds import DEADLINE
from tests.support.waiting import wait_until
from wsadapter import capabilities
from wsadapter.loop.reactor import Reactor
from wsadapter.process.exit_status import ExitWatcher, exit_reason


class Child:
    """A process that sleeps, with as much of a `multiprocessing` process as is asked for."""

    lifeline = None
    status_is_known = True

    def __init__(self, *, knows_status: bool = True) -> None:
        self._popen = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        self._knows_status = knows_status
        self.sentinel, self._never = os.pipe()
        self.pid = self._popen.pid

    @property
    def exitcode(self) -> int | None:
        return self._popen.poll() if self._knows_status else None

    def close(self) -> None:
        for fd in (self.sentinel, self._never):
            os.close(fd)
        self._popen.kill()
        self._popen.wait()


class Watched:
    """What was called, in order, and the code that was known then."""

    def __init__(self, reactor: Reactor, child: Child, *, pidfd: bool) -> None:
        self.calls: list[str] = []
        self.status = ExitWatcher(reactor, lambda: self.calls.append("end"), self._on_status)
        self.status.open(child, child.pid, os.pidfd_open(child.pid) if pidfd else None)  # type: ignore[arg-type]
        self.status.watch()
        self._reactor = reactor
        self.code: int | None = None

    def _on_status(self) -> None:
        self.calls.append("status")
        self.code = self.status.code

    def wait(self) -> float:
        """Until the status was reported; how many seconds that took."""
        begun = monotonic()
        assert self._reactor.run_until(lambda: "status" in self.calls, DEADLINE)
        return monotonic() - begun


@pytest.mark.parametrize("pidfd", [True, False] if capabilities.pidfd() else [False])
def test_the_end_comes_first_and_then_the_status(reactor: Reactor, pidfd: bool) -> None:
    child = Child()
    watched = Watched(reactor, child, pidfd=pidfd)
    assert not watched.status.has_ended
    watched.status.send_signal(signal.SIGKILL)
    watched.wait()
    assert watched.calls == ["end", "status"]
    assert watched.code == -signal.SIGKILL
    assert watched.status.has_ended
    watched.status.close()


@pytest.mark.slow
@pytest.mark.skipif(not capabilities.pidfd(), reason="needs a pidfd")
def test_a_status_that_never_comes_is_waited_for_within_a_bound(reactor: Reactor) -> None:
    """As of a process whose parent does not reap it, or whose fork server died."""
    child = Child(knows_status=False)
    watched = Watched(reactor, child, pidfd=True)
    watched.status.send_signal(signal.SIGTERM)
    watched.wait()
    assert watched.calls == ["end", "status"]
    assert watched.code is None
    watched.status.close()
    child.close()


@pytest.mark.skipif(not capabilities.pidfd(), reason="needs a pidfd")
def test_a_process_that_is_left_to_another_supervisor_is_not_reported(reactor: Reactor) -> None:
    child = Child()
    watched = Watched(reactor, child, pidfd=True)
    watched.status.unwatch()
    watched.status.send_signal(signal.SIGKILL)
    wait_until(lambda: watched.status.has_ended, DEADLINE)  # not in the reactor: nothing there is to see it
    reactor.try_turn()
    assert watched.calls == []
    watched.status.watch()
    watched.wait()
    watched.status.close()


def test_after_its_end_there_is_no_process_to_signal(reactor: Reactor) -> None:
    status = ExitWatcher(reactor, lambda: None, lambda: None)
    assert not status.has_ended
    status.send_signal(signal.SIGKILL)
    status.close()
    assert status.has_ended
    assert (status.pid, status.code, status.pidfd, status.lifeline) == (None, None, None, None)


@pytest.mark.parametrize(
    ("code", "said", "kind", "text"),
    [
        (-9, {"memory": "out of memory is likely", "last_lines": "Killed"}, "crashed", "out of memory is likely\nKilled"),
        (0, {}, "exited", ""),
        (3, {"last_lines": "oh"}, "crashed", "oh"),
        (1, {"was_ready": False, "last_lines": "ImportError"}, "start_failed", "ImportError"),
        (-9, {"was_ready": False, "late": "not ready within 5 s"}, "start_failed", "not ready within 5 s"),
        (-9, {"late": "not ready within 5 s"}, "crashed", ""),
    ],
)
def test_the_reason_of_an_end_without_one(code: int, said: dict[str, str], kind: str, text: str) -> None:
    given: dict[str, object] = {"memory": "", "last_lines": "", "was_ready": True, "late": ""} | said
    reason = exit_reason(code, **given)  # type: ignore[arg-type]
    assert (reason.kind, reason.text) == (kind, text)
