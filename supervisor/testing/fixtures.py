"""pytest fixtures. In a conftest.py: `pytest_plugins = ["wsadapter.testing.fixtures"]`.

    def test_my_strategy_survives_a_drop(exchange):
        ex = exchange(messages=['{"price":1}', '{"price":2}'], tls=True)
        ...

`exchange`   a function: makes and starts an `Exchange` with the given options; all of them are stopped after the test
`fake_feed`  a function: makes a `FakeFeed` of the given items
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from wsadapter.testing.exchange import Exchange
from wsadapter.testing.fake_feed import FakeFeed


@pytest.fixture
def exchange() -> Iterator[Callable[..., Exchange]]:
    """Makes running exchanges: `exchange(**options)` with the options of `Exchange`."""
    with ExitStack() as running:
        yield lambda **options: running.enter_context(Exchange(**options))


@pytest.fixture
def fake_feed() -> Callable[..., FakeFeed]:
    """Makes fake feeds: `fake_feed(items)`."""
    return FakeFeed
