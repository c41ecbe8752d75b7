"""Subscriptions, with the clock in the test's hand, and with the bundled dialects and what their exchanges answer."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

import orjson
import pytest

from wsadapter.contract.dialect.streams import Streams
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Filter
from wsadapter.contract.ipc.reports import Report
from wsadapter.worker.subscription import names
from wsadapter.worker.subscription.asking import Asked
from wsadapter.worker.subscription.subscriptions import Subscriptions


def bundled(name: str) -> dict[str, Any]:
    return tomllib.loads((files("wsadapter.worker.dialects") / f"{name}.toml").read_text("utf-8"))


def said(steps: Any) -> list[Any]:
    """Frames as they are, reports as tuples."""
    return [(step.event, *step.fields.values()) if isinstance(step, Report) else step for step in steps]


def replied(subscriptions: Subscriptions, payload: bytes, now: float = 0.0) -> list[Any] | None:
    """What a message leads to, without whether it is delivered too; None where it is no answer of ours."""
    recognised = subscriptions.recognise(Text(payload), now)
    return None if recognised is None else recognised[0]


def test_without_a_dialect_streams_are_frames_and_all_counts_as_restored() -> None:
    subscriptions = Subscriptions(None)
    assert said(subscriptions.restore(["x", {"a": 1}], 0.0)) == [b"x", b'{"a":1}', ("restored", 2, ())]
    assert replied(subscriptions, (b'{"id":1}')) is None
    assert said(subscriptions.unsubscribe(["x"], 0.0))[0][:2] == ("log", "warning")


def outs(steps: Any) -> list[Any]:
    """Of each frame what is reported once it is out."""
    return [step.report.fields for step in steps if isinstance(step, Asked)]


@pytest.mark.parametrize("dialect", [None, "lighter"])
def test_without_confirmations_each_frame_is_reported_once_it_is_sent(dialect: str | None) -> None:
    subscriptions = Subscriptions(bundled(dialect) if dialect else None, reports_sent=True)
    wanted = ["order_book/0", "trade/1"]
    assert outs(subscriptions.restore(wanted, 0.0)) == [{"streams": (one,), "gone": False} for one in wanted]
    assert outs(subscriptions.subscribe(["trade/2"], 0.0)) == [{"streams": ("trade/2",), "gone": False}]
    left = outs(subscriptions.unsubscribe(["trade/1"], 20.0))
    assert left == ([{"streams": ("trade/1",), "gone": True}] if dialect else [])


def test_if_the_peer_confirms_only_answers_count() -> None:
    subscriptions = Subscriptions(bundled("binance"), reports_sent=True)
    assert outs(subscriptions.restore(["a@trade"], 0.0)) == []


def test_nothing_wanted_is_restored_at_once() -> None:
    assert said(Subscriptions(bundled("binance")).restore([], 0.0)) == [("restored", 0, ())]


def test_an_unanswered_stream_is_requested_once_more_and_then_rejected() -> None:
    subscriptions = Subscriptions(bundled("binance"))
    assert said(subscriptions.restore(["a@trade"], 0.0)) == [b'{"method":"SUBSCRIBE","params":["a@trade"],"id":1}']
    assert subscriptions.deadline() == 10.0
    assert said(subscriptions.tick(9.9)) == []
    assert said(subscriptions.tick(10.0)) == [b'{"method":"SUBSCRIBE","params":["a@trade"],"id":2}']
    assert said(subscriptions.tick(20.0)) == [
        ("rejected", "a@trade", "not answered within 10 s, asked 2 times"),
        ("restored", 0, ("a@trade",)),
    ]
    assert subscriptions.deadline() == 80.0


def test_a_rejected_stream_is_requested_again_at_growing_intervals_and_reported_once() -> None:
    subscriptions = Subscriptions(bundled("binance"))
    said(subscriptions.restore(["a@nope"], 0.0))
    now, waits = 0.0, []
    for number in range(1, 10):
        found = said(replied(subscriptions, b'{"code":2,"msg":"Invalid request: unknown stream","id":%d}' % number, now))
        reports = [("rejected", "a@nope", "Invalid request: unknown stream"), ("restored", 0, ("a@nope",))]
        assert found == (reports if number == 1 else [])
        due = subscriptions.deadline()
        assert due is not None
        assert said(subscriptions.tick(due - 0.1)) == []
        assert said(subscriptions.tick(due)) == [b'{"method":"SUBSCRIBE","params":["a@nope"],"id":%d}' % (number + 1)]
        now, wait = due, due - now
        waits.append(wait)
    assert waits == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0, 3600.0]
    assert said(replied(subscriptions, b'{"result":null,"id":10}', now)) == [("subscribed", "a@nope")]


def test_the_time_for_an_answer_begins_when_the_frames_turn_has_come() -> None:
    subscriptions = Subscriptions(bundled("kucoin"), pace=0.5)
    frames = said(subscriptions.restore([f"/market/ticker:{n}" for n in range(100)], 0.0))
    assert len(frames) == 100
    assert said(subscriptions.tick(9.9)) == []
    for number in range(1, 21):
        assert said(replied(subscriptions, (b'{"type":"ack","id":"%d"}' % number)))
    assert subscriptions.deadline() == 20.0  # of the 21st, sent at 10 s
    assert len(said(subscriptions.tick(20.0))) == 1
    assert said(subscriptions.tick(20.4)) == []
    assert len(said(subscriptions.tick(59.5))) == 79
    assert subscriptions.deadline() == 60.0  # what was asked anew waits behind all the others: sent at 50 s


def test_the_late_answer_to_the_first_frame_counts() -> None:
    subscriptions = Subscriptions(bundled("binance"))
    said(subscriptions.restore(["a"], 0.0))
    said(subscriptions.tick(10.0))
    assert said(replied(subscriptions, (b'{"result":null,"id":1}'))) == [("subscribed", "a"), ("restored", 1, ())]
    assert said(replied(subscriptions, b'{"result":null,"id":2}')) == []  # it is an answer, and leads to nothing


PAIR = {"channel": "trade", "symbol": ["A/B", "C/D"]}
PAIR_NAME = '{"channel":"trade","symbol":["A/B","C/D"]}'
PARTS = ('{"channel":"trade","symbol":["A/B"]}', '{"channel":"trade","symbol":["C/D"]}')


def kraken(number: int, symbol: str, error: str = "") -> bytes:
    if error:
        return orjson.dumps({"success": False, "error": error, "symbol": symbol, "req_id": number})
    return orjson.dumps({"success": True, "result": {"channel": "trade", "symbol": symbol}, "req_id": number})


def test_a_table_that_is_not_answered_is_rejected_once_and_its_parts_are_not() -> None:
    subscriptions = Subscriptions(bundled("kraken"))
    said(subscriptions.restore([PAIR], 0.0))
    said(subscriptions.tick(10.0))
    assert said(subscriptions.tick(20.0)) == [
        ("rejected", PAIR_NAME, "not answered within 10 s, asked 2 times"), ("restored", 0, tuple(PARTS)),
    ]  # fmt: skip
    assert len(said(subscriptions.tick(80.0))) == 1
    assert said(replied(subscriptions, kraken(3, "A/B"), 80.1)) == []
    assert said(replied(subscriptions, kraken(3, "C/D", "unknown"), 80.1)) == [
        ("rejected", PARTS[1], "unknown", PAIR_NAME), ("subscribed", PAIR_NAME),
    ]  # fmt: skip


def test_of_a_table_that_was_rejected_as_a_whole_the_parts_that_still_are_are_reported() -> None:
    subscriptions = Subscriptions(bundled("kraken"))
    said(subscriptions.restore([PAIR], 0.0))
    said(subscriptions.tick(10.0))
    said(subscriptions.tick(20.0))
    said(subscriptions.tick(80.0))
    said(replied(subscriptions, kraken(3, "A/B"), 80.1))
    assert said(subscriptions.tick(90.0)) == [
        ("subscribed", PAIR_NAME), ("rejected", PARTS[1], "not answered within 10 s, asked 2 times", PAIR_NAME),
    ]  # fmt: skip


def test_each_part_that_was_rejected_is_reported_when_it_is_taken() -> None:
    subscriptions = Subscriptions(bundled("kraken"))
    said(subscriptions.restore([PAIR], 0.0))
    for symbol in ("A/B", "C/D"):
        said(replied(subscriptions, kraken(1, symbol, "unknown"), 0.1))
    assert len(said(subscriptions.tick(60.1))) == 1
    assert said(replied(subscriptions, kraken(2, "A/B"), 60.2)) == [("subscribed", PARTS[0], PAIR_NAME)]
    assert said(replied(subscriptions, kraken(2, "C/D"), 60.2)) == [
        ("subscribed", PARTS[1], PAIR_NAME), ("subscribed", PAIR_NAME),
    ]  # fmt: skip


def test_an_error_that_leaves_out_a_field_of_what_was_asked_for_is_about_the_first_frame_with_the_others() -> None:
    subscriptions = Subscriptions(bundled("bitfinex"))
    books = [{"channel": "book", "symbol": f"t{coin}USD", "prec": "P0", "freq": freq} for coin in "AB" for freq in ("F0", "F1")]
    said(subscriptions.restore([*books[:3], {"channel": "trades", "symbol": "tBUSD"}], 0.0))
    error = {"channel": "book", "symbol": "tBUSD", "prec": "P0", "event": "error", "msg": "symbol: invalid", "code": 10300}
    assert said(replied(subscriptions, orjson.dumps(error))) == [
        ("rejected", '{"channel":"book","freq":"F0","prec":"P0","symbol":"tBUSD"}', "symbol: invalid"),
    ]  # fmt: skip
    assert said(replied(subscriptions, orjson.dumps({**error, "symbol": "tAUSD"})))[0][:1] == ("rejected",)
    assert said(replied(subscriptions, orjson.dumps({**error, "symbol": "tAUSD"})))[0][:1] == ("rejected",)
    (unanswered,) = said(subscriptions.tick(10.0))
    assert b"trades" in unanswered


def test_an_error_of_what_was_confirmed_may_leave_out_a_field_if_it_fits_one_stream_alone() -> None:
    subscriptions = Subscriptions(bundled("bitfinex"))
    books = [{"channel": "book", "symbol": f"t{coin}USD", "prec": "P0", "freq": "F0"} for coin in "AB"]
    said(subscriptions.restore([*books, {**books[0], "freq": "F1"}], 0.0))
    for number, book in enumerate([*books, {**books[0], "freq": "F1"}]):
        said(replied(subscriptions, orjson.dumps({"event": "subscribed", "chanId": number, **book})))
    error = {"channel": "book", "symbol": "tBUSD", "prec": "P0", "event": "error", "msg": "gone", "code": 10000}
    assert [event[0] for event in said(replied(subscriptions, orjson.dumps(error)))] == ["rejected"]
    assert said(replied(subscriptions, orjson.dumps({**error, "symbol": "tAUSD"}))) == [("peer_error", "gone")]


def test_the_words_of_a_stream_are_found_once_however_many_errors_come(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    words_of = names.words_of
    monkeypatch.setattr(names, "words_of", lambda value, **options: (calls.append(value), words_of(value, **options))[1])
    streams = [f"live_trades_{n}" for n in range(100)]
    subscriptions = Subscriptions(bundled("bitstamp"))
    said(subscriptions.restore(streams, 0.0))
    for number in range(100):
        replied(subscriptions, b'{"event":"bts:error","channel":"","data":{"message":"busy, retry later"}}', number / 100)
    assert len(calls) == len(streams)


TRADES = {"channel": "trades", "symbol": "tBTCUSD"}
ANSWERED = orjson.dumps({"event": "subscribed", "chanId": 7, **TRADES})


def test_a_stream_that_is_unwanted_before_the_answer_has_named_its_channel_is_unsubscribed_then() -> None:
    subscriptions = Subscriptions(bundled("bitfinex"))
    said(subscriptions.restore([TRADES], 0.0))
    assert said(subscriptions.unsubscribe([TRADES], 1.0)) == [("restored", 0, ())]
    assert said(replied(subscriptions, ANSWERED, 2.0)) == [("channel", TRADES, "7"), b'{"event":"unsubscribe","chanId":7}']
    assert said(replied(subscriptions, b'{"event":"unsubscribed","status":"OK","chanId":7}', 3.0)) == []
    assert subscriptions.deadline() is None


def test_a_stream_that_is_unwanted_and_refused_or_never_answered_is_reported_no_more() -> None:
    subscriptions = Subscriptions(bundled("bitfinex"))
    said(subscriptions.restore([TRADES, {"channel": "ticker", "symbol": "tNOPE"}], 0.0))
    said(subscriptions.unsubscribe([TRADES, {"channel": "ticker", "symbol": "tNOPE"}], 1.0))
    assert said(replied(subscriptions, b'{"event":"error","msg":"no","channel":"ticker","symbol":"tNOPE"}', 2.0)) == []
    assert len(said(subscriptions.tick(10.0))) == 1
    assert said(subscriptions.tick(20.0)) == []
    assert subscriptions.deadline() is None


def test_a_stream_that_is_unwanted_and_wanted_again_before_its_answer_stays() -> None:
    subscriptions = Subscriptions(bundled("bitfinex"))
    said(subscriptions.restore([TRADES], 0.0))
    said(subscriptions.unsubscribe([TRADES], 1.0))
    assert said(subscriptions.subscribe([TRADES], 1.5)) == []
    assert said(replied(subscriptions, ANSWERED, 2.0))[1:] == [("subscribed", '{"channel":"trades","symbol":"tBTCUSD"}')]


def test_a_stream_is_reported_as_subscribed_once_whichever_owner_gets_its_first_message() -> None:
    owner = Subscriptions(bundled("lighter"))
    owner.inherit(["trade/0", "trade/1"], live=["trade/0"])
    assert said(owner.on_data("trade/0", 1.0)) == []
    assert said(owner.on_data("trade/1", 1.0)) == [("subscribed", "trade/1")]
    assert said(owner.on_data("trade/1", 2.0)) == []
    where_it_confirms = Subscriptions(bundled("binance"))
    where_it_confirms.inherit(["a"])
    assert said(where_it_confirms.on_data("a", 1.0)) == []


def test_a_yes_to_a_frame_of_a_predecessor_counts_if_it_names_its_stream() -> None:
    book = {"pair": ["XBT/USD"], "subscription": {"name": "book", "depth": 1000}}
    subscriptions = Subscriptions(bundled("kraken_v1"), number=1 << 16)
    subscriptions.inherit([], now=0.0)
    said(subscriptions.restore([book], 0.0))
    name = '{"pair":["XBT/USD"],"subscription":{"depth":1000,"name":"book"}}'
    assert said(replied(subscriptions, status(1, "unsubscribed"), 0.1)) == []
    found = said(replied(subscriptions, status(1, "subscribed"), 0.1))
    assert found == [("channel", book, "2"), ("subscribed", name), ("restored", 1, ())]
    assert said(replied(subscriptions, status(65537, "subscribed"), 0.2)) == []


def status(number: int, text: str) -> bytes:
    """An answer of Kraken v1 to a frame about the book."""
    subscription = {"depth": 1000, "name": "book"}
    answer = {"channelID": 2, "event": "subscriptionStatus", "pair": "XBT/USD", "reqid": number, "status": text}
    return orjson.dumps(answer | {"channelName": "book-1000", "subscription": subscription})


def test_a_late_yes_gives_the_channel_of_a_stream_that_was_given_up() -> None:
    subscriptions = Subscriptions(bundled("bitfinex"))
    said(subscriptions.restore([TRADES], 0.0))
    said(subscriptions.tick(10.0))
    assert said(subscriptions.tick(20.0))[0][0] == "rejected"
    found = said(replied(subscriptions, ANSWERED, 25.0))
    assert found == [("channel", TRADES, "7"), ("subscribed", '{"channel":"trades","symbol":"tBTCUSD"}')]
    assert subscriptions.channels == {"7": TRADES}


def test_a_late_answer_to_an_unsubscription_is_no_yes_to_the_next_subscription() -> None:
    subscriptions = Subscriptions(bundled("bitmex"))
    said(subscriptions.restore(["trade:A"], 0.0))
    said(replied(subscriptions, b'{"success":true,"subscribe":"trade:A"}', 0.1))
    said(subscriptions.unsubscribe(["trade:A"], 1.0))
    said(subscriptions.tick(11.0))
    assert said(subscriptions.tick(21.0))[0][0] == "log"
    assert said(subscriptions.subscribe(["trade:A"], 22.0)) == [b'{"op":"subscribe","args":["trade:A"]}']
    assert said(replied(subscriptions, b'{"success":true,"unsubscribe":"trade:A"}', 23.0)) == []
    assert said(replied(subscriptions, b'{"success":true,"subscribe":"trade:A"}', 24.0)) == [("subscribed", "trade:A")]


def test_an_error_that_repeats_more_than_a_frame_named_is_about_another_frame() -> None:
    """BitMEX refuses the frame of a dead owner and that of the next; the second error comes when the frame was divided."""
    subscriptions = Subscriptions(bundled("bitmex"), number=1 << 16)
    subscriptions.inherit([], now=0.0)
    wanted = ["orderBookL2:LINKUSDT", "trade:NOPE", "orderBookL2:XBTU21"]
    said(subscriptions.restore(wanted, 0.0))
    assert said(replied(subscriptions, refused(wanted), 0.1)) == []
    assert [orjson.loads(frame)["args"] for frame in said(subscriptions.tick(2.1))] == [wanted[:1], wanted[1:]]
    assert said(replied(subscriptions, b'{"success":true,"subscribe":"orderBookL2:LINKUSDT"}', 2.2))[0][0] == "subscribed"
    assert said(replied(subscriptions, refused(wanted[1:]), 2.2)) == []
    assert said(replied(subscriptions, refused(wanted), 2.3)) == []
    assert [orjson.loads(frame)["args"] for frame in said(subscriptions.tick(4.2))] == [wanted[1:2], wanted[2:]]


def refused(args: list[str]) -> bytes:
    """An error of BitMEX about a frame."""
    return orjson.dumps({"status": 400, "error": "no such stream", "request": {"op": "subscribe", "args": args}})


def given_up(dialect: str, streams: list[str]) -> Subscriptions:
    """What was asked twice, and not answered within 20 s."""
    subscriptions = Subscriptions(bundled(dialect))
    said(subscriptions.restore(streams, 0.0))
    said(subscriptions.tick(10.0))
    assert [step[0] for step in said(subscriptions.tick(20.0))] == ["rejected"] * len(streams) + ["restored"]
    return subscriptions


def test_a_late_refusal_of_a_frame_that_was_given_up_has_its_streams_asked_for_in_halves_once() -> None:
    subscriptions = given_up("binance", ["a@trade", "bad@trade"])
    halves = said(replied(subscriptions, b'{"code":2,"msg":"no","id":1}', 25.0))
    assert [orjson.loads(frame)["params"] for frame in halves] == [["a@trade"], ["bad@trade"]]
    assert said(replied(subscriptions, b'{"code":2,"msg":"no","id":2}', 25.1)) == []
    assert said(replied(subscriptions, b'{"result":null,"id":3}', 25.2)) == [("subscribed", "a@trade")]
    assert said(replied(subscriptions, b'{"code":2,"msg":"no","id":4}', 25.2)) == [("rejected", "bad@trade", "no")]
    assert said(replied(subscriptions, b'{"code":2,"msg":"no","id":1}', 26.0)) == []


def test_a_late_refusal_that_names_a_stream_is_about_that_stream_and_the_others_are_asked_for() -> None:
    subscriptions = given_up("binance", ["a@trade", "bad@trade"])
    first, other = said(replied(subscriptions, b'{"code":2,"msg":"no bad@trade","id":1}', 25.0))
    assert first == ("rejected", "bad@trade", "no bad@trade")
    assert orjson.loads(other)["params"] == ["a@trade"]


def test_a_late_limit_has_what_was_given_up_asked_for_after_a_pause() -> None:
    subscriptions = given_up("binance", ["a@trade", "b@trade"])
    assert said(replied(subscriptions, b'{"code":3,"msg":"too many requests","id":1}', 25.0)) == []
    (frame,) = said(subscriptions.tick(26.0))
    assert orjson.loads(frame)["params"] == ["a@trade", "b@trade"]


def test_a_late_refusal_is_about_nothing_that_was_taken_meanwhile() -> None:
    subscriptions = given_up("binance", ["a@trade", "b@trade"])
    assert said(subscriptions.on_data("a@trade", 21.0)) == [("subscribed", "a@trade")]
    assert said(replied(subscriptions, b'{"code":2,"msg":"no","id":1}', 25.0)) == [("rejected", "b@trade", "no")]


def test_a_late_refusal_that_repeats_the_arguments_of_its_frame_has_them_asked_for_in_halves_once() -> None:
    wanted = ["trade:A", "trade:NOPE"]
    subscriptions = given_up("bitmex", wanted)
    assert said(replied(subscriptions, refused(wanted), 25.0)) == []  # the yes to the others may follow
    assert [orjson.loads(frame)["args"] for frame in said(subscriptions.tick(27.0))] == [["trade:A"], ["trade:NOPE"]]
    assert said(replied(subscriptions, refused(wanted), 27.1)) == []
    assert said(replied(subscriptions, refused(["trade:NOPE"]), 27.2)) == [("rejected", "trade:NOPE", "no such stream")]


def test_an_answer_to_a_frame_of_a_predecessor_is_no_data_while_it_may_come() -> None:
    subscriptions = Subscriptions(bundled("binance"), number=1 << 16)
    subscriptions.inherit([], now=5.0)
    assert said(subscriptions.restore(["a"], 5.0)) == [b'{"method":"SUBSCRIBE","params":["a"],"id":65537}']
    assert said(replied(subscriptions, b'{"result":null,"id":3}', 6.0)) == []
    assert said(replied(subscriptions, b'{"code":2,"msg":"no","id":4}', 6.0)) == []
    assert replied(subscriptions, b'{"result":null,"id":65538}', 6.0) is None
    assert not subscriptions.uses("4")  # a request of the user's has this number from now on
    assert replied(subscriptions, b'{"result":null,"id":4}', 6.0) is None
    assert said(replied(subscriptions, b'{"result":null,"id":65537}', 6.0)) == [("subscribed", "a"), ("restored", 1, ())]
    subscriptions.postpone(1.0)
    assert said(replied(subscriptions, b'{"result":null,"id":3}', 25.9)) == []
    assert replied(subscriptions, b'{"result":null,"id":3}', 26.0) is None


def test_a_late_answer_that_lists_what_was_taken_says_yes_to_no_other_stream() -> None:
    subscriptions = Subscriptions(bundled("deribit"))
    said(subscriptions.restore(["a", "b"], 0.0))
    said(subscriptions.tick(10.0))
    assert [event[0] for event in said(replied(subscriptions, b'{"id":1,"result":["a"]}', 12.0))] == [
        "subscribed", "rejected", "restored",
    ]  # fmt: skip
    assert said(replied(subscriptions, b'{"id":2,"result":["a"]}', 22.0)) == []
    assert said(replied(subscriptions, b'{"id":2,"result":["a","b"]}', 23.0)) == [("subscribed", "b")]


def test_an_error_that_names_a_confirmed_stream_in_its_text_is_reported() -> None:
    subscriptions = Subscriptions(bundled("kraken_futures"))
    said(subscriptions.restore([{"feed": "book", "product_ids": ["PI_A"]}], 0.0))
    said(replied(subscriptions, b'{"event":"subscribed","feed":"book","product_ids":["PI_A"]}'))
    text = "book of PI_A is closed"
    assert said(replied(subscriptions, b'{"event":"alert","message":"%b"}' % text.encode())) == [("peer_error", text)]


def test_a_rejected_stream_that_delivers_is_not_requested_any_more() -> None:
    subscriptions = Subscriptions(bundled("binance"), live_timeout=300.0)
    said(subscriptions.restore(["a"], 0.0))
    said(subscriptions.tick(10.0))
    assert said(subscriptions.tick(20.0))[0][0] == "rejected"
    assert said(subscriptions.on_data("a", 21.0)) == [("subscribed", "a")]
    assert subscriptions.deadline() is None


def test_a_set_that_is_refused_for_no_named_stream_is_asked_in_halves_one_after_the_other() -> None:
    error = {"match": {"error": "*"}, "text": "error"}
    subscriptions = Subscriptions({"subscribe": {"frame": '["$streams..."]', "replaces": True}, "error": [error]})
    refused = b'{"error":"no"}'
    assert said(subscriptions.restore(["a", "b", "c", "bad"], 0.0)) == [b'["a","b","c","bad"]']
    assert said(replied(subscriptions, refused, 0.1)) == [b'["a","b"]']
    assert said(subscriptions.tick(2.1)) == [b'["c","bad","a","b"]']
    assert said(replied(subscriptions, refused, 2.2)) == [b'["c","a","b"]']
    assert said(subscriptions.tick(4.2)) == [b'["bad","a","b","c"]']
    assert said(replied(subscriptions, refused, 4.3)) == [("rejected", "bad", "no"), ("restored", 3, ("bad",))]


def test_an_answer_that_repeats_other_arguments_is_not_about_the_frame_that_waits_longest() -> None:
    rules = [{"args": "args", "match": {"ok": False}, "text": "why"}, {"args": "args", "match": {"ok": True}}]
    dialect = {"subscribe": {"frame": '{"args":"$streams"}', "per_frame": 2}, "error": rules[:1], "ack": rules[1:]}
    subscriptions = Subscriptions(dialect)
    said(subscriptions.restore(["one", "two", "three", "four"], 0.0))
    yes, no = b'{"ok":true,"args":["one","two"]}', b'{"ok":false,"args":["one","two"],"why":"no two"}'
    assert said(replied(subscriptions, b'{"ok":true,"args":["other"]}')) == []
    assert said(replied(subscriptions, yes)) == [("subscribed", "one"), ("subscribed", "two")]
    assert said(replied(subscriptions, yes)) == []
    assert said(replied(subscriptions, no)) == [("rejected", "two", "no two")]
    assert said(replied(subscriptions, no)) == []
    assert said(replied(subscriptions, b'{"ok":false,"args":["one","two"],"why":"no"}')) == []
    assert said(replied(subscriptions, b'{"ok":false,"args":["one"],"why":"gone"}')) == [("rejected", "one", "gone")]
    assert said(replied(subscriptions, b'{"ok":false,"args":["other"],"why":"gone"}')) == [("peer_error", "gone")]
    assert said(replied(subscriptions, b'{"ok":true,"args":["three","four"]}'))[-1] == ("restored", 4, ())


def test_the_others_of_a_frame_that_is_refused_are_asked_at_once_if_answers_repeat_its_arguments() -> None:
    rule = {"args": "args", "match": {"ok": False}, "text": "why"}
    frame = '{"args":"$streams"}'
    dialect = {
        "subscribe": {"frame": frame, "per_frame": 3}, "error": [rule], "ack": [{"match": {"ok": True}, "args": "args"}],
    }  # fmt: skip
    subscriptions = Subscriptions(dialect)
    said(subscriptions.restore(["abc/EUR book", "bcd/EUR book", "cde/EUR book"], 0.0))
    refusal = b'{"ok":false,"args":["abc/EUR book","bcd/EUR book","cde/EUR book"],"why":"no bcd/EUR"}'
    assert said(replied(subscriptions, refusal)) == [b'{"args":["bcd/EUR book"]}', b'{"args":["abc/EUR book","cde/EUR book"]}']


def test_an_error_that_names_a_stream_by_the_words_in_its_lists_is_about_that_one() -> None:
    subscriptions = Subscriptions(bundled("kraken_futures"))
    said(subscriptions.restore([{"feed": "book", "product_ids": [product]} for product in ("PI_A", "PI_B")], 0.0))
    (rejected,) = said(replied(subscriptions, (b'{"event":"alert","message":"Bad request: book PI_B"}')))
    assert rejected == ("rejected", '{"feed":"book","product_ids":["PI_B"]}', "Bad request: book PI_B")


BOOK = {"channel": "book", "symbol": ["BTC/USD", "ETH/USD"]}
OKX = [{"channel": "books", "instId": "BTC-USDT"}, {"channel": "trades", "instId": "NONE-USDT"}]
COINBASE = {"channel": "level2", "product_ids": ["BTC-USD"]}


@pytest.mark.parametrize(
    ("dialect", "wanted", "frames", "answers", "reports"),
    [
        (
            "binance",
            ["btcusdt@trade", "x"],
            [b'{"method":"SUBSCRIBE","params":["btcusdt@trade","x"],"id":1}'],
            [b'{"result":null,"id":1}'],
            [("subscribed", "btcusdt@trade"), ("subscribed", "x"), ("restored", 2, ())],
        ),
        (
            "binance",
            ["x"],
            [b'{"method":"SUBSCRIBE","params":["x"],"id":1}'],
            [b'{"code":2,"msg":"Invalid request"}'],
            [("rejected", "x", "Invalid request"), ("restored", 0, ("x",))],
        ),
        (
            "coinbase",
            [COINBASE],
            [b'{"type":"subscribe","channel":"level2","product_ids":["BTC-USD"]}'],
            [b'{"channel":"subscriptions","sequence_num":1,"events":[{"subscriptions":{"level2":["BTC-USD"]}}]}'],
            [("subscribed", '{"channel":"level2","product_ids":["BTC-USD"]}'), ("restored", 1, ())],
        ),
        (
            "kraken",
            [BOOK],
            [b'{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD","ETH/USD"]},"req_id":1}'],
            [
                b'{"method":"subscribe","result":{"channel":"book","symbol":"BTC/USD"},"success":true,"req_id":1}',
                b'{"method":"subscribe","result":{"channel":"book","symbol":"ETH/USD"},"success":true,"req_id":1}',
            ],
            [("subscribed", '{"channel":"book","symbol":["BTC/USD","ETH/USD"]}'), ("restored", 1, ())],
        ),
        (
            "okx",
            OKX,
            [b'{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"},{"channel":"trades","instId":"NONE-USDT"}]}'],
            [
                b'{"event":"error","code":"60018","msg":"channel:trades,instId:NONE-USDT doesn\'t exist","connId":"a"}',
                b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a"}',
            ],
            [
                ("rejected", '{"channel":"trades","instId":"NONE-USDT"}', "channel:trades,instId:NONE-USDT doesn't exist"),
                ("subscribed", '{"channel":"books","instId":"BTC-USDT"}'),
                ("restored", 1, ('{"channel":"trades","instId":"NONE-USDT"}',)),
            ],
        ),
        (
            "bybit",
            ["orderbook.50.BTCUSDT"],
            [b'{"req_id":"sub-1","op":"subscribe","args":["orderbook.50.BTCUSDT"]}'],
            [b'{"success":true,"ret_msg":"","conn_id":"c","req_id":"sub-1","op":"subscribe"}'],
            [("subscribed", "orderbook.50.BTCUSDT"), ("restored", 1, ())],
        ),
    ],
)
def test_the_bundled_dialects_ask_and_understand(
    dialect: str, wanted: list[Any], frames: list[bytes], answers: list[bytes], reports: list[Any]
) -> None:
    subscriptions = Subscriptions(bundled(dialect))
    assert said(subscriptions.restore(wanted, 0.0)) == frames
    seen: list[Any] = []
    for answer in answers:
        steps = replied(subscriptions, (answer))
        assert steps is not None
        seen += said(steps)
    assert seen == reports
    assert not subscriptions.waiting


def test_data_and_answers_to_others_are_not_answers_to_us() -> None:
    subscriptions = Subscriptions(bundled("kraken"))
    said(subscriptions.restore([BOOK], 0.0))
    assert replied(subscriptions, (b'{"channel":"book","type":"snapshot","data":[]}')) is None
    assert replied(subscriptions, (b'{"method":"subscribe","result":{},"success":true,"req_id":99}')) is None
    assert replied(subscriptions, (b"not json")) is None
    assert replied(subscriptions, b'{"success":true,"result":{},"req_id":1,"x":"' + b"x" * 20_000 + b'"}') == []


def test_a_string_instead_of_a_table_is_rejected_and_the_other_streams_continue() -> None:
    steps = said(Subscriptions(bundled("coinbase")).restore(["level2", COINBASE], 0.0))
    assert steps[0][:2] == ("rejected", "level2")
    assert steps[1] == b'{"type":"subscribe","channel":"level2","product_ids":["BTC-USD"]}'


def test_unsubscribing_is_asked_for_and_its_answer_is_no_event() -> None:
    subscriptions = Subscriptions(bundled("okx"))
    assert said(subscriptions.unsubscribe(OKX[:1], 0.0)) == [
        b'{"op":"unsubscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}'
    ]
    assert said(replied(subscriptions, (b'{"event":"unsubscribe","arg":{"channel":"books","instId":"BTC-USDT"}}'))) == []
    assert not subscriptions.waiting


BITFINEX = {"channel": "book", "symbol": "tBTCUSD", "prec": "P0"}
BITFINEX_NAME = '{"channel":"book","prec":"P0","symbol":"tBTCUSD"}'
BITFINEX_ACK = b'{"event":"subscribed","channel":"book","chanId":%d,"symbol":"tBTCUSD","prec":"P0","freq":"F0","len":"25"}'


def test_an_answer_that_gives_a_channel_binds_it_and_the_frame_that_unsubscribes_names_it() -> None:
    subscriptions = Subscriptions(bundled("bitfinex"))
    said(subscriptions.restore([BITFINEX, {"channel": "trades", "symbol": "tBTCUSD"}], 0.0))
    answer = replied(subscriptions, (BITFINEX_ACK % 17))
    assert answer is not None
    assert said(answer) == [("channel", BITFINEX, "17"), ("subscribed", BITFINEX_NAME)]
    assert subscriptions.channels == {"17": BITFINEX}
    assert said(subscriptions.unsubscribe([BITFINEX], 1.0)) == [b'{"event":"unsubscribe","chanId":17}']
    assert replied(subscriptions, (b'{"event":"unsubscribed","status":"OK","chanId":17}')) == []


def test_row_68_a_channel_whose_id_changed_still_leads_to_its_stream() -> None:
    rules = bundled("bitfinex")["stream"]
    for channel in (17, 4711):  # before a reconnection, and behind it
        subscriptions = Subscriptions(bundled("bitfinex"))
        streams = Streams(rules, Filter(), subscriptions.channels)
        streams.add([BITFINEX])
        said(subscriptions.restore([BITFINEX], 0.0))
        assert streams.find([channel, [1, 2, 3]]) is None
        assert replied(subscriptions, (BITFINEX_ACK % channel))
        found = streams.find([channel, [1, 2, 3]])
        assert found is not None
        assert found.name == BITFINEX_NAME


def test_channels_travel_to_the_next_owner_of_the_connection() -> None:
    subscriptions = Subscriptions(bundled("bitfinex"), channels={"17": BITFINEX})
    assert said(subscriptions.unsubscribe([BITFINEX], 1.0)) == [b'{"event":"unsubscribe","chanId":17}']


def test_of_a_frame_of_which_only_a_part_was_accepted_the_rest_is_rejected() -> None:
    subscriptions = Subscriptions(bundled("deribit"))
    said(subscriptions.restore(["trades.BTC-PERPETUAL.raw", "nonsense"], 0.0))
    answer = replied(subscriptions, (b'{"jsonrpc":"2.0","id":1,"result":["trades.BTC-PERPETUAL.raw"]}'))
    assert answer is not None
    assert said(answer) == [
        ("subscribed", "trades.BTC-PERPETUAL.raw"),
        ("rejected", "nonsense", "it is not among those that were accepted"),
        ("restored", 1, ("nonsense",)),
    ]


def test_an_answer_that_shows_the_whole_set_confirms_what_is_in_it() -> None:
    subscriptions = Subscriptions(bundled("coinbase"))
    both = [COINBASE, {"channel": "level2", "product_ids": ["NO-USD"]}]
    said(subscriptions.restore(both, 0.0))
    answer = b'{"channel":"subscriptions","events":[{"subscriptions":{"level2":["BTC-USD"],"heartbeats":["x"]}}]}'
    steps = replied(subscriptions, (answer))
    assert steps is not None
    assert said(steps) == [("subscribed", '{"channel":"level2","product_ids":["BTC-USD"]}')]
    assert subscriptions.waiting


def test_a_frame_that_would_be_too_long_is_split() -> None:
    dialect = {**bundled("binance"), "subscribe": {**bundled("binance")["subscribe"], "max_frame": 80}}
    subscriptions = Subscriptions(dialect)
    frames = said(subscriptions.restore([f"s{n:02}@trade" for n in range(9)], 0.0))
    assert all(len(frame) <= 80 for frame in frames)
    asked = [stream for frame in frames for stream in orjson.loads(frame)["params"]]
    assert asked == [f"s{n:02}@trade" for n in range(9)]


def live(seconds: float) -> Subscriptions:
    return Subscriptions({**bundled("binance")}, live_timeout=seconds)


def test_a_confirmed_stream_without_messages_is_requested_again_and_then_reported() -> None:
    subscriptions = live(30.0)
    said(subscriptions.restore(["a", "b"], 0.0))
    assert replied(subscriptions, b'{"result":null,"id":1}', 1.0)
    assert said(subscriptions.on_data("a", 2.0)) == []
    assert subscriptions.deadline() == 16.0
    assert said(subscriptions.tick(15.9)) == []
    assert said(subscriptions.tick(16.0)) == [b'{"method":"SUBSCRIBE","params":["b"],"id":2}']
    assert said(replied(subscriptions, b'{"result":null,"id":2}', 16.1)) == []
    assert said(subscriptions.tick(31.0)) == [("stalled", "b", 30.0, False)]
    assert subscriptions.deadline() is None
    assert said(subscriptions.tick(10_000.0)) == []


def test_a_refusal_of_a_repeated_request_does_not_reject_the_confirmed_stream() -> None:
    subscriptions = live(30.0)
    said(subscriptions.restore(["a"], 0.0))
    assert replied(subscriptions, b'{"result":null,"id":1}', 1.0)
    assert len(said(subscriptions.tick(16.0))) == 1
    assert said(replied(subscriptions, b'{"code":2,"msg":"no","id":2}', 16.1)) == []
    assert said(subscriptions.tick(31.0)) == [("stalled", "a", 30.0, False)]


def test_a_stream_that_delivers_in_time_is_not_requested_again() -> None:
    subscriptions = live(30.0)
    said(subscriptions.restore(["a"], 0.0))
    assert replied(subscriptions, b'{"result":null,"id":1}', 1.0)
    assert subscriptions.awaiting_data
    assert said(subscriptions.on_data("a", 5.0)) == []
    assert not subscriptions.awaiting_data
    assert subscriptions.deadline() is None


def test_a_stream_that_may_be_quiet_is_not_waited_for() -> None:
    dialect = bundled("binance")
    dialect["subscribe"]["quiet"] = ["*@forceOrder"]
    subscriptions = Subscriptions(dialect, live_timeout=30.0)
    said(subscriptions.restore(["btcusdt@forceOrder"], 0.0))
    assert replied(subscriptions, b'{"result":null,"id":1}', 1.0)
    assert subscriptions.deadline() is None


FUTURES = {
    "subscribe": {"frame": '{"event":"subscribe","$stream":"*"}', "acks_per": "ids"},
    "ack": [{"match": {"event": "subscribed"}, "fields": {"feed": "feed", "ids": "ids"}}],
    "error": [
        {"match": {"event": "failed"}, "text": "message", "fields": {"feed": "feed", "ids": "ids"}},
        {"match": {"event": "error"}, "text": "message"},
    ],
    "stream": {"fields": {"feed": "feed", "ids": "id"}},
}
"""Refusals and "already subscribed" may name nothing."""
ALREADY = b'{"event":"error","message":"Already subscribed, re-requesting"}'
UNKNOWN = b'{"event":"error","message":"invalid id"}'


def futures(*ids: str) -> dict[str, Any]:
    return {"feed": "book", "ids": list(ids)}


def test_an_already_subscribed_that_names_nothing_is_about_a_stream_that_was_asked_for_before() -> None:
    owner = Subscriptions(FUTURES, live_timeout=60.0)
    said(owner.restore([futures("GOOD")], 0.0))
    said(replied(owner, b'{"event":"subscribed","feed":"book","ids":["GOOD"]}', 0.1))
    assert len(said(owner.subscribe([futures("BAD")], 29.9))) == 1
    assert len(said(owner.tick(30.1))) == 1  # nothing came of it: it is asked for anew, and answered first
    assert said(replied(owner, ALREADY, 30.2)) == []
    assert said(replied(owner, UNKNOWN, 30.3)) == [("rejected", '{"feed":"book","ids":["BAD"]}', "invalid id")]


@pytest.mark.parametrize("named_too", [False, True])
def test_after_the_death_of_an_owner_an_already_subscribed_confirms_no_part_that_is_refused(named_too: bool) -> None:
    owner = Subscriptions(FUTURES)
    owner.inherit([], now=0.0)
    both = futures("GOOD", "BAD")
    assert len(said(owner.restore([both], 0.0))) == 1
    assert said(replied(owner, ALREADY, 0.1)) == []
    if named_too:
        steps = said(replied(owner, b'{"event":"failed","feed":"book","ids":["BAD"],"message":"invalid id"}', 0.2))
        steps += said(owner.tick(2.2))
    else:
        steps = said(replied(owner, UNKNOWN, 0.2))
        asked = [orjson.loads(frame)["ids"] for frame in steps]
        assert asked == [["GOOD"], ["BAD"]]
        steps = []
        while asked:  # answered in order; some are asked for once more
            answer = ALREADY if asked.pop(0) == ["GOOD"] else UNKNOWN
            more = said(replied(owner, answer, 0.3))
            asked += [orjson.loads(step)["ids"] for step in more if isinstance(step, bytes)]
            steps += [step for step in more if not isinstance(step, bytes)]
    whole, part = ('{"feed":"book","ids":["GOOD","BAD"]}', '{"feed":"book","ids":["BAD"]}')
    assert sorted(steps) == [("rejected", part, "invalid id", whole), ("restored", 1, (part,)), ("subscribed", whole)]


def test_channels_and_request_ids_of_any_number_of_digits_are_texts() -> None:
    """The next owner gets the channels that the peer gave to the last one, and users choose ids."""
    many = "9" * 5000
    assert not Subscriptions(None, channels={many: "a", "7": "b"}).uses(many)


LEAVABLE: dict[str, Any] = {
    "subscribe": {"frame": '{"sub":"$stream","id":"$id"}', "unsubscribe": '{"un":"$stream","id":"$id"}'},
    "ack": [{"match": {"ok": "*"}, "id": "ok"}],
    "error": [{"match": {"no": "*"}, "id": "no", "text": "why"}],
}


def subscribed(*streams: str) -> Subscriptions:
    subscriptions = Subscriptions(LEAVABLE)
    said(subscriptions.restore(list(streams), 0.0))
    for number in range(1, 1 + len(streams)):
        replied(subscriptions, b'{"ok":%d}' % number)
    return subscriptions


def test_a_stream_that_is_wanted_again_before_its_unsubscription_is_answered_is_subscribed_then() -> None:
    subscriptions = subscribed("a")
    assert said(subscriptions.unsubscribe(["a"], 1.0)) == [b'{"un":"a","id":2}']
    assert said(subscriptions.subscribe(["a"], 1.0)) == []
    assert said(replied(subscriptions, b'{"ok":2}', 1.0)) == [b'{"sub":"a","id":3}']


def test_a_refused_unsubscription_is_logged_and_the_stream_is_gone() -> None:
    subscriptions = subscribed("a")
    said(subscriptions.unsubscribe(["a"], 1.0))
    (line,) = said(replied(subscriptions, b'{"no":2,"why":"not yours"}', 1.0))
    assert line[:2] == ("log", "warning")
    assert "unsubscribing a was refused: not yours" in line[2]
    assert said(subscriptions.resubscribe(["a"], 2.0)) == []


def test_a_stream_that_is_unknown_or_awaits_its_answer_is_not_subscribed_again() -> None:
    subscriptions = Subscriptions(LEAVABLE)
    said(subscriptions.restore(["a"], 0.0))
    assert said(subscriptions.resubscribe(["a", "b"], 1.0)) == []


def test_without_a_dialect_a_stream_is_subscribed_again_by_its_own_frame() -> None:
    subscriptions = Subscriptions(None)
    said(subscriptions.restore(["x"], 0.0))
    assert said(subscriptions.resubscribe(["x"], 1.0)) == [b"x"]


def test_the_last_stream_of_a_frame_that_names_all_cannot_be_unsubscribed() -> None:
    rules = {"subscribe": {"frame": '{"all":"$streams"}', "replaces": True}}
    subscriptions = Subscriptions(rules)
    said(subscriptions.restore(["a", "b"], 0.0))
    assert said(subscriptions.unsubscribe(["a"], 1.0)) == [b'{"all":["b"]}']
    line, *_ = said(subscriptions.unsubscribe(["b"], 2.0))
    assert "the last stream can't be unsubscribed; the peer continues to send: b" in line[2]


def test_no_deadline_expires_while_nothing_is_read() -> None:
    subscriptions = Subscriptions({**LEAVABLE, "stream": {"path": "s"}}, live_timeout=10.0)
    said(subscriptions.restore(["a"], 0.0))
    replied(subscriptions, b'{"ok":1}', 1.0)
    before = subscriptions.deadline()
    assert before is not None
    subscriptions.postpone(5.0)
    assert subscriptions.deadline() == before + 5.0


def test_a_set_of_too_many_combinations_is_compared_word_by_word() -> None:
    stream = names.Words({"channel": [f"c{n}" for n in range(400)], "symbol": [f"s{n}" for n in range(400)]})
    every = [f"{letter}{n}" for letter in "cs" for n in range(400)]
    assert names.WholeSet([every]).has(stream)
    assert names.WholeSet([[word] for word in every]).has(stream)
    assert not names.WholeSet([every[:-1]]).has(stream)
