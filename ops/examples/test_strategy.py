"""How to test a consumer: a journal of your own messages, and the code that will run live.

    pip install pytest
    pytest test_strategy.py             # beside strategy.py, where wsadapter is installed

`make_journal` runs a supervisor and a test exchange for each endpoint, over sockets of this machine; no network is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from strategy import signals  # type: ignore[import-not-found,unused-ignore]  # it lies beside this file

from wsadapter import Gap, Item, Message, attach
from wsadapter.testing import make_journal

RISING = [f'{{"p":{price}}}' for price in range(1, 13)]


def prices(items: Iterable[Item]) -> Iterator[int]:
    return (item.json()["p"] for item in items if isinstance(item, Message))


def test_a_price_above_the_mean_of_ten_is_a_signal(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "journal", {"kraken": RISING})
    assert list(signals(journal)) == ["kraken 11 above at 11", "kraken 12 above at 12"]


def test_prices_from_before_a_gap_are_forgotten(tmp_path: Path) -> None:
    make_journal(tmp_path / "journal", {"kraken": RISING})
    journal = make_journal(tmp_path / "journal", {"kraken": RISING})  # another supervisor: a Gap stands between
    assert sum(isinstance(item, Gap) for item in journal) == 1
    assert [signal.split()[1] for signal in signals(journal)] == ["11", "12", "23", "24"]


def test_a_consumer_that_is_started_again_goes_on_behind_what_it_has_finished(tmp_path: Path) -> None:
    make_journal(tmp_path / "journal", {"kraken": RISING})
    with attach(tmp_path / "journal", "test", start="earliest", follow=False) as feed:
        first = list(islice(prices(feed), 5))
    with attach(tmp_path / "journal", "test", follow=False) as feed:
        second = list(prices(feed))
    assert first == [1, 2, 3, 4, 5]
    assert second == [5, 6, 7, 8, 9, 10, 11, 12]  # the fifth was taken, and not finished
