"""Stopping, at every moment and against every resistance. Rows 33 to 36 of the fault table."""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil
import pytest

from tests.support.feeds import (
    BIG,
    BLOCKED,
    DEADLINE,
    HOOK,
    all_of,
    assert_sound,
    assert_unharmed,
    beside_a_busy_one,
    collect,
    events_of,
    half_a_record_in_the_pipe,
    is_event,
    is_message,
    messages_of,
    numbered,
    pid_of,
    supervise,
)
from tests.support.trees import lives
from tests.support.waiting import wait_until
from wsadapter import Supervisor, SupervisorStopped
from wsadapter.contract.items import Down, Item, Message, Up
from wsadapter.testing import Exchange

pytestmark = pytest.mark.version

CLOSE = 0.3
LADDER = 2 * CLOSE + 1.0
"""Asked, told, killed; and a second for a busy machine."""


def test_row_33_an_owner_that_neither_leaves_nor_obeys_sigterm_is_killed(start_method: str) -> None:
    items: list[Item] = []
    with Exchange() as ex:
        endpoint = ex.endpoint("victim", timeouts={"close": CLOSE})
        with beside_a_busy_one(items, endpoint, start_method=start_method) as feed:
            items += collect(feed, all_of(is_event(Up, "victim"), is_message("busy")))
            victim = psutil.Process(pid_of(feed, "victim"))
            victim.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            feed.stop()
            assert time.monotonic() - began < LADDER
            assert not lives(victim)
    assert [down.reason.kind for down in events_of(items, "victim", Down)] == ["stopped"]


def test_row_33_a_hook_that_never_returns_does_not_hold_up_the_stop(start_method: str) -> None:
    with Exchange() as ex:
        endpoint = ex.endpoint("victim", decode=HOOK, timeouts={"close": CLOSE}, watchdog={"progress": 0})
        with supervise(endpoint, start_method=start_method) as feed:
            collect(feed, is_event(Up, "victim"))
            ex.send("!spin_in_c")
            victim = psutil.Process(pid_of(feed, "victim"))
            wait_until(lambda: victim.cpu_percent(interval=0.1) > 30, DEADLINE, "it does not spin")
            began = time.monotonic()
            feed.stop()
            assert time.monotonic() - began < LADDER


def test_row_34_an_owner_that_dies_during_the_stop_is_counted_once_and_not_restarted(start_method: str) -> None:
    with Exchange() as ex:
        with supervise(ex.endpoint("victim", timeouts={"close": DEADLINE}), start_method=start_method) as feed:
            items = collect(feed, is_event(Up, "victim"))
            victim = pid_of(feed, "victim")
            ex.mute()  # so that the owner waits for the answer to its close frame
            feed.ask_to_stop()
            ex.wait_received(lambda frame: frame.opcode == 8)
            os.kill(victim, signal.SIGKILL)
            began = time.monotonic()
            feed.stop()
            assert time.monotonic() - began < 1.0
        items += feed
        assert ex.accepted == 1
    assert_sound(items)
    assert len(events_of(items, "victim", Down)) == 1


def test_row_35_a_second_stop_does_nothing(start_method: str) -> None:
    with Exchange() as ex, supervise(ex.endpoint("one"), start_method=start_method) as feed:
        collect(feed, is_event(Up, "one"))
        feed.stop()
        feed.stop()
        assert feed.state == "stopped"
        assert list(ex.closes.values()) == [1000]


def test_row_35_a_stop_before_the_start_makes_a_supervisor_that_never_runs(start_method: str) -> None:
    with Exchange() as ex:
        feed = supervise(ex.endpoint("one"), start_method=start_method)
        feed.stop()
        assert feed.state == "stopped"
        with pytest.raises(SupervisorStopped):
            feed.start()
        assert list(feed) == []
        assert ex.accepted == 0


def test_row_35_a_stop_right_after_the_start_leaves_nothing(start_method: str) -> None:
    with Exchange() as ex:
        feed = supervise(ex.endpoint("one"), ex.endpoint("two"), start_method=start_method).start()
        feed.stop()
        items: list[Item] = list(feed)
    assert_sound(items)
    assert {down.reason.kind for name in ("one", "two") for down in events_of(items, name, Down)} <= {"stopped"}


