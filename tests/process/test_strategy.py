"""Who else is restarted when an owner dies. Row 24 of the fault table."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import pytest

from tests.support.feeds import SOON, all_of, collect, events_of, is_event, pid_of, to_the_end
from wsadapter.contract.items import Down, Item, Up
from wsadapter.testing import Exchange

NAMES = ("first", "second", "third")


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [("one_for_one", ["second"]), ("rest_for_one", ["second", "third"]), ("one_for_all", ["second", "first", "third"])],
)
def test_row_24_the_strategy_decides_which_endpoints_restart_after_a_death(strategy: str, restarted: list[str]) -> None:
    items: list[Item] = []
    with ExitStack() as stack:
        exchanges = {name: stack.enter_context(Exchange(tls=True)) for name in NAMES}
        endpoints = [exchange.endpoint(name, restart=SOON) for name, exchange in exchanges.items()]
        with to_the_end(items, *endpoints, start_method="forkserver", strategy=strategy) as feed:
            items += collect(feed, all_of(*(is_event(Up, name) for name in NAMES)))
            before = {name: pid_of(feed, name) for name in NAMES}
            os.kill(before["second"], signal.SIGKILL)
            items += collect(feed, all_of(*(is_event(Up, name, 2) for name in restarted)))
            after = {name: pid_of(feed, name) for name in NAMES}
            downs = [item.endpoint for item in items if isinstance(item, Down)]
    assert downs[0] == "second"
    assert sorted(downs[1:]) == sorted(restarted[1:])  # they are asked at once: who ends first is not ours to say
    assert [name for name in NAMES if before[name] != after[name]] == sorted(restarted, key=NAMES.index)
    killed, *others = (events_of(items, name, Down)[0].reason for name in restarted)
    assert (killed.kind, killed.signal) == ("crashed", "SIGKILL")
    assert {reason.kind for reason in others} <= {"recycled"}
