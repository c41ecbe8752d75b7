"""Quiet and stalled told apart by a stream's own pace, with the clock in the test's hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.dialect.streams import Stream
from wsadapter.worker.session.stalls import Paces

LEAST = 60.0


def stream(name: str = "a") -> Stream:
    return Stream(name, wanted=True)


def told(paces: Paces, now: float) -> list[tuple[str, float, bool]]:
    return [(stall.stream.name, stall.silence, stall.hopeless) for stall in paces.tick(now)]


def steady(paces: Paces, of: Stream, *, every: float, until: float) -> float:
    """It comes at an even pace; when it came last."""
    for at in range(int(until / every) + 1):
        paces.heard([of], at * every)
    return at * every


def test_what_came_steadily_and_falls_silent_is_told_then_given_up() -> None:
    paces, a = Paces(LEAST), stream()
    last = steady(paces, a, every=1.0, until=600.0)
    assert told(paces, last + 59.9) == []
    assert told(paces, last + 80.0) == [("a", 80.0, False)]
    assert told(paces, last + 179.0) == []
    assert told(paces, last + 200.0) == [("a", 200.0, True)]
    assert told(paces, last + 10_000.0) == []


def test_what_comes_back_is_watched_on_with_more_patience() -> None:
    paces, a = Paces(LEAST), stream()
    last = steady(paces, a, every=1.0, until=600.0)
    assert told(paces, last + 70.0) == [("a", 70.0, False)]
    back = last + 80.0
    end = back + 10_000.0
    for step in range(10_001):
        paces.heard([a], back + step)
    assert told(paces, end + 799.0) == []
    assert told(paces, end + 815.0) == [("a", 815.0, False)]


def test_what_was_not_watched_for_long_is_not_judged() -> None:
    paces, a = Paces(LEAST), stream()
    last = steady(paces, a, every=1.0, until=599.0)
    assert told(paces, last + 100_000.0) == []


def test_one_message_and_then_nothing_is_not_judged() -> None:
    paces, a = Paces(LEAST), stream()
    paces.heard([a], 0.0)
    assert told(paces, 1_000_000.0) == []


def test_a_stream_that_was_unsubscribed_is_not_expected_until_it_is_wanted_again() -> None:
    paces, a = Paces(LEAST), stream()
    last = steady(paces, a, every=1.0, until=600.0)
    paces.unwant(["a"])
    paces.heard([a], last + 1.0)  # the peer goes on for a while
    assert told(paces, last + 500.0) == []
    paces.want(["a"])
    for at in range(601):
        paces.heard([a], 2000.0 + at)
    assert told(paces, 2680.0) == [("a", 80.0, False)]


def test_what_is_not_read_can_not_be_silent() -> None:
    paces, a = Paces(LEAST), stream()
    last = steady(paces, a, every=1.0, until=600.0)
    paces.pause()
    assert told(paces, last + 500.0) == []
    paces.resume(last + 500.0)
    assert told(paces, last + 559.0) == []
    paces.heard([a], last + 505.0)  # and is not taken for a pause of 505 seconds
    assert told(paces, last + 575.0) == [("a", 70.0, False)]


def test_one_of_many_is_found() -> None:
    paces, a, b = Paces(LEAST), stream("a"), stream("b")
    for at in range(601):
        paces.heard([a, b], float(at))
    for at in range(601, 700):
        paces.heard([b], float(at))
    assert told(paces, 699.0) == [("a", 99.0, False)]


@given(
    st.lists(st.floats(0.0, 500.0), min_size=1, max_size=60),
    st.lists(st.floats(0.0, 10.0), max_size=3),
)
def test_nothing_is_told_of_pauses_that_were_there_before(pauses: list[float], factors: list[float]) -> None:
    """As long as no pause is ten times longer than the longest before it, or `least`."""
    paces, a, now, longest = Paces(LEAST), stream(), 0.0, 0.0
    paces.heard([a], now)
    for pause in [*pauses, *(max(pauses) * factor for factor in factors)]:
        allowed = max(LEAST, longest * 10.0)
        pause = min(pause, allowed * 0.99)
        assert told(paces, now + pause) == []
        now += pause
        paces.heard([a], now)
        longest = max(longest, pause)
