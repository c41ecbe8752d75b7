"""Subscriptions, with the clock in the test's hand, and with the bundled dialects and what their exchanges answer."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

import pytest

from wsadapter.contract.commands import Report
from wsadapter.worker.subscriptions import Subscriptions
from wsadapter.worker.text import Text


def bundled(name: str) -> dict[str, Any]:
    return tomllib.loads((files("wsadapter.worker.dialects") / f"{name}.toml").read_text())


def said(steps: Any) -> list[Any]:
    """Frames as they are, reports as tuples."""
    return [(step.event, *step.fields.values()) if isinstance(step, Report) else step for step in steps]


def test_without_a_dialect_streams_are_frames_and_all_counts_as_restored() -> None:
    subscriptions = Subscriptions(None)
    assert said(subscriptions.restore(["x", {"a": 1}], 0.0)) == [b"x", b'{"a":1}', ("restored", 2, [])]
    assert subscriptions.recognise(Text(b'{"id":1}')) is None
    assert said(subscriptions.unsubscribe(["x"], 0.0))[0][:2] == ("log", "warning")


def test_nothing_wanted_is_restored_at_once() -> None:
    assert said(Subscriptions(bundled("binance")).restore([], 0.0)) == [("restored", 0, [])]


def test_what_is_not_answered_is_asked_once_more_and_then_rejected() -> None:
    subscriptions = Subscriptions(bundled("binance"))
    assert said(subscriptions.restore(["a@trade"], 0.0)) == [b'{"method":"SUBSCRIBE","params":["a@trade"],"id":1}']
    assert subscriptions.deadline() == 10.0
    assert said(subscriptions.tick(9.9)) == []
    assert said(subscriptions.tick(10.0)) == [b'{"method":"SUBSCRIBE","params":["a@trade"],"id":2}']
    assert said(subscriptions.tick(20.0)) == [
        ("rejected", "a@trade", "not answered within 10 s, asked 2 times"),
        ("restored", 0, ["a@trade"]),
    ]
    assert subscriptions.deadline() is None


def test_the_late_answer_to_the_first_frame_counts() -> None:
    subscriptions = Subscriptions(bundled("binance"))
    said(subscriptions.restore(["a"], 0.0))
    said(subscriptions.tick(10.0))
    assert said(subscriptions.recognise(Text(b'{"result":null,"id":1}'))) == [("subscribed", "a"), ("restored", 1, [])]
    assert subscriptions.recognise(Text(b'{"result":null,"id":2}')) is None


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
            [("subscribed", "btcusdt@trade"), ("subscribed", "x"), ("restored", 2, [])],
        ),
        (
            "binance",
            ["x"],
            [b'{"method":"SUBSCRIBE","params":["x"],"id":1}'],
            [b'{"code":2,"msg":"Invalid request"}'],
            [("rejected", "x", "Invalid request"), ("restored", 0, ["x"])],
        ),
        (
            "coinbase",
            [COINBASE],
            [b'{"type":"subscribe","channel":"level2","product_ids":["BTC-USD"]}'],
            [b'{"channel":"subscriptions","sequence_num":1,"events":[{"subscriptions":{"level2":["BTC-USD"]}}]}'],
            [("subscribed", '{"channel":"level2","product_ids":["BTC-USD"]}'), ("restored", 1, [])],
        ),
        (
            "kraken",
            [BOOK],
            [b'{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD","ETH/USD"]},"req_id":1}'],
            [
                b'{"method":"subscribe","result":{"channel":"book","symbol":"BTC/USD"},"success":true,"req_id":1}',
                b'{"method":"subscribe","result":{"channel":"book","symbol":"ETH/USD"},"success":true,"req_id":1}',
            ],
            [("subscribed", '{"channel":"book","symbol":["BTC/USD","ETH/USD"]}'), ("restored", 1, [])],
        ),
        (
            "okx",
            OKX,
            [
                b'{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"},{"channel":"trades","instId":"NONE-USDT"}]}'
            ],
            [
                b'{"event":"error","code":"60018","msg":"channel:trades,instId:NONE-USDT doesn\'t exist","connId":"a"}',
                b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a"}',
            ],
            [
                ("rejected", '{"channel":"trades","instId":"NONE-USDT"}', "channel:trades,instId:NONE-USDT doesn't exist"),
                ("subscribed", '{"channel":"books","instId":"BTC-USDT"}'),
                ("restored", 1, ['{"channel":"trades","instId":"NONE-USDT"}']),
            ],
        ),
        (
            "bybit",
            ["orderbook.50.BTCUSDT"],
            [b'{"req_id":"sub-1","op":"subscribe","args":["orderbook.50.BTCUSDT"]}'],
            [b'{"success":true,"ret_msg":"","conn_id":"c","req_id":"sub-1","op":"subscribe"}'],
            [("subscribed", "orderbook.50.BTCUSDT"), ("restored", 1, [])],
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
        steps = subscriptions.recognise(Text(answer))
        assert steps is not None
        seen += said(steps)
    assert seen == reports
    assert not subscriptions.waiting


def test_data_and_answers_to_others_are_not_answers_to_us() -> None:
    subscriptions = Subscriptions(bundled("kraken"))
    said(subscriptions.restore([BOOK], 0.0))
    assert subscriptions.recognise(Text(b'{"channel":"book","type":"snapshot","data":[]}')) is None
    assert subscriptions.recognise(Text(b'{"method":"subscribe","result":{},"success":true,"req_id":99}')) is None
    assert subscriptions.recognise(Text(b"not json")) is None
    assert subscriptions.recognise(Text(b'{"success":true,"result":{},"req_id":1,"x":"' + b"x" * 20_000 + b'"}')) is None


def test_a_string_where_the_dialect_wants_a_table_is_rejected_and_the_others_go_on() -> None:
    steps = said(Subscriptions(bundled("coinbase")).restore(["level2", COINBASE], 0.0))
    assert steps[0][:2] == ("rejected", "level2")
    assert steps[1] == b'{"type":"subscribe","channel":"level2","product_ids":["BTC-USD"]}'


def test_unsubscribing_is_asked_for_and_its_answer_is_no_event() -> None:
    subscriptions = Subscriptions(bundled("okx"))
    assert said(subscriptions.unsubscribe(OKX[:1], 0.0)) == [
        b'{"op":"unsubscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}'
    ]
    assert said(subscriptions.recognise(Text(b'{"event":"unsubscribe","arg":{"channel":"books","instId":"BTC-USDT"}}'))) == []
    assert not subscriptions.waiting
