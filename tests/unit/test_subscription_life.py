"""The life of a subscription: its table, and the whole of it against an exchange that answers late, twice, never, wrongly,
partly, in any order, and refuses for the moment. The clock is in the test's hand.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise
from random import Random
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.ipc.reports import Report
from wsadapter.worker.subscription.life import TABLE, Action, Event, State, step
from wsadapter.worker.subscription.subscriptions import Subscriptions

# --- the table


def test_every_state_but_the_last_can_be_left_and_reached() -> None:
    reached = {State.WANTED, *(state for state, _ in TABLE.values())}
    assert reached == set(State)
    assert {state for state, _ in TABLE} == set(State) - {State.GONE}


def test_whatever_delivers_is_live() -> None:
    for state in set(State) - {State.WANTED, State.LIVE, State.LEAVING, State.GONE}:
        assert step(state, Event.DATA) == (State.LIVE, Action.LIVE)


def test_a_late_yes_counts_and_a_second_yes_changes_nothing() -> None:
    assert step(State.REJECTED, Event.YES) == (State.CONFIRMED, Action.CONFIRM)
    for state in (State.CONFIRMED, State.LIVE, State.SILENT):
        assert step(state, Event.YES) == (state, Action.NOTHING)


def test_only_a_revocation_takes_back_what_was_confirmed() -> None:
    for state in (State.CONFIRMED, State.LIVE, State.SILENT):
        assert step(state, Event.NO) == (state, Action.NOTHING)
        assert step(state, Event.LATER) == (state, Action.NOTHING)
        assert step(state, Event.REVOKED) == (State.REJECTED, Action.REJECT)


def test_a_stream_that_leaves_hears_nothing_any_more() -> None:
    for event in set(Event) - {Event.LEFT, Event.AGAIN}:
        assert step(State.LEAVING, event) == (State.LEAVING, Action.NOTHING)


# --- an exchange

Style = Literal["by id", "by stream", "no answers"]
Refuses = Literal["named", "unnamed", "each"]

FRAME = '{"op":"subscribe","id":"$id","args":"$streams"}'
DIALECTS: dict[Style, dict[str, Any]] = {
    "by id": {
        "subscribe": {"frame": FRAME, "per_frame": 7},
        "ack": [{"match": {"ok": True}, "id": "id"}],
        "error": [{"match": {"ok": False}, "text": "text", "id": "id"}],
        "stream": {"path": "s"},
    },
    "by stream": {
        "subscribe": {"frame": FRAME, "per_frame": 7},
        "ack": [{"match": {"ok": True}, "stream": "arg"}],
        "error": [{"match": {"ok": False}, "text": "text"}],
        "stream": {"path": "s"},
    },
    "no answers": {
        "subscribe": {"frame": FRAME, "per_frame": 7},
        "error": [{"match": {"ok": False}, "text": "text"}],
        "stream": {"path": "s"},
    },
}
GIVES_UP = 4000.0
"""Seconds: long enough for the first retries of what was rejected."""


@dataclass
class Venue:
    """What it does is drawn; it takes every good stream in the end."""

    style: Style
    refuses: Refuses
    dice: Random
    bad: set[str]
    mute: set[str]
    troubles: int
    """How many frames it loses or refuses for the moment."""
    has: set[str] = field(default_factory=set)
    frames: Counter[str] = field(default_factory=Counter)
    said: set[str] = field(default_factory=set)
    """Errors that it gave."""

    def take(self, frame: dict[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
        """Its answers, each with its delay."""
        number, streams = frame["id"], frame["args"]
        self.frames.update(streams)
        if self.troubles and self.dice.random() < 0.3:
            self.troubles -= 1
            if self.style != "no answers" and self.dice.random() < 0.5:
                yield self.later, self._error(number, "Too many requests")
            return
        wrong = [stream for stream in streams if stream in self.bad]
        if wrong and self.refuses != "each":
            names = wrong if self.refuses == "named" else []
            yield self.delay, self._error(number, " ".join(["invalid topic", *names]))
            return
        twice = [stream for stream in streams if stream in self.has]
        if twice and self.refuses == "named" and self.style == "by id":
            yield self.delay, self._error(number, f"already subscribed: {twice[0]}")
            self.has.discard(twice[0])  # and so it is asked for again with the others
            return
        for stream in wrong:
            yield self.delay, self._error(number, f"invalid topic {stream}")
        good = [stream for stream in streams if stream not in self.bad]
        self.has.update(good)
        if self.style == "by id" and not wrong:
            yield from self._once_or_twice({"ok": True, "id": number})
        elif self.style == "by stream":
            for stream in good:
                yield from self._once_or_twice({"ok": True, "arg": stream})
        for stream in sorted(set(good) - self.mute):
            yield self.delay, {"s": stream}

    def _once_or_twice(self, answer: dict[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
        for _ in range(self.dice.choice((1, 1, 2))):
            yield self.delay, {**answer, "pad": "x" * self.dice.choice((0, 20_000))}

    @property
    def delay(self) -> float:
        return self.dice.choice((0.0, 0.01, 1.0, 15.0, 25.0))

    @property
    def later(self) -> float:
        return self.dice.choice((0.0, 0.01, 1.0))

    def _error(self, number: int, text: str) -> dict[str, Any]:
        self.said.add(text)
        return {"ok": False, "text": text, "id": number}


def live(venue: Venue, wanted: list[str]) -> list[tuple[float, Report]]:
    """The whole of one connection; what was reported, and when."""
    subscriptions = Subscriptions(DIALECTS[venue.style], live_timeout=300.0)
    reports: list[tuple[float, Report]] = []
    coming: list[tuple[float, int, bytes]] = []
    order = count()

    def carry_out(steps: Any, now: float) -> None:
        for one in steps:
            if isinstance(one, Report):
                reports.append((now, one))
                continue
            assert isinstance(one, bytes)
            for delay, message in venue.take(orjson.loads(one)):
                heapq.heappush(coming, (now + delay, next(order), orjson.dumps(message)))

    now = 0.0
    carry_out(subscriptions.restore(wanted, now), now)
    for _ in range(100_000):
        due = subscriptions.deadline()
        arrives = coming[0][0] if coming else float("inf")
        now = min(arrives, max(now, due) if due is not None else float("inf"))
        if now > GIVES_UP:
            return reports
        if arrives <= now:
            _, _, payload = heapq.heappop(coming)
            recognised = subscriptions.recognise(Text(payload), now)
            if recognised is not None:
                carry_out(recognised[0], now)
            elif subscriptions.awaiting_data:
                carry_out(subscriptions.on_data(orjson.loads(payload)["s"], now), now)
        else:
            carry_out(subscriptions.tick(now), now)
    raise AssertionError("it never comes to rest")


@pytest.mark.slow
@settings(max_examples=examples(300), derandomize=True)
@given(
    st.sampled_from(("by id", "by stream")),
    st.sampled_from(("named", "unnamed", "each")),
    st.integers(1, 20),
    st.integers(0, 4),
    st.integers(0, 2),
    st.integers(0, 4),
    st.integers(0, 2**32),
)
def test_every_stream_ends_live_rejected_for_a_reason_of_the_exchanges_or_reported_as_silent(
    style: Style, refuses: Refuses, streams: int, bad: int, mute: int, troubles: int, seed: int
) -> None:
    if style == "by id" and refuses == "each":
        refuses = "named"
    wanted = [f"topic{number}.feed" for number in range(streams)]
    dice = Random(seed)
    wrong = set(dice.sample(wanted, min(bad, streams)))
    silent = set(dice.sample(wanted, min(mute, streams))) - wrong
    venue = Venue(style, refuses, dice, wrong, silent, troubles)
    reports = live(venue, wanted)
    for stream in wanted:
        told = [(report.event, report.fields.get("error")) for _, report in reports if report.fields.get("stream") == stream]
        assert all(one != other for one, other in pairwise(told)), told
        event, error = told[-1]
        if stream in wrong:
            assert event == "rejected", told
            # An error without a number or a name, long after its frame, can't be known to be about this stream.
            nameless = style == "by stream" and refuses == "unnamed"
            assert error in venue.said or (nameless and str(error).startswith("not answered")), told
        elif stream in silent:
            assert event == "stalled", told
        else:
            assert event == "subscribed", told
    assert [report.event for _, report in reports].count("restored") == 1
    # Each is asked for at most as often as its frame is halved, lost, refused and tried again.
    assert max(venue.frames.values()) <= 12 + 2 * bad + 2 * troubles + 6


@pytest.mark.parametrize("seed", range(20))
def test_where_nothing_is_confirmed_streams_are_live_when_they_deliver_and_are_not_asked_for_again(seed: int) -> None:
    wanted = [f"topic{number}.feed" for number in range(10)]
    venue = Venue("no answers", "each", Random(seed), set(), set(), 0)
    reports = live(venue, wanted)
    assert sorted(report.fields["stream"] for _, report in reports if report.event == "subscribed") == sorted(wanted)
    assert set(venue.frames.values()) == {1}
    ((at, restored),) = [(at, report) for at, report in reports if report.event == "restored"]
    assert at <= 10.0
    assert restored.fields == {"ok": 10, "failed": ()}
