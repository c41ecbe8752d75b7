"""What exchanges really sent, through an owner's session with its own clock: all data go up, each with its stream, and nothing
is reported of them; a message that is taken out, repeated or exchanged with the next one is reported."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
import pytest

from tests.support.conversation import Client
from tests.support.conversations.driver import SessionDriver
from tests.support.rawserver import server_frame
from wsadapter.config.dialect import apply_dialect, load_dialect
from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.tables import WatchdogTable
from wsadapter.testing import bundled, load_recording
from wsadapter.testing.dialect.steps import SendFrame
from wsadapter.worker.session.actions import Action, Deliver, Notify, Send
from wsadapter.worker.websocket.frames import BINARY, TEXT
from wsadapter.worker.websocket.payload_codec import Unpacker
from wsadapter.worker.websocket.reader import Reader

LEFT_OUT = ("ready", "heartbeat", "limits", "answer")
BEGINS = 2.0
"""Seconds from the handshake to the recording: nothing waits to settle any more."""
ALARMS = {"gap", "stalled", "rejected", "peer_error", "notice", "log", "down"}


def is_list(value: Any) -> bool:
    return isinstance(value, list)


class Feed(NamedTuple):
    """How a recording is read, without its dialect."""

    dialect: str
    stream: Callable[[Any], Subscription | None]
    """Of a parsed message; None: it is no data."""
    numbered: Callable[[Any], bool] | None = None
    """Messages with numbers, of which one may be damaged."""
    whole: bool = False
    """The numbers are counted over all streams of the connection."""
    numbers: Callable[[Any], tuple[Any, Any, Any] | None] | None = None
    """Where streams have numbers that the exchange gives: number, stream and the answer that gives it, of a message of which
    they can be known."""
    played: Callable[[Any], bool] | None = None
    """Which messages are played; None: the data."""


def at(*path: Any) -> Callable[[Any], Any]:
    def found(value: Any) -> Any:
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    return found


def arg(value: Any) -> Any:
    return value["arg"] if isinstance(value, dict) and "data" in value else None


def bitmex(value: Any) -> Any:
    symbol = (value.get("filter") or {}).get("symbol") or (value.get("data") or [{}])[0].get("symbol")
    return f"{value['table']}:{symbol}" if "table" in value else None


def bitstamp(value: Any) -> Any:
    return None if value["event"].startswith("bts:") else value["channel"]


def coinbase(value: Any) -> Any:
    channel = {"l2update": "level2", "snapshot": "level2", "match": "matches", "last_match": "matches", "ticker": "ticker"}
    if value["type"] not in channel:
        return None
    return {"channels": [channel[value["type"]]], "product_ids": [value["product_id"]]}


def gate(value: Any) -> Any:
    result = value["result"]
    if value["event"] != "update":
        return None
    match value["channel"]:
        case "spot.candlesticks":
            return {"channel": value["channel"], "payload": result["n"].split("_", 1)}
        case "spot.order_book_update":
            return {"channel": value["channel"], "payload": [result["s"], "100ms"]}
        case channel:
            return {"channel": channel, "payload": [result.get("currency_pair") or result["s"]]}


def kraken_futures(value: Any) -> Any:
    if "event" in value or "product_id" not in value:
        return None
    return {"feed": value["feed"].removesuffix("_snapshot"), "product_ids": [value["product_id"]]}


def kucoin(value: Any) -> Any:
    return value.get("topic") if value["type"] == "message" else None


def bitfinex(value: Any) -> Any:
    """The number of the channel."""
    return value[0] if isinstance(value, list) and value[1] != "hb" else None


def bitfinex_number(value: Any) -> tuple[Any, Any, Any] | None:
    if not isinstance(value, dict) or value["event"] != "subscribed":
        return None
    return value["chanId"], {"channel": value["channel"], "symbol": value["symbol"]}, value


def kraken_v1(value: Any) -> Any:
    """The number of the channel."""
    return value[0] if isinstance(value, list) else None


def kraken_v1_number(value: Any) -> tuple[Any, Any, Any] | None:
    """The recording begins behind the answers, but each message names its channel and pair."""
    if not isinstance(value, list):
        return None
    number, channel, pair = value[0], value[-2], value[-1]
    name, _, depth = channel.partition("-")
    subscription = {"name": name, **({"depth": int(depth)} if depth else {})}
    answer = {"channelID": number, "channelName": channel, "event": "subscriptionStatus", "pair": pair, "status": "subscribed"}
    return number, {"pair": [pair], "subscription": subscription}, {**answer, "subscription": subscription}


FEEDS = {
    "binance": Feed("binance", at("stream"), lambda value: value["data"].get("e") in ("depthUpdate", "aggTrade")),
    "binance_usdm": Feed("binance_usdm", at("stream"), lambda value: value["data"].get("e") == "depthUpdate"),
    "bitfinex": Feed("bitfinex", bitfinex, is_list, True, bitfinex_number, is_list),
    "bitget": Feed("bitget", arg),
    "bitmex": Feed("bitmex", bitmex),
    "bitstamp": Feed("bitstamp", bitstamp),
    "bybit": Feed("bybit", at("topic")),
    "coinbase": Feed("coinbase_exchange", coinbase),
    "deribit": Feed("deribit", at("params", "channel"), lambda value: "prev_change_id" in value["params"]["data"]),
    "gate": Feed("gate", gate, lambda value: value["channel"] == "spot.order_book_update"),
    "htx": Feed("htx", at("ch")),
    "kraken": Feed("kraken_v1", kraken_v1, numbers=kraken_v1_number, played=is_list),
    "kraken_futures": Feed("kraken_futures", kraken_futures, lambda value: value["feed"] == "book"),
    "kucoin": Feed("kucoin", kucoin, lambda value: value["subject"] == "trade.l2update"),
    "okx": Feed("okx", arg),
}


class Run(SessionDriver):
    """One recording through one session."""

    def __init__(self, name: str, arranged: Callable[[list[int]], list[int]] = list) -> None:
        """`arranged`: the places of the data in the order in which they come."""
        self.feed = FEEDS[name]
        recorded = list(load_recording(name))
        texts = [gzip.decompress(one.payload) if one.binary else one.payload for one in recorded]
        self.values = [orjson.loads(text) for text in texts]
        self._answers = self._recorded_answers()
        found = enumerate(zip(texts, map(self._stream, self.values), strict=True))
        data = [(place, text, stream) for place, (text, stream) in found if stream is not None]
        self.data = [(place, text, stream_name(stream)) for place, text, stream in data]
        wanted = {stream_name(stream): stream for _, _, stream in data}
        dialect = {key: table for key, table in load_dialect(self.feed.dialect).items() if key not in LEFT_OUT}
        self._exchange = Client({**dialect, "heartbeat": {"kind": "none"}})
        watchdog: WatchdogTable = {"stalled": 60.0, "silence": 0.0}
        plain = Endpoint("x", dialect=self.feed.dialect, watchdog=watchdog, heartbeat={"kind": "none"})
        endpoint = apply_dialect(plain, dialect)
        assignment = Assignment(endpoint=endpoint, epoch=1, url="wss://x/", dialect=dialect, wanted=tuple(wanted.values()))
        compression = dialect.get("payload", {}).get("compression")
        super().__init__(assignment, Reader(endpoint.max_message, unpacker=Unpacker(compression) if compression else None))
        self.start()
        latest = 0.0
        played = [place for place, _, _ in self.data]
        if self.feed.played is not None:
            played = [place for place, value in enumerate(self.values) if self.feed.played(value)]
        for place in arranged(played):
            latest = max(latest, recorded[place].offset)
            self.until(BEGINS + latest)
            self.receive(server_frame(BINARY if recorded[place].binary else TEXT, recorded[place].payload))

    @property
    def alarms(self) -> list[tuple[str, dict[str, Any]]]:
        return [(report.event, report.fields) for report in self.reports if report.event in ALARMS]

    def _recorded_answers(self) -> dict[Any, tuple[Any, Any]]:
        """By the number that it gives: the stream, and the answer."""
        if self.feed.numbers is None:
            return {}
        given = [said for value in self.values if (said := self.feed.numbers(value)) is not None]
        return {number: (stream, answer) for number, stream, answer in given}

    def _stream(self, value: Any) -> Subscription | None:
        found: Any = self.feed.stream(value)
        if found is None or self.feed.numbers is None:
            return found  # type: ignore[no-any-return]
        return self._answers[found][0]  # type: ignore[no-any-return]

    def carry_out_one(self, action: Action) -> None:
        assert isinstance(action, Notify | Deliver | Send), action
        super().carry_out_one(action)

    def answers(self, text: str) -> list[tuple[float, bytes]]:
        asked = orjson.loads(text)
        recorded = [answer for stream, answer in self._answers.values() if stream.items() <= asked.items()]
        steps = list(self._exchange.conversation.message(text, self.now))
        said = recorded or [step.frame for step in steps if isinstance(step, SendFrame)]
        return [(0.0, server_frame(TEXT, orjson.dumps(answer))) for answer in said]


def taken_out(places: list[int], at: int, _after: int) -> list[int]:
    return [place for place in places if place != at]


def repeated(places: list[int], at: int, _after: int) -> list[int]:
    return [again for place in places for again in ([place, place] if place == at else [place])]


def exchanged(places: list[int], at: int, after: int) -> list[int]:
    other = {at: after, after: at}
    return [other.get(place, place) for place in places]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FEEDS))
def test_all_data_go_up_with_their_streams_and_nothing_is_reported(name: str) -> None:
    run = Run(name)
    texts = [gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text for text, _ in run.delivered]
    delivered = list(zip(texts, [stream for _, stream in run.delivered], strict=True))
    assert delivered == [(text, stream) for _, text, stream in run.data]
    assert run.alarms == []


def test_each_bundled_recording_is_read() -> None:
    assert sorted(FEEDS) == sorted(bundled())


@pytest.mark.slow
@pytest.mark.parametrize("damage", [taken_out, repeated, exchanged])
@pytest.mark.parametrize("name", sorted(name for name, feed in FEEDS.items() if feed.numbered))
def test_each_message_that_is_damaged_is_found(name: str, damage: Callable[[list[int], int, int], list[int]]) -> None:
    whole = Run(name)
    feed = whole.feed
    assert feed.numbered is not None
    numbered = [(place, "" if feed.whole else stream) for place, _, stream in whole.data if feed.numbered(whole.values[place])]
    streams = {stream: [place for place, one in numbered if one == stream] for _, stream in numbered}
    damaged = {stream: (places[len(places) // 2 :][:2]) for stream, places in streams.items() if len(places) > 4}
    assert damaged

    def arranged(places: list[int]) -> list[int]:
        for at, after in damaged.values():
            places = damage(places, at, after)
        return places

    alarms = Run(name, arranged).alarms
    assert {(event, fields["cause"]) for event, fields in alarms} == {("gap", "sequence")}
    assert {fields["stream"] or "" for _, fields in alarms} == damaged.keys()
