"""MEXC's protocol buffers as JSON: what was captured, what the wire format allows, and what is no message."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.protobuf import varint, written
from wsadapter.worker.dialects.hooks.mexc import decode
from wsadapter.worker.dialects.hooks.protobuf import BadMessage, Flag, Integer, Message, Schema, Text

CHANNEL = "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT"


def decoded(fields: Any) -> Any:
    return orjson.loads(decode(written(fields)))


def test_what_an_exchange_may_write_is_read() -> None:
    schema = Schema({1: Text("a"), 2: Integer("n"), 3: Flag("f"), 16: Message("m", Schema({1: Text("b")})),
                     17: Message("l", Schema({2: Integer("n")}), repeated=True)})  # fmt: skip
    assert schema.read(b"") == {"l": []}
    values = [(1, "é"), (2, -5), (3, 1), (16, [(1, "x")]), (17, []), (17, [(2, 1 << 40)])]
    assert schema.read(written(values)) == {"a": "é", "n": -5, "f": True, "m": {"b": "x"}, "l": [{}, {"n": 1 << 40}]}
    assert schema.read(written([(2, 1), (2, 2)])) == {"n": 2, "l": []}  # the last one counts
    assert schema.read(written([(2, -(1 << 63))]))["n"] == -(1 << 63)


def test_what_no_schema_has_is_kept() -> None:
    schema = Schema({1: Text("a"), 2: Integer("n")})
    payload = written([(1, "x"), (9, 7), (9, -1), (10, "?"), (2, "text")]) + b"\x59" + bytes(8) + b"\x65" + bytes(4)
    assert schema.read(payload) == {
        "a": "x",
        "unknown": {"9": [7, -1], "10": ["Pw=="], "2": ["dGV4dA=="], "11": ["AAAAAAAAAAA="], "12": ["AAAAAA=="]},
    }


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"\x0a", "it ends within a number"),
        (b"\x0a\x05abc", "it ends within a field"),
        (b"\x49\x00", "it ends within a field"),
        (b"\x7a\x05abc", "it ends within a field"),
        (b"\x28" + b"\xff" * 10, "a number has more than ten bytes"),
        (b"\x0a\x01\xff", "channel is not UTF-8 text"),
        (b"\x0b", "the field 1 has the wire type 3, which no field has"),
        (written([(314, b"\x0a\x7fx")]), "it ends within a field"),
        (b'{"code":0}', "the field 15 has the wire type 3"),
    ],
)
def test_what_is_no_message_is_refused(payload: bytes, error: str) -> None:
    with pytest.raises(BadMessage, match=error):
        decode(payload)


def test_a_message_ends_where_it_says_and_not_where_the_next_one_does() -> None:
    deals = varint(314 << 3 | 2) + b"\x02" + b"\x0a\x05" + b"abcdefg"
    with pytest.raises(BadMessage, match="it ends within a field"):
        decode(deals)


@pytest.mark.parametrize(
    ("number", "fields", "expected"),
    [
        (301, [(1, [(1, "9"), (2, "8"), (3, 2), (4, 5)]), (2, "e")],
         {"publicDeals": {"deals": [{"price": "9", "quantity": "8", "tradeType": 2, "time": 5}], "eventType": "e"}}),
        (302, [(2, [(1, "9"), (2, "8")]), (4, "3")],
         {"publicIncreaseDepths": {"asks": [], "bids": [{"price": "9", "quantity": "8"}], "version": "3"}}),
        (304, [(1, "i"), (7, 1), (9, 1), (15, 2), (16, 5), (26, "c")],
         {"privateOrders": {"id": "i", "orderType": 1, "isMaker": True, "status": 2, "createTime": 5, "currencyId": "c"}}),
        (305, [(1, "1"), (4, "4")], {"publicBookTicker": {"bidPrice": "1", "askQuantity": "4"}}),
        (306, [(6, 1), (7, "t"), (12, 5)], {"privateDeals": {"isSelfTrade": True, "tradeId": "t", "time": 5}}),
        (307, [(1, "USDT"), (3, "7"), (8, 5)], {"privateAccount": {"vcoinName": "USDT", "balanceAmount": "7", "time": 5}}),
        (309, [(1, "s"), (12, "l")], {"publicMiniTicker": {"symbol": "s", "lastCloseLow": "l"}}),
        (310, [(1, [(1, "s")]), (1, [(1, "t")])], {"publicMiniTickers": {"items": [{"symbol": "s"}, {"symbol": "t"}]}}),
        (311, [(1, [(1, "1")]), (3, 5)],
         {"publicBookTickerBatch": {"items": [{"bidPrice": "1"}], "lastOrderCreateTime": 5}}),
        (312, [(1, [(4, "3")])], {"publicIncreaseDepthsBatch": {"items": [{"asks": [], "bids": [], "version": "3"}]}}),
        (313, [(4, "1"), (5, "2"), (6, 5)], {"publicAggreDepths": {
            "asks": [], "bids": [], "fromVersion": "1", "toVersion": "2", "lastOrderCreateTime": 5}}),
        (316, [(1, "1")], {"unknown": {"316": ["CgEx"]}}),
    ],
)  # fmt: skip
def test_each_message_of_the_proto_files(number: int, fields: Any, expected: Any) -> None:
    """Those that were captured stand in the conversations."""
    assert decoded([(1, CHANNEL), (number, fields), (3, "BTCUSDT")]) == {"channel": CHANNEL, "symbol": "BTCUSDT", **expected}
