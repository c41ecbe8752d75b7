"""Owners and peers that are there and do nothing. Rows 25 to 28 of the fault table."""

from __future__ import annotations

import logging
import os
import signal
import time

import psutil
import pytest

from tests.support.feeds import (
    BIG,
    DEADLINE,
    HOOK,
    SOON,
    all_of,
    beside_a_busy_one,
    collect,
    collect_for,
    events_of,
    half_written,
    is_event,
    is_message,
    messages_of,
    numbered,
    pid_of,
    steady,
    supervise,
    to_the_end,
)
from tests.support.trees import lives
from tests.support.waiting import wait_until
from wsadapter import capabilities
from wsadapter.contract.items import Down, Gap, Item, Message, Up
from wsadapter.process.exit_status import ExitWatcher
from wsadapter.testing import Exchange

PROGRESS = 1.0
SEEN_WITHIN = 1.5 * PROGRESS + 0.5 + 1.0
"""Half a `progress` to the next probe, one for its answer, half a second for the dump; and one for a busy machine."""


def test_row_25_a_stopped_idle_owner_is_killed_and_replaced(start_method: str) -> None:
    items: list[Item] = []
    with Exchange() as ex:
        endpoint = ex.endpoint("victim", restart=SOON, watchdog={"progress": PROGRESS})
        with beside_a_busy_one(items, endpoint, start_method=start_method) as feed:
            items += collect(feed, all_of(is_event(Up, "victim"), is_message("busy")))
            victim = psutil.Process(pid_of(feed, "victim"))
            began = time.monotonic()
            victim.send_signal(signal.SIGSTOP)
            items += collect(feed, is_event(Down, "victim"))
            assert time.monotonic() - began < SEEN_WITHIN
            assert not lives(victim)
            items += collect(feed, is_event(Up, "victim", 2))
    assert events_of(items, "victim", Down)[0].reason.kind == "hung"


def test_row_26_an_owner_stopped_in_the_middle_of_a_record_is_killed_and_replaced(start_method: str) -> None:
    items: list[Item] = []
    with half_written(items, start_method=start_method, watchdog={"progress": PROGRESS}) as feed:
        began = time.monotonic()
        os.kill(pid_of(feed, "victim"), signal.SIGSTOP)
        items += collect(feed, is_event(Down, "victim"))
        assert time.monotonic() - began < SEEN_WITHIN
        items += collect(feed, lambda item: isinstance(item, Message) and item.data == b"last")
        assert feed.status()["endpoints"]["victim"]["torn"] == 1
    assert events_of(items, "victim", Down)[0].reason.kind == "hung"
    assert [(m.epoch, len(m.data)) for m in messages_of(items, "victim")] == [(1, 6000), (2, 6000), (2, len(BIG)), (2, 4)]


@pytest.mark.parametrize("how", ["spin_in_c", "spin"])
def test_row_27_an_owner_that_spins_in_user_code_is_killed_and_where_it_spun_is_in_the_log(
    how: str, start_method: str, caplog: pytest.LogCaptureFixture
) -> None:
    items: list[Item] = []
    with caplog.at_level(logging.INFO, "wsadapter"), Exchange() as ex:
        endpoint = ex.endpoint("victim", decode=HOOK, restart=SOON, watchdog={"progress": PROGRESS}, timeouts={"close": 0.5})
        with beside_a_busy_one(items, endpoint, start_method=start_method) as feed:
            items += collect(feed, all_of(is_event(Up, "victim"), is_message("busy")))
            began = time.monotonic()
            ex.send(f"!{how}")
            items += collect(feed, is_event(Up, "victim", 2), 2 * SEEN_WITHIN)
            assert time.monotonic() - began < SEEN_WITHIN + 1.0
    assert events_of(items, "victim", Down)[0].reason.kind == "hung"
    printed = [record.getMessage() for record in caplog.records if record.name == "wsadapter.owner"]
    assert any("hooks.py" in line and f"in _{how}" in line for line in printed), printed


