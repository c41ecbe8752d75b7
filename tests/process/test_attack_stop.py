"""Stopping, whatever else is going on."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.feeds import DEADLINE, SOON, assert_sound, collect, events_of, is_event, supervise
from tests.support.waiting import wait_until
from wsadapter import Supervisor, capabilities
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import SupervisorStopped
from wsadapter.contract.items import Down, Item, Up
from wsadapter.testing import Exchange

SCRIPTS = Path(__file__).parent.parent / "support" / "scripts"


@pytest.fixture
def stopper() -> Iterator[list[Supervisor]]:
    """SIGUSR1 stops these, from the handler itself."""
    feeds: list[Supervisor] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: [feed.stop() for feed in feeds] and None)
    yield feeds
    signal.signal(signal.SIGUSR1, before)


def server_pid(feed: Supervisor) -> int:
    assert feed.runtime.owners.launcher is not None
    pid: int = feed.runtime.owners.launcher._server.pid  # type: ignore[attr-defined]
    return pid


@pytest.mark.skipif(capabilities.start_method("forkserver") != "forkserver", reason="there is no fork server here")
def test_a_stop_does_not_wait_for_ever_for_a_stuck_fork_server() -> None:
    items: list[Item] = []
    with Exchange() as ex:
        feed = supervise(ex.endpoint("one", restart=SOON, timeouts={"close": 0.5}), start_method="forkserver", spares=0).start()
        items += collect(feed, is_event(Up, "one"))
        wait_until(lambda: feed.status()["endpoints"]["one"]["in_custody"], DEADLINE)  # else its successor comes first
        os.kill(server_pid(feed), signal.SIGSTOP)
        feed.begin_restart("one")
        items += collect(feed, is_event(Down, "one"))
        wait_until(lambda: feed.status()["endpoints"]["one"]["state"] == "starting", DEADLINE)
        began = time.monotonic()
        feed.stop(timeout=10)
        assert time.monotonic() - began < 0.5 + 2.0
        items += feed
    assert_sound(items)
    assert len(events_of(items, "one", Down)) == 2


def test_signal_handlers_that_stop_it_may_come_at_any_time(stopper: list[Supervisor]) -> None:
    over = threading.Event()

    def storm() -> None:
        for _ in range(60):  # each may be nested in the one before
            if over.wait(0.005):
                return
            os.kill(os.getpid(), signal.SIGUSR1)

    with Exchange() as ex:
        for _ in range(3):
            over.clear()
            feed = supervise(ex.endpoint("one"), start_method="forkserver", spares=0)
            feed.start()
            feed.monitor("one").wait_up(DEADLINE)
            stopper.append(feed)
            thread = threading.Thread(target=storm)
            thread.start()
            try:
                items = list(feed)
                feed.stop()
            finally:
                over.set()
                thread.join()
                stopper.clear()
            assert feed.state == "stopped"
            assert feed.runtime.reactor.dispatcher.closed
            assert isinstance(items[-1], Down)


def test_a_signal_handler_and_another_thread_may_stop_it_together(stopper: list[Supervisor]) -> None:
    with Exchange() as ex:
        for delay in (0.0, 0.01, 0.02, 0.03):
            feed = supervise(ex.endpoint("one"), start_method="forkserver", spares=0).start()
            feed.monitor("one").wait_up(DEADLINE)
            stopper.append(feed)
            thread = threading.Thread(target=feed.stop)
            timer = threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGUSR1))
            thread.start()
            timer.start()
            items = list(feed)
            thread.join(DEADLINE)
            timer.join()
            assert not thread.is_alive()
            feed.stop()
            stopper.clear()
            assert feed.runtime.reactor.dispatcher.closed
            assert isinstance(items[-1], Down)


def test_a_start_and_a_stop_from_two_threads_end_stopped() -> None:
    for _ in range(20):
        feed = Supervisor([Endpoint("one", url="ws://127.0.0.1:9/")], spares=0)
        both = threading.Barrier(2)

        def start(feed: Supervisor = feed, both: threading.Barrier = both) -> None:
            both.wait()
            try:
                feed.start()
            except SupervisorStopped:
                return

        thread = threading.Thread(target=start)
        thread.start()
        both.wait()
        feed.stop(timeout=DEADLINE)
        thread.join(DEADLINE)
        assert not thread.is_alive()
        feed.stop()
        assert feed.state == "stopped"
        assert feed.runtime.reactor.dispatcher.closed


def test_nothing_is_added_or_restarted_while_it_stops(start_method: str) -> None:
    with Exchange() as ex:
        feed = supervise(ex.endpoint("one", timeouts={"close": 0.5}), start_method=start_method, spares=0).start()
        feed.monitor("one").wait_up(DEADLINE)
        ex.mute()
        feed.ask_to_stop()
        wait_until(lambda: feed.state == "stopping", DEADLINE)
        with pytest.raises(SupervisorStopped):
            feed.add(ex.endpoint("two"))
        feed.stop(timeout=DEADLINE)
        assert ex.accepted == 1


def test_a_monitor_without_references_costs_nothing_and_can_be_released_after_the_stop() -> None:
    with Exchange() as ex, supervise(ex.endpoint("one"), start_method="forkserver", spares=0) as feed:
        kept = feed.monitor("one")
        for _ in range(100):
            feed.monitor("one").wait_up(DEADLINE)
        gc.collect()
        assert set(feed.runtime.registry.endpoints["one"].stream.monitors) == {kept}
        feed.stop()
        kept.release()


def test_a_start_at_any_number_of_free_descriptors_fails_or_succeeds_and_leaks_none(start_method: str) -> None:
    script = [sys.executable, str(SCRIPTS / "few_descriptors.py"), start_method]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["alive"], done.stdout + done.stderr
