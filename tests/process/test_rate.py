"""How often and how fast owners are replaced. Rows 16 to 23 of the fault table, and what many restarts leave behind."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from tests.support.feeds import (
    DEADLINE,
    SOON,
    all_of,
    assert_sound,
    assert_unharmed,
    beside_a_busy_one,
    collect,
    collect_for,
    events_of,
    is_event,
    is_message,
    pid_of,
    steady,
    supervise,
    to_the_end,
)
from tests.support.rawserver import RawPeer, RawServer
from tests.support.waiting import wait_until
from wsadapter import AllFatal, Endpoint, Supervisor, capabilities
from wsadapter.contract.items import Down, Fatal, Item, Up
from wsadapter.testing import Exchange


@pytest.fixture
def longest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dice that spread the restarts always give the longest wait."""
    monkeypatch.setattr("wsadapter.endpoint.link.random", lambda: 1.0)


def kill(feed: Supervisor, name: str, times: int, items: list[Item]) -> None:
    """Kills one owner after the other as they come up."""
    for _ in range(times):
        epoch = feed.status()["endpoints"][name]["epoch"]
        os.kill(pid_of(feed, name), signal.SIGKILL)
        items += collect(feed, is_event(Up, name, epoch + 1))


def kill_the_last(feed: Supervisor, name: str) -> None:
    os.kill(pid_of(feed, name), signal.SIGKILL)


