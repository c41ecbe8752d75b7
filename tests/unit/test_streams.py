"""Which stream a message belongs to: found, named, announced, filtered. Pure."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest

from tests.support.markets import MARKETS
from tests.support.rawserver import server_frame
from wsadapter.config.dialect import load_dialect
from wsadapter.contract.dialect import fields
from wsadapter.contract.dialect.stream_rules import Choice, Rule
from wsadapter.contract.dialect.streams import Streams
from wsadapter.contract.endpoint import Endpoint, Filter
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import ConnectionUp
from wsadapter.testing.recording import load_recording
from wsadapter.worker.session.actions import Action, Deliver, Notify
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.frames import BINARY, TEXT
from wsadapter.worker.websocket.reader import Reader

STREAM = {"stream": {"path": "s"}, "subscribe": {"frame": '{"sub":"$streams"}', "per_frame": 100}}


def key_of(stream: dict[str, Any]) -> str:
    return orjson.dumps(stream, option=orjson.OPT_SORT_KEYS).decode()


def known(*subscriptions: Any, path: str = "s", **filters: tuple[str, ...]) -> Streams:
    streams = Streams({"path": path}, Filter(**filters))
    streams.add(subscriptions)
    return streams


def name_of(streams: Streams, value: Any) -> str | None:
    stream = streams.find(value)
    return None if stream is None else stream.name


def test_a_string_is_found_where_it_is_equal() -> None:
    streams = known("a@trade", "b@trade", path="arg.name")
    assert name_of(streams, {"arg": {"name": "b@trade"}}) == "b@trade"
    for other in ({"arg": {"name": "B@trade"}}, {"arg": {"name": 1}}, {"arg": None}, {}, [], None, 1, "a@trade"):
        assert name_of(streams, other) is None


def test_a_table_is_found_where_all_its_fields_are_equal_and_is_named_with_sorted_keys() -> None:
    streams = known({"instId": "BTC", "channel": "books"}, {"channel": "trades"})
    assert name_of(streams, {"s": {"channel": "books", "instId": "BTC", "more": [1]}}) == '{"channel":"books","instId":"BTC"}'
    assert name_of(streams, {"s": {"channel": "books", "instId": "ETH"}}) is None
    assert name_of(streams, {"s": {"channel": "trades", "instId": "ETH"}}) == '{"channel":"trades"}'
    assert name_of(streams, {"s": {"channel": "trades", "instId": "ETH"}}) == '{"channel":"trades"}'


def by_rules(rules: Any, *subscriptions: Any, channels: dict[str, Any] | None = None) -> Streams:
    streams = Streams(rules, Filter(), {} if channels is None else channels)
    streams.add(subscriptions)
    return streams


def test_a_table_is_found_by_fields_that_a_message_says_in_other_places_and_words() -> None:
    rules = load_dialect("coinbase")["stream"]
    books, others = ({"channel": "level2", "product_ids": ids} for ids in (["BTC-USD", "ETH-USD"], ["DOGE-USD"]))
    streams = by_rules(rules, books, others, {"channel": "heartbeats"})
    named = {"channel": "l2_data", "sequence_num": 3, "events": [{"type": "update", "product_id": "ETH-USD", "updates": []}]}
    assert name_of(streams, named) == key_of(books)
    assert name_of(streams, {**named, "events": [{"product_id": "DOGE-USD"}]}) == key_of(others)
    assert name_of(streams, {**named, "events": [{"product_id": "ADA-USD"}]}) is None
    assert name_of(streams, {**named, "channel": "ticker"}) is None
    assert name_of(streams, {"channel": "heartbeats", "events": [{"heartbeat_counter": 1}]}) == '{"channel":"heartbeats"}'
    for other in ({}, [], None, 1, "x", {"channel": None}):
        assert name_of(streams, other) is None


def test_one_word_of_a_message_may_be_several_of_a_subscription() -> None:
    rules = load_dialect("coinbase_exchange")["stream"]
    whole, trades = {"channels": ["full"], "product_ids": ["A"]}, {"channels": ["matches"], "product_ids": ["B"]}
    streams = by_rules(rules, whole, trades)
    assert name_of(streams, {"type": "match", "product_id": "A"}) == key_of(whole)
    assert name_of(streams, {"type": "match", "product_id": "B"}) == key_of(trades)
    assert name_of(streams, {"type": "open", "product_id": "B"}) is None


def test_fields_are_compared_as_text_and_what_is_not_named_not_at_all() -> None:
    streams = by_rules({"fields": {"len": "len", "channel": "c"}}, {"channel": "book", "len": 100, "snapshot": True})
    assert name_of(streams, {"c": "book", "len": "100"}) is not None
    assert name_of(streams, {"c": "book", "len": "25"}) is None
    assert name_of(by_rules({"fields": {"channel": "c"}}, "a string"), {"c": "book"}) is None


def test_a_string_is_found_by_a_text_put_together_the_first_that_is_known() -> None:
    streams = by_rules(load_dialect("bitmex")["stream"], "trade:XBTUSD", "orderBookL2", "quote:ETHUSD")
    assert name_of(streams, {"table": "trade", "action": "insert", "data": [{"symbol": "XBTUSD"}]}) == "trade:XBTUSD"
    assert name_of(streams, {"table": "trade", "filter": {"symbol": "XBTUSD"}, "data": []}) == "trade:XBTUSD"
    assert name_of(streams, {"table": "orderBookL2", "data": [{"symbol": "XBTUSD"}]}) == "orderBookL2"
    assert name_of(streams, {"table": "quote", "data": [{"symbol": "XBTUSD"}]}) is None
    assert name_of(streams, {"table": [1], "data": []}) is None
    assert name_of(by_rules({"text": "{t}-x", "aliases": {"1": ["a", "b"]}}, "b-x"), {"t": 1}) == "b-x"


def test_of_several_tables_that_fit_the_one_that_is_named_exactly_goes_first() -> None:
    rules = {"fields": {"channel": "channel", "symbol": "data.0.symbol", "interval": "data.0.interval"}}
    both, default, hour = {"symbol": ["A", "B"], "interval": 60}, {"symbol": ["A"]}, {"symbol": ["A"], "interval": 60}
    streams = by_rules(rules, *({"channel": "ohlc", **table} for table in (both, default, hour)))
    said = {"channel": "ohlc", "data": [{"symbol": "A", "interval": 60}]}
    assert name_of(streams, said) == key_of({"channel": "ohlc", **hour})
    assert name_of(streams, {**said, "data": [{"symbol": "B", "interval": "60"}]}) == key_of({"channel": "ohlc", **both})
    assert name_of(streams, {**said, "data": [{"symbol": "A", "interval": 5}]}) == key_of({"channel": "ohlc", **default})
    assert name_of(streams, {**said, "data": [{"symbol": "C", "interval": 60}]}) is None
    several = by_rules({"fields": {"ids": "ids"}}, {"ids": ["A"]}, {"ids": ["B", "A"]})
    assert name_of(several, {"ids": ["A", "B"]}) == '{"ids":["B","A"]}'
    assert name_of(several, {"ids": ["A"]}) == '{"ids":["A"]}'


def test_of_equal_ones_the_first_subscribed_counts_also_when_others_follow() -> None:
    streams = by_rules({"fields": {"channel": "c"}}, {"channel": "t", "depth": 1}, {"channel": "t", "depth": 2})
    assert name_of(streams, {"c": "t"}) == '{"channel":"t","depth":1}'
    streams.add([{"channel": "t", "depth": 3}, {"channel": "u"}])
    assert name_of(streams, {"c": "t"}) == '{"channel":"t","depth":1}'
    assert name_of(streams, {"c": "u"}) == '{"channel":"u"}'


def test_a_table_that_stands_in_a_message_is_the_one_that_says_most_of_it() -> None:
    streams = known({"channel": "t"}, {"channel": "t", "instId": "A"}, {"instId": "A"})
    assert name_of(streams, {"s": {"channel": "t", "instId": "A"}}) == '{"channel":"t","instId":"A"}'
    assert name_of(streams, {"s": {"channel": "t", "instId": "B"}}) == '{"channel":"t"}'
    assert name_of(streams, {"s": {"channel": "u", "instId": "A"}}) == '{"instId":"A"}'


@pytest.mark.slow
def test_ten_thousand_tables_are_found_without_comparing_each_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    closeness = fields.closeness
    monkeypatch.setattr(fields, "closeness", lambda named, said: (compared.append(said), closeness(named, said))[1])
    streams = by_rules({"fields": {"c": "c", "s": "s"}}, *({"c": "book", "s": [str(number)]} for number in range(10_000)))
    for number in range(10_000):
        assert name_of(streams, {"c": "book", "s": number}) == f'{{"c":"book","s":["{number}"]}}'
    assert len(compared) == 10_000


def test_a_key_put_together_from_both_sides_finds_a_table() -> None:
    of = ["{channel}|{payload.0}_{payload.1}", "{channel}|{payload.0}"]
    rules = {"key": ["{channel}|{result.n}", "{channel}|!all"], "of": of}
    minute, hour = ({"channel": "candles", "payload": [interval, "A_B"]} for interval in ("1m", "1h"))
    every = {"channel": "orders", "payload": ["!all"]}
    streams = by_rules(rules, minute, hour, every, "a string", {"channel": "none"}, {"payload": {"0": ["x"]}})
    assert name_of(streams, {"channel": "candles", "result": {"n": "1m_A_B"}}) == key_of(minute)
    assert name_of(streams, {"channel": "candles", "result": {"n": "1h_A_B"}}) == key_of(hour)
    assert name_of(streams, {"channel": "orders", "result": [{"id": 1}]}) == key_of(every)
    for other in ({"channel": "candles", "result": {"n": "5m_A_B"}}, {"channel": "none"}, {}, [], None, 1, {"channel": ["x"]}):
        assert name_of(streams, other) is None


def test_each_entry_of_a_list_of_a_subscription_has_a_key_of_its_own() -> None:
    pairs = {"type": ["trade", "quote"], "ids": ["A", "B", 7]}
    others = {"type": "trade", "ids": ["B", "C"]}, {"type": "x", "ids": []}
    streams = by_rules({"key": "{t}@{s}", "of": "{type}@{ids}"}, pairs, *others)
    for kind in ("trade", "quote"):
        for symbol in ("A", "B", "7", 7):
            assert name_of(streams, {"t": kind, "s": symbol}) == key_of(pairs)
    assert name_of(streams, {"t": "trade", "s": "C"}) == '{"ids":["B","C"],"type":"trade"}'
    assert name_of(streams, {"t": "quote", "s": "C"}) is None
    assert name_of(streams, {"t": "x", "s": "A"}) is None


def test_a_subscription_with_long_lists_has_a_bounded_number_of_keys() -> None:
    many = [str(number) for number in range(1000)]
    streams = by_rules({"key": "{a}{b}{c}", "of": "{a}{b}{c}"}, {"a": many, "b": many, "c": many})
    assert name_of(streams, {"a": 0, "b": 0, "c": 999}) is not None


def test_a_string_is_a_key_by_itself_or_with_something_around_it() -> None:
    assert name_of(by_rules({"key": "{a}-{b}", "of": ""}, "x-y", {"x": 1}), {"a": "x", "b": "y"}) == "x-y"
    streams = by_rules({"key": "{a}%s", "of": "{}%s"}, "100%")
    assert name_of(streams, {"a": "100%"}) == "100%"
    assert name_of(streams, {"a": "100"}) is None


@pytest.mark.parametrize(
    ("rule", "subscription"),
    [
        ({"text": "Feed@{user}"}, "fEED@0xABab"),
        ({"fields": {"user": "user", "type": "none"}}, {"user": ["0xABab"]}),
        ({"key": "T|{user}", "of": "t|{user}"}, {"user": "0xABab"}),
        ({"text": "feed@{user}", "aliases": {"0xaBAB": ["None", "Q"], "*y": "x"}}, "feed@q"),
        ({"text": "feed@{user}", "aliases": {"0X*": "OX*"}}, "feed@oXABab"),
    ],
)
def test_capitals_make_no_difference_where_the_rule_says_so(rule: dict[str, Any], subscription: Any) -> None:
    assert name_of(by_rules({**rule, "fold": True}, subscription), {"user": "0xAbAb"}) is not None
    assert name_of(by_rules(rule, subscription), {"user": "0xAbAb"}) is None


def test_an_alias_with_a_star_keeps_what_the_star_stands_for() -> None:
    dollar, coin, both, other = ({"ids": ids} for ids in (["A-USD"], ["B-USDC"], ["C-USD", "C-USDC"], "F"))
    aliases = {"*-USD": ["*-USD", "*-USDC"], "E-USD": "F"}
    streams = by_rules({"fields": {"ids": "id"}, "aliases": aliases}, dollar, coin, both, other)
    for said, meant in {"A-USD": dollar, "B-USD": coin, "C-USD": both, "E-USD": other}.items():
        assert name_of(streams, {"id": said}) == key_of(meant)
    for said in ("D-USD", "-USD", "USD", "A-USDC", "B-USDT"):
        assert name_of(streams, {"id": said}) is None
    # Of both that fit the likelier is meant, whatever was subscribed first.
    streams = by_rules({"fields": {"ids": "id"}, "aliases": aliases}, {"ids": ["A-USDC"]}, {"ids": ["A-USD"]})
    assert name_of(streams, {"id": "A-USD"}) == '{"ids":["A-USD"]}'
    assert name_of(by_rules({"text": "{t}", "aliases": {"*": ["*", "!all"]}}, "!all", "x"), {"t": "x"}) == "x"
    assert name_of(by_rules({"text": "{t}", "aliases": {"*": ["*", "!all"]}}, "!all", "x"), {"t": "y"}) == "!all"
    assert name_of(by_rules({"text": "{t}", "aliases": {"ab*ba": "*"}}, "", "x"), {"t": "aba"}) is None


def test_an_alias_with_several_stars_keeps_each_in_its_place() -> None:
    rule = {"text": "{c}", "aliases": {"*:*:*": "*/*/*", "*:*": ["*/*", "*"], "a-*-b-*": "*"}}
    streams = by_rules(rule, "candle/0/1m", "trade/0", "book", "1", "x/*")
    for said, meant in {
        "candle:0:1m": "candle/0/1m", "trade:0": "trade/0", "book:7": "book", "a-1-b-2": "1", "x:*": "x/*",
    }.items():  # fmt: skip
        assert name_of(streams, {"c": said}) == meant
    for said in ("candle:0", "candle:0:1h", "trade", "a-b-2"):
        assert name_of(streams, {"c": said}) is None


def test_of_several_rules_the_first_that_fits_and_finds_a_stream_counts() -> None:
    rules = [
        {"contains": '"k"', "match": {"e": "kline"}, "text": "kline.{s}.{k.i}"},
        {"match": {"e": "*"}, "text": "{e}.{s}"},
        {"path": "s"},
    ]
    streams = by_rules(rules, "kline.A.1m", "kline.A", "trade.B", "B")
    assert name_of(streams, {"e": "kline", "s": "A", "k": {"i": "1m"}}) == "kline.A.1m"
    assert name_of(streams, {"e": "kline", "s": "A", "k": {"i": "5m"}}) == "kline.A"
    assert name_of(streams, {"e": "trade", "s": "B"}) == "trade.B"
    assert name_of(streams, {"e": "quote", "s": "B"}) == "B"
    assert name_of(streams, {"e": None, "s": "C"}) is None
    message = {"e": "kline", "s": "A", "k": {"i": "1m"}}
    found = streams.find(message, b'{"no":"needle"}')
    assert found is not None
    assert found.name == "kline.A"
    assert name_of(by_rules({"match": {"a": 1}, "path": "s"}, "x"), {"a": 2, "s": "x"}) is None


def test_a_message_may_name_the_channel_that_an_ack_gave() -> None:
    table, channels = {"channel": "book", "symbol": "tBTCUSD"}, {}
    streams = by_rules({"path": "0"}, table, "a string", channels=channels)
    assert name_of(streams, [117757, [1.0, 2, 3], 17]) is None
    channels |= {"117757": table, "8": "a string", "9": "not known"}
    assert name_of(streams, [117757, [1.0, 2, 3], 17]) == key_of(table)
    assert name_of(streams, ["8"]) == "a string"
    assert name_of(streams, [9]) is name_of(streams, [10]) is None


def test_what_is_subscribed_later_is_found_from_then_on() -> None:
    streams = known({"channel": "a"})
    assert name_of(streams, {"s": {"channel": "b"}}) is None
    streams.add([{"channel": "b"}, "c"])
    assert name_of(streams, {"s": {"channel": "b"}}) == '{"channel":"b"}'
    assert name_of(streams, {"s": "c"}) == "c"


def test_subscribing_again_keeps_the_stream() -> None:
    streams = known("a", {"b": 1})
    first = streams.find({"s": "a"})
    streams.add(["a", {"b": 1}])
    assert streams.find({"s": "a"}) is first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "message", "remembered"),
    [
        ({"path": "s"}, lambda number: {"s": {"channel": number}}, lambda form: form._seen),
        ({"fields": {"channel": "s"}}, lambda number: {"s": number}, lambda form: form._seen),
        ({"text": "{s}", "fold": True}, lambda number: {"s": number}, lambda form: form._vocabulary.meant.__self__),
    ],
)
def test_a_peer_that_names_ever_new_streams_costs_no_memory(rule: Any, message: Any, remembered: Any) -> None:
    streams = by_rules(rule, {"channel": "a"})
    for number in range(70_000):
        assert streams.find(message(number)) is None
    assert 0 < len(remembered(streams._rules[0].form)) <= 1 << 16


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, ["BTC@trade", "BTC@book", "ETH@trade"]),
        ({"include": ("BTC@*",)}, ["BTC@trade", "BTC@book"]),
        ({"exclude": ("*@book",)}, ["BTC@trade", "ETH@trade"]),
        ({"include": ("BTC@*", "ETH@*"), "exclude": ("ETH*",)}, ["BTC@trade", "BTC@book"]),
        ({"include": ("btc@*",)}, []),
    ],
)
def test_globs_choose_streams_by_name_and_case_matters(filters: dict[str, tuple[str, ...]], wanted: list[str]) -> None:
    names = ["BTC@trade", "BTC@book", "ETH@trade"]
    streams = known(*names, **filters)
    found = [streams.find({"s": name}) for name in names]
    assert [stream.name for stream in found if stream is not None and stream.wanted] == wanted


@pytest.mark.slow
def test_indexes_are_given_in_order_and_there_are_65534_of_them() -> None:
    streams = known(*map(str, range(65_536)))
    for number in range(65_534):
        stream = streams.find({"s": str(number)})
        assert stream is not None
        report = streams.announce(stream)
        assert report is not None
        assert report.fields == {"index": number + 1, "name": str(number)}
    last = streams.find({"s": "65534"})
    assert last is not None
    assert streams.announce(last) is None
    assert last.index == 0


# -- in the session ------------------------------------------------------------------------------------------------------


def started(*wanted: Any, dialect: dict[str, Any] = STREAM, **settings: Any) -> Session:
    endpoint = Endpoint("feed", url="ws://feed.example/", **settings)
    session = Session(Assignment(endpoint=endpoint, epoch=1, url="ws://x/", wanted=wanted, dialect=dialect), salt=1)
    session.start(ConnectionUp({}, None), 0.0)
    return session


def confirmed(*wanted: Any, dialect: dict[str, Any] = STREAM, **settings: Any) -> Session:
    """One whose streams are confirmed."""
    session = started(*wanted, dialect={**dialect, "ack": [{"match": {"ok": True}}]}, **settings)
    received(session, b'{"ok":true}')
    return session


def received(session: Session, *payloads: bytes, opcode: int = TEXT) -> list[Action]:
    return session.received(Reader(1 << 20).feed(b"".join(server_frame(opcode, payload) for payload in payloads)), 1.0)


def test_a_stream_is_announced_once_and_before_its_first_messages() -> None:
    session = confirmed("a", "b")
    first, second, deliver = received(session, b'{"s":"b"}', b'{"s":"a"}', b'{"s":"b"}', b'{"s":"?"}', b"no json")
    assert isinstance(first, Notify)
    assert isinstance(second, Notify)
    assert isinstance(deliver, Deliver)
    assert first.report.fields == {"index": 1, "name": "b"}
    assert second.report.fields == {"index": 2, "name": "a"}
    assert deliver.streams == [1, 2, 1, 0, 0]
    (again,) = received(session, b'{"s":"a"}')
    assert isinstance(again, Deliver)
    assert again.streams == [2]


def test_what_the_filter_removes_is_skipped_and_counted_and_what_is_unknown_stays() -> None:
    session = confirmed("a", "b", filter={"exclude": ("b",)})
    say, deliver = received(session, b'{"s":"b"}', b'{"s":"a"}', b'{"s":"b"}', b'{"s":"?"}', b"\xc3\xbc")
    assert isinstance(say, Notify)
    assert isinstance(deliver, Deliver)
    assert (deliver.skipped, deliver.filtered, deliver.streams) == (frozenset({0, 2}), 2, [0, 1, 0, 0, 0])


def test_the_text_of_a_rule_is_looked_for_in_the_message_itself() -> None:
    rules = [{"contains": '"s": ', "text": "spaced.{s}"}, {"path": "s"}]
    session = confirmed("a", "spaced.a", dialect={**STREAM, "stream": rules})
    first, second, deliver = received(session, b'{"s": "a"}', b'{"s":"a"}')
    assert isinstance(first, Notify)
    assert isinstance(second, Notify)
    assert isinstance(deliver, Deliver)
    assert (first.report.fields["name"], second.report.fields["name"], deliver.streams) == ("spaced.a", "a", [1, 2])


def test_binary_messages_belong_to_no_stream() -> None:
    (deliver,) = received(started("a"), b'{"s":"a"}', opcode=BINARY)
    assert isinstance(deliver, Deliver)
    assert deliver.streams == [0]


def test_an_answer_between_messages_splits_them_and_no_count_is_told_twice() -> None:
    dialect = {**STREAM, "ack": [{"match": {"ok": True}}]}
    session = started("a", "b", dialect=dialect, filter={"include": ("a",)})
    actions = received(session, b'{"s":"b"}', b'{"ok":true}', b'{"s":"b"}', b'{"s":"a"}')
    delivers = [action for action in actions if isinstance(action, Deliver)]
    said = [action.report.event for action in actions if isinstance(action, Notify)]
    assert said == ["subscribed", "subscribed", "restored", "stream"]
    assert [(d.first, d.last, d.skipped, d.filtered) for d in delivers] == [
        (0, 2, frozenset({0, 1}), 1),
        (2, 4, frozenset({2}), 1),
    ]


def test_without_a_stream_table_nothing_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    session = started("a", dialect={})
    monkeypatch.setattr(orjson, "loads", lambda _: pytest.fail("parsed"))
    (deliver,) = received(session, b'{"s":"a"}')
    assert isinstance(deliver, Deliver)
    assert deliver.streams is None


def test_a_message_is_parsed_once_where_an_answer_is_awaited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    session = started("a", dialect={**STREAM, "ack": [{"match": {"ok": True}}], "error": [{"match": {"no": True}}]})
    parsed: list[bytes] = []
    loads = orjson.loads
    monkeypatch.setattr(orjson, "loads", lambda payload: (parsed.append(payload), loads(payload))[1])
    received(session, b'{"s":"a"}', b'{"s":"b"}')
    assert parsed == [b'{"s":"a"}', b'{"s":"b"}']


# -- the bundled dialects and what their exchanges sent ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["binance", "okx", "bybit"])
def test_every_data_message_of_a_recording_has_its_stream(name: str) -> None:
    rules = load_dialect(name)["stream"]
    path = (rules if isinstance(rules, dict) else rules[0])["path"]
    values = [orjson.loads(payload) for payload in load_recording(name).payloads]
    data = [value for value in values if "data" in value]
    assert len(data) > len(values) * 0.9
    subscriptions = list({orjson.dumps(value[path]): value[path] for value in data}.values())
    assert len(subscriptions) > 1
    streams = Streams(rules, Filter())
    streams.add(subscriptions)
    for value in data:
        named = value[path]
        assert name_of(streams, value) == (named if isinstance(named, str) else orjson.dumps(named).decode())
    assert all(stream.wanted for stream in map(streams.find, data) if stream is not None)


def bitmex_stream(value: Any) -> Any:
    symbol = value["data"][0]["symbol"] if value["data"] else value["filter"]["symbol"]
    return f"{value['table']}:{symbol}"


def gate_stream(value: Any) -> Any:
    result = value["result"]
    return {"channel": value["channel"], "payload": [result.get("currency_pair") or result["s"], "100ms"]}


def futures_stream(value: Any) -> Any:
    return {"feed": value["feed"].removesuffix("_snapshot"), "product_ids": [value["product_id"]]}


def exchange_stream(value: Any) -> Any:
    channel = {"snapshot": "level2", "l2update": "level2", "last_match": "matches", "match": "matches"}
    return {"channels": [channel.get(value["type"], value["type"])], "product_ids": [value["product_id"]]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dialect", "recording", "subscription"),
    [
        ("bitget", "bitget", lambda value: value["arg"]),
        ("bitmex", "bitmex", bitmex_stream),
        ("bitstamp", "bitstamp", lambda value: value["channel"]),
        ("coinbase_exchange", "coinbase", exchange_stream),
        ("deribit", "deribit", lambda value: value["params"]["channel"]),
        ("gate", "gate", gate_stream),
        ("kraken_futures", "kraken_futures", futures_stream),
        ("kucoin", "kucoin", lambda value: value["topic"]),
    ],
)
def test_what_a_real_exchange_sends_has_the_name_of_its_subscription(dialect: str, recording: str, subscription: Any) -> None:
    meant = []
    for payload in load_recording(recording).payloads:
        value = orjson.loads(payload)
        try:
            meant.append((value, subscription(value)))
        except (KeyError, TypeError):  # an answer, a welcome, candles
            continue
    assert len(meant) > 200
    subscribed = {key_of(stream): stream for _, stream in meant}
    assert len(subscribed) > 8
    streams = by_rules(load_dialect(dialect)["stream"], *subscribed.values())
    for value, stream in meant:
        assert name_of(streams, value) == (stream if isinstance(stream, str) else key_of(stream))


def test_what_a_real_exchange_sends_has_the_channel_of_its_ack() -> None:
    channels: dict[str, Any] = {}
    streams = by_rules(load_dialect("bitfinex")["stream"], channels=channels)
    found = 0
    for payload in load_recording("bitfinex").payloads:
        value = orjson.loads(payload)
        if isinstance(value, dict) and value["event"] == "subscribed":
            stream = {"channel": value["channel"], "symbol": value["symbol"]}
            streams.add([stream])
            channels[str(value["chanId"])] = stream
        elif isinstance(value, list):
            assert name_of(streams, value) == key_of(channels[str(value[0])])
            found += 1
    assert found > 1000


# -- few of many [[stream]] tables are looked at --------------------------------------------------------------------------

GZIP = b"\x1f\x8b"


@pytest.mark.parametrize("name", sorted(name for name in MARKETS if isinstance(load_dialect(name)["stream"], list)))
def test_the_tables_that_are_looked_at_are_all_that_fit(name: str) -> None:
    rules = [Rule(table, {}) for table in load_dialect(name)["stream"]]
    choice = Choice(rules)
    for message in MARKETS[name].messages():
        value = orjson.loads(gzip.decompress(message.payload) if message.payload[:2] == GZIP else message.payload)
        all_that_fit = [rule for rule in rules if rule.fits(value, None)]
        assert [rule for rule in choice.of(value) if rule.fits(value, None)] == all_that_fit


def test_only_tables_that_ask_for_another_word_at_the_same_key_are_left_out() -> None:
    tables = [{"match": {"type": "a"}}, {"match": {"type": "b"}}, {"match": {"0": "a"}}, {"match": {"type": "*"}}, {}]
    rules = [Rule({"path": "s", **table}, {}) for table in tables]
    choice = Choice(rules)
    values: list[Any] = [{"type": "a"}, {"type": "c"}, {"type": []}, ["a"], None]
    numbers = [[rules.index(rule) for rule in choice.of(value)] for value in values]
    assert numbers == [[0, 2, 3, 4], [2, 3, 4], [2, 3, 4], [2, 3, 4], [2, 3, 4]]
