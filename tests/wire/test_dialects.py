"""Every bundled dialect against an exchange that speaks it: from the first frame to what the consumer gets, over wss://."""

from __future__ import annotations

import re
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.support.feeds import SOON, all_of, assert_sound, collect, events_of, is_event, messages_of, supervise
from tests.support.markets import MARKETS, Market, Stream
from wsadapter import Down, Gap, Item, Message, Rejected, Restored, Stalled, Subscribed, Up
from wsadapter.config.dialect import bundled, load_dialect
from wsadapter.testing import Exchange
from wsadapter.testing.dialect.overrides import name_of

RATE = 50.0
BEAT = 0.3
"""Seconds from one heartbeat to the next, at least of those that come more often."""
MISSED_AFTER = 1.2
"""Seconds after which the owner must have missed the exchange's heartbeats."""
FEW = 4
KEYS = {"key": "K", "secret": "S", "passphrase": "P"}


def quick(name: str, folder: Path) -> str:
    """A bundled dialect that waits less for answers, and whose limit leaves room for heartbeats as often as here."""
    text = bundled()[name].read_text("utf-8")
    text = re.sub(r"\nack_timeout = .*", "", text).replace("[subscribe]\n", "[subscribe]\nack_timeout = 0.5\n", 1)
    text = text.replace("settle = 1.0", "settle = 0.3")
    text = re.sub(r"\nsends = (\d+)", r"\nsends = \g<1>0", text)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


def beats(dialect: dict[str, Any]) -> tuple[float, set[str], dict[str, Any]]:
    """Pace of the exchange, what it counts of the client, and how the owner's patience is shortened."""
    heartbeat = dialect["heartbeat"]
    own, peers = heartbeat["interval"] if heartbeat["kind"] != "none" else 0.0, heartbeat.get("server_interval", 0.0)
    pace = BEAT / (own or peers)
    kinds = {"heartbeat"} if own else set()
    if "answer" in dialect:
        kinds.add("answer")
    elif not peers and heartbeat.get("when") != "idle" and not any(r.get("heartbeat") for r in dialect.get("housekeeping", [])):
        kinds.add("pong")
    return pace, kinds, {"server_missed": max(3, round(MISSED_AFTER / (peers * pace)))} if peers else {}


def expected(market: Market, stream: Stream) -> list[Any]:
    """All messages of a stream, in order, without what belongs to a connection."""
    return [market.whose(value) for value in market.values() if stream.is_of(value)]


def is_of(stream: Stream, epoch: int, count: int) -> Any:
    """So many messages of a stream in an epoch, or a later one."""
    found: list[Item] = []

    def seen(item: Item) -> bool:
        if isinstance(item, Message) and item.stream == name_of(stream.subscribe) and item.epoch >= epoch:
            found.append(item)
        return len(found) >= count

    return seen


def asked_for(ex: Exchange, word: str) -> int:
    return sum(word.encode() in frame.payload for frame in ex.received)


def outcome(dialect: dict[str, Any], market: Market) -> tuple[list[str], list[str]]:
    """Which streams are rejected and which are told to be silent, of one that is refused and one that is not answered."""
    bad, mute = name_of(market.bad), name_of(market.mute)
    if "ack" in dialect:
        return [bad, mute], []
    if closes(dialect):  # the connection, and the next one is told again
        return [bad, bad], [mute]
    return ([bad], [mute]) if "error" in dialect else ([], [bad, mute])


def closes(dialect: dict[str, Any]) -> bool:
    """Whether the exchange closes the connection after a refusal."""
    return any(rule.get("closes") for rule in dialect.get("error", ()))


