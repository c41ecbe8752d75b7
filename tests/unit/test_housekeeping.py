"""What a peer says that is no data: told from data, answered, passed on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import orjson
import pytest

from wsadapter.config.dialect import bundled, load_dialect
from wsadapter.contract.dialect.text import Text
from wsadapter.worker.session.housekeeping import Housekeeping, HousekeepingMatch, answer


def of(dialect: str | dict[str, Any]) -> Housekeeping:
    numbers: Iterator[int] = count(1)
    return Housekeeping(load_dialect(dialect) if isinstance(dialect, str) else dialect, lambda: next(numbers), lambda: 7.5)


HEARTBEATS = {
    "bitfinex": b'[17,"hb",5]',
    "coinbase": b'{"channel":"heartbeats","sequence_num":3,"events":[]}',
    "coinbase_exchange": b'{"type":"heartbeat","sequence":90,"product_id":"BTC-USD"}',
    "deribit": b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}',
    "kraken": b'{"channel":"heartbeat"}',
    "kraken_futures": b'{"feed":"heartbeat","time":1}',
    "kraken_v1": b'{"event":"heartbeat"}',
}
ANSWERED = {
    "crypto_com": (b'{"id":1637,"method":"public/heartbeat"}', b'{"id":1637,"method":"public/respond-heartbeat"}'),
    "deribit": (
        b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}',
        b'{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}',
    ),
    "htx": (b'{"ping":1492420473027}', b'{"pong":1492420473027}'),
    "htx_swap": (b'{"ping":1492420473027}', b'{"pong":1492420473027}'),
    "bingx": (b'{"ping":"2177c68e","time":"2022-06-07T16:27:36"}', b'{"pong":"2177c68e","time":"2022-06-07T16:27:36"}'),
    "bingx_swap": (b"Ping", b"Pong"),
    "lighter": (b'{"type":"ping"}', b'{"type":"pong"}'),
}
NOTICES = {
    "binance": (b'{"data":{"e":"serverShutdown","E":1}}', '{"data":{"e":"serverShutdown","E":1}}'),
    "bitfinex": (b'{"event":"info","code":20051,"msg":"Stop"}', "Stop"),
    "bitstamp": (b'{"event":"bts:request_reconnect","data":""}', '{"event":"bts:request_reconnect","data":""}'),
    "okx": (b'{"event":"notice","code":"64008","msg":"soon","connId":"a"}', "soon"),
}


@pytest.mark.parametrize("dialect", HEARTBEATS)
def test_the_heartbeats_of_an_exchange_are_known(dialect: str) -> None:
    assert of(dialect).match_rule(Text(HEARTBEATS[dialect])) == HousekeepingMatch(heartbeat=True)


@pytest.mark.parametrize("dialect", ANSWERED)
def test_what_an_exchange_asks_is_answered(dialect: str) -> None:
    asked, expected = ANSWERED[dialect]
    found = of(dialect).match_rule(Text(asked))
    assert found is not None
    assert found.heartbeat
    assert said(found.reply or b"") == said(expected)


def said(text: bytes) -> Any:
    return orjson.loads(text) if text.startswith(b"{") else text


@pytest.mark.parametrize("dialect", NOTICES)
def test_a_notice_is_known_with_its_words(dialect: str) -> None:
    said, words = NOTICES[dialect]
    assert of(dialect).match_rule(Text(said)) == HousekeepingMatch(notice=words, reconnects=True)


def test_each_rule_of_a_bundled_dialect_is_covered_here() -> None:
    rules = {name: load_dialect(name) for name in bundled()}
    assert {name for name, dialect in rules.items() if dialect.get("answer")} == set(ANSWERED)
    housekeeping = [(name, rule) for name, dialect in rules.items() for rule in dialect.get("housekeeping", [])]
    assert {name for name, rule in housekeeping if rule.get("heartbeat")} == set(HEARTBEATS)


def test_data_that_only_hold_the_text_of_a_rule_are_data() -> None:
    kraken = of("kraken")
    data = b'{"channel":"book","note":{"channel":"heartbeat"}}'
    assert kraken.may_match(data)
    assert kraken.match_rule(Text(data)) is None
    assert not kraken.may_match(b'{"channel":"book"}')
    assert kraken.match_rule(Text(b'{"channel":"heartbeat"}'.ljust(16 * 1024))) is None


def test_a_text_that_is_no_json_is_known_and_answered_as_a_whole() -> None:
    upkeep = of({
        "answer": [{"is": "Ping", "say": "Pong"}, {"contains": "ask", "match": {"ask": 1}, "say": "as é text"}],
        "housekeeping": [{"is": "hello", "heartbeat": True}, {"is": '{"a":1}'}],
        "notice": [{"is": "bye", "text": "a"}],
    })  # fmt: skip
    assert upkeep.match_rule(Text(b"Ping")) == HousekeepingMatch(heartbeat=True, reply=b"Pong")
    assert upkeep.match_rule(Text(b'{"ask":1}')) == HousekeepingMatch(heartbeat=True, reply="as é text".encode())
    assert upkeep.match_rule(Text(b"hello")) == HousekeepingMatch(heartbeat=True)
    assert upkeep.match_rule(Text(b'{"a":1}')) == HousekeepingMatch()
    assert upkeep.match_rule(Text(b"bye")) == HousekeepingMatch(notice="bye", reconnects=True)
    assert upkeep.may_match(b"\x81\x04Ping")
    for data in (b"Ping ", b"Pings", b"ping", b'"Ping"', b'{"a": 1}', b'{"x":"hello"}', b"", b"goodbye"):
        assert upkeep.match_rule(Text(data)) is None


def test_an_answer_keeps_types_and_has_null_for_what_is_not_there() -> None:
    template = '{"to":["$.a.0","$.none","$.b"],"n":"$id","t":"$time_ms","same":"x"}'
    value = {"a": [18446744073709551615], "b": {"deep": "$id"}}
    assert orjson.loads(answer(template, value, 4, 7.5)) == {
        "to": [18446744073709551615, None, {"deep": "$id"}], "n": 4, "t": 7500, "same": "x",
    }  # fmt: skip
