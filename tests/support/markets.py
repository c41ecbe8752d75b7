"""What each exchange sends: excerpts of recordings, and, where none is bundled, messages made in its format.

The formats are those of the exchanges' documents; of each stream the numbers run on, as the dialect's [[gap]] rules want.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from tests.support.protobuf import written
from wsadapter.contract.endpoint import Subscription
from wsadapter.testing import load_recording
from wsadapter.testing.recording import Recorded, Recording

_MANY = 400
_MS = 1_732_370_000_000
_GZIP = b"\x1f\x8b"


class Stream(NamedTuple):
    """One stream and how its messages are distinguished from others, without the dialect's rules."""

    subscribe: Subscription
    is_of: Callable[[Any], bool]
    """Whether a parsed message belongs to the stream."""
    make: Callable[[int], Any] | None = None
    """Its n-th message, n from 1; None: it is in the recording."""


class Market(NamedTuple):
    """An exchange's data."""

    streams: list[Stream]
    bad: Subscription
    """One that is to be refused."""
    mute: Subscription
    """One that is never to be answered."""
    recording: str = ""
    counted: int | None = None
    """Which of the streams has numbers."""
    own: Callable[[Any], Any] | None = None
    """A message without what belongs to the connection, its channels and numbers; None: it has no such."""
    pack: Callable[[Any], bytes] | None = None
    """A made message as it is sent, if that is no JSON text."""

    def whose(self, value: Any) -> Any:
        """A message, to be compared with those of other connections."""
        return self.own(value) if self.own else value

    def messages(self) -> Recording:
        """All of them."""
        recorded = list(load_recording(self.recording)) if self.recording else []
        pack = self.pack or orjson.dumps
        made = (Recorded(0.0, pack(value), self.pack is not None) for value in self._made())
        return Recording("market", [*recorded, *made])

    def values(self) -> list[Any]:
        """The same, parsed."""
        recorded = load_recording(self.recording).payloads if self.recording else []
        plain = [gzip.decompress(payload) if payload.startswith(_GZIP) else payload for payload in recorded]
        return [*map(orjson.loads, plain), *self._made()]

    def _made(self) -> list[Any]:
        return [stream.make(n) for n in range(1, _MANY + 1) for stream in self.streams if stream.make]


def _at(*path: Any, is_: Any) -> Callable[[Any], bool]:
    """Whether a value stands there."""

    def found(value: Any) -> bool:
        try:
            for step in path:
                value = value[step]
        except (KeyError, IndexError, TypeError):
            return False
        return bool(value == is_)

    return found


