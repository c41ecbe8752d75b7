"""Order books of Binance spot and KuCoin that are right, or known not to be: ops/ORDER_BOOK.md says why it is done so.

    python ops/examples/order_book.py binance BTCUSDT ETHUSDT
    python ops/examples/order_book.py kucoin BTC-USDT

A book is unknown or live. Changes come over the WebSocket; the whole book comes over REST, and is put into the same stream, so
that one loop sees all in one order. Prices and sizes stay the exchange's own text: 0.1 is not 0.1 in binary.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from wsadapter import Dropped, Endpoint, Gap, Item, Message, Supervisor, SupervisorStopped, UnknownEndpoint

MOST_WAITING = 10_000
"""Changes that wait for a snapshot; with more the fetch has taken too long, and it begins anew."""
TRIES = 5
"""Of one fetch, each after twice the wait; then the next change asks again."""

Levels = dict[str, str]
"""Price = size, as the exchange writes them."""


class Change(NamedTuple):
    """A message that changes a book: the numbers it covers, and levels with their new sizes."""

    symbol: str
    first: int
    last: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class Snapshot(NamedTuple):
    """A whole book, as of the change `last`."""

    last: int
    bids: Levels
    asks: Levels


class Rules(Protocol):
    """What differs between exchanges."""

    dialect: str
    rest: str

    def stream(self, symbol: str) -> str: ...
    def symbol(self, stream: str) -> str: ...
    def change(self, message: Any) -> Change | None: ...
    def snapshot_path(self, symbol: str) -> str: ...
    def snapshot(self, answer: Any) -> Snapshot: ...


class Binance:
    dialect = "binance"
    rest = "https://api.binance.com"

    def stream(self, symbol: str) -> str:
        return f"{symbol.lower()}@depth@100ms"

    def symbol(self, stream: str) -> str:
        return stream.partition("@")[0].upper()

    def change(self, message: Any) -> Change | None:
        data = message.get("data", {})
        if data.get("e") != "depthUpdate":
            return None
        return Change(data["s"], data["U"], data["u"], data["b"], data["a"])

    def snapshot_path(self, symbol: str) -> str:
        return f"/api/v3/depth?symbol={symbol}&limit=5000"

    def snapshot(self, answer: Any) -> Snapshot:
        return Snapshot(answer["lastUpdateId"], dict(answer["bids"]), dict(answer["asks"]))


class KuCoin:
    dialect = "kucoin"
    rest = "https://api.kucoin.com"

    def stream(self, symbol: str) -> str:
        return f"/market/level2:{symbol}"

    def symbol(self, stream: str) -> str:
        return stream.partition(":")[2]

    def change(self, message: Any) -> Change | None:
        if message.get("subject") != "trade.l2update":
            return None
        data, changes = message["data"], message["data"]["changes"]
        bids, asks = ([(price, size) for price, size, _ in changes[side]] for side in ("bids", "asks"))
        return Change(data["symbol"], data["sequenceStart"], data["sequenceEnd"], bids, asks)

    def snapshot_path(self, symbol: str) -> str:
        return f"/api/v1/market/orderbook/level2_100?symbol={symbol}"

    def snapshot(self, answer: Any) -> Snapshot:
        data = answer["data"]
        return Snapshot(int(data["sequence"]), dict(data["bids"]), dict(data["asks"]))


@dataclass
class Book:
    """One product's book. `bids` and `asks` mean something only while it is live."""

    symbol: str
    live: bool = False
    last: int = 0
    """The last change in it."""
    bids: Levels = field(default_factory=dict)
    asks: Levels = field(default_factory=dict)
    waiting: list[Change] = field(default_factory=list)
    """What came while it is unknown."""
    fetching: bool = False

    def lost(self) -> None:
        """Something is, or may be, missing: what is known of it is worth nothing."""
        self.live = False
        self.waiting.clear()

    def changed(self, change: Change) -> None:
        """The next change."""
        if self.live:
            self._apply(change)
        elif len(self.waiting) < MOST_WAITING:
            self.waiting.append(change)
        else:
            self.lost()

    def begin(self, snapshot: Snapshot) -> bool:
        """Whether it is live now. It is not where a change between the snapshot and the first that waits is missing, or none
        waits that would show it: then another snapshot is wanted."""
        if not self.waiting or snapshot.last + 1 < self.waiting[0].first:
            return False
        self.live, self.last = True, snapshot.last
        self.bids, self.asks = snapshot.bids, snapshot.asks
        waiting, self.waiting = self.waiting, []
        for change in waiting:
            self._apply(change)
        return self.live

    def _apply(self, change: Change) -> None:
        if change.last <= self.last:
            return
        if change.first > self.last + 1:  # the dialect's gap rule has told so before; but a book is worth a second look
            self.lost()
            return
        for levels, changes in ((self.bids, change.bids), (self.asks, change.asks)):
            for price, size in changes:
                if Decimal(size):
                    levels[price] = size
                else:
                    levels.pop(price, None)
        self.last = change.last

    def best(self) -> tuple[Decimal, Decimal] | None:
        """Highest bid and lowest ask; None while it is unknown, or empty on a side."""
        if not (self.live and self.bids and self.asks):
            return None
        return max(map(Decimal, self.bids)), min(map(Decimal, self.asks))


