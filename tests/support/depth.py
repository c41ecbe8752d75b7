"""Exchanges that keep a true book: changes over WebSocket, the whole of it over REST, in Binance's and KuCoin's own words."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from tests.support.rest import Answer, Asked, Rest
from wsadapter.testing import Exchange

_PRICES = 60
_REMEMBERED = 50_000


class TrueBook:
    """Bids below the middle, asks above; each message changes one to three levels, and each change has a number."""

    def __init__(self) -> None:
        self._dice = random.Random(7)
        self.last = 1_000
        self.states: dict[int, tuple[dict[str, str], dict[str, str]]] = {self.last: ({}, {})}
        """The book after each message, by its last number."""
        self.left_out = 0
        """So many of the next messages are kept back."""
        self.stale = 0
        """So many of the next snapshots are as old as can be."""
        self.refused = 0
        """So many of the next snapshots are answered with 429."""

    def changes(self) -> Iterator[tuple[int, int, list[tuple[str, str, str, int]]]]:
        """First and last number, and (side, price, size, number) of each change."""
        while True:
            bids, asks = map(dict, self.states[self.last])
            first, made = self.last + 1, []
            for number in range(first, first + self._dice.randrange(1, 4)):
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

    def snapshot(self) -> tuple[int, list[list[str]], list[list[str]]] | None:
        """Its number, bids and asks; None where it is refused."""
        if self.refused:
            self.refused -= 1
            return None
        last = self.last
        if self.stale:
            self.stale -= 1
            last = min(self.states)
        bids, asks = self.states[last]
        return last, list(map(list, bids.items())), list(map(list, asks.items()))


class BinanceDepth(TrueBook):
    """BTCUSDT."""

    dialect, symbol = "binance", "BTCUSDT"
    welcome: tuple[str, ...] = ()

    def messages(self) -> Iterator[str]:
        for first, last, made in self.changes():
            sides = {side: [[price, size] for where, price, size, _ in made if where == side] for side in ("bids", "asks")}
            data = {"e": "depthUpdate", "s": self.symbol, "U": first, "u": last, "b": sides["bids"], "a": sides["asks"]}
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


def served(book: BinanceDepth | KuCoinDepth, rate: float) -> tuple[Exchange, Rest]:
    """Both sides of the exchange, not started; its clock runs whether or not anybody listens."""
    exchange = Exchange(
        messages=book.messages, rate=rate, resume="continue", tls=True, after_subscribe=True, welcome=book.welcome,
        ack=book.acknowledge,
    )  # fmt: skip
    return exchange, Rest(book.rest)


