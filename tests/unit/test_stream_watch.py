"""The streams of one connection: which stream a message belongs to, which numbers are missing, which stream is silent."""

from __future__ import annotations

from typing import Any

import pytest

from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import GapFound, PacesLearned, StreamNamed, StreamStalled
from wsadapter.worker.session.stream_watch import StreamWatch

DIALECT = {"stream": {"path": "s"}, "gap": [{"contains": "n", "scope": ["$stream"], "value": "n"}]}
WHOLE = {"stream": {"path": "s"}, "gap": [{"contains": "n", "scope": [], "value": "n"}]}


def watch(
    dialect: dict[str, Any] | None = DIALECT,
    *,
    wanted: tuple[Any, ...] = ("a", "b"),
    channels: dict[str, Any] | None = None,
    paces: dict[str, float] | None = None,
    **settings: Any,
) -> StreamWatch:
    endpoint = Endpoint("x", url="ws://x/", **settings)
    assignment = Assignment(endpoint=endpoint, epoch=1, url="ws://x/", dialect=dialect, wanted=wanted, paces=paces or {})
    return StreamWatch(assignment, {} if channels is None else channels)


def message(stream: str, number: int = 0) -> Text:
    return Text(f'{{"s":"{stream}","n":{number}}}'.encode())


def steady(watched: StreamWatch, stream: str = "a", *, until: float = 700.0) -> None:
    """A message each second."""
    found = watched.of(message(stream))
    assert found is not None
    for at in range(int(until) + 1):
        watched.on_messages([found], float(at))


@pytest.mark.parametrize("dialect", [None, {}, {"gap": DIALECT["gap"]}])
def test_without_stream_rules_no_message_has_a_stream(dialect: dict[str, Any] | None) -> None:
    watched = watch(dialect)
    assert not watched.has_rules
    assert watched.of(message("a")) is None
    watched.add(["c"])
    watched.remove(["c"])
    watched.expect(["a"], 0.0)
    watched.on_messages([], 0.0)
    watched.pause()
    watched.resume(1.0)
    assert (watched.deadline(), watched.is_due(9.9), watched.stalled(9.9), watched.learned()) == (None, False, ([], []), None)


def test_the_stream_of_a_message_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, text = watch(), message("a")
    found = watched.of(text)
    assert found is not None
    assert (found.name, found.wanted) == ("a", True)
    monkeypatch.setattr(watched._streams, "find", lambda *_: pytest.fail("it was searched again"))
    assert watched.of(text) is found


def test_a_stream_is_announced_before_its_first_message() -> None:
    watched = watch()
    a, b = watched.of(message("a")), watched.of(message("b"))
    assert a is not None
    assert b is not None
    assert (watched.named(b), watched.named(a)) == (StreamNamed(1, "b"), StreamNamed(2, "a"))
    without = watch(None)
    assert without.named(a) is None


def test_a_channel_that_the_peer_assigns_later_is_a_stream_too() -> None:
    channels: dict[str, Any] = {}
    watched = watch(channels=channels)
    assert watched.of(message("7")) is None
    channels["7"] = "b"
    found = watched.of(message("7"))
    assert found is not None
    assert found.name == "b"


def test_a_stream_that_is_subscribed_later_is_known_from_then_on() -> None:
    watched = watch()
    assert watched.of(message("c")) is None
    watched.add(["c"])
    assert watched.of(message("c")) is not None


def test_a_missing_number_is_reported_with_its_stream() -> None:
    watched = watch()
    assert watched.gap(message("a", 1)) is None
    assert watched.gap(message("b", 9)) is None
    assert watched.gap(message("a", 3)) == GapFound("sequence", "a", 2, 3)
    assert watched.gap(message("a", 4)) is None


def test_a_missing_number_of_the_connection_has_no_stream() -> None:
    watched = watch(WHOLE)
    assert watched.gap(message("a", 1)) is None
    assert watched.gap(message("b", 3)) == GapFound("sequence", None, 2, 3)


def test_a_gap_in_a_stream_that_the_filter_removes_concerns_nobody_but_one_of_the_connection_does() -> None:
    only_a = {"filter": {"include": ["a"]}}
    watched = watch(**only_a)
    watched.gap(message("b", 1))
    assert watched.gap(message("b", 3)) is None
    watched = watch(WHOLE, **only_a)
    watched.gap(message("b", 1))
    assert watched.gap(message("b", 3)) == GapFound("sequence", None, 2, 3)


def test_numbers_are_checked_only_where_that_is_wanted_and_possible() -> None:
    for watched in (watch(gap_check=False), watch({"stream": {"path": "s"}})):
        assert not watched.may_count(b'"n":1')
        assert (watched.gap(message("a", 1)), watched.gap(message("a", 9))) == (None, None)
    assert watch().may_count(b'"n":1')
    assert not watch().may_count(b'"m":1')


def test_a_silent_stream_is_reported_and_subscribed_again_and_then_it_is_hopeless() -> None:
    watched = watch()
    steady(watched)
    assert watched.stalled(700.0) == ([], [])
    assert watched.deadline() == 715.0
    assert (watched.is_due(714.9), watched.is_due(715.0)) == (False, True)
    assert watched.stalled(761.0) == ([StreamStalled("a", 61.0, hopeless=False)], ["a"])
    assert watched.stalled(890.0) == ([StreamStalled("a", 190.0, hopeless=True)], [])


def test_the_pace_of_a_stream_is_learned_once_and_known_to_the_next_connection() -> None:
    watched = watch()
    steady(watched)
    assert watched.learned() == PacesLearned({"a": 1.0})
    assert watched.learned() is None
    later = watch(paces={"a": 1.0})
    later.expect(["a", "unknown"], 0.0)
    assert later.stalled(59.0) == ([], [])
    assert later.stalled(76.0) == ([StreamStalled("a", 76.0, hopeless=False)], ["a"])


def test_nothing_is_silent_while_nothing_is_read() -> None:
    watched = watch()
    steady(watched)
    watched.pause()
    assert watched.stalled(900.0) == ([], [])
    watched.resume(900.0)
    assert watched.stalled(959.0) == ([], [])
    assert watched.stalled(975.0)[0] == [StreamStalled("a", 75.0, hopeless=False)]


def test_a_stream_that_is_unsubscribed_may_be_silent() -> None:
    watched = watch()
    steady(watched)
    watched.remove(["a"])
    assert watched.stalled(900.0) == ([], [])


def test_streams_are_not_watched_if_the_watchdog_is_off() -> None:
    watched = watch(watchdog={"stalled": 0})
    steady(watched)
    assert (watched.deadline(), watched.stalled(9000.0)) == (None, ([], []))