class Books:
    """The books of one endpoint. `take` is for the consumer's loop; fetches run in a thread of their own, one by one."""

    def __init__(self, feed: Supervisor, endpoint: str, rules: Rules, symbols: Iterable[str], *, rest: str = "") -> None:
        self._feed, self._endpoint, self._rules = feed, endpoint, rules
        self._rest = rest or rules.rest
        self._books = {symbol: Book(symbol) for symbol in symbols}
        self._fetches = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._closing = threading.Event()

    def __getitem__(self, symbol: str) -> Book:
        return self._books[symbol]

    def close(self) -> None:
        """No more fetches; returns when the last has ended."""
        self._closing.set()
        self._fetches.shutdown(cancel_futures=True)

    def take(self, item: Item) -> None:
        """Every item of the stream, whatever it is."""
        if item.endpoint != self._endpoint:
            return
        match item:
            case Gap(stream=str(stream)):  # of one stream alone: the exchange's own numbers show it
                self._lose(self._rules.symbol(stream))
            case Gap() | Dropped():
                for symbol in self._books:
                    self._lose(symbol)
            case Message(stream=None):
                self._inserted(item.json())
            case Message():
                self._message(item.json())

    def _lose(self, symbol: str) -> None:
        if symbol in self._books:
            self._books[symbol].lost()

    def _message(self, message: Any) -> None:
        change = self._rules.change(message)
        if change is None or change.symbol not in self._books:
            return
        book = self._books[change.symbol]
        book.changed(change)
        if not book.live and not book.fetching:  # only now: a snapshot must not be older than the first change that waits
            book.fetching = True
            self._fetches.submit(self._fetch, book.symbol)

    def _inserted(self, record: Any) -> None:
        """A snapshot, or that there is none; both were put into the stream by `_fetch`."""
        if not isinstance(record, dict) or record.get("snapshot") not in self._books:
            return
        book = self._books[record["snapshot"]]
        book.fetching = False
        if "answer" in record:
            book.begin(self._rules.snapshot(record["answer"]))

    def _fetch(self, symbol: str) -> None:
        record: dict[str, Any] = {"snapshot": symbol}
        for attempt in range(TRIES):
            try:
                with urllib.request.urlopen(self._rest + self._rules.snapshot_path(symbol), timeout=10) as answer:
                    record["answer"] = json.load(answer)
                break
            except (OSError, ValueError) as error:
                if self._closing.wait(_patience(error, attempt)):
                    return
                print(f"{symbol}: no snapshot: {error}", file=sys.stderr)
        try:
            self._feed.insert(self._endpoint, json.dumps(record))
        except (SupervisorStopped, UnknownEndpoint):
            return


def _patience(error: Exception, attempt: int) -> float:
    """Seconds until the next try; an exchange that says how long is obeyed."""
    asked = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
    return float(asked) if asked.isdecimal() else 0.5 * 2**attempt


RULES: dict[str, Callable[[], Rules]] = {"binance": Binance, "kucoin": KuCoin}


def main(exchange: str, *symbols: str) -> None:
    """Prints each book's best prices once a second."""
    rules = RULES[exchange]()
    endpoint = Endpoint(exchange, dialect=rules.dialect, subscribe=[rules.stream(symbol) for symbol in symbols])
    with Supervisor([endpoint]) as feed:
        books = Books(feed, exchange, rules, symbols)
        shown = 0.0
        try:
            for item in feed:
                books.take(item)
                if time.monotonic() - shown > 1:
                    shown = time.monotonic()
                    print("  ".join(f"{symbol} {_shown(books[symbol])}" for symbol in symbols))
        except KeyboardInterrupt:
            pass
        finally:
            books.close()


def _shown(book: Book) -> str:
    best = book.best()
    return "unknown" if best is None else f"{best[0]} / {best[1]}"


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in RULES:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(RULES)} SYMBOL ...")
    main(*sys.argv[1:])