def test_row_35_a_stop_while_owners_start_leaves_nothing(start_method: str) -> None:
    with Exchange() as ex:
        ex.half_handshake()
        feed = supervise(ex.endpoint("one"), start_method=start_method).start()
        ex.wait_accepted(1)
        began = time.monotonic()
        feed.stop()
        assert time.monotonic() - began < 2.0
        items: list[Item] = list(feed)
    assert_sound(items)
    assert [down.reason.kind for down in events_of(items, "one", Down)] == ["stopped"]


@pytest.mark.parametrize("who", ["another thread", "the loop body", "another thread, twice"])
def test_row_35_a_stop_ends_the_iteration_behind_what_was_received(who: str, start_method: str) -> None:
    items: list[Item] = []
    threads: list[threading.Thread] = []

    def stop(feed: Supervisor) -> None:
        if who == "the loop body":
            feed.stop()
        for _ in range({"the loop body": 0, "another thread": 1}.get(who, 2)):
            threads.append(threading.Thread(target=feed.stop))
            threads[-1].start()

    with Exchange(messages=numbered, rate=1000) as ex:
        feed = supervise(ex.endpoint("one"), start_method=start_method)
        for item in feed:
            items.append(item)
            if isinstance(item, Message) and item.number == 50:
                stop(feed)
        for thread in threads:
            thread.join(DEADLINE)
        feed.stop()
    assert_sound(items)
    assert_unharmed(items, "one")
    assert isinstance(items[-1], Down)
    assert len(messages_of(items, "one")) >= 50


def test_row_35_what_a_stopped_owner_still_had_in_its_pipe_is_delivered(start_method: str) -> None:
    with Exchange(messages=["first " * 1000, BIG, "last"]) as ex:
        with supervise(ex.endpoint("one", buffer=BLOCKED), start_method=start_method) as feed:
            half_a_record_in_the_pipe(feed, "one")
        items: list[Item] = list(feed)
    assert_sound(items)
    assert [len(message.data) for message in messages_of(items, "one")][:2] == [6000, len(BIG)]
    assert events_of(items, "one", Down)[0].reason.kind == "stopped"


def test_row_35_nothing_is_restarted_behind_a_stop(start_method: str) -> None:
    with Exchange() as ex:
        with supervise(ex.endpoint("one", timeouts={"close": CLOSE}), start_method=start_method) as feed:
            items = collect(feed, is_event(Up, "one"))
            ex.mute()
            feed.ask_to_stop()
            ex.wait_received(lambda frame: frame.opcode == 8)
            with pytest.raises(SupervisorStopped):
                feed.restart("one", timeout=DEADLINE)
            feed.stop(timeout=DEADLINE)
        items += feed
        assert ex.accepted == 1
    assert len(events_of(items, "one", Down)) == 1


def test_row_36_a_peer_that_ignores_our_close_frame_is_left_after_the_deadline(start_method: str) -> None:
    with Exchange() as ex:
        with supervise(ex.endpoint("one", timeouts={"close": 0.5}), start_method=start_method) as feed:
            items = collect(feed, is_event(Up, "one"))
            ex.mute()
            began = time.monotonic()
            feed.stop()
            took = time.monotonic() - began
        items += feed
        ex.wait_for(lambda: list(ex.closes.values()) == [1000])
    assert_sound(items)
    assert 0.4 < took < 0.5 + 1.0
    assert [(down.reason.kind, down.reason.code) for down in events_of(items, "one", Down)] == [("stopped", 1000)]


def test_a_stop_that_takes_longer_than_its_timeout_raises_and_goes_on(start_method: str) -> None:
    with Exchange() as ex, supervise(ex.endpoint("one", timeouts={"close": 1.0}), start_method=start_method) as feed:
        collect(feed, is_event(Up, "one"))
        ex.mute()
        with pytest.raises(TimeoutError, match="1 owners are still closing"):
            feed.stop(timeout=0.2)
        feed.stop()
        assert feed.state == "stopped"
