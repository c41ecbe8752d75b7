"""A book of one product: the exchange that keeps it, and a consumer that rebuilds it by the recipe of the documentation."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wsadapter import Gap, Item, Message
from wsadapter.testing import Exchange

_DIALECT = """
[dialect]
name = "book"
title = "A book of one product"
docs = "https://example.com"
[urls]
live = "wss://example.com"
[subscribe]
frame = '{"subscribe":"$stream"}'
[[ack]]
match = { subscribed = "*" }
stream = "subscribed"
[stream]
path = "s"
[[identity]]
match = { kind = "delta" }
fields = ["u"]
[[snapshot]]
match = { kind = "snapshot" }
"""
_PRICES = 50


def book_dialect(folder: Path) -> str:
    """Its dialect, as a file."""
    path = folder / "book.toml"
    path.write_text(_DIALECT)
    return str(path)


class BookExchange:
    """Changes one level after the other; whoever subscribes gets the whole book first."""

    def __init__(self, rate: float) -> None:
        self.states: dict[int, dict[str, int]] = {0: {}}
        """The book after each change."""
        self._last = 0
        self.exchange = Exchange(
            messages=self._changes, rate=rate, resume="continue", tls=True, after_subscribe=True, ack=self._answer
        )

    def _changes(self) -> Iterator[str]:
        dice = random.Random(1)
        for number in itertools.count(1):
            price, size = str(dice.randrange(_PRICES)), dice.randrange(5)
            self.states[number] = _changed(self.states[number - 1], price, size)
            self._last = number
            yield json.dumps({"s": "btc", "kind": "delta", "u": number, "level": [price, size]})

    def _answer(self, frame: str | bytes) -> list[str] | None:
        request = json.loads(frame)
        if "subscribe" not in request:
            return None
        snapshot = {"s": "btc", "kind": "snapshot", "u": self._last, "book": self.states[self._last]}
        return [json.dumps({"subscribed": request["subscribe"]}), json.dumps(snapshot)]

    def assert_rebuilt_from(self, items: list[Item]) -> None:
        """A consumer that follows the recipe has its book at the end, and every change came once, in order."""
        book = Book()
        for item in items:
            book.take(item)
        assert book.broken == 0
        assert book.levels == self.states[book.last]
        assert book.changes == list(range(book.changes[0], book.changes[0] + len(book.changes)))


def _changed(book: dict[str, int], price: str, size: int) -> dict[str, int]:
    changed = {**book, price: size}
    if not size:
        del changed[price]
    return changed


class Book:
    """A consumer's book: a snapshot begins it anew, each change follows the previous one, a `Gap` makes it unknown."""

    def __init__(self) -> None:
        self.levels: dict[str, int] | None = None
        self.last = 0
        self.broken = 0
        """Changes that did not follow the one before."""
        self.changes: list[int] = []
        """The numbers of all changes that came."""

    def take(self, item: Item) -> None:
        """One item of the endpoint's stream."""
        match item:
            case Gap():
                self.levels = None
            case Message():
                self._message(item.json())

    def _message(self, message: dict[str, Any]) -> None:
        number = message["u"]
        if message["kind"] == "snapshot":
            self.levels, self.last = dict(message["book"]), number
            return
        self.changes.append(number)
        if self.levels is None or number <= self.last:
            return
        if number != self.last + 1:
            self.broken += 1
            return
        self.levels, self.last = _changed(self.levels, *message["level"]), number