@pytest.mark.parametrize("name", sorted(bundled()))
def test_a_dialect_from_end_to_end(name: str, tmp_path: Path) -> None:
    market, path = MARKETS[name], quick(name, tmp_path)
    pace, kinds, patience = beats(load_dialect(path))
    streams = [stream.subscribe for stream in market.streams]
    counted = None if market.counted is None else market.streams[market.counted]
    items: list[Item] = []
    exchange = Exchange(dialect=path, messages=market.messages(), rate=RATE, tls=True, pace=pace, grace=5.0)
    if counted:
        exchange.gap(counted.subscribe)
    rejected, stalled = outcome(load_dialect(path), market)
    lost = closes(load_dialect(path))
    exchange.reject(market.bad, "no such stream")
    exchange.ignore(market.mute)
    with exchange as ex:
        watchdog = {"live_timeout": 2.0} if stalled else {}
        endpoint = ex.endpoint("x", subscribe=streams, heartbeat=patience, restart=SOON, watchdog=watchdog)
        with supervise(endpoint, start_method="forkserver") as feed:
            gap = [is_event(Gap, "x")] if counted else []
            some = [is_of(stream, 1, FEW) for stream in market.streams]
            items += collect(feed, all_of(is_event(Restored, "x"), *gap, *some))
            ex.pause()
            ex.wait_for(lambda: all(ex.heartbeats[1][kind] >= 3 for kind in kinds))
            ex.resume()
            ex.drop()
            items += collect(feed, all_of(is_event(Restored, "x", 2), *(is_of(stream, 2, FEW) for stream in market.streams)))
            for stream in (market.mute, market.bad):  # the rejection must not hit the one that waits for longer
                feed.subscribe("x", [stream])
            for kind in [Rejected] * len(rejected) + [Stalled] * len(stalled):
                items += collect(feed, is_event(kind, "x"))
            if lost:
                items += collect(feed, all_of(*(is_of(stream, 3, FEW) for stream in market.streams)))
        items += feed
        assert ex.violations == []
        asked = (asked_for(ex, "NOPE") + asked_for(ex, "nope"), asked_for(ex, "MUTE") + asked_for(ex, "mute"))
        assert asked == (1, 2) if not stalled else min(asked) >= 1
    assert_sound(items)
    restored = [(1, 2, ()), (2, 2, ()), *([(3, 3, (name_of(market.bad),))] if lost else [])]
    assert [(event.epoch, event.ok, event.failed) for event in events_of(items, "x", Restored)] == restored
    assert [event.stream for event in events_of(items, "x", Rejected)] == rejected
    assert sorted(str(event.stream) for event in events_of(items, "x", Stalled)) == sorted(stalled)
    assert [down.reason.kind for down in events_of(items, "x", Down)] == ["closed_by_peer"] * (1 + lost) + ["stopped"]
    assert_delivered(items, market)
    if counted:
        assert_gap(items, market, counted)
    else:
        assert [gap.cause for gap in events_of(items, "x", Gap)] == ["reconnected"] * (1 + lost)


def assert_delivered(items: list[Item], market: Market) -> None:
    """Each stream from its start on each connection, whole and in order but for what was left out; nothing else."""
    names = [name_of(stream.subscribe) for stream in market.streams]
    messages = messages_of(items, "x")
    assert {message.stream for message in messages} == set(names)
    for epoch, group in groupby(messages, lambda message: message.epoch):
        own = list(group)
        for at, (stream, name) in enumerate(zip(market.streams, names, strict=True)):
            found = [market.whose(message.json()) for message in own if message.stream == name]
            wanted = expected(market, stream)
            if epoch == 1 and at == market.counted:
                left_out = next(place for place, value in enumerate(wanted) if value not in found[: place + 1])
                wanted = wanted[:left_out] + wanted[left_out + 1 :]
            assert len(found) >= FEW
            assert found == wanted[: len(found)], (epoch, name)


def assert_gap(items: list[Item], market: Market, counted: Stream) -> None:
    """One message is missing on the first connection, and that is told in front of the one that shows it."""
    first, second = events_of(items, "x", Gap)
    assert (first.cause, second.cause) == ("sequence", "reconnected")
    assert first.got > first.expected
    if market.own:  # all that a connection gets is counted together
        assert first.stream is None
        return
    following = next(item for item in items[items.index(first) :] if isinstance(item, Message))
    assert following.stream == first.stream == name_of(counted.subscribe)


@pytest.mark.parametrize(
    ("name", "kind"), [("bitget", "heartbeat"), ("bybit", "heartbeat"), ("kraken_futures", "heartbeat"), ("htx", "answer")]
)
def test_each_deadline_is_held_while_the_consumer_sleeps_and_the_owner_is_flooded(name: str, kind: str, tmp_path: Path) -> None:
    market, path = MARKETS[name], quick(name, tmp_path)
    pace, _, patience = beats(load_dialect(path))
    exchange = Exchange(dialect=path, messages=market.messages(), rate=RATE, tls=True, pace=pace, grace=2.0)
    with exchange as ex:
        streams = [stream.subscribe for stream in market.streams]
        endpoint = ex.endpoint("x", subscribe=streams, heartbeat=patience, buffer={"max_bytes": 1 << 20})
        with supervise(endpoint, start_method="forkserver") as feed:
            collect(feed, is_event(Restored, "x"))
            before = ex.heartbeats[1][kind]
            ex.flood(rate=20_000, duration=2.5)
            time.sleep(2.5)  # this is the consumer
            status = feed.status()["endpoints"]["x"]
            assert ex.violations == []
            assert ex.heartbeats[1][kind] - before >= 2.5 / BEAT / 4  # a busy machine beats more slowly
            assert (status["state"], status["epoch"]) == ("up", 1)
            assert status["dropped"] > 0


