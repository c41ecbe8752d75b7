"""Events are counted by their kinds and causes, and the counts travel to another supervisor."""

from __future__ import annotations

from typing import Any

from tests.support.snapshots import transferred
from wsadapter.contract import items
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.tally import Tally


def down(kind: str = "crashed", **more: Any) -> items.Down:
    return items.Down("a", 1, 0, Reason(kind=kind), **more)


def up(*, resumed: bool, **more: Any) -> items.Up:
    return items.Up("a", 2, 0, None, {}, resumed, **more)


def dropped(count: int, cause: str) -> items.Dropped:
    return items.Dropped("a", 1, 0, None, None, count, 10, cause)


def test_events_are_counted_by_kind_and_cause() -> None:
    tally = Tally()
    for event in (
        down("crashed"), down("hung"), down("crashed"), items.Gap("a", 1, 0, "sequence", None, None),
        dropped(3, "decode"), dropped(2, "decode"), items.Stalled("a", 1, 0, "x", 9.0),
    ):  # fmt: skip
        tally.note(event, 1.0)
    assert tally.counts(5, "overflow") == {
        "downs": {"crashed": 2, "hung": 1}, "gaps": {"sequence": 1}, "dropped": {"decode": 5}, "stalled": 1, "handoff": None,
    }  # fmt: skip


def test_the_inbox_has_dropped_the_messages_that_no_other_event_reported() -> None:
    tally = Tally()
    tally.note(dropped(2, "poison"), 1.0)
    assert tally.counts(2, "overflow")["dropped"] == {"poison": 2}
    assert tally.counts(9, "overflow")["dropped"] == {"poison": 2, "overflow": 7}
    assert tally.counts(9, "conflated")["dropped"] == {"poison": 2, "conflated": 7}


def test_a_handoff_lasts_from_the_end_of_an_owner_to_the_next_ones_up() -> None:
    tally = Tally()
    tally.note(up(resumed=False), 1.0)
    tally.note(down(), 5.0)
    tally.note(up(resumed=False), 7.0)
    assert tally.handoff is None
    tally.note(down(), 10.0)
    tally.note(up(resumed=True), 10.25)
    assert tally.handoff == 0.25


def test_with_replicas_resumed_is_no_handoff() -> None:
    tally = Tally()
    tally.note(down(member=1, live=1), 5.0)
    tally.note(up(resumed=True, member=1, live=2), 6.0)
    assert tally.handoff is None


def test_the_counts_continue_in_another_supervisor_and_start_at_zero_if_it_passed_none() -> None:
    tally = Tally()
    tally.note(down("hung"), 1.0)
    tally.note(up(resumed=True), 1.5)
    other = Tally(transferred(tally.snapshot()))
    other.note(down("hung"), 0.0)
    assert other.counts(0, "overflow")["downs"] == {"hung": 2}
    assert other.handoff == 0.5
    assert Tally(None).counts(0, "overflow")["downs"] == {}
