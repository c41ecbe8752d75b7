"""Replicas: several live connections of one endpoint; what one loses, the others have."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.books import BookExchange, book_dialect
from tests.support.feeds import (
    DEADLINE,
    SOON,
    assert_whole,
    collect,
    collect_for,
    events_of,
    is_event,
    is_message,
    messages_of,
    numbered,
    to_the_end,
)
from tests.support.markets import MARKETS
from tests.support.schema import deviations
from tests.support.waiting import wait_until
from wsadapter import ConfigError, Down, Endpoint, Gap, Item, Rejected, Restored, Status, Subscribed, Supervisor, Up
from wsadapter.config import checked
from wsadapter.testing import Exchange

TWO: dict[str, Any] = {"identity": ["n"], "replicas": 2, "restart": SOON}


ALIGNED_AFTER = "wsadapter.endpoint.dedup.ALIGNED_AFTER"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long each new member waits until it counts as aligned."""
    monkeypatch.setattr(ALIGNED_AFTER, 1.0)


def live(rate: float = 2_000.0, **settings: Any) -> Exchange:
    """One feed for all who listen, whose clock runs."""
    return Exchange(messages=numbered, rate=rate, resume="continue", tls=True, **settings)


def members(feed: Supervisor) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = feed.status()["endpoints"]["a"]["members"]
    return found


def are_aligned(feed: Supervisor, items: list[Item]) -> None:
    """Consumes until every member has caught up. A look at the status costs as much as many messages: one for each message
    would make the consumer the one that never catches up."""
    while not all(member["aligned"] for member in members(feed)):
        items += collect_for(feed, 0.1)


def are_killed_in_turn(feed: Supervisor, items: list[Item], times: int) -> None:
    """One or the other of two, when both have caught up."""
    for kill in range(times):
        are_aligned(feed, items)
        os.kill(members(feed)[kill % 2]["pid"], signal.SIGKILL)
        items += collect(feed, is_event(Down, "a"))
        items += collect(feed, is_event(Up, "a"))
    are_aligned(feed, items)
    items += collect(feed, is_message("a"))


def test_row_55_either_of_two_is_killed_again_and_again(start_method: str) -> None:
    items: list[Item] = []
    with live(1_000.0) as ex, to_the_end(items, ex.endpoint("a", **TWO), start_method=start_method) as feed:
        items += collect(feed, is_message("a"))
        are_killed_in_turn(feed, items, 6)
    assert_whole(items)
    downs = events_of(items, "a", Down)
    assert [(down.member, down.live, down.reason.signal) for down in downs[:6]] == [
        (1 + kill % 2, 1, "SIGKILL") for kill in range(6)
    ]
    assert [up.resumed for up in events_of(items, "a", Up)] == [False] + [True] * 7


def test_both_deliver_and_each_message_comes_once() -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **TWO), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        are_aligned(feed, items)
        assert ex.connections == 2
        assert deviations(feed.status(), Status) == []
        status = feed.status()["endpoints"]["a"]
        assert status["live"] == 2
        assert [member["lead"] for member in status["members"]].count(True) == 1
    assert_whole(items)


def test_when_both_are_lost_a_gap_says_so() -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **TWO), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        are_aligned(feed, items)
        ex.reset()
        items += collect(feed, is_event(Gap, "a"))
        items += collect(feed, is_message("a"))
        are_aligned(feed, items)
    # One may be back before the other one's end is seen: it is not known then to have all that the other one had.
    assert {gap.cause for gap in events_of(items, "a", Gap)} <= {"reconnected", "lead_changed"}
    assert len(events_of(items, "a", Gap)) == 1
    found = [message.json()["n"] for message in messages_of(items, "a")]
    assert found == sorted(set(found))


@pytest.mark.native
def test_on_ws_a_killed_owner_of_a_replica_hands_its_connection_on() -> None:
    items: list[Item] = []
    exchange = Exchange(messages=numbered, rate=5_000, resume="continue")
    with exchange as ex, to_the_end(items, ex.endpoint("a", **TWO), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        are_aligned(feed, items)
        for member in (0, 1, 0):
            os.kill(members(feed)[member]["pid"], signal.SIGKILL)
            items += collect(feed, is_event(Up, "a"))
            items += collect(feed, is_message("a"))
        assert ex.accepted == 2
    assert_whole(items)


def test_a_restart_goes_round_and_loses_nothing() -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **TWO), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        are_aligned(feed, items)
        future = feed.begin_restart("a")
        while not future.done():
            items += collect(feed, is_message("a"))
        future.result(0)
        are_aligned(feed, items)
    assert_whole(items)
    downs = events_of(items, "a", Down)
    assert [(down.member, down.reason.kind, down.live) for down in downs[:2]] == [(1, "recycled", 1), (2, "recycled", 1)]


