"""What members of an endpoint with replicas say of streams is told once."""

from __future__ import annotations

from tests.support.snapshots import transferred
from wsadapter import Down, Rejected, Restored, Subscribed
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.announced import Announced

YES = Subscribed("a", 1, 0, "s")
ALL = Restored("a", 1, 0, 1)


def no(error: str = "unknown") -> Rejected:
    return Rejected("a", 1, 0, "s", error)


def test_a_stream_is_subscribed_when_the_first_member_has_it() -> None:
    announced = Announced()
    assert [announced.is_news(YES, member) for member in (1, 2, 1)] == [True, False, False]


def test_a_stream_is_rejected_when_all_members_were_refused_and_told_once() -> None:
    announced = Announced()
    assert not announced.is_news(no(), 1, by_all=False)
    assert announced.is_news(no(), 2, by_all=True)
    assert not announced.is_news(no("unknown to this one"), 1, by_all=True)
    assert not announced.is_news(no(), 2, by_all=True)


def test_a_reason_that_comes_late_is_told_if_it_comes_from_the_member_that_told_the_refusal() -> None:
    announced = Announced()
    assert announced.is_news(no("not answered"), 2, by_all=True)
    assert announced.is_news(no("unknown"), 2, by_all=True)


def test_a_refusal_of_what_another_member_has_is_not_told_and_a_revocation_by_all_is() -> None:
    announced = Announced()
    announced.is_news(YES, 1)
    assert not announced.is_news(no(), 2, by_all=False)
    assert announced.is_news(no(), 1, by_all=True)
    assert announced.is_news(YES, 2)


def test_all_is_restored_once_until_no_member_has_a_connection() -> None:
    announced = Announced()
    assert [announced.is_news(ALL, member) for member in (2, 1, 2)] == [True, False, False]
    announced.is_news(YES, 1)
    announced.begin()
    assert announced.is_news(ALL, 1)
    assert announced.is_news(YES, 2)


def test_what_is_asked_for_again_is_told_again() -> None:
    announced = Announced()
    announced.is_news(no(), 2, by_all=True)
    announced.keep({"s"})
    assert not announced.is_news(no(), 1, by_all=True)
    announced.forget(["s"])
    assert announced.is_news(no(), 1, by_all=True)
    announced.keep(())
    assert announced.is_news(no(), 1, by_all=True)


def test_other_events_are_told_as_they_come() -> None:
    event = Down("a", 1, 0, Reason(kind="stopped"))
    announced = Announced()
    assert announced.is_news(event, 1)
    assert announced.is_news(event, 2)


def test_a_takeover_hands_over_what_was_told() -> None:
    announced = Announced()
    for event in (YES, ALL, Rejected("a", 1, 0, "t", "unknown")):
        assert announced.is_news(event, 1, by_all=True)
    copy = Announced(transferred(announced.snapshot()))
    for event in (YES, ALL, Rejected("a", 1, 0, "t", "unknown")):
        assert not copy.is_news(event, 2, by_all=True)
