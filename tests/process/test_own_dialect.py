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
from tests.support.quibble import Quibble, Throng
from tests.support.waiting import wait_until
from tests.support.zorblax import Zorblax
from wsadapter import Down, Gap, Item, Message, Rejected, RequestRejected, Restored, Stalled, Subscribed, Up

DIALECTS = Path(__file__).parents[1] / "support" / "dialects"
DIALECT = DIALECTS / "zorblax.toml"
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


@pytest.mark.parametrize("path", sorted(DIALECTS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_file_is_good(path: Path, tmp_path: Path) -> None:
    more = f"dialect = {json.dumps(str(path))}\n[[endpoints.z.subscribe]]\nfeed = 'depth'\npair = 'BTC~EUR'\n"
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


BOOKS = {"want": "depth", "coins": ["BTC/EUR", "NOPE/EUR", "ETH/EUR"]}
QUIET = {"want": "depth", "coins": ["DOGE/EUR"]}
ORDERS = {"want": "orders", "account": "A1"}


def name(stream: Any) -> str:
    return json.dumps(stream, separators=(",", ":"), sort_keys=True)


def quibble_settings() -> dict[str, Any]:
    login = {"key": "K", "secret": "tell-nobody"}
    return {"dialect": str(DIALECTS / "quibble.toml"), "subscribe": [BOOKS, QUIET, ORDERS], "login": login, "restart": SOON}


def is_with(key: str) -> Callable[[Item], bool]:
    return lambda item: isinstance(item, Message) and key in item.json()


def test_an_exchange_that_has_riddles_parts_arrays_and_texts_of_its_own() -> None:
    items: list[Item] = []
    quibble = Quibble()
    with quibble.exchange as ex:
        with to_the_end(items, ex.endpoint("q", **quibble_settings()), start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "q"))
            items += collect(feed, is_with("order"))
            quibble.left_out = 1
            items += collect(feed, is_event(Gap, "q"))
            items += collect(feed, is_event(Stalled, "q"))
            feed.unsubscribe("q", [BOOKS])
            wait_until(lambda: quibble.heard[-1]["verb"] == "enough" and quibble.pongs >= 3, DEADLINE)
        assert quibble.complaints == []
    verbs = [said["verb"] for said in quibble.heard]
    assert verbs[:2] == ["knock", "enter"]
    rejected = name({"want": "depth", "coins": ["NOPE/EUR"]})
    said = [(event.stream, event.error) for event in events_of(items, "q", Rejected)]
    assert said == [(rejected, "there is no NOPE/EUR here")]
    assert {event.stream for event in events_of(items, "q", Subscribed)} == {name(BOOKS), name(QUIET), name(ORDERS)}
    (restored,) = events_of(items, "q", Restored)
    assert (restored.ok, restored.failed) == (3, (rejected,))
    assert [event.stream for event in events_of(items, "q", Stalled)] == [name(QUIET)]
    (gap, *others) = events_of(items, "q", Gap)
    assert {(each.cause, each.stream, each.expected, each.got) for each in (gap, *others)} == {
        ("sequence", name(BOOKS), None, None)
    }
    data = [(message.stream, message.json()) for message in messages_of(items, "q")]
    assert {stream for stream, _ in data} == {name(BOOKS), name(ORDERS)}
    assert {value["coin"] for stream, value in data if stream == name(BOOKS)} == {"xbt/eur", "eth/eur"}
    assert [value["book"] for _, value in data if "book" in value] == [[[1, 2]]]  # an answer that is data too
    assert all(set(value) == {"order", "account"} for stream, value in data if stream == name(ORDERS))


def test_an_exchange_whose_frames_replace_all_that_was_wanted_and_that_confirms_nothing() -> None:
    items: list[Item] = []
    throng = Throng()
    streams = [{"code": code} for code in ("A", "NOPE", "B")]
    settings = {"dialect": str(DIALECTS / "throng.toml"), "subscribe": streams, "restart": SOON}
    with throng.exchange as ex, to_the_end(items, ex.endpoint("t", **settings), start_method="forkserver") as feed:
        items += collect(feed, is_event(Restored, "t"))
        items += collect(feed, is_code("B"))
        feed.subscribe("t", [{"code": "C"}])
        items += collect(feed, is_code("C"))
        feed.unsubscribe("t", [{"code": "A"}])
        wait_until(lambda: sorted(throng.sets[-1]) == ["B", "C"], DEADLINE)
    assert [sorted(names) for names in throng.sets] == [["A", "B", "NOPE"], ["A", "B"], ["A", "B", "C"], ["B", "C"]]
    assert [(event.stream, event.error) for event in events_of(items, "t", Rejected)] == [
        (name({"code": "NOPE"}), "Code not found: NOPE")
    ]
    assert sorted(event.stream for event in events_of(items, "t", Subscribed)) == [name({"code": code}) for code in "ABC"]
    codes = {message.stream for message in messages_of(items, "t")} - {None}
    assert codes == {name({"code": code}) for code in "ABC"}


def is_code(code: str) -> Callable[[Item], bool]:
    return lambda item: isinstance(item, Message) and item.json()["code"] == code