def test_a_client_whose_heartbeats_stay_out_is_dropped_and_comes_back() -> None:
    items: list[Item] = []
    with Exchange(dialect="bitget", pace=0.01, grace=0.2) as ex:
        endpoint = ex.endpoint("x", heartbeat={"interval": 60.0}, restart=SOON)
        with supervise(endpoint, start_method="forkserver") as feed:
            items += collect(feed, is_event(Up, "x", 2))
    assert events_of(items, "x", Down)[0].reason.kind == "closed_by_peer"
    assert ex.violations[0] == "#1: no heartbeat (text) within 0.25 s and 0.2 s of grace"


def test_a_client_that_sends_too_fast_is_closed() -> None:
    items: list[Item] = []
    with Exchange(dialect="binance") as ex:
        endpoint = ex.endpoint("x", limits={"sends": 1000}, restart=SOON)
        with supervise(endpoint, start_method="forkserver") as feed:
            items += collect(feed, is_event(Up, "x"))
            for number in range(6):
                feed.send("x", f'{{"method":"UNSUBSCRIBE","params":["s{number}"],"id":{number}}}')
            items += collect(feed, is_event(Down, "x"))
    (down,) = events_of(items, "x", Down)
    assert (down.reason.kind, down.reason.code) == ("closed_by_peer", 1008)
    assert ex.violations == ["#1: more than 4 frames in 1 s"]


def test_limits_of_the_dialect_are_kept() -> None:
    """As many streams as make several frames: no frame names more, and none comes sooner, than the dialect allows."""
    streams = [f"s{number}" for number in range(1001)]
    items: list[Item] = []
    with Exchange(dialect="binance", tls=True) as ex:
        with supervise(ex.endpoint("x", subscribe=streams), start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "x"))
        sent = [frame for frame in ex.received if b"SUBSCRIBE" in frame.payload]
        assert ex.violations == []
    assert len(sent) == 6
    assert len(events_of(items, "x", Subscribed)) == 1001


def test_the_last_of_many_streams_has_as_long_for_its_answer_as_the_first(tmp_path: Path) -> None:
    """One frame for each, spaced so that the last is sent long after the first must have been answered."""
    streams = [f"/market/ticker:S{number}" for number in range(40)]
    items: list[Item] = []
    with Exchange(dialect=quick("kucoin", tmp_path), tls=True) as ex:
        endpoint = ex.endpoint("x", subscribe=streams, limits={"sends": 20})
        with supervise(endpoint, start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "x"))
        assert ex.violations == []
    assert [(event.ok, event.failed) for event in events_of(items, "x", Restored)] == [(40, ())]


def test_a_notice_leads_to_a_planned_change_of_connection() -> None:
    market = MARKETS["okx"]
    items: list[Item] = []
    with Exchange(dialect="okx", messages=market.messages(), rate=RATE, tls=True) as ex:
        endpoint = ex.endpoint("x", subscribe=[market.streams[0].subscribe], gap_check=False)
        with supervise(endpoint, start_method="forkserver") as feed:
            items += collect(feed, is_of(market.streams[0], 1, FEW))
            ex.notice()
            items += collect(feed, is_event(Up, "x", 2))
        items += feed
        assert ex.violations == []
    assert not any(b"64008" in message.data for message in messages_of(items, "x"))
    assert events_of(items, "x", Down)[0].reason.kind not in ("closed_by_peer", "crashed")


@pytest.mark.parametrize(
    ("name", "stream", "login"),
    [
        ("okx", {"channel": "orders", "instType": "ANY"}, KEYS),
        ("deribit", "user.changes.any.any.raw", {"key": "K", "secret": "S"}),
        ("crypto_com", {"channels": ["user.order"]}, {"key": "K", "secret": "S"}),
        ("gate", {"channel": "spot.orders", "payload": ["BTC_USDT"]}, {"key": "K", "secret": "S"}),
        ("coinbase_exchange", {"channels": ["user"], "product_ids": ["BTC-USD"]}, {**KEYS, "secret": "Uw=="}),
        ("alpaca", {"channel": "trades", "symbols": ["AAPL"]}, {"key": "K", "secret": "S"}),
        ("phemex", {"channel": "aop_p", "params": []}, {"key": "K", "secret": "S"}),
    ],
)
def test_who_has_to_log_in_does(name: str, stream: Any, login: dict[str, str], tmp_path: Path) -> None:
    items: list[Item] = []
    with Exchange(dialect=quick(name, tmp_path), tls=True, login_required=True) as ex:
        for own in (login, {}):
            endpoint = ex.endpoint("x", subscribe=[stream], login=own)
            with supervise(endpoint, start_method="forkserver") as feed:
                items += collect(feed, is_event(Restored, "x"))
            if own:
                assert ex.violations == []
        assert ex.violations == ["#2: log in first"]
    assert [event.ok for event in events_of(items, "x", Restored)] == [1, 0]
    assert events_of(items, "x", Rejected)[0].error.startswith("log in first")


