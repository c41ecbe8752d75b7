"""A planned change of connection: the next one is up and subscribed before the old one goes; nothing is lost, nothing twice."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.books import BookExchange, book_dialect
from tests.support.feeds import (
    DEADLINE,
    SOON,
    assert_sound,
    assert_whole,
    collect,
    events_of,
    is_event,
    is_message,
    messages_of,
    numbered,
    pid_of,
    to_the_end,
)
from tests.support.waiting import wait_until
from wsadapter import Down, Gap, Item, Message, NotConnected, Supervisor, Up
from wsadapter.config import load
from wsadapter.testing import Exchange

BY_NUMBER = {"identity": ["n"], "restart": SOON}


def live(**settings: Any) -> Exchange:
    """One feed for all who listen, whose clock runs."""
    return Exchange(messages=numbered, rate=5_000, resume="continue", tls=True, **settings)


def numbers(items: list[Item]) -> list[int]:
    return [message.json()["n"] for message in messages_of(items, "a")]


def is_restart(feed: Supervisor, items: list[Item]) -> None:
    """Restarts and collects what comes until the next owner's first message."""
    epoch = feed.status()["endpoints"]["a"]["epoch"]
    future = feed.begin_restart("a")
    items += collect(feed, is_message("a", epoch + 1))
    future.result(DEADLINE)


def test_row_52_restarts_under_load_lose_nothing_and_repeat_nothing(start_method: str) -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **BY_NUMBER), start_method=start_method) as feed:
        items += collect(feed, is_message("a"))
        for _ in range(4):
            is_restart(feed, items)
        ex.wait_connections(1)
        assert list(ex.closes.values()) == [1000] * 4
    assert_whole(items)
    assert [up.resumed for up in events_of(items, "a", Up)] == [False] + [True] * 4
    assert [down.reason.kind for down in events_of(items, "a", Down)] == ["recycled"] * 4 + ["stopped"]


def test_row_52_recent_messages_that_a_new_subscriber_gets_again_come_once() -> None:
    recent: deque[str] = deque(maxlen=30)

    def feed_messages() -> Iterator[str]:
        for text in numbered():
            recent.append(text)
            yield text

    items: list[Item] = []
    answers = {"after_subscribe": True, "ack": lambda _: list(recent)}
    settings = {"subscribe": ["all"], **BY_NUMBER}
    exchange = Exchange(messages=feed_messages, rate=20, resume="continue", tls=True, **answers)
    with exchange as ex, to_the_end(items, ex.endpoint("a", **settings), start_method="forkserver") as feed:
        items += collect(feed, lambda item: isinstance(item, Message) and item.number == 50)
        is_restart(feed, items)
        adopted = messages_of(items, "a")[-1].number
        items += collect(feed, lambda item: isinstance(item, Message) and item.number > adopted + 35)
    # Before these the peer repeats itself.
    assert_whole([item for item in items if not isinstance(item, Message) or item.number > 35])
    assert [up.resumed for up in events_of(items, "a", Up)] == [False, True]


def test_row_52_without_an_identity_the_change_is_told() -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", restart=SOON), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        is_restart(feed, items)
    found = numbers(items)
    assert set(found) == set(range(found[0], found[-1] + 1))
    (gap,) = events_of(items, "a", Gap)
    assert gap.cause == "replaced"
    ups = [place for place, item in enumerate(items) if isinstance(item, Up)]
    assert items[ups[1] + 1] is gap


def test_row_48_a_successor_that_fails_leaves_the_old_connection_alone() -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **BY_NUMBER), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        pid = pid_of(feed, "a")
        ex.refuse(503)
        future = feed.begin_restart("a")
        with pytest.raises(NotConnected, match="the old connection stays: handshake rejected, HTTP 503"):
            feed.runtime.reactor.wait(future, DEADLINE)
        assert pid_of(feed, "a") == pid
        ex.refuse(0)
        items += collect(feed, is_message("a"))
        assert events_of(items, "a", Down) == []
        is_restart(feed, items)
    assert_whole(items)


