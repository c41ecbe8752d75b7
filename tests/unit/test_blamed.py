"""Streams because of which the exchange closes the connection: found over several connections, then left out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.rawserver import server_frame
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import ConnectionUp, Report
from wsadapter.endpoint.subscriptions import Subscriptions as WantedSubscriptions
from wsadapter.worker.session.actions import Notify, Send
from wsadapter.worker.session.session import Session
from wsadapter.worker.subscription.subscriptions import Subscriptions
from wsadapter.worker.websocket.frames import CLOSE, TEXT, apply_mask
from wsadapter.worker.websocket.reader import Reader

DIALECT = {
    "subscribe": {"frame": '[{"ticket":"$id"},"$streams..."]', "replaces": True},
    "error": [{"match": {"error.name": "*"}, "closes": True}],
    "stream": {"fields": {"type": "type", "code": "code"}},
}
A, B, C = ({"type": kind, "code": "X-YZ"} for kind in ("book", "tape", "nope"))
NAMES = {"A": '{"code":"X-YZ","type":"book"}', "B": '{"code":"X-YZ","type":"tape"}', "C": '{"code":"X-YZ","type":"nope"}'}
NAMING = b'{"error":{"name":"BAD","message":"nope: unknown"}}'
VAGUE = b'{"error":{"name":"BAD","message":"?"}}'


def begun(*wanted: Any, **blamed: str) -> tuple[Subscriptions, list[Any]]:
    owner = Subscriptions(DIALECT, live_timeout=60.0)
    return owner, told(owner.restore(wanted, 0.0, {NAMES[letter]: error for letter, error in blamed.items()}))


def told(steps: Any) -> list[Any]:
    """Reports by event and fields; of a frame the letters of its streams."""
    letters = {name: letter for letter, name in NAMES.items()}
    found: list[Any] = []
    for step in steps:
        if isinstance(step, Report):
            found.append((step.event, *step.fields.values()) if step.event != "log" else "log")
        else:
            names = [orjson.dumps(one, option=orjson.OPT_SORT_KEYS).decode() for one in orjson.loads(step)[1:]]
            found.append("".join(sorted(letters[name] for name in names)))
    return found


def refused(owner: Subscriptions, answer: bytes, now: float) -> list[Any]:
    recognised = owner.recognise(Text(answer), now)
    assert recognised is not None
    return told(recognised[0])


def test_the_stream_that_an_error_names_is_rejected_and_no_other_is_requested_on_this_connection() -> None:
    owner, steps = begun(A, B, C)
    assert steps == ["ABC"]
    assert refused(owner, NAMING, 0.2) == [
        ("blamed", {NAMES["C"]: NAMING.decode()}), ("rejected", NAMES["C"], NAMING.decode()),
    ]  # fmt: skip


def test_if_an_error_names_no_stream_all_streams_of_the_frame_are_suspected() -> None:
    owner, _ = begun(A, B, C)
    assert refused(owner, VAGUE, 0.2) == [("blamed", dict.fromkeys(NAMES.values(), "")), "log"]


def test_a_stream_that_was_requested_alone_is_the_cause() -> None:
    owner, steps = begun(A)
    assert steps == ["A"]
    list(owner.on_data(NAMES["A"], 0.1))
    assert told(owner.subscribe([C], 1.0)) == ["AC"]
    assert refused(owner, VAGUE, 1.2) == [("blamed", {NAMES["C"]: VAGUE.decode()}), ("rejected", NAMES["C"], VAGUE.decode())]


def test_a_refused_stream_is_reported_and_requested_again_only_by_the_user() -> None:
    owner, steps = begun(A, C, C="unknown")
    assert steps == ["A", ("rejected", NAMES["C"], "unknown")]
    assert told(owner.on_data(NAMES["A"], 0.3)) == [("subscribed", NAMES["A"]), ("restored", 1, (NAMES["C"],))]
    assert owner.deadline() is None
    assert told(owner.subscribe([C], 9.0)) == ["AC"]
    assert told(owner.on_data(NAMES["C"], 9.3)) == [("blamed", {NAMES["C"]: None}), ("subscribed", NAMES["C"])]


def test_suspects_are_requested_one_after_the_other_after_all_others() -> None:
    owner, steps = begun(A, B, C, B="", C="")
    assert steps == ["A"]
    assert owner.deadline() == 2.0
    assert told(owner.tick(2.0)) == ["AB"]
    assert told(owner.on_data(NAMES["B"], 2.3)) == [("blamed", {NAMES["B"]: None}), ("subscribed", NAMES["B"])]
    assert told(owner.tick(4.0)) == ["ABC"]
    assert refused(owner, VAGUE, 4.2) == [
        ("blamed", {NAMES["C"]: VAGUE.decode()}), ("rejected", NAMES["C"], VAGUE.decode()), ("restored", 2, (NAMES["C"],)),
    ]  # fmt: skip


def test_a_silent_suspect_is_cleared_when_the_next_one_is_requested() -> None:
    owner, steps = begun(B, C, B="", C="")
    assert steps == []
    assert told(owner.tick(0.0)) == ["B"]
    assert told(owner.tick(2.0)) == [("blamed", {NAMES["B"]: None}), "BC"]


def test_an_owner_that_continues_on_a_connection_does_not_request_suspects() -> None:
    for blamed, due in (([NAMES["C"]], None), ([], 60.0)):
        owner = Subscriptions(DIALECT)
        owner.inherit([A, C], rejected={NAMES["C"]: "unknown"}, blamed=blamed)
        assert owner.deadline() == due


@pytest.mark.parametrize("forget", [WantedSubscriptions.remove, WantedSubscriptions.forgive])
def test_a_stream_that_is_not_wanted_any_more_or_wanted_again_is_not_blamed(forget: Any) -> None:
    subscriptions = WantedSubscriptions()
    subscriptions.add([A, B])
    subscriptions.blame.reported(NAMES["A"], "unknown", 0.0)
    subscriptions.blame.reported(NAMES["B"], "", 0.0)
    subscriptions.connection_lost()
    forget(subscriptions, [A])
    assert subscriptions.blame.for_owner(1.0) == {NAMES["B"]: ""}


def test_a_refusal_on_an_earlier_connection_counts_before_the_next_connection_repeats_it() -> None:
    subscriptions = WantedSubscriptions()
    subscriptions.add([A, B])
    subscriptions.blame.reported(NAMES["A"], "unknown", 0.0)
    subscriptions.connection_lost()
    assert subscriptions.refused([A, B]) == [A]


def test_a_stream_that_the_user_requests_again_before_the_connection_is_ready_is_requested_like_any_other() -> None:
    dialect = {**DIALECT, "ready": [{"match": {"hello": "*"}}]}
    endpoint = Endpoint("feed", url="ws://feed.example/")
    session = Session(
        Assignment(endpoint=endpoint, epoch=2, url="ws://x/", wanted=(A, C), dialect=dialect, blamed={NAMES["C"]: "unknown"}),
        salt=1,
    )
    session.start(ConnectionUp({}, None), 0.0)
    assert session.subscribing.subscribe([C], 0.1) == []
    actions = session.received(Reader(1 << 20).feed(server_frame(TEXT, b'{"hello":1}')), 0.2)
    frames = [apply_mask(action.frame[6:], action.frame[2:6]) for action in actions if isinstance(action, Send)]
    assert [len(orjson.loads(frame)[1:]) for frame in frames] == [2]


def test_a_suspect_that_was_not_requested_yet_is_unsubscribed_without_a_frame() -> None:
    owner, steps = begun(A, B, B="")
    assert steps == ["A"]
    assert told(owner.unsubscribe([B], 1.0)) == []
    list(owner.on_data(NAMES["A"], 1.1))
    assert told(owner.tick(2.0)) == []


CONFIRMING = {
    "subscribe": {"frame": '{"sub":"$stream"}', "per_frame": 1},
    "ack": [{"match": {"ok": "*"}, "stream": "ok"}],
    "error": [{"match": {"no": "*"}, "stream": "no", "text": "why"}],
    "stream": {"path": "s"},
}
"""Each stream is confirmed by its name; the exchange may close without a word."""


def opened(*wanted: str, retry_at: dict[str, float] | None = None, **blamed: str) -> tuple[Subscriptions, list[Any]]:
    owner = Subscriptions(CONFIRMING)
    return owner, asked(owner.restore(wanted, 0.0, blamed, retry_at or {}))


def asked(steps: Any) -> list[Any]:
    """Reports by event and fields; of a frame its stream."""
    return [((step.event, *step.fields.values()) if isinstance(step, Report) else orjson.loads(step)["sub"]) for step in steps]


def confirms(owner: Subscriptions, name: str, now: float) -> list[Any]:
    recognised = owner.recognise(Text(b'{"ok":"%s"}' % name.encode()), now)
    assert recognised is not None
    return asked(recognised[0])


def test_an_unanswered_request_just_before_a_close_is_evidence() -> None:
    owner, _ = opened("a", "b", "c")
    confirms(owner, "a", 0.1)
    assert asked(owner.closed(0.2)) == [("closed_over", ("b", "c"), False, 5.0)]
    confirms(owner, "c", 0.3)
    assert asked(owner.closed(0.4)) == [("closed_over", ("b",), True, 5.0)]


def test_one_stream_is_evidence_alone_only_if_another_was_confirmed() -> None:
    owner, _ = opened("a")
    assert asked(owner.closed(0.2)) == [("closed_over", ("a",), False, 5.0)]


@pytest.mark.parametrize("dialect", [
    {**CONFIRMING, "error": [{"match": {"no": "*"}, "closes": True}]},
    {key: table for key, table in CONFIRMING.items() if key != "ack"},
])  # fmt: skip
def test_a_close_is_no_evidence_if_the_exchange_gives_a_reason_or_confirms_nothing(dialect: dict[str, Any]) -> None:
    owner = Subscriptions(dialect)
    list(owner.restore(["a", "b"], 0.0))
    assert asked(owner.closed(0.2)) == []


def test_a_close_long_after_the_frame_is_no_evidence_nor_is_one_before_its_turn() -> None:
    owner, _ = opened("a")
    assert asked(owner.closed(5.1)) == []
    slow = Subscriptions(CONFIRMING, pace=1.0)
    list(slow.restore(["a", "b", "c"], 0.0))
    assert asked(slow.closed(1.5)) == [("closed_over", ("a", "b"), False, 5.0)]


def test_suspects_are_requested_in_groups_each_as_soon_as_the_previous_group_is_answered() -> None:
    names = [f"s{number}" for number in range(16)]
    owner, steps = opened("a", *names, **dict.fromkeys(names, ""))
    assert steps == ["a"]
    assert owner.deadline() == 2.0
    confirms(owner, "a", 0.1)
    assert owner.deadline() == 0.1
    assert asked(owner.tick(0.1)) == ["s0", "s1"]
    confirms(owner, "s0", 0.2)
    assert owner.deadline() == 2.1
    assert ("blamed", {"s1": None}) in confirms(owner, "s1", 0.2)
    assert asked(owner.tick(0.2)) == ["s2", "s3"]
    assert asked(owner.closed(0.3)) == [("closed_over", ("s2", "s3"), False, 5.0)]


def test_a_suspect_that_is_refused_with_an_error_is_a_rejected_stream_like_any_other() -> None:
    owner, _ = opened("a", "b", b="")
    confirms(owner, "a", 0.1)
    assert asked(owner.tick(0.1)) == ["b"]
    recognised = owner.recognise(Text(b'{"no":"b","why":"unknown"}'), 0.2)
    assert recognised is not None
    assert asked(recognised[0]) == [("rejected", "b", "unknown"), ("blamed", {"b": None}), ("restored", 1, ("b",))]
    assert owner.deadline() == 60.2


def test_a_convicted_stream_is_requested_again_when_its_time_has_come() -> None:
    owner, steps = opened("a", "b", b="closed over", retry_at={"b": 3600.0})
    assert steps == ["a", ("rejected", "b", "closed over")]
    confirms(owner, "a", 0.1)
    assert owner.deadline() == 3600.0
    assert asked(owner.tick(3600.0)) == ["b"]
    assert asked(owner.closed(3600.1)) == [("closed_over", ("b",), True, 5.0)]


@pytest.mark.parametrize(("code", "evidence"), [(1000, True), (1008, True), (1001, False), (1012, False), (1013, False)])
def test_a_close_that_is_about_the_peer_is_no_evidence(code: int, evidence: bool) -> None:
    endpoint = Endpoint("feed", url="ws://feed.example/")
    session = Session(Assignment(endpoint=endpoint, epoch=1, url="ws://x/", wanted=("a",), dialect=CONFIRMING), salt=1)
    session.start({}, 0.0)
    actions = session.received(Reader(1 << 20).feed(server_frame(CLOSE, code.to_bytes(2, "big"))), 0.1)
    events = [action.report.event for action in actions if isinstance(action, Notify)]
    assert events == ["closed_over"] * evidence


def test_a_connection_that_breaks_is_evidence_and_one_that_we_close_is_none() -> None:
    endpoint = Endpoint("feed", url="ws://feed.example/")
    for stopped in (False, True):
        session = Session(Assignment(endpoint=endpoint, epoch=1, url="ws://x/", wanted=("a",), dialect=CONFIRMING), salt=1)
        session.start({}, 0.0)
        if stopped:
            session.stop(1000, "stopped", 0.1, within=2.0)
        events = [action.report.event for action in session.lost("reset", 0.2) if isinstance(action, Notify)]
        assert events == [] if stopped else ["closed_over"]
