"""A dialect of a user's own, written from the documentation alone and without Python, against the exchange that it is for."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import supervise, write_config
from tests.support.feeds import DEADLINE, SOON, collect, events_of, is_event, messages_of, to_the_end
from tests.support.waiting import wait_until
from tests.support.zorblax import Zorblax
from wsadapter import Down, Gap, Item, Message, Rejected, RequestRejected, Restored, Up

DIALECT = Path(__file__).parents[1] / "support" / "dialects" / "zorblax.toml"
DEPTH = {"feed": "depth", "pair": "BTC~EUR"}
TRADES = {"feed": "trades", "pair": "ETH~EUR"}


def settings(*more: dict[str, Any]) -> dict[str, Any]:
    return {"dialect": str(DIALECT), "subscribe": [DEPTH, TRADES, *more], "restart": SOON}


def is_change(after: int = 0) -> Callable[[Item], bool]:
    """Of the book, with a higher number."""
    return lambda item: isinstance(item, Message) and item.json().get("before", -1) >= after


def is_whole(item: Item) -> bool:
    """The book as it is."""
    return isinstance(item, Message) and bool(item.json().get("whole"))


def test_the_file_is_good(tmp_path: Path) -> None:
    more = f"dialect = {json.dumps(str(DIALECT))}\n[[endpoints.z.subscribe]]\nfeed = 'depth'\npair = 'BTC~EUR'\n"
    ended = supervise(tmp_path, str(write_config(tmp_path / "z.toml", {"z": "wss://127.0.0.1:1/"}, more=more)), "--check")
    assert ended.returncode == 0, ended.stderr


def test_what_exists_is_streamed_what_does_not_is_told_and_what_is_asked_is_answered(start_method: str) -> None:
    items: list[Item] = []
    zorblax = Zorblax()
    zorblax.deaf_to = "DOGE~EUR"
    unknown, ignored = {"feed": "depth", "pair": "XYZ~EUR"}, {"feed": "trades", "pair": "DOGE~EUR"}
    with zorblax.exchange as ex:
        with to_the_end(items, ex.endpoint("z", **settings(unknown, ignored)), start_method=start_method) as feed:
            items += collect(feed, is_event(Restored, "z"))
            wait_until(lambda: zorblax.answers >= 3 and zorblax.knocks >= 3, DEADLINE)
            assert feed.request("z", {"do": "order", "size": 1}).json()["did"] == "order"
            with pytest.raises(RequestRejected, match="no size"):
                feed.request("z", {"do": "order", "size": 0})
            items += collect(feed, is_change())
        assert zorblax.complaints == []
    assert zorblax.heard[0] == "options"
    said = {rejected.stream: rejected.error for rejected in events_of(items, "z", Rejected)}
    assert said == {
        '{"feed":"depth","pair":"XYZ~EUR"}': "it is not among those that were accepted",
        '{"feed":"trades","pair":"DOGE~EUR"}': "not answered within 0.5 s, asked 2 times",
    }
    (restored,) = events_of(items, "z", Restored)
    assert (restored.ok, sorted(restored.failed)) == (2, sorted(said))
    streams = {(message.json()["k"], message.stream) for message in messages_of(items, "z")}
    assert streams == {("d", '{"feed":"depth","pair":"BTC~EUR"}'), ("t", '{"feed":"trades","pair":"ETH~EUR"}')}


def test_what_is_missing_is_told_and_a_lost_connection_is_made_anew() -> None:
    items: list[Item] = []
    zorblax = Zorblax()
    with zorblax.exchange as ex:
        with to_the_end(items, ex.endpoint("z", **settings()), start_method="forkserver") as feed:
            items += collect(feed, is_whole)  # what was left out before it would be no gap
            items += collect(feed, is_change())
            zorblax.left_out = 2
            items += collect(feed, is_event(Gap, "z"))
            items += collect(feed, is_change())
            zorblax.forget()
            ex.drop()
            items += collect(feed, is_event(Restored, "z", 2))
            items += collect(feed, is_change())
        assert zorblax.complaints == []
    sequence, lost = events_of(items, "z", Gap)
    assert (sequence.cause, sequence.stream) == ("sequence", '{"feed":"depth","pair":"BTC~EUR"}')
    shown = items[items.index(sequence) + 1]
    assert isinstance(shown, Message)
    assert (sequence.expected, sequence.got) == (shown.json()["before"] - 2, shown.json()["before"])
    assert lost.cause == "reconnected"


def test_a_notice_makes_a_new_connection_before_the_old_one_goes_and_nothing_is_lost() -> None:
    items: list[Item] = []
    zorblax = Zorblax()
    with zorblax.exchange as ex:
        with to_the_end(items, ex.endpoint("z", **settings()), start_method="forkserver") as feed:
            items += collect(feed, is_change())
            ex.send('{"say":"leaving","why":"new software tonight"}')
            items += collect(feed, is_event(Up, "z", 2))
            items += collect(feed, is_change())
        assert ex.closes[1] == 1000
    assert events_of(items, "z", Gap) == []
    assert [down.reason.kind for down in events_of(items, "z", Down)] == ["recycled", "stopped"]
    data = [message.json() for message in messages_of(items, "z")]
    trades = [each["trade"] for each in data if each["k"] == "t"]
    assert trades == list(range(trades[0], trades[0] + len(trades)))
    changes = [each for each in data if each["k"] == "d"]
    for last, following in pairwise(changes):  # where the new connection's book comes late, what belongs behind it comes again
        assert following.get("whole") or following["before"] == last["now"]