def successor_of(feed: Supervisor) -> int:
    """The pid of the owner that is to come."""
    found: list[int] = []

    def there() -> bool:
        successor = feed.runtime.registry.endpoints["a"].link.rollover._successor
        if successor is not None and successor.process is not None and successor.process.pid is not None:
            found.append(successor.process.pid)
        return bool(found)

    wait_until(there, DEADLINE, "no successor")
    return found[0]


def test_row_48_a_successor_that_is_killed_costs_nothing() -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **BY_NUMBER), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        future = feed.begin_restart("a")
        os.kill(successor_of(feed), signal.SIGKILL)
        with pytest.raises(NotConnected, match=r"the old connection stays: (crashed|start failed), SIGKILL"):
            feed.runtime.reactor.wait(future, DEADLINE)
        items += collect(feed, is_message("a"))
    assert_whole(items)


def overlaps(feed: Supervisor) -> bool:
    """Whether the successor has shown what the old owner delivered, or is the owner already."""
    change = feed.runtime.registry.endpoints["a"].link.rollover

    def look() -> bool:
        successor, merge = change._successor, change.merge
        return successor is None or (merge is not None and merge.compare(successor, in_order=False).continues)

    return feed.runtime.reactor.call(look)


def is_subscribed(feed: Supervisor) -> bool:
    return feed.status()["endpoints"]["a"]["successor"] in ("settling", "ready")


def test_an_owner_that_dies_when_its_successor_is_subscribed_is_not_missed(start_method: str) -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **BY_NUMBER), start_method=start_method) as feed:
        items += collect(feed, is_message("a"))
        old = pid_of(feed, "a")
        feed.begin_restart("a")
        wait_until(lambda: overlaps(feed), DEADLINE)
        with suppress(ProcessLookupError):  # it has gone by itself
            os.kill(old, signal.SIGKILL)
        items += collect(feed, is_message("a", 2))
        items += collect(feed, is_message("a", 2))
    assert_whole(items)
    assert [up.resumed for up in events_of(items, "a", Up)] == [False, True]


def is_identified(feed: Supervisor) -> bool:
    """Whether the old owner has nothing left to do for the change."""
    successor = feed.runtime.registry.endpoints["a"].link.rollover._successor
    return successor is not None and successor._identified


def test_what_an_owner_had_not_read_when_it_died_is_a_gap_though_its_successor_was_subscribed(start_method: str) -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **BY_NUMBER), start_method=start_method, spares=0) as feed:
        items += collect(feed, is_message("a"))
        old = pid_of(feed, "a")
        feed.begin_restart("a")
        wait_until(lambda: is_identified(feed), DEADLINE)
        os.kill(old, signal.SIGSTOP)
        assert not is_subscribed(feed)
        wait_until(lambda: is_subscribed(feed), DEADLINE)
        os.kill(old, signal.SIGKILL)
        items += collect(feed, is_message("a", 2))
    assert_told(items, "reconnected")


def test_what_a_mute_connection_did_not_bring_is_a_gap_though_its_owner_left_in_order() -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **BY_NUMBER), start_method="forkserver", spares=0) as feed:
        items += collect(feed, is_message("a"))
        feed.begin_restart("a")
        ex.mute()
        assert not is_subscribed(feed)
        items += collect(feed, is_message("a", 2))
    assert_told(items, "replaced")


def assert_told(items: list[Item], cause: str) -> None:
    """Something is missing between the two connections, and a gap says so, with its window."""
    (gap,) = events_of(items, "a", Gap)
    assert gap.cause == cause
    before, after = ([m for m in messages_of(items, "a") if m.epoch == epoch] for epoch in (1, 2))
    assert before[-1].json()["n"] + 1 < after[0].json()["n"]
    assert gap.last_received_at == before[-1].received_at
    assert [up.resumed for up in events_of(items, "a", Up)] == [False, False]


