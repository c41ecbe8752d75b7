"""Quiet and stalled told apart by a stream's own pace, with the clock in the test's hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.dialect.streams import Stream
from wsadapter.worker.session.stalls import StallDetector

LEAST = 60.0


def stream(name: str = "a") -> Stream:
    return Stream(name, wanted=True)


def told(detector: StallDetector, now: float) -> list[tuple[str, float, bool]]:
    return [(stall.stream.name, stall.silence, stall.hopeless) for stall in detector.tick(now)]


def steady(detector: StallDetector, of: Stream, *, every: float, until: float) -> float:
    """It comes at an even pace; when it came last."""
    for at in range(int(until / every) + 1):
        detector.on_messages([of], at * every)
    return at * every


def test_what_came_steadily_and_falls_silent_is_told_then_given_up() -> None:
    detector, a = StallDetector(LEAST), stream()
    last = steady(detector, a, every=1.0, until=600.0)
    assert told(detector, last + 59.9) == []
    assert told(detector, last + 80.0) == [("a", 80.0, False)]
    assert told(detector, last + 179.0) == []
    assert told(detector, last + 200.0) == [("a", 200.0, True)]
    assert told(detector, last + 10_000.0) == []


def test_what_comes_back_is_watched_on_with_more_patience() -> None:
    detector, a = StallDetector(LEAST), stream()
    last = steady(detector, a, every=1.0, until=600.0)
    assert told(detector, last + 70.0) == [("a", 70.0, False)]
    back = last + 80.0
    end = back + 10_000.0
    for step in range(10_001):
        detector.on_messages([a], back + step)
    assert told(detector, end + 799.0) == []
    assert told(detector, end + 815.0) == [("a", 815.0, False)]


def test_what_was_not_watched_for_long_is_not_judged() -> None:
    detector, a = StallDetector(LEAST), stream()
    last = steady(detector, a, every=1.0, until=599.0)
    assert told(detector, last + 100_000.0) == []


def test_one_message_and_then_nothing_is_not_judged() -> None:
    detector, a = StallDetector(LEAST), stream()
    detector.on_messages([a], 0.0)
    assert told(detector, 1_000_000.0) == []


def test_a_stream_that_was_unsubscribed_is_not_expected_until_it_is_wanted_again() -> None:
    detector, a = StallDetector(LEAST), stream()
    last = steady(detector, a, every=1.0, until=600.0)
    detector.remove(["a"])
    detector.on_messages([a], last + 1.0)  # the peer goes on for a while
    assert told(detector, last + 500.0) == []
    detector.add(["a"])
    for at in range(601):
        detector.on_messages([a], 2000.0 + at)
    assert told(detector, 2680.0) == [("a", 80.0, False)]


def test_what_is_not_read_can_not_be_silent() -> None:
    detector, a = StallDetector(LEAST), stream()
    last = steady(detector, a, every=1.0, until=600.0)
    detector.pause()
    assert told(detector, last + 500.0) == []
    detector.resume(last + 500.0)
    assert told(detector, last + 559.0) == []
    detector.on_messages([a], last + 505.0)  # and is not taken for a pause of 505 seconds
    assert told(detector, last + 575.0) == [("a", 70.0, False)]


def test_one_of_many_is_found() -> None:
    detector, a, b = StallDetector(LEAST), stream("a"), stream("b")
    for at in range(601):
        detector.on_messages([a, b], float(at))
    for at in range(601, 700):
        detector.on_messages([b], float(at))
    assert told(detector, 699.0) == [("a", 99.0, False)]


@given(
    st.lists(st.floats(0.0, 500.0), min_size=1, max_size=60),
    st.lists(st.floats(0.0, 10.0), max_size=3),
)
def test_nothing_is_told_of_pauses_that_were_there_before(pauses: list[float], factors: list[float]) -> None:
    """As long as no pause is ten times longer than the longest before it, or `least`."""
    detector, a, now, longest = StallDetector(LEAST), stream(), 0.0, 0.0
    detector.on_messages([a], now)
    for pause in [*pauses, *(max(pauses) * factor for factor in factors)]:
        allowed = max(LEAST, longest * 10.0)
        pause = min(pause, allowed * 0.99)
        assert told(detector, now + pause) == []
        now += pause
        detector.on_messages([a], now)
        longest = max(longest, pause)
