"""The record of streams because of which the peer closes connections. The clock is in the test's hand."""

from __future__ import annotations

import pytest

from tests.support.snapshots import transferred
from wsadapter.endpoint.blame import GUILTY_AFTER, SUSPECT_AFTER, Blame


def closed(blame: Blame, *names: str, alone: bool = False, now: float = 0.0) -> list[str]:
    return blame.closed(names, alone=alone, within=5.0, now=now)


def guilty(now: float = 0.0) -> Blame:
    blame = Blame()
    for _ in range(GUILTY_AFTER):
        closed(blame, "bad", alone=True, now=now)
    return blame


def test_one_close_makes_no_stream_suspect() -> None:
    blame = Blame()
    assert closed(blame, "a", "b") == []
    assert blame.for_owner(0.0) == {}
    assert "a" not in blame


def test_a_stream_that_is_unanswered_at_several_closes_is_suspected_and_reported_once() -> None:
    blame = Blame()
    assert [closed(blame, "a", "b") for _ in range(SUSPECT_AFTER + 1)] == [[], ["a", "b"], []]
    assert blame.for_owner(0.0) == {"a": "", "b": ""}


def test_an_answer_ends_the_row() -> None:
    blame = Blame()
    for _ in range(10):
        closed(blame, "a", alone=True)
        blame.clear("a")
    assert blame.for_owner(0.0) == {}


def test_an_outage_convicts_no_stream_however_long_it_lasts() -> None:
    blame = Blame()
    for _ in range(100):
        closed(blame, "a", "b")
        closed(blame, "c")  # it is the only one that is asked for, and nothing was confirmed
    assert blame.for_owner(0.0) == {"a": "", "b": "", "c": ""}


def test_a_stream_that_alone_was_unanswered_at_several_closes_is_convicted_with_a_reason() -> None:
    error = guilty().for_owner(1.0)["bad"]
    assert error.startswith("no answer: the peer closed 3 connections within 5 s")


def test_the_stream_with_the_fewest_closes_is_requested_first() -> None:
    blame = Blame()
    for names in (["bad", "b", "a"], ["bad", "b", "a"], ["bad"], ["bad", "b"]):
        closed(blame, *names)
    assert list(blame.for_owner(0.0)) == ["a", "b", "bad"]


def test_a_verdict_is_tried_again_after_a_pause_that_doubles() -> None:
    blame = guilty(now=100.0)
    assert blame.retries(100.0) == {"bad": 3700.0}
    assert blame.for_owner(3699.0)["bad"]
    assert blame.for_owner(3700.0) == {"bad": ""}
    closed(blame, "bad", alone=True, now=3701.0)
    assert blame.retries(3702.0) == {"bad": 3701.0 + 7200.0}
    for _ in range(10):
        closed(blame, "bad", alone=True, now=5000.0)
    assert blame.retries(5000.0) == {"bad": 5000.0 + 86400.0}


def test_a_stream_that_the_peer_refuses_with_an_error_is_not_tried_again_on_the_same_connection() -> None:
    blame = Blame()
    blame.reported("bad", "unknown", 0.0)
    blame.reported("other", "", 0.0)
    assert blame.for_owner(1.0) == {"bad": "unknown", "other": ""}
    assert blame.retries(1.0) == {}
    assert blame.for_owner(3600.0) == {"bad": "", "other": ""}


@pytest.mark.parametrize("blame", [Blame(), guilty()])
def test_a_takeover_transfers_the_evidence_unchanged(blame: Blame) -> None:
    copy = Blame({name: transferred(record) for name, record in blame.snapshot().items()})
    assert (copy.for_owner(1.0), copy.retries(1.0)) == (blame.for_owner(1.0), blame.retries(1.0))