def test_a_refused_login_is_told() -> None:
    items: list[Item] = []
    exchange = Exchange(dialect="okx", tls=True)
    exchange.refuse_login("Invalid apiKey")
    with exchange as ex:
        endpoint = ex.endpoint("x", login=KEYS)
        with supervise(endpoint, start_method="forkserver") as feed:
            items += collect(feed, is_event(Down, "x"))
    (down,) = events_of(items, "x", Down)
    assert down.reason.kind == "login_failed"
    assert "Invalid apiKey" in down.reason.text


def test_a_stream_that_an_exchange_closes_over_without_naming_it_is_found_and_the_others_live(tmp_path: Path) -> None:
    market = MARKETS["upbit"]
    streams = [stream.subscribe for stream in market.streams]
    items: list[Item] = []
    exchange = Exchange(dialect=quick("upbit", tmp_path), messages=market.messages(), rate=RATE, tls=True)
    exchange.reject(market.bad, "no", named=False)
    with exchange as ex:
        endpoint = ex.endpoint("x", subscribe=[streams[0], market.bad, streams[1]], restart=SOON)
        with supervise(endpoint, start_method="forkserver") as feed:
            items += collect(feed, all_of(is_event(Rejected, "x"), is_event(Down, "x")))
            epoch = feed.status()["endpoints"]["x"]["epoch"]
            items += collect(feed, all_of(*(is_of(stream, epoch + 1, FEW) for stream in market.streams)))
            before = asked_for(ex, "NOPE")
            ex.drop()
            items += collect(feed, all_of(*(is_of(stream, epoch + 2, FEW) for stream in market.streams)))
            assert asked_for(ex, "NOPE") == before
        items += feed
        assert ex.violations == []
    assert {event.stream for event in events_of(items, "x", Rejected)} == {name_of(market.bad)}
    assert len(events_of(items, "x", Rejected)) == 3  # on the connection that shows it, and on each of the next


@pytest.mark.parametrize("place", [0, 1])
def test_a_stream_that_an_exchange_closes_over_without_a_word_is_found_and_the_others_live(place: int, tmp_path: Path) -> None:
    market = MARKETS["hyperliquid"]
    streams = [stream.subscribe for stream in market.streams]
    items: list[Item] = []
    exchange = Exchange(dialect=quick("hyperliquid", tmp_path), messages=market.messages(), rate=RATE, tls=True)
    exchange.hang_up(market.bad)
    with exchange as ex:
        endpoint = ex.endpoint("x", subscribe=[*streams[:place], market.bad, *streams[place:]], restart=SOON)
        with supervise(endpoint, start_method="forkserver") as feed:
            items += collect(feed, is_event(Rejected, "x"))
            epoch = feed.status()["endpoints"]["x"]["epoch"]
            items += collect(feed, all_of(*(is_of(stream, epoch, FEW) for stream in market.streams)))
            asked = asked_for(ex, "NOPE")
            assert asked <= 8
            ex.drop()
            items += collect(feed, all_of(*(is_of(stream, epoch + 1, FEW) for stream in market.streams)))
            assert asked_for(ex, "NOPE") == asked
        items += feed
    rejected = events_of(items, "x", Rejected)
    assert {event.stream for event in rejected} == {name_of(market.bad)}
    assert "closed 3 connections" in rejected[0].error
    assert [event.failed for event in events_of(items, "x", Restored)[-2:]] == [(name_of(market.bad),)] * 2


def test_an_exchange_that_closes_every_connection_for_a_while_has_no_stream_rejected(tmp_path: Path) -> None:
    market = MARKETS["hyperliquid"]
    streams = [stream.subscribe for stream in market.streams]
    items: list[Item] = []
    exchange = Exchange(dialect=quick("hyperliquid", tmp_path), messages=market.messages(), rate=RATE, tls=True)
    for stream in streams:
        exchange.hang_up(stream)
    with exchange as ex:
        with supervise(ex.endpoint("x", subscribe=streams, restart=SOON), start_method="forkserver") as feed:
            for _ in range(10):
                items += collect(feed, is_event(Down, "x"))
            for stream in streams:
                ex.heed(stream)
            items += collect(feed, all_of(*(is_of(stream, 1, FEW) for stream in market.streams)))
        items += feed
    assert events_of(items, "x", Rejected) == []
    assert {event.stream for event in events_of(items, "x", Subscribed)} == set(map(name_of, streams))
