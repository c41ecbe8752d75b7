"""Order books of Binance, KuCoin, OKX, Bybit and Coinbase that are correct, or known not to be: ops/docs/ORDER_BOOK.md.

    python ops/examples/order_book.py binance BTCUSDT ETHUSDT
    python ops/examples/order_book.py okx BTC-USDT

A book is unknown or live. Changes come over the WebSocket. The whole book comes over REST (Binance, KuCoin) and is inserted
into the same stream, so that one loop sees everything in one order; or it is the first message of the stream (OKX, Bybit,
Coinbase). Prices and sizes stay the exchange's own text, because 0.1 is not exact in binary.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from wsadapter import Dropped, Endpoint, Gap, Item, Message, Supervisor, SupervisorStopped, UnknownEndpoint

MOST_WAITING = 10_000
"""Most changes that wait for a snapshot over REST. With more, the fetch has taken too long and starts again."""
TRIES = 5
"""Tries of one fetch, each after twice the wait; then the next change requests a snapshot again."""
PATIENCE = 5.0
"""Seconds between two requests for a fresh snapshot in the stream of one book."""

Levels = dict[str, str]
"""Price = size, as the exchange writes them."""
Stream = str | dict[str, Any]


class Change(NamedTuple):
    """A message that changes a book: the numbers it covers, and levels with their new sizes."""

    symbol: str
    first: int | None
    """None: the messages of one book have no numbers of their own, so only the dialect can find that one is missing."""
    last: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class Snapshot(NamedTuple):
    """A whole book, as of the change `last`."""

    symbol: str
    last: int
    bids: Levels
    asks: Levels


class Rules(Protocol):
    """What differs between exchanges."""

    dialect: str

    def stream(self, symbol: str) -> Stream: ...
    def symbol(self, stream: str) -> str:
        """The symbol of a stream, as `Gap.stream` names the stream."""
        ...

    def read(self, message: Any) -> Iterator[Change | Snapshot]: ...


class RestRules(Rules, Protocol):
    """An exchange whose whole books come over REST."""

    rest: str

    def snapshot_path(self, symbol: str) -> str: ...
    def snapshot(self, symbol: str, answer: Any) -> Snapshot: ...


class Binance:
    dialect = "binance"
    rest = "https://api.binance.com"

    def stream(self, symbol: str) -> Stream:
        return f"{symbol.lower()}@depth@100ms"

    def symbol(self, stream: str) -> str:
        return stream.partition("@")[0].upper()

    def read(self, message: Any) -> Iterator[Change | Snapshot]:
        data = message.get("data", {})
        if data.get("e") == "depthUpdate":
            yield Change(data["s"], data["U"], data["u"], data["b"], data["a"])

    def snapshot_path(self, symbol: str) -> str:
        return f"/api/v3/depth?symbol={symbol}&limit=5000"

    def snapshot(self, symbol: str, answer: Any) -> Snapshot:
        return Snapshot(symbol, answer["lastUpdateId"], dict(answer["bids"]), dict(answer["asks"]))


class KuCoin:
    dialect = "kucoin"
    rest = "https://api.kucoin.com"

    def stream(self, symbol: str) -> Stream:
        return f"/market/level2:{symbol}"

    def symbol(self, stream: str) -> str:
        return stream.partition(":")[2]

    def read(self, message: Any) -> Iterator[Change | Snapshot]:
        if message.get("subject") == "trade.l2update":
            data, changes = message["data"], message["data"]["changes"]
            bids, asks = ([(price, size) for price, size, _ in changes[side]] for side in ("bids", "asks"))
            yield Change(data["symbol"], data["sequenceStart"], data["sequenceEnd"], bids, asks)

    def snapshot_path(self, symbol: str) -> str:
        return f"/api/v1/market/orderbook/level2_100?symbol={symbol}"

    def snapshot(self, symbol: str, answer: Any) -> Snapshot:
        data = answer["data"]
        return Snapshot(symbol, int(data["sequence"]), dict(data["bids"]), dict(data["asks"]))


class Okx:
    dialect = "okx"

    def stream(self, symbol: str) -> Stream:
        return {"channel": "books", "instId": symbol}

    def symbol(self, stream: str) -> str:
        return str(json.loads(stream)["instId"])

    def read(self, message: Any) -> Iterator[Change | Snapshot]:
        if message.get("arg", {}).get("channel") != "books":
            return
        symbol = message["arg"]["instId"]
        for data in message.get("data", []):
            bids, asks = ([(price, size) for price, size, *_ in data[side]] for side in ("bids", "asks"))
            if message["action"] == "snapshot":
                yield Snapshot(symbol, data["seqId"], dict(bids), dict(asks))
            else:
                yield Change(symbol, data["prevSeqId"] + 1, data["seqId"], bids, asks)


class Bybit:
    dialect = "bybit"

    def stream(self, symbol: str) -> Stream:
        return f"orderbook.50.{symbol}"

    def symbol(self, stream: str) -> str:
        return stream.rpartition(".")[2]

    def read(self, message: Any) -> Iterator[Change | Snapshot]:
        if not message.get("topic", "").startswith("orderbook."):
            return
        data = message["data"]
        if message["type"] == "snapshot":
            yield Snapshot(data["s"], data["u"], dict(data["b"]), dict(data["a"]))
        else:
            yield Change(data["s"], data["u"], data["u"], data["b"], data["a"])


class Coinbase:
    dialect = "coinbase"

    def stream(self, symbol: str) -> Stream:
        return {"channel": "level2", "product_ids": [symbol]}

    def symbol(self, stream: str) -> str:
        return str(json.loads(stream)["product_ids"][0])

    def read(self, message: Any) -> Iterator[Change | Snapshot]:
        for event in message["events"] if message.get("channel") == "l2_data" else ():
            sides: dict[str, list[tuple[str, str]]] = {"bid": [], "offer": []}
            for update in event["updates"]:
                sides[update["side"]].append((update["price_level"], update["new_quantity"]))
            symbol, last = event["product_id"], message["sequence_num"]
            if event["type"] == "snapshot":
                yield Snapshot(symbol, last, dict(sides["bid"]), dict(sides["offer"]))
            else:
                yield Change(symbol, None, last, sides["bid"], sides["offer"])


@dataclass
class Book:
    """The book of one product. `bids` and `asks` are valid only while the book is live."""

    symbol: str
    live: bool = False
    last: int = 0
    """The last change in it."""
    bids: Levels = field(default_factory=dict)
    asks: Levels = field(default_factory=dict)

    def lost(self) -> None:
        """Something is missing, or may be: the book is not valid any more."""
        self.live = False

    def begin(self, snapshot: Snapshot) -> None:
        """The book becomes live."""
        self.live, self.last = True, snapshot.last
        self.bids, self.asks = snapshot.bids, snapshot.asks

    def apply(self, change: Change) -> bool:
        """Applies the next change of a live book. Returns whether the book is still live."""
        if change.first is not None and change.first != self.last + 1:
            if change.last <= self.last:
                return True
            if change.first > self.last + 1:  # the dialect's gap rule has told so before; but a book is worth a second look
                self.lost()
                return False
        for levels, changes in ((self.bids, change.bids), (self.asks, change.asks)):
            for price, size in changes:
                if Decimal(size):
                    levels[price] = size
                else:
                    levels.pop(price, None)
        self.last = change.last
        return True

    def best(self) -> tuple[Decimal, Decimal] | None:
        """Highest bid and lowest ask; None while it is unknown, or empty on a side."""
        if not (self.live and self.bids and self.asks):
            return None
        return max(map(Decimal, self.bids)), min(map(Decimal, self.asks))


class Books:
    """The books of one endpoint. `take` is for the consumer's loop."""

    def __init__(self, feed: Supervisor, endpoint: str, rules: Rules, symbols: Iterable[str]) -> None:
        self._feed, self._endpoint, self._rules = feed, endpoint, rules
        self._books = {symbol: Book(symbol) for symbol in symbols}

    def __getitem__(self, symbol: str) -> Book:
        return self._books[symbol]

    def close(self) -> None:
        """No further snapshot is requested."""

    def take(self, item: Item) -> None:
        """Every item of the stream, whatever it is."""
        if item.endpoint != self._endpoint:
            return
        match item:
            case Gap() | Dropped():
                self._lose(item)
            case Message(stream=None):
                self._inserted(item.json())
            case Message():
                self._message(item.json())

    def _lose(self, item: Gap | Dropped) -> None:
        stream = item.stream if isinstance(item, Gap) else None
        for symbol in self._books if stream is None else [self._rules.symbol(stream)]:
            if (book := self._books.get(symbol)) is not None:
                book.lost()
                self._lost(book, item)

    def _message(self, message: Any) -> None:
        for part in self._rules.read(message):
            book = self._books.get(part.symbol)
            if book is None:
                continue
            if isinstance(part, Snapshot):
                book.begin(part)
                self._begun(book)
                continue
            was_live = book.live
            if was_live and book.apply(part):
                continue
            if was_live:
                self._lost(book, None)
            self._unknown(book, part)

    def _lost(self, book: Book, why: Gap | Dropped | None) -> None:
        """A live book, or one that waited for its snapshot, became unknown."""

    def _begun(self, book: Book) -> None:
        """The snapshot of a book came in the stream."""

    def _unknown(self, book: Book, change: Change) -> None:
        """A change of a book that is unknown."""

    def _inserted(self, record: Any) -> None:
        """A record that this program inserted."""


