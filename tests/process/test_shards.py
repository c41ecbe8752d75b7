"""More streams than one connection may carry: endpoints of one group, each on a connection of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Running, write_config, wsadapter
from tests.support.feeds import (
    SOON,
    all_of,
    collect,
    events_of,
    is_event,
    is_message,
    messages_of,
    pid_of,
    supervise,
    to_the_end,
)
from tests.support.waiting import wait_until
from wsadapter import Down, Item, Message, Restored, Subscribed, Supervisor, Up, UsageError
from wsadapter.config import Settings
from wsadapter.testing import Exchange

DIALECT = """
dialect = { name = "mine", title = "An invented exchange", docs = "none" }
urls = { live = "wss://example.com" }
subscribe = { frame = '{"sub":"$streams","n":"$id"}', unsubscribe = '{"unsub":"$streams"}', per_frame = 9, per_connection = 2 }
ack = [{ match = { ok = "*" }, id = "ok" }]
stream = { path = "s" }
request = { id = "req" }
"""


def answer(frame: str | bytes) -> list[str] | None:
    said = json.loads(frame)
    if "req" in said:
        return [json.dumps({"req": said["req"], "done": True})]
    return [json.dumps({"ok": said["n"]}), *(json.dumps({"s": name}) for name in said["sub"])] if "sub" in said else None


@pytest.fixture
def ex() -> Iterator[Exchange]:
    with Exchange(ack=answer) as exchange:
        yield exchange


@pytest.fixture
def dialect(tmp_path: Path) -> str:
    (tmp_path / "mine.toml").write_text(DIALECT)
    return str(tmp_path / "mine.toml")


def of(ex: Exchange, dialect: str, *streams: str, **more: Any) -> Any:
    return ex.endpoint("x", dialect=dialect, subscribe=streams, restart=SOON, **more)


def streams_of(items: list[Item]) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for item in items:
        if isinstance(item, Message):
            found.setdefault(item.endpoint, set()).add(item.stream)
    return found


def restored(*names: str, epoch: int = 0) -> Any:
    return all_of(*(is_event(Restored, name, epoch) for name in names))


def test_each_shard_has_its_own_connection_and_numbers(ex: Exchange, dialect: str, start_method: str) -> None:
    items: list[Item] = []
    with to_the_end(items, of(ex, dialect, *"abcde"), start_method=start_method) as feed:
        items += collect(feed, restored("x#1", "x#2", "x#3"))
        wait_until(lambda: all(status["messages"] for status in feed.status()["endpoints"].values()), 10.0)
        assert {name: status["group"] for name, status in feed.status()["endpoints"].items()} == dict.fromkeys(
            ["x#1", "x#2", "x#3"], "x"
        )
        assert len({pid_of(feed, name) for name in ("x#1", "x#2", "x#3")}) == 3
    assert ex.accepted == 3
    assert streams_of(items) == {"x#1": {"a", "b"}, "x#2": {"c", "d"}, "x#3": {"e"}}
    assert [message.number for message in messages_of(items, "x#2")] == [1, 2]


def test_commands_on_the_group_go_to_its_shards(ex: Exchange, dialect: str) -> None:
    items: list[Item] = []
    with to_the_end(items, of(ex, dialect, *"abcd"), start_method="forkserver") as feed:
        items += collect(feed, restored("x#1", "x#2"))
        feed.send("x", '{"to":"all"}')
        ex.wait_for(lambda: len([1 for frame in ex.received if b'"to"' in frame.payload]) == 2)
        assert feed.request("x", {}).json()["done"]
        for wrong in (lambda: feed.insert("x", "mine"), lambda: feed.monitor("x")):
            with pytest.raises(UsageError, match=r"x is spread over x#1, x#2; name one of them"):
                wrong()
        feed.insert("x#2", "mine")
        before = [pid_of(feed, name) for name in ("x#1", "x#2")]
        feed.restart("x")
        assert not set(before) & {pid_of(feed, name) for name in ("x#1", "x#2")}
        feed.remove("x")
        assert feed.status()["endpoints"] == {}
    assert {down.endpoint for down in events_of(items, "x#1", Down) + events_of(items, "x#2", Down)} == {"x#1", "x#2"}


def test_shards_come_and_go_with_what_is_wanted(ex: Exchange, dialect: str) -> None:
    items: list[Item] = []
    with to_the_end(items, of(ex, dialect, "a"), start_method="forkserver") as feed:
        items += collect(feed, is_message("x"))
        assert feed.status()["endpoints"]["x"]["group"] is None
        own = feed.stream("x")
        feed.subscribe("x", ["b", "c", "a", "d", "e"])
        wanted = {("x", "b"), ("x#2", "c"), ("x#2", "d"), ("x#3", "e")}
        while wanted:
            item = own.get(10.0)
            items.append(item)
            if isinstance(item, Subscribed):
                wanted.discard((item.endpoint, item.stream))
        pid = pid_of(feed, "x")
        feed.unsubscribe("x", ["c", "d", "a"])
        wait_until(lambda: set(feed.status()["endpoints"]) == {"x", "x#3"}, 10.0)
        feed.subscribe("x", ["f"])  # where there is room again
        wait_until(lambda: feed.status()["endpoints"]["x"]["subscriptions"]["confirmed"] == 2, 10.0)
        assert pid_of(feed, "x") == pid
        feed.stop()
        items += own


def test_a_reload_touches_only_the_shards_that_change(ex: Exchange, dialect: str) -> None:
    def settings(*streams: str) -> Settings:
        return Settings(endpoints=(of(ex, dialect, *streams),))

    items: list[Item] = []
    with supervise(*settings(*"abcd").endpoints, start_method="forkserver") as feed:
        items += collect(feed, restored("x#1", "x#2"))
        pids = {name: pid_of(feed, name) for name in ("x#1", "x#2")}
        assert feed.reload(settings(*"abcd")) == {"added": [], "removed": [], "changed": [], "subscriptions": []}
        assert feed.reload(settings(*"eabcf")) == {"added": ["x#3"], "removed": [], "changed": [], "subscriptions": ["x#2"]}
        items += collect(feed, restored("x#3"))
        assert feed.reload(settings("a", "f")) == {"added": [], "removed": ["x#2"], "changed": [], "subscriptions": ["x#1"]}
        assert pid_of(feed, "x#1") == pids["x#1"]
        assert feed.reload(Settings(endpoints=())) == {
            "added": [], "removed": ["x#1", "x#3"], "changed": [], "subscriptions": []
        }  # fmt: skip
        feed.add(of(ex, dialect, "z"))
        items += collect(feed, is_event(Up, "x"))
        assert list(feed.status()["endpoints"]) == ["x"]


@pytest.mark.native
def test_a_group_changes_supervisors_as_one(ex: Exchange, dialect: str, tmp_path: Path) -> None:
    more = f"[defaults]\ndialect = {json.dumps(dialect)}\nsubscribe = ['a', 'b', 'c']\n"
    config = str(write_config(tmp_path / "line.toml", {"x": ex.url}, more=more))
    with Running(tmp_path, config) as before:
        confirmed = lambda: [each["subscriptions"]["confirmed"] for each in before.status().values()]  # noqa: E731
        before.wait_until(lambda: confirmed() == [2, 1], "not subscribed")
        assert wsadapter(tmp_path, "subscribe", "x", "d", "e").returncode == 0
        before.wait_until(lambda: confirmed() == [2, 2, 1], "not subscribed")
        owners = {name: status["pid"] for name, status in before.status().items()}
        with Running(tmp_path, config, "--takeover") as after:
            after.wait_for_log("took over from pid")
            assert before.wait() == 0
            assert {name: status["pid"] for name, status in after.status().items()} == owners
            assert {status["group"] for status in after.status().values()} == {"x"}
            assert sum(status["subscriptions"]["wanted"] for status in after.status().values()) == 5  # what was added, too
            assert wsadapter(tmp_path, "restart", "x").stdout == "x is up: all its shards\n"
            assert after.stop() == 0
    assert sorted(owners) == ["x#1", "x#2", "x#3"]
    assert ex.accepted == 3


def test_a_group_of_a_name_that_is_taken_is_refused(ex: Exchange, dialect: str) -> None:
    with Supervisor([of(ex, dialect, *"abc")]) as feed, pytest.raises(UsageError, match="'x' exists already"):
        feed.add(of(ex, dialect, "d"))
