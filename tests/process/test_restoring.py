"""Subscriptions over reconnections: rows 67 and 68 of the fault table."""

from __future__ import annotations

import itertools
import json
import os
import signal
from typing import Any

import pytest

from tests.support.feeds import DEADLINE, SOON, collect, events_of, is_event, is_message, messages_of, pid_of, to_the_end
from tests.support.waiting import wait_until
from wsadapter import Down, Gap, Item, Rejected, Restored, Up, capabilities
from wsadapter.testing import Exchange

BOOK = {"channel": "book", "symbol": "tBTCUSD", "prec": "P0"}
TRADES = {"channel": "trades", "symbol": "tBTCUSD"}
BOOK_NAME = '{"channel":"book","prec":"P0","symbol":"tBTCUSD"}'
TRADES_NAME = '{"channel":"trades","symbol":"tBTCUSD"}'
QUIET = {"kind": "none"}


class Channels:
    """Answers as Bitfinex does: each subscription gets a number, another one on each connection."""

    def __init__(self) -> None:
        self._numbers = itertools.count(11)
        self.given: list[tuple[str, int]] = []

    def __call__(self, frame: str | bytes) -> list[str] | None:
        asked = json.loads(frame)
        if asked["event"] != "subscribe":
            return None
        number = next(self._numbers)
        self.given.append((asked["channel"], number))
        said = {key: value for key, value in asked.items() if key != "event"}
        return [json.dumps({"event": "subscribed", "chanId": number, **said}), json.dumps([number, ["data", number]])]


def streams_of(items: list[Item]) -> list[tuple[str | None, Any]]:
    return [(message.stream, message.json()) for message in messages_of(items, "a")]


def test_row_68_a_channel_whose_id_changed_still_leads_to_its_stream(start_method: str) -> None:
    items: list[Item] = []
    channels = Channels()
    settings: dict[str, Any] = {"dialect": "bitfinex", "subscribe": [BOOK, TRADES], "restart": SOON, "heartbeat": QUIET}
    with Exchange(ack=channels) as ex, to_the_end(items, ex.endpoint("a", **settings), start_method=start_method) as feed:
        items += collect(feed, is_event(Restored, "a"))
        ex.drop()
        items += collect(feed, is_event(Restored, "a", 2))
        if b"14" not in messages_of(items, "a")[-1].data:
            items += collect(feed, lambda item: is_message("a", 2)(item) and b"14" in item.data)  # type: ignore[union-attr]
        numbers = dict(channels.given[2:])
        assert set(numbers.values()) == {13, 14}
        if capabilities.custody():  # the next owner of the same connection knows them too
            wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)
            os.kill(pid_of(feed, "a"), signal.SIGKILL)
            items += collect(feed, is_event(Up, "a", 3))
        ex.send(json.dumps([numbers["trades"], ["late"]]))
        items += collect(feed, lambda item: is_message("a")(item) and b"late" in item.data)  # type: ignore[union-attr]
    found = streams_of(items)
    assert [stream for stream, _ in found] == [BOOK_NAME, TRADES_NAME, BOOK_NAME, TRADES_NAME, TRADES_NAME]


def test_row_67_restored_in_a_burst_and_through_a_second_drop(start_method: str) -> None:
    items: list[Item] = []
    names = [f"s{n}@trade" for n in range(40)]

    def answer(frame: str | bytes) -> list[str]:
        return [json.dumps({"result": None, "id": json.loads(frame)["id"]})]

    burst = (json.dumps({"stream": names[n % 40], "data": {"e": "trade", "t": n}}) for n in itertools.count())
    settings: dict[str, Any] = {"dialect": "binance", "subscribe": names, "restart": SOON, "gap_check": False}
    exchange = Exchange(ack=answer, messages=lambda: burst, rate=5_000, resume="continue")
    with exchange as ex, to_the_end(items, ex.endpoint("a", **settings), start_method=start_method) as feed:
        items += collect(feed, is_event(Restored, "a"))
        ex.hold_answers()
        ex.drop()
        items += collect(feed, is_message("a", 2))  # the burst goes on, nothing is answered
        ex.drop()
        ex.hold_answers(on=False)
        items += collect(feed, is_event(Restored, "a", 3))
        status = feed.status()["endpoints"]["a"]["subscriptions"]
        assert (status["wanted"], status["confirmed"], status["rejected"]) == (40, 40, {})
        wait_until(lambda: feed.status()["endpoints"]["a"]["subscriptions"]["live"] == 40, DEADLINE)
    restored = [(event.epoch, event.ok, event.failed) for event in events_of(items, "a", Restored)]
    assert restored == [(1, 40, ()), (3, 40, ())]
    assert events_of(items, "a", Rejected) == []
    assert [down.epoch for down in events_of(items, "a", Down)][:2] == [1, 2]
    assert len(events_of(items, "a", Gap)) == 2
    assert {stream for stream, _ in streams_of(items)} == set(names)


@pytest.mark.parametrize("first", [True, False])
def test_a_stream_that_is_confirmed_and_mute_is_asked_for_anew(first: bool, tmp_path: Any) -> None:
    """`first`: it comes to life when it is asked for again."""
    items: list[Item] = []
    (tmp_path / "mine.toml").write_text(
        'dialect = { name = "mine", title = "An invented exchange", docs = "none" }\nurls = { live = "wss://example.com" }\n'
        'stream = { path = "s" }\n'
        '[subscribe]\nframe = \'{"sub":"$stream","id":"$id"}\'\nlive_timeout = 0.3\n'
        '[[ack]]\nmatch = { ok = true }\nid = "id"\n'
    )
    asked: list[str] = []

    def answer(frame: str | bytes) -> list[str]:
        wanted = json.loads(frame)
        asked.append(wanted["sub"])
        data = [json.dumps({"s": wanted["sub"]})] if wanted["sub"] == "loud" or (first and asked.count("mute") > 1) else []
        return [json.dumps({"ok": True, "id": wanted["id"]}), *data]

    settings: dict[str, Any] = {"dialect": str(tmp_path / "mine.toml"), "subscribe": ["loud", "mute"], "restart": SOON}
    with Exchange(ack=answer) as ex, to_the_end(items, ex.endpoint("a", **settings), start_method="forkserver") as feed:
        if first:
            items += collect(feed, lambda item: is_message("a")(item) and item.stream == "mute")  # type: ignore[union-attr]
        else:
            items += collect(feed, lambda item: type(item).__name__ == "Stalled" and item.stream == "mute")  # type: ignore[union-attr]
    assert asked == ["loud", "mute", "mute"]