def test_an_owner_that_dies_before_its_successor_is_subscribed_leaves_a_gap() -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, ex.endpoint("a", **BY_NUMBER), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        ex.half_handshake()
        feed.begin_restart("a")
        wait_until(lambda: feed.status()["endpoints"]["a"]["successor"] == "connecting", DEADLINE)
        os.kill(pid_of(feed, "a"), signal.SIGKILL)
        ex.wait_accepted(2)
        items += collect(feed, is_event(Down, "a"))
        ex.half_handshake(on=False)
        os.kill(pid_of(feed, "a"), signal.SIGKILL)
        items += collect(feed, is_message("a", 3))
    later_ups = events_of(items, "a", Up)[1:]  # on a busy machine the second owner may have come up before it was killed
    assert [gap.cause for gap in events_of(items, "a", Gap)] == ["reconnected"] * len(later_ups)
    found = numbers(items)
    assert found == sorted(set(found))


def test_a_connection_at_its_age_is_replaced_without_loss() -> None:
    items: list[Item] = []
    aged = {"watchdog": {"max_age": 1.0}, **BY_NUMBER}
    with live() as ex, to_the_end(items, ex.endpoint("a", **aged), start_method="forkserver") as feed:
        items += collect(feed, is_message("a", 2))
    assert_whole(items)


def test_a_successor_that_stays_mute_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.endpoint.successor._QUIET", 0.5)
    items: list[Item] = []

    def answer(_frame: str | bytes) -> list[str] | None:
        """Only the first connection is subscribed."""
        return ['{"n":-1}'] if len(ex.open_ids) == 1 else None

    ex = live(ack=answer, after_subscribe=True)
    endpoint = {"subscribe": ["all"], **BY_NUMBER}
    with ex, to_the_end(items, ex.endpoint("a", **endpoint), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        future = feed.begin_restart("a")
        with pytest.raises(NotConnected, match="mute for"):
            feed.runtime.reactor.wait(future, DEADLINE)
        items += collect(feed, is_message("a"))
    found = numbers(items)[1:]
    assert found == list(range(found[0], found[0] + len(found)))


def test_a_reload_changes_an_endpoint_without_loss(tmp_path: Path) -> None:
    items: list[Item] = []
    path = tmp_path / "c.toml"

    def write(ex: Exchange, size: str) -> None:
        path.write_text(
            f'[endpoints.a]\nurl = "{ex.url}"\nidentity = ["n"]\nmax_message = "{size}"\ntls.ca_file = "{ex.ca_file}"\n'
        )

    with live() as ex:
        write(ex, "1MiB")
        with Supervisor.from_settings(load(path)) as feed:
            items += collect(feed, is_message("a"))
            write(ex, "2MiB")
            assert feed.reload(load(path))["changed"] == ["a"]
            items += collect(feed, is_message("a", 2))
        items += feed
    assert_sound(items)
    assert_whole(items)


def test_a_reload_of_a_supervisor_that_is_new_starts_it(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    with Exchange(messages=["1"]) as ex:
        path.write_text(f'[endpoints.a]\nurl = "{ex.url}"\nmax_message = "1MiB"\n')
        feed = Supervisor([ex.endpoint("a")])
        try:
            assert feed.reload(load(path))["changed"] == ["a"]
            collect(feed, is_message("a"))
        finally:
            feed.stop()


def test_make_before_break_can_be_switched_off() -> None:
    items: list[Item] = []
    off = {**BY_NUMBER, "make_before_break": False}
    with live() as ex, to_the_end(items, ex.endpoint("a", **off), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        is_restart(feed, items)
    assert [gap.cause for gap in events_of(items, "a", Gap)] == ["reconnected"]


def test_row_76_a_book_survives_planned_changes(tmp_path: Path) -> None:
    items: list[Item] = []
    kept = BookExchange(rate=2_000)
    settings = {"dialect": book_dialect(tmp_path), "subscribe": ["btc"], "restart": SOON}
    with kept.exchange as ex, to_the_end(items, ex.endpoint("a", **settings), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        for _ in range(3):
            is_restart(feed, items)
    kept.assert_rebuilt_from(items)
    assert events_of(items, "a", Gap) == []
