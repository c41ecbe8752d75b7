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

from tests.support.depth import BinanceDepth, BybitDepth, CoinbaseDepth, KuCoinDepth, OkxDepth, TrueBook, served
from tests.support.feeds import DEADLINE, SOON, pid_of
from tests.support.waiting import wait_until
from wsadapter import Dropped, Gap, Item, Supervisor, Up
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

    def __init__(self, recipe: ModuleType, true: TrueBook, stack: ExitStack, *, tls: bool = True, **settings: object) -> None:
        exchange, rest = served(true, rate=1_000, tls=tls)
        self.true = true
        self.exchange: Exchange = stack.enter_context(exchange)
        self.rest = stack.enter_context(rest)
        rules = (recipe.REST | recipe.IN_STREAM)[true.dialect]()
        self.stream = rules.stream(true.symbol)
        settings = {"subscribe": [self.stream], "restart": SOON, **true.settings, **settings}
        endpoint = exchange.endpoint("x", dialect=true.dialect, **settings)
        self.feed: Supervisor = stack.enter_context(Supervisor([endpoint]))
        self.books = recipe.books_of(true.dialect, self.feed, "x", [true.symbol], rest=rest.url)
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
            if isinstance(item, Gap | Dropped | Up):
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
        self.until_said(kind, cause)
        assert not self.book.live

    def until_said(self, kind: type[Item], cause: str = "") -> None:
        """Until such an event comes."""
        before = len(self.told)
        self.until(lambda: any(isinstance(item, kind) and cause in getattr(item, "cause", "") for item in self.told[before:]))

    def leave_one_out(self) -> None:
        """A message is missing, and the book becomes right again on the same connection."""
        connections = self.exchange.accepted
        self.true.left_out = 1
        self.until_told(Gap, "sequence")
        self.until_right()
        assert self.exchange.accepted == connections

    def kill(self) -> None:
        """The owner whose messages come."""
        os.kill(pid_of(self.feed, "x"), signal.SIGKILL)


@pytest.fixture(params=[BinanceDepth, KuCoinDepth, OkxDepth, BybitDepth, CoinbaseDepth])
def true(request: pytest.FixtureRequest) -> TrueBook:
    book: TrueBook = request.param()
    return book


@pytest.fixture(params=[OkxDepth, BybitDepth, CoinbaseDepth])
def in_stream(request: pytest.FixtureRequest) -> TrueBook:
    """Of an exchange that sends whole books in the stream."""
    book: TrueBook = request.param()
    return book


def test_it_is_right_or_known_not_to_be(recipe: ModuleType, true: TrueBook) -> None:
    with ExitStack() as stack:
        follower = Follower(recipe, true, stack)
        fetches = true.dialect in recipe.REST
        true.stale, true.refused = (1, 2) if fetches else (0, 0)
        follower.until_right()
        assert len(follower.rest.asked) == 4 * fetches  # refused, refused, too old, and then a good one
        follower.leave_one_out()
        follower.exchange.drop()
        follower.until_told(Gap, "reconnected")
        follower.until_right()
        follower.kill()
        follower.until_told(Gap, "reconnected")
        follower.until_right()
        assert len(follower.rest.asked) == 7 * fetches


@pytest.mark.parametrize("kind", [BinanceDepth, OkxDepth, CoinbaseDepth])
def test_a_consumer_that_is_too_slow_knows_what_it_has_lost(recipe: ModuleType, kind: type[TrueBook]) -> None:
    with ExitStack() as stack:
        follower = Follower(recipe, kind(), stack, buffer={"max_bytes": 100_000})
        follower.until_right()
        wait_until(lambda: follower.feed.status()["endpoints"]["x"]["dropped"], DEADLINE)
        follower.until_told(Dropped)
        follower.until_right()


def test_a_snapshot_that_was_asked_for_comes_though_the_connection_changes_at_once(
    recipe: ModuleType, in_stream: TrueBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the new connection the first snapshot is left out, as it continues the old one."""
    monkeypatch.setattr(recipe, "PATIENCE", 1000.0)  # it is asked for once
    with ExitStack() as stack:
        follower = Follower(recipe, in_stream, stack)
        follower.until_right()
        follower.feed.begin_restart("x")
        follower.until_said(Up)
        follower.until_right()
        assert [type(item) for item in follower.told] == [Up, Up]
        in_stream.left_out = in_stream.withheld = 1
        follower.until_told(Gap, "sequence")
        wait_until(lambda: not in_stream.withheld, DEADLINE)  # the old connection brings none any more
        follower.feed.begin_restart("x")
        follower.until_said(Up)
        follower.until_right()


def test_it_goes_on_over_the_owners_of_a_connection(
    recipe: ModuleType, in_stream: TrueBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "PATIENCE", 1000.0)
    with ExitStack() as stack:
        follower = Follower(recipe, in_stream, stack, tls=False)
        follower.until_right()
        wait_until(lambda: follower.feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
        in_stream.left_out = 1
        follower.until_told(Gap, "sequence")
        follower.kill()  # in the middle of asking
        follower.until_said(Up)
        follower.until_right()
        wait_until(lambda: follower.feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
        asked = in_stream.subscribed
        os.kill(pid_of(follower.feed, "x"), signal.SIGSTOP)
        follower.feed.resubscribe("x", [follower.stream])
        follower.kill()  # it was not told
        follower.until(lambda: in_stream.subscribed > asked)
        follower.until_right()
        assert follower.exchange.accepted == 1


@pytest.mark.parametrize("kind", [OkxDepth, CoinbaseDepth])
def test_with_replicas_a_snapshot_that_was_asked_for_comes_of_the_one_that_leads(
    recipe: ModuleType, kind: type[TrueBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "PATIENCE", 1.0)  # each replica tells of the gap, perhaps one when all is well again
    with ExitStack() as stack:
        follower = Follower(recipe, kind(), stack, replicas=2)
        follower.until_right()
        follower.until(lambda: all(m["aligned"] for m in follower.feed.status()["endpoints"]["x"]["members"]))
        follower.leave_one_out()
        follower.kill()  # the lead
        follower.until_said(Up)
        follower.until_right()