def test_row_28_a_peer_that_falls_mute_is_left_for_a_new_connection(start_method: str) -> None:
    heartbeat = {"interval": 0.3, "timeout": 0.3}
    items: list[Item] = []
    with steady() as ex:
        endpoint = ex.endpoint("victim", restart=SOON, heartbeat=heartbeat)
        with beside_a_busy_one(items, endpoint, start_method=start_method) as feed:
            items += collect(feed, all_of(is_message("victim"), is_message("busy")))
            began = time.monotonic()
            ex.mute()
            items += collect(feed, is_event(Down, "victim"))
            assert time.monotonic() - began < 0.6 + 1.0
            items += collect(feed, is_message("victim", 2))
            assert ex.accepted == 2
    assert events_of(items, "victim", Down)[0].reason.kind == "heartbeat_missed"


def test_row_31_a_quiet_channel_and_an_idle_consumer_are_no_reason_to_restart(start_method: str) -> None:
    with Exchange() as ex:
        settings = {"heartbeat": {"interval": 0.2, "timeout": 0.5}, "watchdog": {"progress": 0.5}}
        with supervise(ex.endpoint("quiet", **settings), start_method=start_method) as feed:
            items = collect(feed, is_event(Up, "quiet"))
            items += collect_for(feed, 2.0)
            ex.wait_received(lambda frame: frame.opcode == 9)
    assert events_of(items, "quiet", Down) == []


@pytest.mark.parametrize("tls", [False, True])
def test_row_74_an_owner_that_sigkill_does_not_end_is_told_and_replaced(
    start_method: str, tls: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An uninterruptible sleep can't be ordered; SIGKILL that does not arrive comes to the same."""
    items: list[Item] = []
    send_signal = ExitWatcher.send_signal
    stuck: list[int] = []

    def no_kill(child: ExitWatcher, number: signal.Signals) -> None:
        if child.pid not in stuck:
            send_signal(child, number)

    monkeypatch.setattr(ExitWatcher, "send_signal", no_kill)
    caplog.set_level(logging.INFO, logger="wsadapter")
    with Exchange(messages=numbered, rate=200, tls=tls) as ex:
        soon = {"restart": SOON, "timeouts": {"close": 0.2}, "watchdog": {"progress": 0.5}}
        endpoint = ex.endpoint("a", heartbeat={"kind": "none"}, **soon)
        with to_the_end(items, endpoint, start_method=start_method) as feed:
            items += collect(feed, is_message("a"))
            in_custody = not tls and capabilities.custody()
            wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"] is in_custody, DEADLINE)
            stuck.append(pid_of(feed, "a"))
            os.kill(stuck[0], signal.SIGSTOP)
            items += collect(feed, is_message("a", 2))
            assert f"owner pid {stuck[0]} does not end after SIGKILL" in caplog.text
            if in_custody:
                ex.wait_connections(1)  # the peer sees the end of the old one
            os.kill(stuck[0], signal.SIGKILL)
            wait_until(lambda: f"owner pid {stuck[0]}, which did not end after SIGKILL, has ended now" in caplog.text, DEADLINE)
            items += collect(feed, is_message("a", 2))
    assert events_of(items, "a", Down)[0].reason.kind == "hung"
    assert len(events_of(items, "a", Gap)) == 1


def test_row_74_a_stop_does_not_wait_for_one_that_sigkill_does_not_end_and_keeps_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items: list[Item] = []
    send_signal = ExitWatcher.send_signal
    stuck: list[int] = []
    monkeypatch.setattr(ExitWatcher, "send_signal", lambda child, number: child.pid in stuck or send_signal(child, number))
    with Exchange(messages=numbered, rate=200, tls=True) as ex:
        soon = {"restart": SOON, "timeouts": {"close": 0.2}, "watchdog": {"progress": 0.5}}
        with to_the_end(items, ex.endpoint("a", heartbeat={"kind": "none"}, **soon), start_method="forkserver") as feed:
            items += collect(feed, is_message("a"))
            stuck.append(pid_of(feed, "a"))
            os.kill(stuck[0], signal.SIGSTOP)
            items += collect(feed, is_message("a", 2))
        os.kill(stuck[0], signal.SIGKILL)  # what is left open is found behind the test