def test_a_member_that_is_mute_while_the_other_is_not_is_replaced() -> None:
    items: list[Item] = []
    patient = {**TWO, "heartbeat": {"kind": "none"}}
    with live() as ex, to_the_end(items, ex.endpoint("a", **patient), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        are_aligned(feed, items)
        ex.mute(connection=ex.open_ids[1])
        items += collect(feed, is_event(Down, "a"), 60.0)
        items += collect(feed, is_event(Up, "a"))
        are_aligned(feed, items)
    assert_whole(items)
    down = events_of(items, "a", Down)[0]
    assert (down.reason.kind, down.live) == ("silence", 1)
    assert "while another replica gets messages" in down.reason.text


def test_a_feed_that_is_quiet_on_both_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ALIGNED_AFTER, 0.5)
    monkeypatch.setattr("wsadapter.endpoint.replicas._BEHIND", 0.5)  # so long after a message the silent ones are looked for
    items: list[Item] = []
    exchange = Exchange(messages=['{"n":1}'], resume="continue", tls=True)
    with exchange as ex, to_the_end(items, ex.endpoint("a", **TWO), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        wait_until(lambda: all(member["aligned"] for member in members(feed)), DEADLINE)
        items += collect_for(feed, 2.0)
    assert [down.reason.kind for down in events_of(items, "a", Down)] == ["stopped", "stopped"]


def test_row_76_a_book_survives_the_deaths_of_replicas(tmp_path: Path) -> None:
    items: list[Item] = []
    kept = BookExchange(rate=2_000)
    settings: dict[str, Any] = {"dialect": book_dialect(tmp_path), "subscribe": ["btc"], "restart": SOON, "replicas": 2}
    with kept.exchange as ex, to_the_end(items, ex.endpoint("a", **settings), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        are_killed_in_turn(feed, items, 4)
    kept.assert_rebuilt_from(items)
    assert events_of(items, "a", Gap) == []


@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "disconnect"])
def test_a_slow_consumer_of_replicas(overflow: str) -> None:
    items: list[Item] = []
    small = {**TWO, "buffer": {"max_bytes": 100_000, "overflow": overflow}}
    with live() as ex, to_the_end(items, ex.endpoint("a", **small), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        wait_until(lambda: is_full(feed, overflow), DEADLINE, lambda: str(feed.status()["endpoints"]["a"]))
        items += collect(feed, is_message("a", 3 if overflow == "disconnect" else 0))
        items += collect_for(feed, 0.5)
    if overflow == "block":
        assert_whole(items)


def is_full(feed: Supervisor, overflow: str) -> bool:
    """Whether the overflow has happened."""
    status = feed.status()["endpoints"]["a"]
    return bool(status["dropped"]) if overflow != "block" else status["buffered"] > 100_000


def test_replicas_can_be_added_and_taken_away_by_a_reload() -> None:
    items: list[Item] = []
    with live() as ex, Supervisor([ex.endpoint("a", **{**TWO, "replicas": 1})]) as feed:

        def change(replicas: int) -> None:
            endpoint = checked(ex.endpoint("a", **{**TWO, "replicas": replicas}))
            feed.runtime.reactor.call(lambda: feed.runtime.registry.apply({"a": endpoint}, {}))

        items += collect(feed, is_message("a"))
        change(2)
        items += collect(feed, is_event(Gap, "a"))
        wait_until(lambda: feed.status()["endpoints"]["a"].get("live") == 2, DEADLINE)
        are_aligned(feed, items)
        change(3)
        wait_until(lambda: feed.status()["endpoints"]["a"]["live"] == 3, DEADLINE)
        are_aligned(feed, items)
        change(1)
        items += collect(feed, is_event(Gap, "a"))
        items += collect(feed, is_message("a"))
        ex.wait_connections(1)
    items += feed
    found = [message.number for message in messages_of(items, "a")]
    assert found == list(range(1, len(found) + 1))
    assert [gap.cause for gap in events_of(items, "a", Gap)] == ["reconnected", "reconnected"]


def test_a_stop_before_both_have_caught_up_tells_no_gap() -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **TWO), start_method="forkserver") as feed:
        items += collect(feed, lambda item: isinstance(item, Up) and item.live == 2)
        items += collect(feed, is_message("a"))
    assert_whole(items)


def test_what_becomes_of_a_stream_is_told_once_by_an_endpoint_with_replicas() -> None:
    market = MARKETS["binance"]
    good, bad = market.streams[0].subscribe, market.bad
    items: list[Item] = []
    exchange = Exchange(dialect="binance", messages=market.messages(), rate=50.0, tls=True)
    exchange.reject(bad)

    def are_answered(pids: set[int]) -> bool:
        now = members(feed)
        answered = [bad in member["subscriptions"]["rejected"] and member["subscriptions"]["confirmed"] for member in now]
        return all(answered) and pids.isdisjoint(member["pid"] for member in now)

    with exchange as ex:
        endpoint = ex.endpoint("a", subscribe=[good, bad], replicas=2, restart=SOON)
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            wait_until(lambda: are_answered(set()), DEADLINE)
            killed = members(feed)[0]["pid"]
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: are_answered({killed}), DEADLINE)
    assert [event.stream for event in events_of(items, "a", Subscribed)] == [good]
    assert [event.stream for event in events_of(items, "a", Rejected)] == [bad]
    assert [(event.ok, event.failed) for event in events_of(items, "a", Restored)] == [(1, (bad,))]


def test_replicas_need_an_identity() -> None:
    with pytest.raises(ConfigError, match="more than 1 needs an `identity`, what makes two messages the same"):
        Supervisor([Endpoint("a", url="ws://127.0.0.1", replicas=2)])
