"""The wall clock jumps. Row 43 of the fault table: every deadline is of the monotonic clock."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.feeds import all_of, collect, collect_for, events_of, is_event, is_message, messages_of, pid_of, to_the_end
from tests.support.wall_clock import jumped
from wsadapter.contract.items import Down, Item, Message, Up
from wsadapter.testing import Exchange

HOOK = "tests.support.wall_clock:obey"
HOUR = 3_600_000_000_000


@pytest.mark.parametrize("hours", [1, -1])
def test_row_43_a_jump_of_the_wall_clock_kills_nobody_and_no_backoff_is_stuck(hours: int) -> None:
    """Of the owner and of the supervisor: heartbeats, both watchdogs, the backoff and the connect limit go on."""
    items: list[Item] = []
    watchdog = {"progress": 0.5, "silence": 2}
    restart = {"backoff_initial": 0.2, "backoff_max": 0.4, "intensity": 10}
    with Exchange(messages=["before", f"jump {hours}", *["after"] * 1000], rate=20, loop=False, tls=True) as ex:
        heartbeat = {"interval": 0.3, "timeout": 0.5}
        endpoint = ex.endpoint("a", decode=HOOK, watchdog=watchdog, restart=restart, heartbeat=heartbeat)
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            items += collect(feed, all_of(is_message("a"), is_said("after")))
            with jumped(hours):
                items += collect_for(feed, 2.0)
                assert events_of(items, "a", Down) == []
                os.kill(pid_of(feed, "a"), signal.SIGKILL)
                began = time.monotonic()
                items += collect(feed, all_of(is_event(Up, "a", 2), is_message("a", 2)))
                assert time.monotonic() - began < 10
                status = feed.status()["endpoints"]["a"]
            assert status["state"] == "up"
    assert [down.reason.kind for down in events_of(items, "a", Down)][:1] == ["crashed"]
    first, *_, last = (m.received_at for m in messages_of(items, "a") if m.epoch == 1)
    assert abs(last - first - hours * HOUR) < HOUR / 2, "the owner's clock did not jump"


def is_said(text: str) -> object:
    return lambda item: isinstance(item, Message) and item.data == text.encode()
