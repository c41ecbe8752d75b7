"""The test exchange's side of dialects, its pure parts: templates backwards, frames from rules, what a client owes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.conversation import DIALECTS, Client, invented, opened, said
from tests.support.markets import MARKETS
from wsadapter.contract.dialect.paths import look_up, matches
from wsadapter.contract.dialect.templates import fill, fill_in, sign
from wsadapter.contract.endpoint import Heartbeat
from wsadapter.testing.dialect.client_view import ClientView
from wsadapter.testing.dialect.compose import entries, fits, put, written
from wsadapter.testing.dialect.dialect_rules import DialectRules
from wsadapter.testing.dialect.heartbeats import SECOND_LOOK, Heartbeats, terms
from wsadapter.testing.dialect.overrides import Overrides, StreamRefusal
from wsadapter.testing.dialect.parse_request import Asked, Template
from wsadapter.testing.dialect.recorded_market import RecordedMarket, payload_of
from wsadapter.testing.dialect.steps import CloseFeed, Disconnect, HeartbeatSeen, OpenFeed, Ping, SendFrame, Unknown, Violation
from wsadapter.testing.dialect.understanding import Meaning
from wsadapter.testing.dialect.window import Window
from wsadapter.testing.recording import Recorded

WORDS = st.text("abcXYZ0189@-/:", min_size=1, max_size=8)
TABLES = st.dictionaries(WORDS, st.one_of(WORDS, st.integers(0, 99), st.lists(WORDS, max_size=3)), min_size=1, max_size=3)
TEMPLATES = {
    "list": ('{"op":"sub","args":"$streams","id":"$id"}', st.lists(st.one_of(WORDS, TABLES), min_size=1, max_size=4)),
    "within": ('{"req":"sub-$id","args":"$streams"}', st.lists(WORDS, min_size=1, max_size=4)),
    "one": (
        '{"id":"$id_text","data":{"channel":"$stream"},"at":"$time"}',
        st.lists(st.one_of(WORDS, TABLES), min_size=1, max_size=1),
    ),
    "fields": ('{"method":"m","params":{"$stream":"*"},"nonce":"$time_ms"}', st.lists(TABLES, min_size=1, max_size=1)),
    "array": ('["sub",{"$stream":"*"},"$id"]', st.lists(TABLES, min_size=1, max_size=1)),
    "twice": ('{"a":"$stream","b":["$stream"]}', st.lists(WORDS, min_size=1, max_size=1)),
    "composed": (
        '{"id":"$id","method":"{channel}.sub","params":"{params}"}',
        st.lists(st.fixed_dictionaries({"channel": WORDS, "params": st.lists(WORDS, max_size=3)}), min_size=1, max_size=1),
    ),
    "composed key": (
        '{"action":"sub","{a.channel}":"{symbols}"}',
        st.lists(
            st.fixed_dictionaries({"a": st.fixed_dictionaries({"channel": WORDS}), "symbols": WORDS}), min_size=1, max_size=1
        ),
    ),
    "composed string": ('{"to":"a.{}"}', st.lists(WORDS, min_size=1, max_size=1)),
}
IDS = {"list": 7, "within": "sub-7", "one": "7", "array": 7, "composed": 7}


@pytest.mark.slow
@pytest.mark.parametrize("form", TEMPLATES)
@given(data=st.data())
def test_reading_is_the_inverse_of_filling(form: str, data: st.DataObject) -> None:
    text, streams = TEMPLATES[form]
    wanted = data.draw(streams)
    frame = orjson.loads(fill(text, wanted, 7, 1_700_000_000.5))
    asked = Template(text).read(frame)
    assert asked is not None
    assert (asked.streams, asked.id) == (wanted, IDS.get(form))
    assert not asked.parts or asked.is_of(wanted[0])


@pytest.mark.parametrize("name", DIALECTS)
def test_what_an_owner_sends_is_understood_in_every_dialect(name: str) -> None:
    settings = DIALECTS[name]["subscribe"]
    for key in ("frame", "unsubscribe"):
        text = settings.get(key, "")
        if not text:
            continue
        stream = MARKETS[name].streams[0].subscribe
        asked = Template(text).read(orjson.loads(fill(text, [stream], 7, 1.0, 17)))
        assert asked is not None
        if "$channel" in text:
            assert asked == Asked(None, None, 17)
        else:
            assert asked.is_of(stream) if asked.parts else asked.streams == [stream]
        understood = Client(name).dialect_rules.understanding.read("", orjson.loads(fill(text, [stream], 7, 1.0, 17)))
        assert understood.meaning is (Meaning.SUBSCRIBE if key == "frame" else Meaning.UNSUBSCRIBE)


@pytest.mark.parametrize(
    "frame",
    [
        {"op": "sub", "args": ["a"], "id": "7"},
        {"op": "sub", "args": ["a"], "id": True},
        {"op": "sub", "args": ["a"]},
        {"op": "sub", "args": ["a"], "id": 7, "more": 1},
        {"op": "sub", "args": "a", "id": 7},
        {"op": "sub", "args": [1], "id": 7},
        {"op": "other", "args": ["a"], "id": 7},
        ["a"],
        None,
    ],
)
def test_a_frame_that_is_not_of_the_template_is_not_read(frame: Any) -> None:
    assert Template('{"op":"sub","args":"$streams","id":"$id"}').read(frame) is None


def test_a_list_that_streams_are_spliced_into_has_the_rest_too() -> None:
    template = Template('["x","$streams...","x"]')
    assert template.lists
    for frame, streams in ((["x", "x"], []), (["x", "a", {"b": 1}, "x"], ["a", {"b": 1}])):
        assert template.read(frame) == Asked(streams=streams)
    for frame in (["x"], [], ["x", "a"], ["x", 1, "x"], "x"):
        assert template.read(frame) is None


def test_a_frame_of_parts_is_of_each_stream_that_has_them() -> None:
    template = Template('{"method":"{channel}.end","of":["{params}","{channel}"]}')
    asked = template.read({"method": "a.b.end", "of": [["x", "y"], "a.b"]})
    assert asked is not None
    assert asked.streams == [{"channel": "a.b", "params": ["x", "y"]}]
    assert asked.is_of({"channel": "a.b", "params": ["x"], "more": 1})
    assert not asked.is_of({"channel": "a.b", "params": ["z"]})
    assert not asked.is_of({"channel": "a.b"})
    assert not asked.is_of("a.b")
    template = Template('{"action":"sub","{channel}":"{symbols}","x":"{channel}"}')
    for frame in (
        {"action": "sub", "a": 1, "x": "b"}, {"action": "sub", "x": "a"}, {"action": "end", "a": 1, "x": "a"},
        {"action": "sub", "a": 1, "b": 2, "x": "a"}, {"action": "sub", "a": 1, "x": ["a"]},
    ):  # fmt: skip
        assert template.read(frame) is None, frame
    assert Template('{"id":"{}-$id"}').read({"id": "a-7"}) == Asked(streams=["a"], id="a-7", parts={"": "a"})
    for value in ("a.b", ".end", 7):
        assert Template('{"method":"{channel}.end"}').read({"method": value}) is None


def test_an_answer_must_repeat_what_the_question_said() -> None:
    template = Template('{"pong":"$.ping","as":"n-$id"}')
    assert template.read({"pong": 5, "as": "n-1"}, {"ping": 5}) == Asked(id="n-1")
    assert template.read({"pong": 6, "as": "n-1"}, {"ping": 5}) is None
    assert template.read({"pong": 5, "as": "n-"}, {"ping": 5}) is None


def test_the_secrets_of_a_login_may_be_anything() -> None:
    assert Template('{"key":"$key","args":["$sign"]}', ["key"]).read({"key": "K", "args": [{"sign": 1}]}) == Asked()
    assert Template('{"event":"auth","$sign":"*"}').read({"event": "auth", "apiKey": "K"}) == Asked()


def test_what_signs_a_frame_is_not_of_the_stream() -> None:
    gate = Template('{"event":"subscribe","$stream":"*"}', signature='{"auth":"$sign"}')
    assert gate.read({"event": "subscribe", "auth": {"KEY": "k"}, "channel": "a"}) == Asked([{"channel": "a"}])
    assert gate.read({"event": "subscribe", "channel": "a"}) is None
    kraken = Template('{"params":{"$stream":"*"}}', signature='{"params":{"token":"$sign"}}')
    assert kraken.read({"params": {"token": "t", "channel": "a"}}) == Asked([{"channel": "a"}])
    coinbase = Template('{"type":"subscribe","$stream":"*"}', signature='{"$sign":"*"}', fields=["channels"])
    assert coinbase.read({"type": "subscribe", "channels": ["a"], "key": "k"}) == Asked([{"channels": ["a"]}])
    assert coinbase.read({"type": "subscribe", "channels": ["a"]}) is None


PATHS = st.lists(st.one_of(st.text("abcxy", min_size=1), st.integers(0, 3).map(str)), min_size=1, max_size=4).map(".".join)


@given(path=PATHS, value=st.integers())
def test_what_was_put_at_a_path_is_found_there(path: str, value: int) -> None:
    whole = put(put(None, "x.y", "kept"), path, value)
    assert look_up(whole, path) == value
    assert put({"a": [1, 2]}, "a.-1", value) == {"a": [1, value]}
    assert put([], "-1", value) == [value]


def test_a_stream_in_its_parts() -> None:
    assert entries({"pair": ["a", "b"], "x": 1}, "pair") == [{"pair": ["a"], "x": 1}, {"pair": ["b"], "x": 1}]
    assert entries("name", "pair") == ["name"]
    assert entries({"pair": "a"}, "") == [{"pair": "a"}]


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_composed_fits_its_rule(name: str) -> None:
    dialect, dialect_rules = DIALECTS[name], DialectRules(DIALECTS[name])
    composed = [(dialect["ready"][0], dialect_rules.welcome())] if "ready" in dialect else []
    notices = [rule for rule in dialect.get("notice", []) if rule.get("reconnect", True)]
    composed += [(notices[0], dialect_rules.notice())] if notices else []
    composed += [(rule, dialect_rules.question(rule, 1_700_000_000_000)) for rule, _ in dialect_rules.answers]
    composed += list(zip(dialect_rules.beats, dialect_rules.heartbeats(), strict=True))
    for rule, frame in composed:
        assert fits(rule, written(frame), frame)


# -- what a client owes --------------------------------------------------------------------------------------------------


def beats(now: float = 0.0, *, questions: bool = False, beats: bool = False, **heartbeat: Any) -> Heartbeats:
    return Heartbeats(terms(Heartbeat(**heartbeat), questions=questions, beats=beats, pace=0.1, grace=1.0), now)


def test_a_heartbeat_is_owed_in_each_interval_and_the_grace() -> None:
    owed = beats(kind="text", interval=20.0)
    owed.heard(1.5)
    assert owed.overdue(4.49) == ""
    assert owed.overdue(4.5) == ""  # it may be in the socket: looked at twice
    assert "no heartbeat (text) within 2 s" in owed.overdue(4.5 + SECOND_LOOK)
    assert beats(kind="none").overdue(1000.0) == ""


def test_what_comes_between_the_two_looks_counts() -> None:
    owed = beats(kind="text", interval=20.0)
    assert owed.overdue(3.0) == ""
    assert owed.deadline() == 2.0 or owed.deadline() == 3.0 + SECOND_LOOK
    owed.heard(3.05)
    assert owed.overdue(3.2) == ""
    assert owed.overdue(6.05) == ""
    assert owed.overdue(6.2) != ""


def test_one_that_is_owed_in_silence_is_not_owed_while_the_exchange_speaks() -> None:
    owed = beats(kind="text", interval=20.0, when="idle")
    for now in range(20):
        owed.said(float(now))
    assert owed.overdue(20.0) == ""
    owed.overdue(22.0)
    assert owed.overdue(22.2) != ""
    assert owed.due(1000.0) == ()  # and a ping would break the silence


def test_an_exchange_without_heartbeats_of_its_own_pings() -> None:
    asks = beats(kind="json", interval=20.0)
    assert asks.due(1.9) == ()
    assert asks.due(2.0) == ("ping",)
    assert asks.due(3.9) == ()
    assert beats(kind="ping", server_interval=5.0, questions=True).due(0.5) == ("question",)
    assert beats(kind="ping", server_interval=5.0, questions=True, beats=True).due(0.5) == ("question", "beat")


def test_an_answer_has_its_time_and_stands_for_those_before() -> None:
    asks = beats(kind="none", timeout=10.0, server_interval=5.0, questions=True)
    for at, name in ((0.5, "a"), (1.0, "b"), (1.5, "c")):
        asks.expect(name, at)
    assert asks.overdue(2.4) == ""
    asks.answered("b")
    assert list(asks.expected) == ["c"]
    asks.overdue(3.5)
    assert asks.overdue(3.6) == "no answer to a heartbeat of the exchange's within 2 s"


def test_a_window_slides() -> None:
    window = Window(4, 1.0)
    assert [window.exceeded(at / 4) for at in range(40)] == [False] * 40
    assert [window.exceeded(20.0 + at / 100) for at in range(6)] == [False] * 5 + [True]
    assert not window.exceeded(22.0)
    assert not any(Window(0, 1.0).exceeded(0.0) for _ in range(1000))


# -- a conversation ------------------------------------------------------------------------------------------------------


def test_answers_are_in_the_exchanges_own_words() -> None:
    assert said(Client("binance").subscribes("a@trade", "b@trade")) == [{"result": "a@trade", "id": 7}]
    okx = {"channel": "books", "instId": "BTC-USDT"}
    assert said(Client("okx").subscribes(okx)) == [{"event": "subscribe", "arg": okx}]
    assert said(Client("bybit").subscribes("x")) == [{"success": True, "op": "subscribe", "req_id": "sub-7"}]
    assert said(Client("deribit").subscribes("x", "y")) == [{"result": ["x", "y"], "id": 7}]
    kraken = Client("kraken").subscribes({"channel": "book", "symbol": ["A", "B"]})
    assert [answer["req_id"] for answer in said(kraken)] == [7, 7]
    book = {"channel": "book", "symbol": "tBTCUSD"}
    assert said(Client("bitfinex").subscribes(book)) == [{"event": "subscribed", **book, "chanId": 1}]
    (whole,) = said(Client("coinbase").subscribes({"channel": "level2", "product_ids": ["BTC-USD"]}))
    assert whole["events"][0]["subscriptions"] == [{"channel": "level2", "product_ids": ["BTC-USD"]}]
    assert whole["sequence_num"] == 2  # behind a heartbeat


def test_refusals_too() -> None:
    overrides = Overrides(rejected={"bad": StreamRefusal("no such stream")})
    assert said(Client("binance", overrides).subscribes("bad")) == [{"code": 1, "msg": "no such stream", "id": 7}]
    refused = SendFrame({"code": 1, "msg": "no such stream", "id": 7}, answer=True)
    assert Client("binance", overrides).subscribes("good", "bad") == [refused]  # its answers name frames
    taken = SendFrame({"result": ["good"], "id": 7}, answer=True)
    assert Client("deribit", overrides).subscribes("good", "bad") == [taken, OpenFeed("good")]
    repeated = {"request": {"args": ["bad", "good"]}}  # which names the frame
    assert said(Client("bitmex", overrides).subscribes("bad", "good")) == [{"status": 1, "error": "no such stream", **repeated}]


def test_who_is_ignored_hears_nothing() -> None:
    overrides = Overrides(ignored={"mute"})
    assert Client("binance", overrides).subscribes("mute", "other") == []
    assert said(Client("bitmex", overrides).subscribes("mute", "other")) == [{"success": True, "subscribe": "other"}]


def test_who_subscribes_what_the_exchange_hangs_up_over_is_left_without_an_answer() -> None:
    overrides = Overrides(fatal={"bad"})
    assert Client("binance", overrides).subscribes("good", "bad") == [Disconnect(1000, "")]
    assert said(Client("binance", overrides).subscribes("good")) != []


def test_an_unsubscribed_stream_ends() -> None:
    client = Client("bitfinex")
    client.subscribes({"channel": "book", "symbol": "tBTCUSD"})
    steps = client.subscribes({"channel": "book", "symbol": "tBTCUSD"}, key="unsubscribe")
    assert steps == [
        CloseFeed('{"channel":"book","symbol":"tBTCUSD"}'),
        SendFrame({"event": "unsubscribed", "chanId": 1}, answer=True),
    ]
    assert client.subscribes("x", key="unsubscribe") == [Violation("unsubscribes the channel 1, which it does not have")]


@pytest.mark.parametrize(
    ("name", "streams", "text"),
    [
        ("binance", [f"s{n}" for n in range(201)], "201 streams in one frame, 200 are allowed"),
        ("bitstamp", ["s" * 600], "a frame of 647 bytes, 512 are allowed"),
    ],
)
def test_limits_of_a_frame_are_noted_and_refused(name: str, streams: list[str], text: str) -> None:
    steps = Client(name).subscribes(*streams)
    assert steps[0] == Violation(text)
    assert said(steps)
    assert not any(isinstance(step, OpenFeed) for step in steps)


def test_limits_of_a_connection_are_noted_and_refused() -> None:
    client = Client("bitfinex")
    for number in range(25):
        assert not any(isinstance(step, Violation) for step in client.subscribes({"channel": "book", "symbol": f"t{number}"}))
    assert client.subscribes({"channel": "book", "symbol": "t25"})[0] == Violation("more than 25 streams on one connection")


def test_who_sends_too_fast_is_closed() -> None:
    client = Client("binance")
    client.now -= 6.0
    steps = [step for _ in range(6) for step in client.conversation.message('{"method":"LIST_SUBSCRIPTIONS","id":1}', 20.0)]
    assert steps[-2:] == [Violation("more than 4 frames in 1 s"), Disconnect(1008, "Too many requests")]


def test_nothing_may_be_said_before_the_welcome_and_while_it_settles() -> None:
    client = Client("kucoin")
    early = client.opened()
    text = fill(client.dialect_rules.settings["frame"], ["/market/ticker:X"], 7).decode()
    assert next(iter(early.message(text, 0.05))) == Violation("something was sent before the exchange's [[ready]]")
    assert said(list(early.tick(0.2))) == [{"type": "welcome"}]
    assert not any(isinstance(step, Violation) for step in early.message(text, 0.3))
    client = Client("crypto_com")
    early = client.opened()
    assert next(early.control(9, b"", 0.5)) == Violation("something was sent 0.50 s after the handshake, settle is 1 s")
    asked = said(early._question(0.5))[0]
    answer = {"id": asked["id"], "method": "public/respond-heartbeat"}
    assert list(early.message(json.dumps(answer), 0.6)) == [HeartbeatSeen("answer")]  # that is allowed
    assert list(early.control(9, b"", 1.0)) == [HeartbeatSeen("heartbeat")]


def test_a_client_without_heartbeats_is_dropped_and_one_that_answers_nothing_closed() -> None:
    mute = Client("bitget").waits(40.0)
    assert [type(step) for step in mute if not isinstance(step, Ping)] == [Violation, Disconnect]
    assert mute[-1] == Disconnect(None, "heartbeat")
    deaf = Client("htx").waits(40.0)
    assert deaf[-2:] == [Violation("no answer to a heartbeat of the exchange's within 21 s"), Disconnect(4000, "heartbeat")]


def test_heartbeats_are_answered_and_answers_recognised() -> None:
    assert Client("bitget").says("ping") == [HeartbeatSeen("heartbeat"), SendFrame("pong")]
    assert Client("bybit").says({"op": "ping"}) == [HeartbeatSeen("heartbeat"), SendFrame({"ret_msg": "pong"})]
    client = Client("htx")
    (asked,) = said(client.waits(5.0))[:1]
    assert client.says({"pong": asked["ping"]}) == [HeartbeatSeen("answer")]
    assert client.says({"pong": asked["ping"]}) == [Unknown(f'{{"pong": {asked["ping"]}}}')]


def test_logins_are_answered_and_may_be_required() -> None:
    overrides = Overrides(login_required=True)
    client = Client("okx", overrides)
    stream = {"channel": "orders", "instType": "ANY"}
    assert client.subscribes(stream)[0] == Violation("log in first")
    overrides.login_refusal = "Invalid apiKey"
    login = {"op": "login", "args": [{"apiKey": "K", "sign": "s"}]}
    assert said(client.says(login)) == [{"event": "error", "msg": "Invalid apiKey"}]
    overrides.login_refusal = ""
    assert said(client.says(login)) == [{"event": "login", "code": "0"}]
    assert said(client.subscribes(stream)) == [{"event": "subscribe", "arg": stream}]
    signed = {"time": 1, "id": 1, "event": "subscribe", "channel": "spot.orders", "payload": ["X"]}
    gate = Client("gate", Overrides(login_required=True))
    assert gate.says(signed)[0] == Violation("log in first")
    assert OpenFeed('{"channel":"spot.orders","payload":["X"]}') in gate.says({**signed, "auth": {"KEY": "k"}})


def test_frames_of_a_kind_may_be_signed_and_one_may_be_for_one_stream_only() -> None:
    client = Client(
        invented("""
        subscribe = { frame = '{"sub":"$stream"}', kind = [
            { streams = ["mine.*"], frame = '{"sub":"$stream","by":"$key","so":"$sign"}' },
            { streams = ["all"], frame = '{"listen":true,"$sign":"*"}', unsubscribe = '{"listen":false}' },
        ] }
        ack = [{ match = { ok = "*" }, stream = "ok" }]
        login = { needs = ["key"] }
    """),
        Overrides(login_required=True),
    )
    assert opened(client.says({"sub": "a"})) == ["a"]
    assert isinstance(client.says({"sub": "mine.1"})[0], Unknown)
    assert opened(client.says({"sub": "mine.1", "by": "K", "so": "S"})) == ["mine.1"]
    steps = client.says({"listen": True, "key": "K", "sig": "S"})
    assert (opened(steps), said(steps)) == (["all"], [{"ok": "all"}])
    assert [step for step in client.says({"listen": False}) if isinstance(step, CloseFeed)] == [CloseFeed("all")]


@pytest.mark.parametrize("name", [name for name, dialect in DIALECTS.items() if "login" in dialect])
def test_the_login_of_every_dialect_is_understood(name: str) -> None:
    login = DIALECTS[name]["login"]
    if "frame" not in login:
        return
    frame = sign(fill_in(login["frame"], number=7, wall=1.0), {"key": "K"})
    for refusal, rules in (("", "ack"), ("no", "error")):
        (answer,) = said(Client(name, Overrides(login_refusal=refusal)).says(frame))
        assert matches(answer, login[rules][0]["match"])


# -- messages ------------------------------------------------------------------------------------------------------------


def test_a_recording_loses_all_that_is_no_data() -> None:
    messages = [
        '{"event":"info","version":2}',
        '{"event":"subscribed","channel":"book","chanId":900,"symbol":"tA","prec":"P0"}',
        '{"event":"subscribed","channel":"book","chanId":901,"symbol":"tB","prec":"P0"}',
        "[900,[1],5]", "[901,[2],6]", '[900,"hb",7]', "[900,[3],8]",
    ]  # fmt: skip
    client = Client("bitfinex", messages=messages)
    client.subscribes({"channel": "book", "symbol": "tA"})
    taken = [client.view.take(message.encode(), None) for message in messages]
    assert [t for t in taken if t] == [b"[1,[1],1]", b"[1,[3],2]"]
    (beat,) = said(list(client.conversation._heartbeats()))
    assert beat == [1, "hb", 3]


def test_binary_messages_that_a_hook_decodes_are_told_apart_and_sent_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "of_mine.py").write_text("def decode(payload: bytes) -> bytes:\n    return payload[::-1]\n")
    tables = """subscribe = { frame = '{"sub":"$stream"}' }\nstream = { path = "s" }\nhooks = { decode = "of_mine:decode" }"""
    messages = [Recorded(0.0, text.encode()[::-1], True) for text in ('{"s":"a"}', '{"s":"b"}')]
    plain = b'{"s":"a","n":1}'
    client = Client(invented(tables))
    client.market = RecordedMarket(client.dialect_rules, [*messages, plain], folder=str(tmp_path))
    client.view = ClientView(client.dialect_rules, client.market, client.overrides)
    client.view.open("a", ["a"], {})
    taken = [client.view.take(payload_of(message), None) for message in (*messages, plain, b"neither")]
    assert taken == [messages[0].payload, None, plain, None]


def test_without_the_recorded_answers_messages_tell_by_themselves_what_their_channel_is() -> None:
    messages = ['[320,{"b":[]},"book-1000","XBT/USD"]', '[17,{"b":[]},"book-100","XBT/USD"]', '{"event":"heartbeat"}']
    client = Client("kraken_v1", messages=messages)
    client.subscribes({"pair": ["XBT/USD"], "subscription": {"name": "book", "depth": 100}})
    taken = [client.view.take(message.encode(), None) for message in messages]
    assert taken == [None, b'[1,{"b":[]},"book-100","XBT/USD"]', None]


def test_one_message_is_left_out_where_the_next_one_shows_it() -> None:
    messages = [f'{{"stream":"x@depth","data":{{"e":"depthUpdate","U":{n},"u":{n}}}}}'.encode() for n in range(5)]
    client = Client("binance", Overrides(left_out=[frozenset(["x@depth"])]))
    assert client.view.take(messages[0], None) is None
    client.subscribes("x@depth")
    assert [client.view.take(message, "x@depth") for message in messages] == [messages[0], None, *messages[2:]]
    assert client.view.take(messages[0], "y@depth") is None
    client.overrides.silent.add("x@depth")
    assert client.view.take(messages[0], None) is None