class StreamBooks(Books):
    """Books whose snapshots come in the stream, as the first message after each subscription."""

    def __init__(self, feed: Supervisor, endpoint: str, rules: Rules, symbols: Iterable[str]) -> None:
        super().__init__(feed, endpoint, rules, symbols)
        self._ask_at = dict.fromkeys(self._books, time.monotonic() + PATIENCE)
        """The unknown books, and when a fresh snapshot of each is requested."""
        self._asked_at: dict[str, float] = {}

    def take(self, item: Item) -> None:
        super().take(item)
        if self._ask_at:
            self._ask(time.monotonic())

    def _lost(self, book: Book, why: Gap | Dropped | None) -> None:
        """Snapshots of a new connection come by themselves; on the old connection they have to be requested."""
        now = time.monotonic()
        if isinstance(why, Gap) and why.cause in ("reconnected", "replaced", "lead_changed"):
            self._ask_at[book.symbol] = now + PATIENCE
        else:
            self._ask_at[book.symbol] = max(now, self._asked_at.get(book.symbol, now - PATIENCE) + PATIENCE)

    def _begun(self, book: Book) -> None:
        self._ask_at.pop(book.symbol, None)

    def _ask(self, now: float) -> None:
        due = [symbol for symbol, at in self._ask_at.items() if now >= at]
        if not due:
            return
        self._asked_at.update(dict.fromkeys(due, now))
        self._ask_at.update(dict.fromkeys(due, now + PATIENCE))
        with suppress(SupervisorStopped, UnknownEndpoint):
            self._feed.resubscribe(self._endpoint, [self._rules.stream(symbol) for symbol in due])


