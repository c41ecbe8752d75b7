"""The exchange asks us to reconnect: a planned change of connection, of which nobody notices anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.feeds import (
    SOON,
    assert_whole,
    collect,
    collect_for,
    events_of,
    is_event,
    is_message,
    numbered,
    to_the_end,
)
from wsadapter import Down, Gap, Item, Supervisor, Up
from wsadapter.testing import Exchange

DIALECT = """
dialect = { name = "mine", title = "An invented exchange", docs = "none" }
urls = { live = "wss://example.com" }
subscribe = { frame = '{"sub":"$streams"}', per_frame = 100 }
notice = [{ contains = '"notice"', match = { event = "notice" }, text = "msg" }]
"""
NOTICE = '{"event":"notice","msg":"we go"}'


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "mine.toml").write_text(DIALECT)
    return {"dialect": str(tmp_path / "mine.toml"), "identity": ["n"], "restart": SOON}


def test_the_connection_is_replaced_once_and_nothing_is_lost(settings: dict[str, Any], start_method: str) -> None:
    items: list[Item] = []
    with (
        Exchange(messages=numbered, rate=2_000, resume="continue", tls=True) as ex,
        to_the_end(items, ex.endpoint("a", **settings), start_method=start_method) as feed,
    ):
        items += collect(feed, is_message("a"))
        for _ in range(3):
            ex.send(NOTICE, connection=1)
        items += collect(feed, is_message("a", 2))
        items += collect_for(feed, 1.0)
        assert ex.accepted == 2
    assert [down.reason.kind for down in events_of(items, "a", Down)] == ["recycled", "stopped"]
    assert [up.resumed for up in events_of(items, "a", Up)] == [False, True]
    assert_whole(items)


def test_of_replicas_one_after_the_other_is_replaced(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.endpoint.dedup.ALIGNED_AFTER", 0.5)  # on one machine no connection is seconds behind another
    items: list[Item] = []
    with (
        Exchange(messages=numbered, rate=1_000, resume="continue", tls=True) as ex,
        to_the_end(items, ex.endpoint("a", replicas=2, **settings), start_method="forkserver") as feed,
    ):
        items += collect(feed, is_event(Up, "a"))
        _catch_up(feed, items)
        ex.send(NOTICE)  # to both
        while len(events_of(items, "a", Down)) < 2:
            items += collect(feed, is_event(Down, "a"))
        _catch_up(feed, items)
        assert ex.accepted == 4
    assert_whole(items)


def _catch_up(feed: Supervisor, items: list[Item]) -> None:
    """Until every member is up and knows where the others are."""
    while not all(member["aligned"] for member in feed.status()["endpoints"]["a"]["members"]):
        items += collect(feed, is_message("a"))


def test_where_it_may_not_overlap_it_is_replaced_all_the_same(settings: dict[str, Any]) -> None:
    items: list[Item] = []
    with (
        Exchange(messages=["a"]) as ex,
        to_the_end(items, ex.endpoint("a", make_before_break=False, **settings), start_method="forkserver") as feed,
    ):
        items += collect(feed, is_message("a"))
        ex.send(NOTICE, connection=1)
        items += collect(feed, is_message("a", 2))
    assert [gap.cause for gap in events_of(items, "a", Gap)] == ["reconnected"]
