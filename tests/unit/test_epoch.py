"""What begins and ends with one owner."""

from __future__ import annotations

from tests.support.snapshots import transferred
from wsadapter.endpoint.epoch import Counters, Epoch


def test_an_epoch_shares_nothing_with_the_one_before() -> None:
    one = Epoch(1)
    one.streams.append("book")
    one.up_fields["peer"] = "192.0.2.1"
    assert (Epoch(2).streams, Epoch(2).up_fields) == ([None], {})


def test_an_epoch_survives_the_way_to_another_supervisor() -> None:
    epoch = Epoch(7, continues=True, assigned=True, up_since=12.5, messages_before=3, position=99, rtt=0.01)
    epoch.streams.append("book")
    assert transferred(epoch) == epoch


def test_the_counts_of_an_epoch_begin_at_zero() -> None:
    assert Counters() == Counters(0, 0, 0, 0, 0, 0, None, None)
