"""What the end of an owner means."""

from __future__ import annotations

import pytest

from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.owner_end import end_reason, gaps_behind_up, may_continue, read_all

KILLED = Reason(kind="crashed", signal="SIGKILL")
CLOSED = Reason(kind="closed_by_peer", code=1001)


def reason(known: Reason, reported: Reason | None = None, *, was_asked: bool = False, lost: Reason | None = None) -> Reason:
    return end_reason(known, reported, was_asked=was_asked, holder_lost=lambda _: lost)


def test_the_reported_reason_counts_otherwise_the_supervisors_evidence() -> None:
    assert reason(KILLED) is KILLED
    assert reason(KILLED, CLOSED) is CLOSED


@pytest.mark.parametrize("kind", ["hung", "corrupt", "memory_limit", "overflow"])
def test_the_reason_of_the_supervisor_counts_more_than_that_of_the_owner(kind: str) -> None:
    assert reason(Reason(kind=kind), CLOSED).kind == kind


def test_the_loss_of_the_tls_holder_is_the_cause_of_its_owners_error() -> None:
    seen: list[Reason] = []

    def lost(owners: Reason) -> Reason:
        seen.append(owners)
        return KILLED

    ended = end_reason(KILLED, CLOSED, was_asked=False, holder_lost=lost)
    assert (ended.kind, ended.text) == ("holder_lost", f"its TLS holder: {KILLED.describe()}")
    assert seen == [CLOSED]


def test_an_owner_that_somebody_else_stopped_has_crashed() -> None:
    stopped = Reason(kind="stopped", code=1000)
    assert reason(stopped, was_asked=True) is stopped
    assert reason(stopped) == Reason(kind="crashed", signal="SIGTERM", code=1000)


@pytest.mark.parametrize(
    ("known", "is_last", "unwanted", "continues"),
    [
        (KILLED, False, False, True),
        (Reason(kind="hung"), False, False, True),
        (Reason(kind="memory_limit"), False, False, True),
        (Reason(kind="corrupt"), False, False, False),
        (Reason(kind="overflow"), False, False, False),
        (KILLED, True, False, False),
        (KILLED, False, True, False),
    ],
)
def test_whether_the_next_owner_may_continue_with_the_connection(
    known: Reason, is_last: bool, unwanted: bool, continues: bool
) -> None:
    assert may_continue(known, is_last=is_last, unwanted=unwanted) is continues


@pytest.mark.parametrize(
    ("ended", "all_read"),
    [
        (Reason(kind="recycled"), True),
        (Reason(kind="stopped"), True),
        (CLOSED, True),
        (Reason(kind="closed_by_peer", code=1006), False),
        (KILLED, False),
    ],
)
def test_whether_an_owner_had_read_all_bytes_of_its_connection(ended: Reason, all_read: bool) -> None:
    assert read_all(ended) is all_read


def test_which_gaps_stand_behind_an_up() -> None:
    assert gaps_behind_up(resumed=True, interrupted=(), replaces=True) == []
    assert gaps_behind_up(resumed=False, interrupted=(), replaces=False) == [("reconnected", None)]
    assert gaps_behind_up(resumed=False, interrupted=(), replaces=True) == [("replaced", None)]
    assert gaps_behind_up(resumed=False, interrupted=("a", "b"), replaces=True) == [("replaced", "a"), ("replaced", "b")]
