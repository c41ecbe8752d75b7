"""Several connections, one stream: nothing twice, nothing lost, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.record import NO_IDENTITY, SNAPSHOT
from wsadapter.merge import Merge

NOW = 1000.0


def test_the_first_to_show_a_message_wins() -> None:
    merge = Merge()
    assert merge.new(0, [10, 11], None, NOW) == [0, 1]
    assert merge.new(1, [10, 11, 12], None, NOW) == [2]
    assert merge.new(0, [12, 13], None, NOW) == [1]


def test_the_same_identity_in_another_stream_is_another_message() -> None:
    merge = Merge()
    assert merge.new(0, [10, 10], ["a", "b"], NOW) == [0, 1]
    assert merge.new(1, [10, 10], ["b", "a"], NOW) == []


def test_what_a_connection_shows_twice_comes_twice() -> None:
    merge = Merge()
    assert merge.new(0, [10, 10], None, NOW) == [0, 1]
    assert merge.new(1, [10, 10, 10], None, NOW) == [2]


def test_a_connection_that_joins_repeats_nothing() -> None:
    merge = Merge()
    merge.new(0, [10, 11, 12], None, NOW)
    assert merge.new(1, [11, 12, 13], None, NOW) == [2]
    merge.leave(1)
    assert merge.new(1, [12, 13, 14], None, NOW) == [2]


def test_where_identities_repeat_only_what_comes_close_together_is_the_same() -> None:
    merge = Merge(span=5)
    assert merge.new(0, [10], None, NOW) == [0]
    assert merge.new(1, [10], None, NOW + 4) == []
    assert merge.new(1, [10], None, NOW + 6) == [0]
    assert merge.new(0, [10], None, NOW + 7) == []


def test_what_cannot_be_recognised_is_the_leads_alone() -> None:
    merge = Merge()
    merge.lead = 0
    assert merge.new(1, [NO_IDENTITY, SNAPSHOT, 10], None, NOW) == [2]
    assert merge.new(0, [NO_IDENTITY, SNAPSHOT], None, NOW) == [0, 1]
    assert merge.unidentified == 1
    assert merge.new(1, [NO_IDENTITY, SNAPSHOT], None, NOW, leads=True) == [0]


def test_behind_a_snapshot_of_the_lead_its_changes_come_again() -> None:
    merge = Merge()
    merge.lead = 0
    assert merge.new(1, [10, 11, 20], ["a", "a", "b"], NOW) == [0, 1, 2]
    assert merge.new(0, [SNAPSHOT, 11, 20], ["a", "a", "b"], NOW) == [0, 1]


def test_what_another_one_shows_late_of_before_the_leads_snapshot_is_not_repeated() -> None:
    merge = Merge()
    merge.lead = 0
    assert merge.new(0, [10, 11, SNAPSHOT, 12], None, NOW) == [0, 1, 2, 3]
    assert merge.new(1, [10, 11, SNAPSHOT, 12, 13], None, NOW) == [4]
    merge.lead = 1
    assert merge.new(1, [10, 13, SNAPSHOT, 13], None, NOW) == [0, 1, 2, 3]  # a second 10 and a second 13; its own snapshot
    assert merge.new(0, [13, 14], None, NOW) == [1]


def test_what_is_remembered_is_bounded() -> None:
    merge = Merge(remembered=2)
    merge.new(0, [10, 11, 12], None, NOW)
    assert merge.new(1, [11, 12], None, NOW) == []
    assert merge.new(1, [10], None, NOW) == [0]


@given(st.data(), st.lists(st.integers(2, 9), max_size=40))
def test_any_interleaving_of_equal_streams_gives_that_stream(data: st.DataObject, stream: list[int]) -> None:
    merge = Merge()
    at = [0, 0, 0]
    merged: list[int] = []
    while any(place < len(stream) for place in at):
        member = data.draw(st.sampled_from([m for m in range(3) if at[m] < len(stream)]))
        size = data.draw(st.integers(1, len(stream) - at[member]))
        record = stream[at[member] : at[member] + size]
        at[member] += size
        merged += [record[place] for place in merge.new(member, record, None, NOW)]
    assert merged == stream
