"""The documentation's recipe for an order book, against exchanges that know what is true, while things go wrong."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.depth import BinanceDepth, KuCoinDepth, served
from tests.support.feeds import DEADLINE, SOON, pid_of
from tests.support.waiting import wait_until
from wsadapter import Dropped, Gap, Item, Supervisor
from wsadapter.testing import Exchange

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recipe() -> Iterator[ModuleType]:
    """The example as a user has it: a file, not a part of the package."""
    spec = spec_from_file_location("order_book", ROOT / "ops" / "examples" / "order_book.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["order_book"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["order_book"]


class Follower:
    """A consumer that does nothing but what the recipe says."""

    def __init__(self, recipe: ModuleType, true: BinanceDepth | KuCoinDepth, stack: ExitStack, **settings: object) -> None:
        exchange, rest = served(true, rate=1_000)
        self.true = true
        self.exchange: Exchange = stack.enter_context(exchange)
        self.rest = stack.enter_context(rest)
        rules = recipe.RULES[true.dialect]()
        stream = rules.stream(true.symbol)
        endpoint = exchange.endpoint("x", dialect=true.dialect, subscribe=[stream], restart=SOON, **settings)
        self.feed: Supervisor = stack.enter_context(Supervisor([endpoint]))
        self.books = recipe.Books(self.feed, "x", rules, [true.symbol], rest=rest.url)
        stack.callback(self.books.close)
        self.told: list[Item] = []

    @property
    def book(self):
        return self.books[self.true.symbol]

    def until(self, done: Callable[[], object]) -> None:
        """Consumes until then."""
        deadline = time.monotonic() + DEADLINE
        while not done():
            item = self.feed.get(deadline - time.monotonic())
            self.books.take(item)
            if isinstance(item, Gap | Dropped):
                self.told.append(item)

    def until_right(self) -> None:
        """Until it is live and far enough to have shown a fault; then it equals the exchange's."""
        self.until(lambda: self.book.live)
        further = self.book.last + 300
        self.until(lambda: self.book.last > further or not self.book.live)
        assert self.book.live
        bids, asks = self.true.states[self.book.last]
        assert (self.book.bids, self.book.asks) == (bids, asks)

    def until_told(self, kind: type[Item], cause: str = "") -> None:
        """Until something is missing; then it is not known any more."""
        before = len(self.told)
        self.until(lambda: any(isinstance(item, kind) and cause in item.cause for item in self.told[before:]))  # type: ignore[union-attr]
        assert not self.book.live


@pytest.fixture(params=[BinanceDepth, KuCoinDepth])
def true(request: pytest.FixtureRequest) -> BinanceDepth | KuCoinDepth:
    book: BinanceDepth | KuCoinDepth = request.param()
    return book


def test_it_is_right_or_known_not_to_be(recipe: ModuleType, true: BinanceDepth | KuCoinDepth) -> None:
    with ExitStack() as stack:
        follower = Follower(recipe, true, stack)
        true.stale = 1
        true.refused = 2
        follower.until_right()
        assert len(follower.rest.asked) == 4  # refused, refused, too old, and then a good one
        true.left_out = 1
        follower.until_told(Gap, "sequence")
        follower.until_right()
        follower.exchange.drop()
        follower.until_told(Gap, "reconnected")
        follower.until_right()
        os.kill(pid_of(follower.feed, "x"), signal.SIGKILL)
        follower.until_told(Gap, "reconnected")
        follower.until_right()
        assert len(follower.rest.asked) == 7


def test_a_consumer_that_is_too_slow_knows_what_it_has_lost(recipe: ModuleType, true: BinanceDepth | KuCoinDepth) -> None:
    with ExitStack() as stack:
        follower = Follower(recipe, true, stack, buffer={"max_bytes": 100_000})
        follower.until_right()
        wait_until(lambda: follower.feed.status()["endpoints"]["x"]["dropped"], DEADLINE)
        follower.until_told(Dropped)
        follower.until_right()
