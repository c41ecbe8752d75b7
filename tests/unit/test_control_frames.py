"""What exchanges say besides data, as it was captured or as their documents have it: none of it goes up as a message, and each
is taken for what it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.conversations.driver import Conversation, Outcome
from wsadapter.config.dialect import apply_dialect, load_dialect
from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.endpoint import Endpoint, Subscription

WELCOMES = {
    "alpaca": '[{"T":"success","msg":"connected"}]',
    "bitfinex": '{"event":"info","version":2,"serverId":"08c3ea49","platform":{"status":1}}',
    "bitmex": '{"info":"Welcome to the BitMEX Realtime API.","version":"2021-04-03T01:28:04.000Z","limit":{"remaining":39}}',
    "dydx": '{"type":"connected","connection_id":"60a4fc71","message_id":0}',
    "kraken_futures": '{"event":"info","version":1}',
    "kraken_v1": '{"connectionID":13935949241502919679,"event":"systemStatus","status":"online","version":"1.8.3"}',
    "kucoin": '{"id":"NSkIrWGB1s","type":"welcome"}',
    "kucoin_uta": '{"sessionId":"e8e46556","message":"welcome","pingInterval":18000}',
}


def played(dialect: str, **case: Any) -> Outcome:
    welcome = [WELCOMES[dialect]] if dialect in WELCOMES else []
    binary = bool(load_dialect(dialect).get("payload", {}).get("text"))
    return Conversation({"name": "", "dialect": dialect, "welcome": welcome, "binary": binary, **case}).run()


def reports(out: Outcome) -> list[str]:
    return [report.event for report in out.reports if report.event not in ("up", "restored", "stream", "channel")]


@pytest.mark.parametrize(
    ("dialect", "stream", "answer"),
    [
        ("binance", "btcusdt@aggTrade", '{"result":null,"id":"$.id"}'),
        ("bitfinex", {"channel": "ticker", "symbol": "tREQUSD"},
         '{"event":"subscribed","channel":"ticker","chanId":146471,"symbol":"tREQUSD","pair":"REQUSD"}'),
        ("bitget", {"instType": "USDT-FUTURES", "channel": "books", "instId": "BTCUSDT"},
         '{"event":"subscribe","arg":{"instType":"USDT-FUTURES","channel":"books","instId":"BTCUSDT"}}'),
        ("bitmex", "quote:XLMUSDT",
         '{"success":true,"subscribe":"quote:XLMUSDT","request":{"op":"subscribe","args":["quote:XLMUSDT"]}}'),
        ("bitstamp", "diff_order_book_xlmeur",
         '{"event":"bts:subscription_succeeded","channel":"diff_order_book_xlmeur","data":{}}'),
        ("bybit", "orderbook.1.BANDUSDT",
         '{"success":true,"ret_msg":"","conn_id":"a38867ec","req_id":"$.req_id","op":"subscribe"}'),
        ("bybit", "orderbook.1.BANDUSDT",
         '{"success":true,"ret_msg":"subscribe","conn_id":"2324d924","req_id":"$.req_id","op":"subscribe"}'),
        ("bybit", "orderbook.100.BTC-6JAN23-18000-C",
         ('{"success":true,"conn_id":"aa01","data":'
         '{"failTopics":[],"successTopics":["orderbook.100.BTC-6JAN23-18000-C"]},"type":"COMMAND_RESP"}')),
        ("coinbase", {"channel": "candles", "product_ids": ["ETH-USD", "BTC-USD"]},
         ('{"channel":"subscriptions","timestamp":"t","sequence_num":5,'
         '"events":[{"subscriptions":{"candles":["ETH-USD","BTC-USD"]}}]}')),
        ("coinbase_exchange", {"channels": ["level2"], "product_ids": ["DASH-BTC", "YFI-BTC"]},
         '{"type":"subscriptions","channels":[{"name":"level2","product_ids":["YFI-BTC","DASH-BTC"]}]}'),
        ("crypto_com", {"channels": ["book.WALUSD-PERP.50"]},
         '{"id":"$.id","method":"subscribe","code":0,"channel":"book.WALUSD-PERP.50"}'),
        ("crypto_com", {"channels": ["trade.MATIC_USDT"]}, '{"id":"$.id","code":0,"method":"subscribe"}'),
        ("deribit", "book.ETH-PERPETUAL.100ms",
         '{"jsonrpc":"2.0","id":"$.id","result":["book.ETH-PERPETUAL.100ms"],"usIn":1,"usOut":2,"usDiff":1,"testnet":false}'),
        ("gate", {"channel": "spot.trades", "payload": ["BTC_USDT"]},
         '{"time":1619093532,"channel":"spot.trades","event":"subscribe","result":{"status":"success"}}'),
        ("gate_futures", {"channel": "futures.candlesticks", "payload": ["1m", "DIA_USDT"]},
         '{"time":1684930165,"time_ms":0,"channel":"futures.candlesticks","event":"subscribe","result":{"status":"success"}}'),
        ("htx", "market.trioeth.depth.step0",
         '{"id":"$.id","status":"ok","subbed":"market.trioeth.depth.step0","ts":1618678070653}'),
        ("htx_swap", {"sub": "market.ATOM-USD.trade.detail"},
         '{"id":"$.id","subbed":"market.ATOM-USD.trade.detail","ts":1645289384874,"status":"ok"}'),
        ("hyperliquid", {"type": "l2Book", "coin": "BTC"},
         ('{"channel":"subscriptionResponse","data":'
         '{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC","nSigFigs":null}}}')),
        ("kraken_futures", {"feed": "book", "product_ids": ["PI_XRPUSD"]},
         '{"event":"subscribed","feed":"book","product_ids":["PI_XRPUSD"]}'),
        ("kraken_v1", {"pair": ["LSK/USD"], "subscription": {"name": "ticker"}},
         ('{"channelID":2228,"channelName":"ticker","event":"subscriptionStatus","pair":"LSK/USD","status":"subscribed",'
         '"subscription":{"name":"ticker"}}')),
        ("kucoin", "/market/match:EQZ-BTC", '{"id":"$.id","type":"ack"}'),
        ("kucoin_uta", {"channel": "obu", "tradeType": "FUTURES", "symbol": "XBTUSDTM", "depth": "increment@10ms"},
         '{"id":"$.id","result":true}'),
        ("mexc_futures", {"channel": "depth", "param": {"symbol": "BTC_USDT"}},
         '{"channel":"rs.sub.depth","data":"success","ts":1789498321789}'),
        ("okx", {"channel": "trades", "instId": "PROPS-ETH"},
         '{"event":"subscribe","arg":{"channel":"trades","instId":"PROPS-ETH"}}'),
        ("phemex", {"channel": "orderbook", "params": ["YFIUSD"]}, '{"error":null,"id":"$.id","result":{"status":"success"}}'),
    ],
)  # fmt: skip
def test_an_answer_confirms_and_is_no_message(dialect: str, stream: Subscription, answer: str) -> None:
    others = [{"has": text, "say": []} for text in ('"heartbeats"', '"conf"', "set_heartbeat")]
    out = played(dialect, subscribe=[stream], answers=[*others, {"say": [answer]}])
    assert out.delivered == []
    assert out.of("subscribed", "stream") == [stream_name(stream)]
    assert (reports(out), out.down) == (["subscribed"], None)


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("bitfinex", '{"event":"conf","status":"OK","flags":65536}'),
        ("bitfinex", '[117757,"hb",2911]'),
        ("bitfinex", '{"event":"info","code":20060,"msg":"maintenance started"}'),
        (
            "coinbase",
            '{"channel":"heartbeats","client_id":"","timestamp":"t","sequence_num":0,"events":[{"heartbeat_counter":42}]}',
        ),
        ("crypto_com", '{"id":1637709519420,"method":"public/heartbeat"}'),
        ("deribit", '{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}'),
        ("htx", '{"ping":1618678073643}'),
        ("htx", '{"action":"ping","data":{"ts":1575537778295}}'),
        ("htx_swap", '{"ping":1645289389619}'),
        ("htx_swap", '{"op":"ping","ts":"1790134045107"}'),
        ("kraken", '{"channel":"heartbeat"}'),
        ("kraken_futures", '{"feed":"heartbeat","time":1785076800123}'),
        ("kraken_v1", '{"event":"heartbeat"}'),
        ("okx", '{"event":"channel-conn-count","channel":"orders","connCount":"2","connId":"a4d3ae55"}'),
    ],
)
def test_housekeeping_is_no_message(dialect: str, text: str) -> None:
    out = played(dialect, sends=[text])
    assert (out.delivered, out.down) == ([], None)
    assert reports(out) in ([], ["peer_error"], ["notice"])


@pytest.mark.parametrize(
    ("dialect", "text", "told"),
    [
        ("binance", '{"e":"serverShutdown","E":1770123456789}', '{"e":"serverShutdown","E":1770123456789}'),
        ("bitfinex", '{"event":"info","code":20051,"msg":"Stopping. Please try to reconnect"}',
         "Stopping. Please try to reconnect"),
        ("bitstamp", '{"event":"bts:request_reconnect","channel":"","data":null}',
         '{"event":"bts:request_reconnect","channel":"","data":null}'),
        ("gate", '{"type":"upgrade","msg":"The connection will soon be closed."}', "The connection will soon be closed."),
        ("gate_futures", ('{"time":1,"channel":"futures.system","event":"update","result":'
         '{"type":"upgrade","msg":"It will be closed."}}'),
         "It will be closed."),
        ("okx", '{"event":"notice","code":"64008","msg":"The connection will soon be closed.","connId":"a4d3ae55"}',
         "The connection will soon be closed."),
    ],
)  # fmt: skip
def test_who_says_that_it_will_close_is_left_for_a_new_connection(dialect: str, text: str, told: str) -> None:
    out = played(dialect, sends=[text])
    assert (out.delivered, out.of("notice", "text")) == ([], [told])


@pytest.mark.parametrize(
    ("dialect", "ping", "pong"),
    [
        ("bitfinex", '"ping"', '{"event":"pong","ts":1511545528111,"cid":1234}'),
        ("bitget", "ping", "pong"),
        ("bitmex", "ping", "pong"),
        ("bitstamp", "heartbeat", '{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}'),
        ("bybit", "ping", '{"success":true,"ret_msg":"pong","conn_id":"0970e817","op":"ping"}'),
        ("bybit", "ping", '{"success":true,"ret_msg":"pong","conn_id":"465772b1","req_id":"","op":"ping"}'),
        ("bybit", "ping", '{"args":["1672916271846"],"op":"pong"}'),
        ("bybit", "ping", '{"req_id":"test","op":"pong","args":["1675418560633"],"conn_id":"cfcb4ocsvfriu23r3er0-1b"}'),
        ("gate", "spot.ping", '{"time":1545404023,"channel":"spot.pong","event":"","error":null,"result":null}'),
        ("hyperliquid", '"ping"', '{"channel":"pong"}'),
        ("kraken_v1", '"ping"', '{"event":"pong","reqid":42}'),
        ("kucoin", '"ping"', '{"id":"1545910590801","type":"pong"}'),
        ("kucoin_uta", '"ping"', '{"type":"pong","id":"p32","ts":1790113111261396000}'),
        ("kucoin_uta", '"ping"', '{"id":"p16","type":"pong","timestamp":1790113097236506}'),
        ("mexc_futures", '"ping"', '{"channel":"pong","data":1587453241453}'),
        ("okx", "ping", "pong"),
    ],
)
def test_the_answer_to_a_heartbeat_is_no_message_and_keeps_the_connection(dialect: str, ping: str, pong: str) -> None:
    settings = apply_dialect(Endpoint("x", dialect=dialect), load_dialect(dialect)).heartbeat
    three = 3.5 * settings.interval
    watchdog = {"silence": 1e6}  # answers to heartbeats are no messages: the dialect's own silence would end the connection
    kept = played(
        dialect, settings={"watchdog": watchdog}, answers=[{"has": ping, "say": [pong]}], wait=three + settings.timeout
    )
    assert kept.sent.count(settings.payload) >= 3 or sum(ping in text for text in kept.sent) >= 3
    assert (kept.delivered, kept.down) == ([], None)
    left = played(dialect, settings={"watchdog": watchdog}, wait=three + settings.timeout)
    assert left.down is not None
    assert left.down.kind == "heartbeat_missed"