def _both(*conditions: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: all(condition(value) for condition in conditions)


def _named(key: str, name: str, make: Callable[[int], Any] | None = None) -> Stream:
    return Stream(name, _at(key, is_=name), make)


def _arg(**arg: str) -> Stream:
    return Stream(arg, _at("arg", is_=arg))


def _kind(n: int, otherwise: str) -> str:
    """The first message of a book is the whole book."""
    return "snapshot" if n == 1 else otherwise


def _binance_book(n: int) -> dict[str, Any]:
    numbers = {"U": 10 * n + 1, "u": 10 * n + 10, "pu": 10 * n}
    data = {"e": "depthUpdate", "E": _MS + n, "T": _MS + n, "s": "BTCUSD_PERP", "ps": "BTCUSD", **numbers}
    return {"stream": "btcusd_perp@depth@100ms", "data": {**data, "b": [["95170.6", "10"]], "a": []}}


def _binance_trade(n: int) -> dict[str, Any]:
    trade = {"a": n, "s": "BTCUSD_PERP", "p": "95171", "q": "1", "f": n, "l": n, "T": _MS + n, "m": True}
    return {"stream": "btcusd_perp@aggTrade", "data": {"e": "aggTrade", "E": _MS + n, **trade}}


def _coinbase(channel: str, event: dict[str, Any], n: int) -> dict[str, Any]:
    events = [{"type": _kind(n, "update"), **event}]
    stamp = f"2024-11-23T13:53:{n % 60:02}Z"
    return {"channel": channel, "client_id": "", "timestamp": stamp, "sequence_num": n, "events": events}


def _coinbase_book(n: int) -> dict[str, Any]:
    level = {"side": "bid", "event_time": "1970-01-01T00:00:00Z", "price_level": str(95_000 + n), "new_quantity": "0.06317902"}
    return _coinbase("l2_data", {"product_id": "BTC-USD", "updates": [level]}, n)


def _coinbase_trade(n: int) -> dict[str, Any]:
    trade = {"trade_id": str(n), "product_id": "ETH-USD", "price": "3260.01", "size": "0.3", "side": "BUY"}
    return _coinbase("market_trades", {"trades": [trade]}, n)


def _crypto_com(subscription: str, channel: str, data: dict[str, Any]) -> dict[str, Any]:
    result = {"instrument_name": "BTCUSD-PERP", "subscription": subscription, "channel": channel, "data": [data]}
    return {"id": -1, "method": "subscribe", "code": 0, "result": result}


def _crypto_com_book(n: int) -> dict[str, Any]:
    levels, number = {"asks": [], "bids": [["95126", "0.1", "1"]]}, 54_321 * n
    if n == 1:
        return _crypto_com("book.BTCUSD-PERP.50", "book", {**levels, "t": _MS, "tt": _MS, "u": number})
    update = {"update": levels, "t": _MS + n, "tt": _MS + n, "u": number, "pu": number - 54_321}
    return _crypto_com("book.BTCUSD-PERP.50", "book.update", update)


def _crypto_com_trade(n: int) -> dict[str, Any]:
    return _crypto_com("trade.BTCUSD-PERP", "trade", {"d": str(n), "t": _MS + n, "p": "95126", "q": "0.1", "s": "BUY"})


def _dydx_book(n: int) -> dict[str, Any]:
    message = {"type": "channel_data", "connection_id": "c", "message_id": n, "id": "BTC-USD", "channel": "v4_orderbook"}
    return {**message, "version": "1.0.0", "contents": {"bids": [["95068", str(n / 10)]]}}


def _dydx_trade(n: int) -> dict[str, Any]:
    message = {"type": "channel_data", "connection_id": "c", "message_id": n, "id": "ETH-USD", "channel": "v4_trades"}
    trade = {"id": f"8ee6d90d-{n}", "size": "0.2", "price": "3260.1", "side": "BUY", "createdAt": "2024-11-23T13:53:20.353Z"}
    return {**message, "version": "2.1.0", "contents": {"trades": [{**trade, "type": "LIMIT"}]}}


def _gate_book(n: int) -> dict[str, Any]:
    book = {"t": _MS + n, "s": "BTC_USDT", "U": 3 * n - 2, "u": 3 * n, "b": [{"p": "95672.1", "s": 95}], "a": []}
    return {"time": _MS // 1000, "time_ms": _MS + n, "channel": "futures.order_book_update", "event": "update", "result": book}


def _gate_trade(n: int) -> dict[str, Any]:
    trade = {"size": -108, "id": n, "create_time_ms": _MS + n, "price": "96.4", "contract": "BTC_USDT"}
    return {"time": _MS // 1000, "time_ms": _MS + n, "channel": "futures.trades", "event": "update", "result": [trade]}


def _htx_swap_book(n: int) -> dict[str, Any]:
    channel = "market.BTC-USDT.depth.size_150.high_freq"
    tick = {"asks": [], "bids": [[95_000, n]], "ch": channel, "event": _kind(n, "update"), "id": n, "version": n}
    return {"ch": channel, "tick": {**tick, "mrid": n, "ts": _MS + n}, "ts": _MS + n}


def _htx_swap_trade(n: int) -> dict[str, Any]:
    trade = {"amount": 6, "quantity": 0.006, "ts": _MS + n, "id": n, "price": 95_068, "direction": "buy"}
    return {"ch": "market.BTC-USDT.trade.detail", "ts": _MS + n, "tick": {"id": n, "ts": _MS + n, "data": [trade]}}


def _htx_mbp(n: int) -> dict[str, Any]:
    tick = {"seqNum": 7 * n, "prevSeqNum": 7 * n - 7, "bids": [[95_068.0, 0.5]], "asks": []}
    return {"ch": "market.btcusdt.mbp.150", "ts": _MS + n, "tick": tick}


def _hyperliquid_book(n: int) -> dict[str, Any]:
    levels = [[{"px": "95068.0", "sz": "0.5", "n": 2}], [{"px": "95069.0", "sz": "1.5", "n": 3}]]
    return {"channel": "l2Book", "data": {"coin": "BTC", "time": _MS + n, "levels": levels}}


def _hyperliquid_trade(n: int) -> dict[str, Any]:
    trade = {"coin": "ETH", "side": "A", "px": "3260.1", "sz": "0.2", "time": _MS + n, "hash": "0x0", "tid": n}
    return {"channel": "trades", "data": [trade]}


def _kraken_book(n: int) -> dict[str, Any]:
    book = {"symbol": "BTC/USD", "bids": [{"price": 95_068.1, "qty": n / 10}], "asks": [], "checksum": 2_439_117_997}
    return {"channel": "book", "type": _kind(n, "update"), "data": [{**book, "timestamp": "2024-11-23T13:53:20Z"}]}


def _kraken_trade(n: int) -> dict[str, Any]:
    trade = {"symbol": "ETH/USD", "side": "sell", "price": 3260.1, "qty": 0.2, "ord_type": "limit", "trade_id": n}
    return {"channel": "trade", "type": "update", "data": [trade]}


def _bybit_book(n: int) -> dict[str, Any]:
    data = {"s": "BTCUSDT", "b": [["95068.1", "0.5"]], "a": [], "u": n + 17, "seq": 10 * n}
    return {"topic": "orderbook.50.BTCUSDT", "type": _kind(n, "delta"), "ts": _MS + n, "data": data, "cts": _MS + n}


def _alpaca_trade(n: int) -> dict[str, Any]:
    trade = {"i": n, "x": "K", "p": 162.92, "s": 3, "c": ["@"], "z": "C", "t": f"2024-11-23T13:53:20.{n:09}Z"}
    return {"T": "t", "S": "AAPL", **trade}


def _alpaca_quote(n: int) -> dict[str, Any]:
    quote = {"bx": "K", "bp": 91.95, "bs": n, "ax": "Q", "ap": 91.98, "as": 1, "c": ["R"], "z": "C"}
    return {"T": "q", "S": "AMD", **quote, "t": f"2024-11-23T13:53:20.{n:09}Z"}


def _gemini_book(n: int) -> dict[str, Any]:
    numbers = {"U": 9 * n if n > 1 else 18, "u": 9 * n + 9}
    return {"e": "depthUpdate", "E": _MS * 1_000_000 + n, "s": "btcusd", **numbers, "b": [["95068.1", "0.5"]], "a": []}


def _gemini_trade(n: int) -> dict[str, Any]:
    return {"E": _MS * 1_000_000 + n, "s": "ethusd", "t": n, "p": "3260.1", "q": "0.2", "m": True}


def _korean(kind: str, code: str, n: int, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "code": code, **fields, "timestamp": _MS + n, "stream_type": "SNAPSHOT" if n == 1 else "REALTIME"}


def _korean_book(n: int) -> dict[str, Any]:
    units = [{"ask_price": 116539000, "bid_price": 116538000, "ask_size": n / 10, "bid_size": 0.08}]
    return _korean("orderbook", "KRW-BTC", n, orderbook_units=units, level=0)


def _korean_trade(n: int) -> dict[str, Any]:
    return _korean("trade", "KRW-ETH", n, trade_price=3715000, trade_volume=0.0009, ask_bid="BID", sequential_id=n)


_KOREAN: list[Stream] = [
    Stream({"type": "orderbook", "codes": ["KRW-BTC"]}, _at("type", is_="orderbook"), _korean_book),
    Stream({"type": "trade", "codes": ["KRW-ETH"]}, _at("type", is_="trade"), _korean_trade),
]


def _lighter_book(n: int) -> dict[str, Any]:
    numbers = {"offset": n, "nonce": 9 * n + 9, "begin_nonce": 9 * n}
    book = {"code": 0, "asks": [], "bids": [{"price": "2324.80", "size": str(n / 10)}], **numbers}
    kind = "subscribed/order_book" if n == 1 else "update/order_book"
    return {"channel": "order_book:0", "offset": n, "order_book": book, "timestamp": _MS + n, "type": kind}


def _lighter_trade(n: int) -> dict[str, Any]:
    trade = {"trade_id": n, "market_id": 1, "size": "0.1", "price": "95068.1", "is_maker_ask": False}
    return {"channel": "trade:1", "trades": [trade], "type": "subscribed/trade" if n == 1 else "update/trade"}


def _polymarket(asset: str) -> Callable[[int], dict[str, Any]]:
    def made(n: int) -> dict[str, Any]:
        event = {"market": "0xbd31dc8a", "timestamp": str(_MS + n)}
        if n == 1:
            return {"event_type": "book", "asset_id": asset, **event, "bids": [], "asks": [], "hash": "0x0"}
        change = {"asset_id": asset, "price": "0.5", "size": str(n), "side": "BUY", "hash": f"{n:040x}"}
        return {**event, "price_changes": [change], "event_type": "price_change"}

    return made


def _of_asset(asset: str) -> Stream:
    first = _at("price_changes", 0, "asset_id", is_=asset)
    whole = _at("asset_id", is_=asset)
    return Stream(asset, lambda value: first(value) or whole(value), _polymarket(asset))


def _phemex_book(n: int) -> dict[str, Any]:
    book = {"depth": 30, "orderbook_p": {"asks": [], "bids": [["95068.1", "0.5"]]}, "sequence": 5 * n + n % 3}
    return {**book, "symbol": "BTCUSDT", "timestamp": _MS * 1_000_000 + n, "type": _kind(n, "incremental")}


def _phemex_trade(n: int) -> dict[str, Any]:
    trades = [[_MS * 1_000_000 + n, "Sell", "3260.1", "0.2"]]
    return {"sequence": 7 * n, "symbol": "ETHUSDT", "trades_p": trades, "type": _kind(n, "incremental")}


def _bingx(stream: str, data: Any) -> dict[str, Any]:
    return {"code": 0, "dataType": stream, "data": data}


def _bingx_trade(n: int) -> dict[str, Any]:
    trade = {"E": _MS + n, "T": _MS + n, "e": "trade", "m": True, "p": "95068.1", "q": "0.18", "s": "BTC-USDT", "t": str(n)}
    return {**_bingx("BTC-USDT@trade", trade), "success": True}


def _bingx_depth(n: int) -> dict[str, Any]:
    return _bingx("ETH-USDT@depth20", {"asks": [["3260.1", str(n / 10)]], "bids": [], "lastUpdateId": 7 * n})


def _bingx_book(n: int) -> dict[str, Any]:
    book = {"action": "all" if n == 1 else "update", "lastUpdateId": n + n // 9, "time": _MS + n}
    return _bingx("BTC-USDT@incrDepth", {**book, "bids": [["95068.1", "0.5"]], "asks": []})


def _bingx_swap_trade(n: int) -> dict[str, Any]:
    return _bingx("ETH-USDT@trade", [{"q": "0.2", "p": "3260.1", "T": _MS + n, "m": False, "s": "ETH-USDT"}])


def _bitget_book(n: int) -> dict[str, Any]:
    data = {"asks": [], "bids": [["95068.1", "0.5"]], "checksum": 0, "seq": 5 * n, "pseq": 5 * n - 5, "ts": str(_MS + n)}
    arg = {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}
    return {"action": _kind(n, "update"), "arg": arg, "data": [data], "ts": _MS + n}


def _bitget_v3_book(n: int) -> dict[str, Any]:
    data = {"a": [], "b": [["95068.1", "0.5"]], "seq": 5 * n, "pseq": 5 * n - 5 if n > 1 else 0, "ts": str(_MS + n)}
    arg = {"instType": "spot", "topic": "books", "symbol": "BTCUSDT"}
    return {"action": _kind(n, "update"), "arg": arg, "data": [{**data, "maxdepth": "1000"}], "ts": _MS + n}


def _bitget_v3_trade(n: int) -> dict[str, Any]:
    trade = {"i": str(n), "L": str(n + 1), "p": "3260.1", "v": "0.07", "S": "buy", "T": str(_MS + n)}
    arg = {"instType": "usdt-futures", "topic": "publicTrade", "symbol": "ETHUSDT"}
    return {"action": "snapshot", "arg": arg, "data": [trade], "ts": _MS + n}


def _kucoin_uta_book(n: int) -> dict[str, Any]:
    first = 1 if n == 1 else 3 * n - 4
    book = {"a": [], "b": [["95068.1", "0.5"]], "C": 3 * n - 2, "O": first, "M": _MS * 1_000_000 + n, "s": "BTC-USDT"}
    return {"T": "obu.SPOT", "dp": "increment@10ms", "t": _kind(n, "delta"), "P": _MS * 1_000_000 + n, "d": book}


def _kucoin_uta_trade(n: int) -> dict[str, Any]:
    trade = {"E": n, "M": _MS * 1_000_000 + n, "S": "sell", "p": "3260.1", "q": "0.2", "s": "ETH-USDT", "ti": str(n)}
    return {"T": "trade.SPOT", "P": _MS * 1_000_000 + n, "d": trade}


MEXC_DEPTH, MEXC_DEALS = "spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT", "spot@public.aggre.deals.v3.api.pb@100ms@ETHUSDT"


def _mexc_depth(n: int) -> dict[str, Any]:
    depth = {"asks": [], "bids": [{"price": "95068.1", "quantity": f"0.{n}"}], "eventType": MEXC_DEPTH.rpartition("@")[0]}
    numbers = {"fromVersion": str(3 * n - 2), "toVersion": str(3 * n)}
    return {"channel": MEXC_DEPTH, "publicAggreDepths": {**depth, **numbers}, "symbol": "BTCUSDT", "sendTime": _MS + n}


def _mexc_deal(n: int) -> dict[str, Any]:
    deal = {"price": "3260.1", "quantity": "0.2", "tradeType": 1 + n % 2, "time": _MS + n, "tradeId": f"{n}X0"}
    deals = {"deals": [deal], "eventType": MEXC_DEALS.rpartition("@")[0]}
    return {"channel": MEXC_DEALS, "publicAggreDeals": deals, "symbol": "ETHUSDT", "sendTime": _MS + n}


def _mexc_packed(value: Any) -> bytes:
    """As a protocol buffer."""
    body: tuple[int, Any]
    if "publicAggreDepths" in value:
        depth = value["publicAggreDepths"]
        levels = [(2, list(enumerate(level.values(), 1))) for level in depth["bids"]]
        body = 313, [*levels, (3, depth["eventType"]), (4, depth["fromVersion"]), (5, depth["toVersion"])]
    else:
        deals = value["publicAggreDeals"]
        body = 314, [*((1, list(enumerate(deal.values(), 1))) for deal in deals["deals"]), (2, deals["eventType"])]
    return written([(1, value["channel"]), (3, value["symbol"]), (6, value["sendTime"]), body])


def _mexc_futures(channel: str, symbol: str, data: dict[str, Any], n: int) -> dict[str, Any]:
    return {"symbol": symbol, "data": data, "channel": f"push.{channel}", "ts": _MS + n}


def _mexc_futures_depth(n: int) -> dict[str, Any]:
    book = {"cts": _MS + n, "asks": [], "bids": [[95068.1, 64, 1]], "end": 3 * n, "begin": 3 * n - 2, "version": 3 * n}
    return _mexc_futures("depth", "BTC_USDT", book, n)


def _mexc_futures_deal(n: int) -> dict[str, Any]:
    return _mexc_futures("deal", "ETH_USDT", {"M": 1, "O": 1, "T": 1, "p": 3260.1, "t": _MS + n, "v": n}, n)


def _okx_book(n: int) -> dict[str, Any]:
    data = {"asks": [], "bids": [["95068.1", "0.5", "0", "1"]], "ts": str(_MS + n), "checksum": 0}
    numbers = {"seqId": 9 * n, "prevSeqId": 9 * n - 9 if n > 1 else -1}
    arg = {"channel": "books", "instId": "BTC-USDT"}
    return {"arg": arg, "action": _kind(n, "update"), "data": [{**data, **numbers}]}


def _bitfinex(number: int, **said: str) -> Stream:
    return Stream(said, _at(0, is_=number))


def _kraken_v1(channel: int, pair: str) -> Stream:
    return Stream({"pair": [pair], "subscription": {"name": "book", "depth": 1000}}, _at(0, is_=channel))


def _coinbase_exchange(channel: str, product: str, *types: str) -> Stream:
    of = _at("product_id", is_=product)
    return Stream({"channels": [channel], "product_ids": [product]}, lambda value: of(value) and value["type"] in types)


def _gate_spot(channel: str, payload: list[str], key: str) -> Stream:
    of = _both(_at("channel", is_=channel), _at("event", is_="update"), _at("result", key, is_=payload[0]))
    return Stream({"channel": channel, "payload": payload}, of)


def _kraken_futures(feed: str, product: str) -> Stream:
    of, feeds = _at("product_id", is_=product), (feed, f"{feed}_snapshot")
    return Stream({"feed": feed, "product_ids": [product]}, lambda value: of(value) and value["feed"] in feeds)


def _deribit(channel: str) -> Stream:
    return Stream(channel, _at("params", "channel", is_=channel))


def _bitmex(table: str, symbol: str) -> Stream:
    def of(value: Any) -> bool:
        return bool(value.get("table") == table and (value["data"] or [value.get("filter", {})])[0].get("symbol") == symbol)

    return Stream(f"{table}:{symbol}", of)


def _unnumbered(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != "sequence_num"}


MARKETS: dict[str, Market] = {
    "alpaca": Market(
        [
            Stream({"channel": "trades", "symbols": ["AAPL", "MSFT"]}, _at("T", is_="t"), _alpaca_trade),
            Stream({"channel": "quotes", "symbols": ["AMD"]}, _at("T", is_="q"), _alpaca_quote),
        ],
        {"channel": "trades", "symbols": ["NOPE"]}, {"channel": "trades", "symbols": ["MUTE"]},
    ),
    "binance": Market(
        [_named("stream", "zilusdt@depth@100ms"), _named("stream", "manausdt@bookTicker")],
        "nope@trade", "mute@trade", "binance", 0,
    ),
    "binance_usdm": Market(
        [_named("stream", "sandusdt@depth@100ms"), _named("stream", "neousdt@bookTicker")],
        "nope@depth", "mute@depth", "binance_usdm", 0,
    ),
    "binance_coinm": Market(
        [
            _named("stream", "btcusd_perp@depth@100ms", _binance_book),
            _named("stream", "btcusd_perp@aggTrade", _binance_trade),
        ],
        "nope_perp@depth", "mute_perp@depth", counted=0,
    ),
    "bingx": Market(
        [_named("dataType", "BTC-USDT@trade", _bingx_trade), _named("dataType", "ETH-USDT@depth20", _bingx_depth)],
        "NOPE-USDT@trade", "MUTE-USDT@trade",
    ),
    "bingx_swap": Market(
        [_named("dataType", "BTC-USDT@incrDepth", _bingx_book), _named("dataType", "ETH-USDT@trade", _bingx_swap_trade)],
        "NOPE-USDT@trade", "MUTE-USDT@trade",
    ),
    "bitfinex": Market(
        [
            _bitfinex(146467, channel="book", symbol="tETHJPY", prec="P0", freq="F0", len="100"),
            _bitfinex(146468, channel="book", symbol="tZRXETH", prec="P0", freq="F0", len="100"),
        ],
        {"channel": "book", "symbol": "tNOPE"}, {"channel": "book", "symbol": "tMUTE"},
        "bitfinex", 0, lambda value: value[1:-1],
    ),
    "bitget": Market(
        [
            Stream(
                {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}, _at("arg", "instId", is_="BTCUSDT"), _bitget_book
            ),
            _arg(instType="sp", channel="books", instId="FXSUSDT"),
        ],
        {"instType": "SPOT", "channel": "books", "instId": "NOPE"},
        {"instType": "SPOT", "channel": "books", "instId": "MUTE"}, "bitget", 0,
    ),
    "bitget_v3": Market(
        [
            Stream(
                {"instType": "spot", "topic": "books", "symbol": "BTCUSDT"}, _at("arg", "topic", is_="books"), _bitget_v3_book
            ),
            Stream(
                {"instType": "usdt-futures", "topic": "publicTrade", "symbol": "ETHUSDT"},
                _at("arg", "topic", is_="publicTrade"), _bitget_v3_trade,
            ),
        ],
        {"instType": "spot", "topic": "books", "symbol": "NOPE"}, {"instType": "spot", "topic": "books", "symbol": "MUTE"},
        counted=0,
    ),
    "bithumb": Market(
        _KOREAN, {"type": "trade", "codes": ["KRW-NOPE"]}, {"type": "trade", "codes": ["KRW-MUTE"]},
    ),
    "bitmex": Market(
        [_bitmex("orderBookL2", "LINKUSDT"), _bitmex("orderBookL2", "XBTU21")], "trade:NOPE", "trade:MUTE", "bitmex",
    ),
    "bitstamp": Market(
        [
            Stream(name, _both(_at("channel", is_=name), _at("event", is_="data")))
            for name in ("diff_order_book_xlmeur", "diff_order_book_bcheur")
        ],
        "live_trades_nope", "live_trades_mute", "bitstamp",
    ),
    "bybit": Market(
        [_named("topic", "orderbook.50.BTCUSDT", _bybit_book), _named("topic", "orderBookL2_25.LTCUSDT")],
        "publicTrade.NOPE", "publicTrade.MUTE", "bybit", 0,
    ),
    "coinbase": Market(
        [
            Stream({"channel": "level2", "product_ids": ["BTC-USD"]}, _at("channel", is_="l2_data"), _coinbase_book),
            Stream(
                {"channel": "market_trades", "product_ids": ["ETH-USD"]}, _at("channel", is_="market_trades"), _coinbase_trade
            ),
        ],
        {"channel": "level2", "product_ids": ["NOPE-USD"]}, {"channel": "level2", "product_ids": ["MUTE-USD"]},
        counted=0, own=_unnumbered,
    ),
    "coinbase_exchange": Market(
        [
            _coinbase_exchange("matches", "SKL-USD", "match", "last_match"),
            _coinbase_exchange("level2_batch", "DASH-BTC", "snapshot", "l2update"),
        ],
        {"channels": ["matches"], "product_ids": ["NOPE-USD"]}, {"channels": ["matches"], "product_ids": ["MUTE-USD"]},
        "coinbase", 0,
    ),
    "crypto_com": Market(
        [
            Stream(
                {
                    "channels": ["book.BTCUSD-PERP.50"],
                    "book_subscription_type": "SNAPSHOT_AND_UPDATE",
                    "book_update_frequency": 10,
                },
                _at("result", "subscription", is_="book.BTCUSD-PERP.50"), _crypto_com_book,
            ),
            Stream(
                {"channels": ["trade.BTCUSD-PERP"]}, _at("result", "subscription", is_="trade.BTCUSD-PERP"), _crypto_com_trade
            ),
        ],
        {"channels": ["trade.NOPE"]}, {"channels": ["trade.MUTE"]}, counted=0,
    ),
    "deribit": Market(
        [_deribit("book.ETH-9APR21-1950-C.raw"), _deribit("ticker.ETH-9APR21-1950-C.raw")],
        "trades.NOPE.100ms", "trades.MUTE.100ms", "deribit", 0,
    ),
    "dydx": Market(
        [
            Stream({"channel": "v4_orderbook", "id": "BTC-USD"}, _at("channel", is_="v4_orderbook"), _dydx_book),
            Stream({"channel": "v4_trades", "id": "ETH-USD"}, _at("channel", is_="v4_trades"), _dydx_trade),
        ],
        {"channel": "v4_trades", "id": "NOPE-USD"}, {"channel": "v4_trades", "id": "MUTE-USD"},
    ),
    "gate": Market(
        [
            _gate_spot("spot.order_book_update", ["OMG_USDT", "100ms"], "s"),
            _gate_spot("spot.tickers", ["NEO_BTC"], "currency_pair"),
        ],
        {"channel": "spot.trades", "payload": ["NOPE_USDT"]}, {"channel": "spot.trades", "payload": ["MUTE_USDT"]}, "gate", 0,
    ),
    "gate_futures": Market(
        [
            Stream(
                {"channel": "futures.order_book_update", "payload": ["BTC_USDT", "100ms", "100"]},
                _at("channel", is_="futures.order_book_update"), _gate_book,
            ),
            Stream({"channel": "futures.trades", "payload": ["BTC_USDT"]}, _at("channel", is_="futures.trades"), _gate_trade),
        ],
        {"channel": "futures.trades", "payload": ["NOPE_USDT"]}, {"channel": "futures.trades", "payload": ["MUTE_USDT"]},
        counted=0,
    ),
    "gemini": Market(
        [
            Stream("btcusd@depth@100ms", _at("e", is_="depthUpdate"), _gemini_book),
            Stream("ethusd@trade", _at("s", is_="ethusd"), _gemini_trade),
        ],
        "nopeusd@bookTicker", "muteusd@bookTicker", counted=0,
    ),
    "htx": Market(
        [_named("ch", "market.btcusdt.mbp.150", _htx_mbp), _named("ch", "market.trioeth.depth.step0")],
        "market.nope.depth.step0", "market.mute.depth.step0", "htx", 0,
    ),
    "htx_swap": Market(
        [
            Stream(
                {"sub": "market.BTC-USDT.depth.size_150.high_freq", "data_type": "incremental"},
                _at("ch", is_="market.BTC-USDT.depth.size_150.high_freq"), _htx_swap_book,
            ),
            Stream({"sub": "market.BTC-USDT.trade.detail"}, _at("ch", is_="market.BTC-USDT.trade.detail"), _htx_swap_trade),
        ],
        {"sub": "market.NOPE.trade.detail"}, {"sub": "market.MUTE.trade.detail"}, counted=0,
    ),
    "hyperliquid": Market(
        [
            Stream({"type": "l2Book", "coin": "BTC"}, _at("channel", is_="l2Book"), _hyperliquid_book),
            Stream({"type": "trades", "coin": "ETH"}, _at("channel", is_="trades"), _hyperliquid_trade),
        ],
        {"type": "trades", "coin": "NOPE"}, {"type": "trades", "coin": "MUTE"},
    ),
    "kraken": Market(
        [
            Stream({"channel": "book", "symbol": ["BTC/USD"], "depth": 100}, _at("channel", is_="book"), _kraken_book),
            Stream({"channel": "trade", "symbol": ["ETH/USD", "XRP/USD"]}, _at("channel", is_="trade"), _kraken_trade),
        ],
        {"channel": "trade", "symbol": ["NOPE/USD"]}, {"channel": "trade", "symbol": ["MUTE/USD"]},
    ),
    "kraken_futures": Market(
        [_kraken_futures("book", "PI_ETHUSD"), _kraken_futures("book", "PI_LTCUSD")],
        {"feed": "book", "product_ids": ["PI_NOPE"]}, {"feed": "book", "product_ids": ["PI_MUTE"]}, "kraken_futures", 0,
    ),
    "kraken_v1": Market(
        [_kraken_v1(320, "XBT/USD"), _kraken_v1(1152, "DASH/EUR")],
        {"pair": ["NOPE/USD"], "subscription": {"name": "trade"}}, {"pair": ["MUTE/USD"], "subscription": {"name": "trade"}},
        "kraken", None, lambda value: value[1:],
    ),
    "kucoin": Market(
        [_named("topic", "/market/level2:BCHSV-USDT"), _named("topic", "/market/level2:SNX-BTC")],
        "/market/match:NOPE", "/market/match:MUTE", "kucoin", 0,
    ),
    "kucoin_uta": Market(
        [
            Stream(
                {"channel": "obu", "tradeType": "SPOT", "symbol": "BTC-USDT", "depth": "increment@10ms"},
                _at("T", is_="obu.SPOT"), _kucoin_uta_book,
            ),
            Stream(
                {"channel": "trade", "tradeType": "SPOT", "symbol": "ETH-USDT"}, _at("T", is_="trade.SPOT"), _kucoin_uta_trade
            ),
        ],
        {"channel": "trade", "tradeType": "SPOT", "symbol": "NOPE-USDT"},
        {"channel": "trade", "tradeType": "SPOT", "symbol": "MUTE-USDT"}, counted=0,
    ),
    "lighter": Market(
        [
            Stream("order_book/0", _at("channel", is_="order_book:0"), _lighter_book),
            Stream("trade/1", _at("channel", is_="trade:1"), _lighter_trade),
        ],
        "trade/nope", "trade/mute", counted=0,
    ),
    "mexc": Market(
        [_named("channel", MEXC_DEPTH, _mexc_depth), _named("channel", MEXC_DEALS, _mexc_deal)],
        "spot@public.limit.depth.v3.api.pb@NOPE@5", "spot@public.limit.depth.v3.api.pb@MUTE@5", counted=0, pack=_mexc_packed,
    ),
    "mexc_futures": Market(
        [
            Stream(
                {"channel": "depth", "param": {"symbol": "BTC_USDT"}}, _at("channel", is_="push.depth"), _mexc_futures_depth
            ),
            Stream({"channel": "deal", "param": {"symbol": "ETH_USDT"}}, _at("channel", is_="push.deal"), _mexc_futures_deal),
        ],
        {"channel": "deal", "param": {"symbol": "NOPE_USDT"}}, {"channel": "deal", "param": {"symbol": "MUTE_USDT"}}, counted=0,
    ),
    "okx": Market(
        [
            Stream({"channel": "books", "instId": "BTC-USDT"}, _at("arg", "channel", is_="books"), _okx_book),
            Stream(
                {"channel": "books-l2-tbt", "instId": "ELON-USDT"},
                lambda value: value["arg"] == {"channel": "books-l2-tbt", "instId": "ELON-USDT"} and "data" in value,
            ),
        ],
        {"channel": "trades", "instId": "NOPE"}, {"channel": "trades", "instId": "MUTE"}, "okx", 0,
    ),
    "phemex": Market(
        [
            Stream({"channel": "trade_p", "params": ["ETHUSDT"]}, _at("symbol", is_="ETHUSDT"), _phemex_trade),
            Stream({"channel": "orderbook_p", "params": ["BTCUSDT"]}, _at("symbol", is_="BTCUSDT"), _phemex_book),
        ],
        {"channel": "trade_p", "params": ["NOPEUSDT"]}, {"channel": "trade_p", "params": ["MUTEUSDT"]},
    ),
    "polymarket": Market([_of_asset("71321"), _of_asset("52114")], "nope", "mute"),
    "upbit": Market(
        _KOREAN, {"type": "trade", "codes": ["KRW-NOPE"]}, {"type": "trade", "codes": ["KRW-MUTE"]},
    ),
}  # fmt: skip
"""One for each bundled dialect."""
