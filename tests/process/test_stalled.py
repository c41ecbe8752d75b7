"""A stream that falls silent on a connection that is alive: told, subscribed anew, and in the end left for a new connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.feeds import DEADLINE, SOON, collect, collect_for, events_of, is_event, to_the_end
from wsadapter import Down, Gap, Item, Rejected, Stalled, Supervisor, Up
from wsadapter.testing import Exchange

DIALECT = """
dialect = { name = "mine", title = "An invented exchange", docs = "none" }
urls = { live = "wss://example.com" }
subscribe = { frame = '{"sub":"$streams"}', unsubscribe = '{"unsub":"$streams"}', per_frame = 100 }
ack = [{ match = { ok = "*" }, stream = "ok" }]
stream = { path = "s" }
"""
LEAST = 0.3
SCRIPT = [
    {"match": {"sub": "*"}, "for_each": "sub", "reply": {"ok": "$item"}},
    {"match": {"unsub": "*"}, "for_each": "unsub", "reply": {"ok": "$item"}},
]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "mine.toml").write_text(DIALECT)
    return {
        "dialect": str(tmp_path / "mine.toml"), "subscribe": ["a", "b"], "identity": ["s", "n"], "restart": SOON,
        "watchdog": {"stalled": LEAST},
    }  # fmt: skip


class Talker:
    """Sends what the streams say, and knows how steadily it could."""

    def __init__(self, ex: Exchange, feed: Supervisor, items: list[Item]) -> None:
        self._ex, self._feed, self._items = ex, feed, items
        self._count = 0
        self._longest, self._last = 0.0, time.monotonic()

    def say(self, *streams: str) -> None:
        for stream in streams:
            self._count += 1
            self._ex.send(orjson.dumps({"s": stream, "n": self._count}).decode())
        self._items += collect_for(self._feed, 0.02)
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now

    def until_known(self) -> None:
        """Both streams, for as long as they must be watched at this pace; the owner may have seen longer pauses."""
        began = time.monotonic()
        while time.monotonic() - began < 10 * max(LEAST, 30 * self._longest):
            self.say("a", "b")

    def until(self, fits: Callable[[Item], object]) -> Any:
        """Only b, until something is told."""
        deadline = time.monotonic() + DEADLINE
        while not (found := [item for item in self._items if fits(item)]):
            assert time.monotonic() < deadline
            self.say("b")
        return found[0]


@pytest.mark.timeout(240)  # how long the streams must be watched is a multiple of the longest pause that the machine made
def test_a_silent_stream_is_told_subscribed_anew_and_left_for_a_new_connection(settings: dict[str, Any]) -> None:
    items: list[Item] = []
    with (
        Exchange(ack=SCRIPT, tls=True) as ex,
        to_the_end(items, ex.endpoint("x", **settings), start_method="forkserver") as feed,
    ):
        items += collect(feed, is_event(Up, "x"))
        talker = Talker(ex, feed, items)
        talker.until_known()
        assert not events_of(items, "x", Stalled)
        stalled = talker.until(is_event(Stalled, "x"))
        assert stalled.stream == "a"
        assert stalled.silence >= LEAST
        ex.wait_received(lambda frame: frame.payload == b'{"unsub":["a"]}')
        ex.wait_for(lambda: [frame.payload for frame in ex.received].count(b'{"sub":["a"]}') == 1)
        assert not events_of(items, "x", Down)
        down = talker.until(is_event(Down, "x"))
        assert down.reason.kind == "silence"
        talker.until(is_event(Up, "x", 2))
        assert ex.accepted == 2
    assert events_of(items, "x", Gap, Rejected) == []
    assert len(events_of(items, "x", Stalled)) == 1
