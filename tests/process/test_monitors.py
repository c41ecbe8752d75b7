"""Monitors: no death is missed between the look and the wait, and none is told twice."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.feeds import DEADLINE, SOON, pid_of
from wsadapter import MonitorReleased, Supervisor, UnknownEndpoint
from wsadapter.testing import Exchange


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with Exchange() as ex:
        yield ex


@pytest.fixture
def feed(exchange: Exchange) -> Iterator[Supervisor]:
    with Supervisor([exchange.endpoint("a", restart=SOON)]) as supervisor:
        yield supervisor


def test_it_tells_each_up_and_down_once_and_in_order(feed: Supervisor) -> None:
    monitor = feed.monitor("a")
    for epoch in (1, 2, 3):
        assert monitor.wait_up(DEADLINE).epoch == epoch
        with pytest.raises(TimeoutError):
            monitor.wait_up(0)
        os.kill(pid_of(feed, "a"), signal.SIGKILL)
        down = monitor.wait_down(DEADLINE)
        assert (down.epoch, down.reason.kind, down.reason.signal) == (epoch, "crashed", "SIGKILL")


def test_one_taken_while_it_is_up_tells_that_at_once(feed: Supervisor) -> None:
    feed.monitor("a").wait_up(DEADLINE)
    assert feed.monitor("a").wait_up(0).epoch == 1


def test_one_taken_after_a_death_replays_that_deaths_reason(exchange: Exchange) -> None:
    with Supervisor([exchange.endpoint("a", restart={"type": "temporary"})]) as feed:
        first = feed.monitor("a")
        first.wait_up(DEADLINE)
        exchange.close(4321, "go away")
        assert first.wait_down(DEADLINE).reason.code == 4321
        late = feed.monitor("a").wait_down(0)
        assert (late.epoch, late.reason.kind, late.reason.code, late.reason.text) == (1, "closed_by_peer", 4321, "go away")


def test_a_time_out_says_what_was_waited_for(feed: Supervisor) -> None:
    monitor = feed.monitor("a")
    monitor.wait_up(DEADLINE)
    with pytest.raises(TimeoutError, match=r"a: no Down within 0\.05 s"):
        monitor.wait_down(0.05)


def test_a_released_and_flushed_monitor_never_fires_later(feed: Supervisor) -> None:
    monitor = feed.monitor("a")
    monitor.wait_up(DEADLINE)
    other = feed.monitor("a")
    monitor.release()
    monitor.release()
    os.kill(pid_of(feed, "a"), signal.SIGKILL)
    other.wait_down(DEADLINE)
    for wait in (monitor.wait_up, monitor.wait_down):
        with pytest.raises(MonitorReleased, match="make a new one"):
            wait(DEADLINE)


def test_a_monitor_released_without_a_flush_still_tells_what_it_saw(feed: Supervisor) -> None:
    monitor, other = feed.monitor("a"), feed.monitor("a")
    other.wait_up(DEADLINE)
    monitor.release(flush=False)
    assert monitor.wait_up(0).epoch == 1
    with pytest.raises(MonitorReleased):
        monitor.wait_up(0)


def test_releasing_wakes_who_waits(feed: Supervisor) -> None:
    monitor = feed.monitor("a")
    monitor.wait_up(DEADLINE)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(monitor.wait_down)
        monitor.release()
        with pytest.raises(MonitorReleased):
            waiting.result(DEADLINE)


def test_many_threads_wait_on_monitors_of_their_own(feed: Supervisor) -> None:
    feed.monitor("a").wait_up(DEADLINE)
    ready = threading.Barrier(9)

    def watch() -> str | None:
        monitor = feed.monitor("a")
        monitor.wait_up(DEADLINE)
        ready.wait(DEADLINE)
        signal_name = monitor.wait_down(DEADLINE).reason.signal
        assert monitor.wait_up(DEADLINE).epoch == 2
        monitor.release()
        return signal_name

    with ThreadPoolExecutor(8) as pool:
        watching = [pool.submit(watch) for _ in range(8)]
        ready.wait(DEADLINE)
        os.kill(pid_of(feed, "a"), signal.SIGKILL)
        assert [future.result(DEADLINE) for future in watching] == ["SIGKILL"] * 8


def test_an_unknown_name_has_no_monitor(feed: Supervisor) -> None:
    with pytest.raises(UnknownEndpoint, match="known: a"):
        feed.monitor("b")
