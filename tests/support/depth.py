"""Exchanges that keep a correct book, in their own formats: changes over WebSocket, the whole book over REST or in the
stream."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from tests.support.rest import Answer, Asked, Rest
from wsadapter.testing import Exchange

_PRICES = 60
_REMEMBERED = 50_000
_MS = 1_732_370_000_000

Levels = list[list[str]]
"""Prices with their sizes."""
Made = list[tuple[str, str, str, int]]
"""Side, price, size and number of each change of a message."""


class TrueBook:
    """Bids below the middle, asks above; each message changes some levels, and each change has a number."""

    dialect: str
    symbol: str
    welcome: tuple[str, ...] = ()
    settings: Mapping[str, Any] = MappingProxyType({})
    """Of the endpoint, besides."""
    most_changes = 3
    """Of a message."""

    def __init__(self) -> None:
        self._dice = random.Random(7)
        self.last = self.sent = 1_000
        """The last change; the last one that was surely sent: the exchange asks for a message before it can send it."""
        self.states: dict[int, tuple[dict[str, str], dict[str, str]]] = {self.last: ({}, {})}
        """The book after each message, by its last number."""
        self.left_out = 0
        """How many of the next messages are withheld."""
        self.stale = 0
        """How many of the next snapshots are as old as possible."""
        self.refused = 0
        """How many of the next snapshot requests are answered with 429."""
        self.withheld = 0
        """How many of the next subscriptions get no snapshot."""
        self.subscribed = 0
        """How often a snapshot in the stream was sent."""

    def messages(self) -> Iterator[str]:
        """Without end."""
        raise NotImplementedError

    def acknowledge(self, frame: str | bytes) -> list[str] | None:
        """What a frame is answered."""
        raise NotImplementedError

    def rest(self, asked: Asked) -> Answer:
        """There is no such thing."""
        raise AssertionError(f"{self.dialect} was asked for {asked.path}")

    def sends_snapshot(self, request: str) -> bool:
        """Whether a snapshot comes behind the answer to such a request."""
        if request != "subscribe":
            return False
        if self.withheld:
            self.withheld -= 1
            return False
        self.subscribed += 1
        return True

    def changes(self) -> Iterator[tuple[int, int, Made]]:
        """First and last number of each message, and its changes."""
        while True:
            self.sent = self.last
            bids, asks = map(dict, self.states[self.last])
            first, made = self.last + 1, []
            for number in range(first, first + self._dice.randint(1, self.most_changes)):
                at = self._dice.randrange(_PRICES)
                side, levels = ("bids", bids) if at < _PRICES // 2 else ("asks", asks)
                price, size = f"0.{at + 10}", self._dice.choice(["0", "0.00000000", "1.5", "2.25", "12345678.00000001"])
                made.append((side, price, size, number))
                levels[price] = size
                if float(size) == 0:
                    del levels[price]
            self.last = number
            self.states[self.last] = bids, asks
            if len(self.states) > _REMEMBERED:
                raise AssertionError("the test runs for too long")
            if self.left_out:
                self.left_out -= 1
                continue
            yield first, self.last, made

    def whole(self, last: int) -> tuple[Levels, Levels]:
        """Bids and asks behind this change."""
        bids, asks = self.states[last]
        return list(map(list, bids.items())), list(map(list, asks.items()))

    def snapshot(self) -> tuple[int, Levels, Levels] | None:
        """Its number, bids and asks; None: the request is refused."""
        if self.refused:
            self.refused -= 1
            return None
        last = self.last
        if self.stale:
            self.stale -= 1
            last = min(self.states)
        return last, *self.whole(last)


class BinanceDepth(TrueBook):
    """BTCUSDT."""

    dialect, symbol = "binance", "BTCUSDT"

    def messages(self) -> Iterator[str]:
        for first, last, made in self.changes():
            bids, asks = _sides(made)
            data = {"e": "depthUpdate", "s": self.symbol, "U": first, "u": last, "b": bids, "a": asks}
            yield json.dumps({"stream": "btcusdt@depth@100ms", "data": data})

    def acknowledge(self, frame: str | bytes) -> list[str] | None:
        return [json.dumps({"result": None, "id": json.loads(frame)["id"]})]

    def rest(self, asked: Asked) -> Answer:
        assert asked.path == "/api/v3/depth?symbol=BTCUSDT&limit=5000"
        whole = self.snapshot()
        if whole is None:
            return Answer(b"{}", 429, {"Retry-After": "0"})
        return Answer(json.dumps({"lastUpdateId": whole[0], "bids": whole[1], "asks": whole[2]}).encode())


class KuCoinDepth(TrueBook):
    """BTC-USDT."""

    dialect, symbol = "kucoin", "BTC-USDT"
    welcome = ('{"id":"c1","type":"welcome"}',)

    def messages(self) -> Iterator[str]:
        for first, last, made in self.changes():
            sides: dict[str, list[Any]] = {"bids": [], "asks": []}
            for side, price, size, number in made:
                sides[side].append([price, size, str(number)])
            data = {"changes": sides, "sequenceStart": first, "sequenceEnd": last, "symbol": self.symbol}
            topic = f"/market/level2:{self.symbol}"
            yield json.dumps({"type": "message", "topic": topic, "subject": "trade.l2update", "data": data})

    def acknowledge(self, frame: str | bytes) -> list[str] | None:
        said = json.loads(frame)
        kind = {"subscribe": "ack", "ping": "pong"}.get(said["type"])
        return [json.dumps({"id": said["id"], "type": kind})] if kind else None

    def rest(self, asked: Asked) -> Answer:
        assert asked.path == "/api/v1/market/orderbook/level2_100?symbol=BTC-USDT"
        whole = self.snapshot()
        if whole is None:
            return Answer(b"{}", 429, {"Retry-After": "0"})
        data = {"sequence": str(whole[0]), "bids": whole[1], "asks": whole[2]}
        return Answer(json.dumps({"code": "200000", "data": data}).encode())


class OkxDepth(TrueBook):
    """BTC-USDT."""

    dialect, symbol = "okx", "BTC-USDT"

    def messages(self) -> Iterator[str]:
        for first, last, made in self.changes():
            yield self._said("update", last, first - 1, *_sides(made))

    def acknowledge(self, frame: str | bytes) -> list[str] | None:
        if frame == "ping":
            return ["pong"]
        said = json.loads(frame)
        answers = [json.dumps({"event": said["op"], "arg": arg, "connId": "x"}) for arg in said["args"]]
        if self.sends_snapshot(said["op"]):
            answers.append(self._said("snapshot", self.sent, -1, *self.whole(self.sent)))
        return answers

    def _said(self, action: str, last: int, previous: int, bids: Levels, asks: Levels) -> str:
        sides = {"bids": [[*level, "0", "1"] for level in bids], "asks": [[*level, "0", "1"] for level in asks]}
        data = {**sides, "ts": str(_MS + last), "seqId": last, "prevSeqId": previous}
        return _dense({"arg": {"channel": "books", "instId": self.symbol}, "action": action, "data": [data]})


class BybitDepth(TrueBook):
    """BTCUSDT; each message has a number."""

    dialect, symbol = "bybit", "BTCUSDT"
    most_changes = 1

    def messages(self) -> Iterator[str]:
        for _, last, made in self.changes():
            yield self._said("delta", last, *_sides(made))

    def acknowledge(self, frame: str | bytes) -> list[str] | None:
        said = json.loads(frame)
        if said["op"] == "ping":
            return ['{"success":true,"ret_msg":"pong","op":"ping"}']
        answer = {"success": True, "ret_msg": said["op"], "conn_id": "x", "req_id": said["req_id"], "op": said["op"]}
        whole = [self._said("snapshot", self.sent, *self.whole(self.sent))] if self.sends_snapshot(said["op"]) else []
        return [json.dumps(answer), *whole]

    def _said(self, kind: str, last: int, bids: Levels, asks: Levels) -> str:
        data = {"s": self.symbol, "b": bids, "a": asks, "u": last, "seq": 10 * last}
        return _dense({"topic": f"orderbook.50.{self.symbol}", "type": kind, "ts": _MS + last, "data": data})


class CoinbaseDepth(TrueBook):
    """BTC-USD. All that a connection gets has one count, so a snapshot is sent to all who listen."""

    dialect, symbol = "coinbase", "BTC-USD"
    settings = MappingProxyType({"heartbeat": {"server_interval": 0}})
    most_changes = 1

    def __init__(self) -> None:
        super().__init__()
        self._wanted = False

    def messages(self) -> Iterator[str]:
        for _, last, made in self.changes():
            if self._wanted:
                self._wanted = False
                yield self._said("snapshot", last, *self.whole(last))
            else:
                yield self._said("update", last, *_sides(made))

    def acknowledge(self, frame: str | bytes) -> list[str] | None:
        said = json.loads(frame)
        has = {"level2": [self.symbol]} if (said["channel"], said["type"]) == ("level2", "subscribe") else {}
        self._wanted = self._wanted or bool(has and self.sends_snapshot("subscribe"))
        return [json.dumps({"channel": "subscriptions", "events": [{"subscriptions": {"heartbeats": ["heartbeats"], **has}}]})]

    def _said(self, kind: str, last: int, bids: Levels, asks: Levels) -> str:
        levels = [("bid", *level) for level in bids] + [("offer", *level) for level in asks]
        updates = [
            {"side": side, "event_time": str(last), "price_level": price, "new_quantity": size} for side, price, size in levels
        ]
        event = {"type": kind, "product_id": self.symbol, "updates": updates}
        return _dense({"channel": "l2_data", "timestamp": str(last), "sequence_num": last, "events": [event]})


def _sides(made: Made) -> tuple[Levels, Levels]:
    """What a message changes: bids, and asks."""
    bids, asks = ([[price, size] for where, price, size, _ in made if where == side] for side in ("bids", "asks"))
    return bids, asks


def _dense(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))


def served(book: TrueBook, rate: float, *, tls: bool = True) -> tuple[Exchange, Rest]:
    """Both sides of the exchange, not started; its clock runs whether or not anybody listens."""
    exchange = Exchange(
        messages=book.messages, rate=rate, resume="continue", tls=tls, after_subscribe=True, welcome=book.welcome,
        ack=book.acknowledge,
    )  # fmt: skip
    return exchange, Rest(book.rest)