@pytest.mark.parametrize(
    ("method", "count", "connects", "period"),
    [pytest.param("forkserver", 100, 25, 0.5, marks=pytest.mark.native), ("spawn", 10, 5, 1.0)],
)
def test_row_20_owners_of_one_host_that_die_together_come_back_within_its_connect_budget(
    method: str, count: int, connects: int, period: float
) -> None:
    settings: dict[str, Any] = {
        "restart": SOON, "limits": {"connects": connects, "connects_period": period},
        "timeouts": {"connect": 60.0, "handshake": 60.0},  # a hundred processes that start together keep a machine busy
    }  # fmt: skip
    came: list[float] = []
    peers: list[RawPeer] = []

    def accept() -> None:
        for _ in range(2 * count):
            peers.append(server.accept_websocket())
            came.append(time.monotonic())

    items: list[Item] = []
    with RawServer() as server, ThreadPoolExecutor(1) as pool:
        endpoints = [Endpoint(f"e{n}", url=server.url, **settings) for n in range(count)]
        with supervise(*endpoints, start_method=method) as feed:
            accepting = pool.submit(accept)
            items += collect(feed, all_of(*(is_event(Up, endpoint.name) for endpoint in endpoints)), 60)
            for peer in peers[:count]:
                peer.sock.shutdown(socket.SHUT_RDWR)
            items += collect(feed, all_of(*(is_event(Up, endpoint.name, 2) for endpoint in endpoints)), 60)
            accepting.result(DEADLINE)
        items += feed
    assert_sound(items)
    back = came[count:]
    assert back[-1] - back[0] > (count / connects - 1) * period * 0.9
    # What is booked is when an owner is told to connect; it may be a little later that it has.
    for first, later in zip(back, back[connects + connects // 2 :], strict=False):
        assert later - first > period / 2


def test_row_23_what_the_host_says_to_one_endpoint_holds_for_the_others(start_method: str) -> None:
    items: list[Item] = []
    with Exchange() as ex:
        names = ["a", "b"]
        with to_the_end(items, *(ex.endpoint(name, restart=SOON) for name in names), start_method=start_method) as feed:
            items += collect(feed, all_of(*(is_event(Up, name) for name in names)))
            ex.refuse(418, {"Retry-After": "1"}, times=1)
            ex.drop(connection=ex.open_ids[0])
            items += collect(feed, lambda item: isinstance(item, Down) and item.reason.status == 418)
            refused = time.monotonic()
            ex.drop()
            items += collect(feed, is_event(Down, {"a": "b", "b": "a"}[items[-1].endpoint]))
            items += collect(feed, all_of(*(is_event(Up, name, 2) for name in names)))
            assert time.monotonic() - refused > 0.9
    assert ex.accepted == 5


def test_a_successor_that_will_not_come_gives_its_place_back() -> None:
    limits = {"connects": 1, "connects_period": 1.0}
    items: list[Item] = []
    with (
        Exchange(tls=True) as ex,
        to_the_end(items, ex.endpoint("a", restart=SOON, limits=limits), start_method="forkserver") as feed,
    ):
        items += collect(feed, is_event(Up, "a"))
        replaced = feed.begin_restart("a")
        wait_until(lambda: feed.status()["endpoints"]["a"]["successor"] == "booked", DEADLINE)
        ex.drop()
        items += collect(feed, is_event(Up, "a", 2))
        replaced.result(DEADLINE)
    first, second = events_of(items, "a", Up)
    assert 0.8e9 < second.at - first.at < 1.7e9  # the second connect of the budget, not the third


def test_a_successor_that_is_told_to_wait_comes_again_after_that_and_the_old_connection_stays() -> None:
    items: list[Item] = []
    with Exchange(tls=True) as ex:
        aged = ex.endpoint("a", restart=SOON, watchdog={"max_age": 0.5, "rollover_window": 0.1})
        with to_the_end(items, aged, start_method="forkserver") as feed:
            items += collect(feed, is_event(Up, "a"))
            ex.refuse(429, {"Retry-After": "1"}, times=1)
            ex.wait_accepted(2, DEADLINE)
            refused = time.monotonic()
            ex.wait_accepted(3, DEADLINE)
            assert time.monotonic() - refused > 0.9
            items += collect(feed, is_event(Up, "a", 2))
    assert events_of(items, "a", Down)[0].reason.kind == "recycled"


@pytest.mark.parametrize("status", [401, 403])
def test_row_23_a_refusal_is_not_hammered(status: int) -> None:
    items: list[Item] = []
    with Exchange() as ex:
        ex.refuse(status, body="who are you?")
        restart = {"backoff_initial": 0.01, "backoff_max": 60.0}
        with to_the_end(items, ex.endpoint("a", restart=restart), start_method="forkserver") as feed:
            items += collect(feed, is_event(Down, "a"))
            assert not [item for item in collect_for(feed, 0.5) if isinstance(item, Down)]
            assert feed.status()["endpoints"]["a"]["state"] == "backoff"
    assert ex.accepted == 1
    reason = events_of(items, "a", Down)[0].reason
    assert (reason.status, reason.body) == (status, "who are you?")


def test_rows_16_17_one_restart_too_many_is_fatal_and_says_so_once(start_method: str) -> None:
    restart = {**SOON, "intensity": 2, "on_exceeded": "fatal"}
    items: list[Item] = []
    with (
        Exchange(tls=True) as ex,
        beside_a_busy_one(items, ex.endpoint("victim", restart=restart), start_method=start_method) as feed,
    ):
        items += collect(feed, is_event(Up, "victim"))
        kill(feed, "victim", 2, items)
        assert feed.status()["endpoints"]["victim"]["state"] == "up"
        kill_the_last(feed, "victim")
        items += collect(feed, is_event(Fatal, "victim"))
        assert feed.status()["endpoints"]["victim"]["state"] == "fatal"
        items += collect(feed, is_message("busy"))
        assert ex.accepted == 3
    assert len(events_of(items, "victim", Fatal)) == 1
    assert len(events_of(items, "victim", Down)) == 3


def test_row_17_one_restart_too_many_cools_down_and_counts_from_zero(start_method: str) -> None:
    restart = {**SOON, "intensity": 1, "on_exceeded": "cool_down", "cool_down": 0.5}
    items: list[Item] = []
    with Exchange(tls=True) as ex, to_the_end(items, ex.endpoint("victim", restart=restart), start_method=start_method) as feed:
        items += collect(feed, is_event(Up, "victim"))
        kill(feed, "victim", 1, items)
        kill_the_last(feed, "victim")
        items += collect(feed, is_event(Down, "victim", 2))
        assert feed.status()["endpoints"]["victim"]["state"] == "cooling_down"
        items += collect(feed, is_event(Up, "victim", 3))
        kill(feed, "victim", 1, items)  # counted from zero: one is allowed again
    down, up = events_of(items, "victim", Down)[1], events_of(items, "victim", Up)[2]
    assert up.at - down.at >= 0.5 * 1e9


def test_row_17_one_restart_too_many_stops_the_supervisor(start_method: str) -> None:
    restart = {**SOON, "intensity": 0, "on_exceeded": "stop_supervisor"}
    items: list[Item] = []
    with (
        Exchange() as ex,
        steady() as busy,
        supervise(ex.endpoint("victim", restart=restart), busy.endpoint("busy"), start_method=start_method) as feed,
    ):
        items += collect(feed, all_of(is_event(Up, "victim"), is_message("busy")))
        kill_the_last(feed, "victim")
        with pytest.raises(AllFatal, match="victim: crashed, SIGKILL"):
            items.extend(feed)  # `+=` would forget what came before the exception
        assert feed.state == "stopped"
    assert_sound(items)
    assert_unharmed(items, "busy")


def test_row_18_restarts_older_than_the_period_do_not_count(start_method: str) -> None:
    restart = {**SOON, "intensity": 1, "period": 1.0, "on_exceeded": "fatal"}
    items: list[Item] = []
    with Exchange(tls=True) as ex, to_the_end(items, ex.endpoint("victim", restart=restart), start_method=start_method) as feed:
        items += collect(feed, is_event(Up, "victim"))
        for _ in range(2):
            kill(feed, "victim", 1, items)
            items += collect_for(feed, 1.1)
        kill(feed, "victim", 1, items)
    assert events_of(items, "victim", Fatal) == []


@pytest.mark.usefixtures("longest_waits")
def test_row_19_an_exchange_that_accepts_and_drops_is_asked_ever_more_slowly(
    start_method: str, caplog: pytest.LogCaptureFixture
) -> None:
    restart = {"backoff_initial": 0.05, "backoff_max": 0.4, "min_uptime": 0.5, "intensity": 1000}
    items: list[Item] = []
    with Exchange() as ex:
        ex.accept_and_drop()
        with to_the_end(items, ex.endpoint("victim", restart=restart), start_method=start_method, spares=2) as feed:
            items += collect(feed, is_event(Down, "victim", 5))
            ex.accept_and_drop(False)
            items += collect(feed, is_event(Up, "victim"))
            ex.drop()  # not up for `min_uptime`: the waits are not forgotten
            items += collect(feed, is_event(Up, "victim", 7))
            items += collect_for(feed, 0.6)
            ex.drop()
            items += collect(feed, is_event(Up, "victim", 8))
    downs = [down.at / 1e9 for down in events_of(items, "victim", Down)]
    ups = [up.at / 1e9 for up in events_of(items, "victim", Up)]
    waits = [later - earlier for earlier, later in zip(downs[:4], downs[1:5], strict=True)]
    for wait, least in zip(waits, [0.05, 0.1, 0.2, 0.4], strict=True):
        assert wait >= least * 0.99
    assert ups[1] - downs[5] >= 0.4 * 0.99
    *_, again = re.findall(r"victim/\d+ down: .*next start in ([\d.]+) s", caplog.text)
    assert float(again) < 0.4  # not measured: how long a process takes to start is another matter


@pytest.mark.usefixtures("longest_waits")
def test_row_21_a_stop_during_the_backoff_ends_it(start_method: str) -> None:
    items: list[Item] = []
    with Exchange(tls=True) as ex:
        restart = {"backoff_initial": 0.3, "backoff_max": 0.3}
        with supervise(ex.endpoint("victim", restart=restart), start_method=start_method) as feed:
            items += collect(feed, is_event(Up, "victim"))
            kill_the_last(feed, "victim")
            items += collect(feed, is_event(Down, "victim"))
            assert feed.status()["endpoints"]["victim"]["state"] == "backoff"
        items += feed
        with pytest.raises(TimeoutError):
            ex.wait_accepted(2, timeout=0.5)
    assert len(events_of(items, "victim", Down)) == 1


@pytest.mark.usefixtures("longest_waits")
def test_row_21_a_removal_during_the_backoff_ends_it(start_method: str) -> None:
    with Exchange(tls=True) as ex, steady() as busy:
        restart = {"backoff_initial": 0.3, "backoff_max": 0.3}
        with supervise(ex.endpoint("victim", restart=restart), busy.endpoint("busy"), start_method=start_method) as feed:
            items = collect(feed, is_event(Up, "victim"))
            kill_the_last(feed, "victim")
            items += collect(feed, is_event(Down, "victim"))
            feed.remove("victim", timeout=1.0)
            items += collect_for(feed, 0.5)
            assert ex.accepted == 1
    assert len(events_of(items, "victim", Down)) == 1


def test_row_22_a_restart_by_hand_leaves_fatal_and_clears_the_counters(start_method: str) -> None:
    restart = {**SOON, "intensity": 1, "on_exceeded": "fatal"}
    items: list[Item] = []
    with Exchange(tls=True) as ex, to_the_end(items, ex.endpoint("victim", restart=restart), start_method=start_method) as feed:
        items += collect(feed, is_event(Up, "victim"))
        kill(feed, "victim", 1, items)
        kill_the_last(feed, "victim")
        items += collect(feed, is_event(Fatal, "victim"))
        feed.restart("victim", timeout=DEADLINE)
        assert feed.status()["endpoints"]["victim"]["state"] == "up"
        kill(feed, "victim", 1, items)
        kill_the_last(feed, "victim")  # counted from zero, and not taken for planned
        items += collect(feed, is_event(Fatal, "victim", 3))
    assert [fatal.epoch for fatal in events_of(items, "victim", Fatal)] == [2, 4]


def test_row_63_many_restarts_leave_no_descriptor_thread_or_zombie(start_method: str) -> None:
    times = 30 if start_method == "forkserver" and not capabilities.portable() else 10  # the others start an interpreter each
    items: list[Item] = []
    with Exchange() as ex, to_the_end(items, ex.endpoint("victim", restart=SOON), start_method=start_method) as feed:
        items += collect(feed, is_event(Up, "victim"))
        kill(feed, "victim", 3, items)
        wait_until(lambda: _is_at_rest(feed), DEADLINE)
        before = _descriptors(), threading.active_count(), _family()
        kill(feed, "victim", times, items)
        wait_until(lambda: _is_at_rest(feed), DEADLINE)
        wait_until(lambda: (_descriptors(), threading.active_count(), _family()) == before, DEADLINE, "something is left")
    assert [down.epoch for down in events_of(items, "victim", Down)] == list(range(1, times + 5))


def _is_at_rest(feed: Supervisor) -> bool:
    """A spare is there, and the duplicate of the connection, where there is one."""
    status = feed.status()
    return bool(status["spares"] == 1 and (status["endpoints"]["victim"]["in_custody"] or not capabilities.custody()))


def _descriptors() -> int:
    return psutil.Process().num_fds()


def _family() -> int:
    """Children, theirs, and zombies among them."""
    return len(psutil.Process().children(recursive=True))


def test_a_connect_limit_that_makes_endpoints_wait_is_told_once_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    limits = {"connects": 1, "connects_period": 60.0}
    with caplog.at_level(logging.WARNING, "wsadapter"), Exchange() as ex:
        url = ex.endpoint("a").url
        with Supervisor([Endpoint(name, url=url, limits=limits) for name in "abc"], spares=0) as feed:  # type: ignore[arg-type]
            wait_until(lambda: any(e["state"] == "up" for e in feed.status()["endpoints"].values()), DEADLINE)
    told = [record.getMessage() for record in caplog.records if "limits.connects" in record.getMessage()]
    assert told == [
        "3 endpoints connect to 127.0.0.1: at most 1 in 60 s (limits.connects), so the last one connects after about 2 min"
    ]
