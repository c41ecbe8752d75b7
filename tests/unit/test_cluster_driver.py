"""What the driver of a host does around the rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from wsadapter.cluster.assignment import Spread
from wsadapter.cluster.driver import Driver
from wsadapter.cluster.membership import Timing
from wsadapter.cluster.records import REBALANCE, Host, Rebalance, decode, encode
from wsadapter.cluster.store import ABSENT, Entry, StoreUnavailable


class Store:
    """One key. Before each of the next `others` swaps, another host writes it."""

    def __init__(self, others: int) -> None:
        self.others = others
        self.entry = Entry(REBALANCE, b"", ABSENT)

    def _put(self, value: bytes) -> None:
        self.entry = Entry(REBALANCE, value, self.entry.revision + 1)

    async def read(self, _key: str) -> Entry:
        return self.entry

    async def swap(self, _key: str, value: bytes, expected: int) -> int | None:
        if self.others:
            self.others -= 1
            self._put(encode(Rebalance(id="of another", hosts={})))
        if self.entry.revision != expected:
            return None
        self._put(value)
        return self.entry.revision

    async def watch(self, _notify: Callable[[Entry], None]) -> None:
        raise NotImplementedError


def ordered(store: Store) -> dict[str, tuple[str, str]]:
    driver = Driver(store, "x", Host(boot="b"), {"a": Spread()}, Timing())
    return asyncio.run(driver.order("mine"))


@pytest.mark.parametrize("others", [0, 1, 3])
def test_an_order_is_written_behind_those_of_other_hosts(others: int) -> None:
    store = Store(others)
    assert ordered(store) == {}
    assert decode(Rebalance, REBALANCE, store.entry.value).id == "mine"
    assert store.entry.revision == others + 1


def test_an_order_that_others_overwrite_all_the_time_is_given_up() -> None:
    with pytest.raises(StoreUnavailable, match="other hosts order a rebalance all the time"):
        ordered(Store(100))