class RestBooks(Books):
    """Books whose snapshots a separate thread fetches, one by one."""

    _rules: RestRules

    def __init__(self, feed: Supervisor, endpoint: str, rules: RestRules, symbols: Iterable[str], *, rest: str = "") -> None:
        super().__init__(feed, endpoint, rules, symbols)
        self._rest = rest or rules.rest
        self._waiting: dict[str, list[Change]] = {symbol: [] for symbol in self._books}
        """For each unknown book, the changes that wait."""
        self._fetching: set[str] = set()
        self._fetches = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._closing = threading.Event()

    def close(self) -> None:
        """No more fetches; returns when the last has ended."""
        self._closing.set()
        self._fetches.shutdown(cancel_futures=True)

    def _lost(self, book: Book, why: Gap | Dropped | None) -> None:
        del why
        self._waiting[book.symbol].clear()

    def _unknown(self, book: Book, change: Change) -> None:
        waiting = self._waiting[book.symbol]
        if len(waiting) == MOST_WAITING:
            waiting.clear()
        waiting.append(change)
        if book.symbol not in self._fetching:  # only now: a snapshot must not be older than the first change that waits
            self._fetching.add(book.symbol)
            self._fetches.submit(self._fetch, book.symbol)

    def _inserted(self, record: Any) -> None:
        """A snapshot, or the report that there is none; `_fetch` inserted both into the stream."""
        if not isinstance(record, dict) or record.get("snapshot") not in self._books:
            return
        book = self._books[record["snapshot"]]
        self._fetching.discard(book.symbol)
        if "answer" in record:
            self._join(book, self._rules.snapshot(book.symbol, record["answer"]))

    def _join(self, book: Book, snapshot: Snapshot) -> None:
        """Makes the book live and applies the waiting changes. Does nothing if no change waits, or if one between the snapshot
        and the first waiting change is missing: the next change then requests another snapshot."""
        waiting = self._waiting[book.symbol]
        if not waiting or waiting[0].first is None or snapshot.last + 1 < waiting[0].first:
            return
        book.begin(snapshot)
        for change in waiting:
            if not book.apply(change):
                break
        waiting.clear()

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
    """Seconds until the next try; `Retry-After` of the exchange is obeyed."""
    asked = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
    return float(asked) if asked.isdecimal() else 0.5 * 2**attempt


REST: dict[str, Callable[[], RestRules]] = {"binance": Binance, "kucoin": KuCoin}
IN_STREAM: dict[str, Callable[[], Rules]] = {"okx": Okx, "bybit": Bybit, "coinbase": Coinbase}


def books_of(exchange: str, feed: Supervisor, endpoint: str, symbols: Iterable[str], *, rest: str = "") -> Books:
    """The books of an endpoint of this exchange. `rest`: the URL of whole books, if it is not the exchange's own."""
    if exchange in REST:
        return RestBooks(feed, endpoint, REST[exchange](), symbols, rest=rest)
    return StreamBooks(feed, endpoint, IN_STREAM[exchange](), symbols)


def main(exchange: str, *symbols: str) -> None:
    """Prints each book's best prices once a second."""
    rules = (REST.get(exchange) or IN_STREAM[exchange])()
    endpoint = Endpoint(exchange, dialect=rules.dialect, subscribe=[rules.stream(symbol) for symbol in symbols])
    with Supervisor([endpoint]) as feed:
        books = books_of(exchange, feed, exchange, symbols)
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
    if len(sys.argv) < 3 or sys.argv[1] not in REST | IN_STREAM:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(REST | IN_STREAM)} SYMBOL ...")
    main(*sys.argv[1:])
