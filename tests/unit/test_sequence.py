"""Whether an exchange's own numbers run on: all forms of the rule, and what is told when they do not. Pure."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.rawserver import server_frame
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Endpoint, Filter
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import ConnectionUp
from wsadapter.worker.session.actions import Action, Deliver, Notify
from wsadapter.worker.session.sequence import SequenceBreak, SequenceChecker
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.frames import TEXT
from wsadapter.worker.websocket.reader import Reader

ALL = {"scope": [], "value": "n"}
BY_SYMBOL = {"scope": ["s"], "first": "U", "last": "u"}
BY_PREVIOUS = {"scope": ["s"], "previous": "pu", "value": "u", "snapshot": {"type": "snapshot"}}


def no_stream(_text: Text) -> str | None:
    return None


def told(rules: Any, *messages: Any) -> list[tuple[int | None, int | None] | None]:
    """(expected, got) or None for each message."""
    gaps = SequenceChecker(rules if isinstance(rules, list) else [rules])
    found = [gaps.check(Text(orjson.dumps(message)), no_stream) for message in messages]
    return [None if one is None else (one.expected, one.got) for one in found]


def numbers(*values: Any) -> list[dict[str, Any]]:
    return [{"n": value} for value in values]


def range_of(first: int, last: int) -> dict[str, Any]:
    return {"s": "a", "U": first, "u": last}


def link(previous: int, number: int) -> dict[str, Any]:
    return {"s": "a", "pu": previous, "u": number}


def test_numbers_that_follow_are_no_gap_and_the_first_may_be_any() -> None:
    assert told(ALL, *numbers(7, 8, 9)) == [None] * 3
    assert told({**ALL, "step": 10}, *numbers(10, 20, 30, 31)) == [None, None, None, (40, 31)]
    assert told(BY_SYMBOL, range_of(1, 4), range_of(5, 5), range_of(6, 9)) == [None] * 3
    assert told(BY_PREVIOUS, link(90, 95), link(95, 99)) == [None, None]


def test_a_hole_is_told_once_and_the_count_goes_on_behind_it() -> None:
    assert told(ALL, *numbers(1, 2, 5, 6)) == [None, None, (3, 5), None]
    assert told(BY_SYMBOL, range_of(1, 4), range_of(7, 9), range_of(10, 10)) == [None, (5, 7), None]
    assert told(BY_PREVIOUS, link(1, 4), link(6, 9), link(9, 9)) == [None, (4, 6), None]


def test_what_comes_twice_or_late_is_told_and_the_count_goes_on_where_it_was() -> None:
    assert told(ALL, *numbers(1, 2, 2, 3)) == [None, None, (3, 2), None]
    assert told(ALL, *numbers(1, 3, 2, 4)) == [None, (2, 3), (4, 2), None]
    assert told(ALL, *numbers(8, 9, 3, 10)) == [None, None, (10, 3), None]
    assert told(BY_PREVIOUS, link(1, 4), link(4, 6), link(4, 6), link(6, 7)) == [None, None, (6, 4), None]


def test_an_exchange_that_goes_back_is_told_once() -> None:
    assert told(ALL, *numbers(100, 101, 1, 2, 3)) == [None, None, (102, 1), None, None]


def test_a_lower_number_that_follows_by_its_own_word_is_no_gap() -> None:
    assert told(BY_PREVIOUS, link(10, 15), link(15, 3), link(3, 5), link(5, 5)) == [None] * 4


def chain(*links: str) -> list[dict[str, Any]]:
    """Messages that say the event before and their own: "ab" is b, which follows a."""
    return [{"previous": link[0], "event": link[1]} for link in links]


OPAQUE = {"scope": [], "previous": "previous", "value": "event", "opaque": True}


def test_opaque_numbers_are_only_compared() -> None:
    none = (None, None)
    assert told(OPAQUE, *chain("ab", "bc", "cd", "da", "ab")) == [None] * 5
    assert told(OPAQUE, *chain("ab", "cd", "de", "fg")) == [None, none, None, none]
    # One that comes twice or late is told once: what follows it may follow the one before it.
    assert told(OPAQUE, *chain("ab", "bc", "ab", "cd", "de")) == [None, None, none, None, None]
    assert told(OPAQUE, *chain("ab", "cd", "bc", "de", "ef", "gh")) == [None, none, None, None, None, none]
    assert told({**OPAQUE, "ignore_equal": True}, *chain("ab", "bc", "bc", "cd")) == [None] * 4


def test_an_opaque_number_is_a_string_of_bounded_length_and_compared_as_it_is() -> None:
    long = "x" * 257
    messages = [{"previous": "0", "event": "01"}, {"previous": "1", "event": "2"}, {"previous": 2, "event": 3}, {"event": "9"}]
    assert told(OPAQUE, *messages) == [None, (None, None), None, None]
    assert told(OPAQUE, {"previous": "a", "event": long}, {"previous": "b", "event": "c"}) == [None, None]
    assert told({**OPAQUE, "snapshot": {"s": 1}}, *chain("ab"), {"s": 1, "event": "y"}, *chain("yz")) == [None] * 3


def test_each_scope_has_a_count_of_its_own() -> None:
    def row(symbol: Any, channel: str, number: int) -> dict[str, Any]:
        return {"arg": {"s": symbol, "c": channel}, "n": number}

    rows = [row("a", "x", 1), row("b", "x", 7), row("a", "y", 50), row("a", "x", 2), row("b", "x", 9), row("a", "y", 51)]
    assert told({"scope": ["arg.s", "arg.c"], "value": "n"}, *rows) == [None, None, None, None, (8, 9), None]
    assert told({"scope": ["arg"], "value": "n"}, *rows) == [None, None, None, None, (8, 9), None]
    rows = [row(1, "x", 1), row(2, "x", 5), row(1, "x", 2), row(2, "x", 6)]
    assert told({"scope": ["arg.s"], "value": "n"}, *rows) == [None] * 4


def test_the_stream_can_be_the_scope() -> None:
    gaps = SequenceChecker([{"scope": ["$stream"], "value": "n"}])
    steps = [("one", 1), ("two", 5), (None, 9), ("one", 2), (None, 4), ("two", 7)]
    found = [gaps.check(Text(orjson.dumps({"n": number})), lambda _, name=name: name) for name, number in steps]  # type: ignore[misc]
    assert found == [None] * 5 + [SequenceBreak(6, 7, of_connection=False)]


def test_a_snapshot_and_a_reset_are_not_compared_and_set_the_count() -> None:
    assert told(BY_PREVIOUS, link(1, 4), {"s": "a", "type": "snapshot", "u": 90}, link(90, 91), link(91, 92)) == [None] * 4
    assert told({**ALL, "reset": {"n": 1}}, *numbers(7, 8, 1, 2, 4)) == [None, None, None, None, (3, 4)]
    without = {"type": "new"}
    assert told({**ALL, "reset": without}, {"n": 5}, without, {"n": 90}, {"n": 92}) == [None, None, None, (91, 92)]


def test_the_same_number_once_more_can_be_no_gap() -> None:
    rule = {**ALL, "ignore_equal": True}
    assert told(rule, *numbers(1, 2, 2, 2, 3, 2)) == [None] * 5 + [(4, 2)]


def test_what_lacks_a_number_or_a_scope_is_not_looked_at() -> None:
    rows = [{"s": "a", "U": 1, "u": 2}, {"s": "a"}, {"s": "a", "u": 9}, {"U": 7, "u": 9}, {"s": None, "U": 7, "u": 9}]
    rows += [{"s": "a", "U": value, "u": value} for value in (None, True, 9.0, "x", "", [9], "9" * 20, 1 << 63)]
    assert told(BY_SYMBOL, *rows, {"s": "a", "U": 3, "u": 3}) == [None] * (len(rows) + 1)
    assert told(ALL, 5, [1], None, "x") == [None] * 4


def test_whole_numbers_beyond_2_to_the_53_and_strings_of_digits_keep_every_digit() -> None:
    large = 9_007_199_254_740_993
    assert told(ALL, *numbers(large, large + 1, large + 3)) == [None, None, (large + 2, large + 3)]
    assert told(ALL, *numbers(str(large), large + 1, str(large + 3))) == [None, None, (large + 2, large + 3)]
    top = (1 << 63) - 1
    [_, found] = told(ALL, *numbers(top, 1))
    assert orjson.loads(orjson.dumps(found)) == [top + 1, 1]


def test_the_first_rule_that_fits_counts() -> None:
    rules = [{"contains": '"depth"', "match": {"e": "depth"}, "scope": [], "value": "u"}, {"contains": "trade", **ALL}]
    gaps = SequenceChecker(rules)
    assert gaps.may_count(b'{"e":"depth"}')
    assert gaps.may_count(b"trade")
    assert not gaps.may_count(b'{"e":"ticker","n":1}')
    rows = [{"e": "depth", "u": 1, "n": 5}, {"e": "trade", "n": 1}, {"e": "ticker", "n": 9}, {"e": "trade", "n": 2}]
    assert told(rules, *rows, {"e": "depth", "u": 3}) == [None, None, None, None, (2, 3)]


@pytest.mark.slow
def test_a_peer_that_names_ever_new_scopes_costs_no_memory() -> None:
    gaps = SequenceChecker([BY_SYMBOL])
    for number in range(70_000):
        assert gaps.check(Text(b'{"s":%d,"U":1,"u":1}' % number), no_stream) is None
    assert len(gaps.rules[0]._counts) <= 1 << 16


@st.composite
def mangled(draw: st.DrawFn) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Messages of some symbols, numbered; the same with one of them gone, twice or exchanged with the next of its symbol."""
    symbols = draw(st.lists(st.sampled_from("abc"), min_size=8, max_size=60))
    sound = [(symbol, 10 + symbols[:at].count(symbol)) for at, symbol in enumerate(symbols)]
    symbol = draw(st.sampled_from(sorted({s for s in symbols if symbols.count(s) >= 4} or {"a"})))
    places = [at for at, (name, _) in enumerate(sound) if name == symbol]
    if len(places) < 4:
        return sound, sound
    which = draw(st.integers(1, len(places) - 3))
    changed = list(sound)
    match draw(st.sampled_from(["gone", "twice", "swapped"])):
        case "gone":
            del changed[places[which]]
        case "twice":
            changed.insert(draw(st.integers(places[which], places[which + 1])) + 1, sound[places[which]])
        case _:
            here, there = places[which], places[which + 1]
            changed[here], changed[there] = changed[there], changed[here]
    return sound, changed


def as_forms(row: tuple[str, int]) -> dict[str, Any]:
    symbol, number = row
    return {"s": symbol, "n": number, "U": 10 * number, "u": 10 * number + 9, "pu": 10 * number - 1}


@pytest.mark.parametrize(
    "rule",
    [
        {"scope": ["s"], "value": "n"},
        {"scope": ["s"], "first": "U", "last": "u"},
        {"scope": ["s"], "previous": "pu", "value": "u"},
        {"scope": ["s"], "value": "u", "step": 10},
    ],
)
@settings(max_examples=examples(60))
@given(mangled())
def test_nothing_sound_is_told_and_nothing_mangled_is_missed(
    rule: dict[str, Any], streams: tuple[list[tuple[str, int]], list[tuple[str, int]]]
) -> None:
    sound, changed = streams
    assert not any(told(rule, *map(as_forms, sound)))
    assert any(told(rule, *map(as_forms, changed))) is (changed != sound)


# -- in the session


def session(dialect: dict[str, Any], *wanted: Any, **settings: Any) -> Session:
    endpoint = Endpoint("x", dialect="mine", **settings)
    started = Session(Assignment(endpoint=endpoint, epoch=1, url="ws://x/", dialect=dialect, wanted=wanted), salt=1)
    started.start(ConnectionUp({}, None), 0.0)
    return started


def read(started: Session, *messages: Any) -> list[Any]:
    """What a read of these messages becomes: the numbers of messages, and the fields of gaps."""
    reader = Reader(max_message=1 << 20)
    batch = reader.feed(b"".join(server_frame(TEXT, orjson.dumps(message)) for message in messages))
    if started.try_fast_path(batch, 1.0):
        return ["passed"]
    return [part for action in started.received(batch, 1.0) for part in story(action)]


def story(action: Action) -> list[Any]:
    match action:
        case Deliver(batch, first, last, skipped):
            return [orjson.loads(batch.payload(at))["n"] for at in range(first, last) if at not in skipped]
        case Notify(report) if report.event == "gap":
            return [report.fields]
        case _:
            return []


STREAMS = {"stream": {"path": "s"}, "gap": [{"contains": '"n"', "scope": ["s"], "value": "n"}]}


def gap(stream: str | None, expected: int, got: int) -> dict[str, Any]:
    return {"cause": "sequence", "stream": stream, "expected": expected, "got": got}


def test_a_gap_stands_before_the_message_that_shows_it() -> None:
    rows = [{"s": name, "n": number} for name, number in (("a", 1), ("b", 7), ("a", 2), ("a", 4), ("b", 8), ("a", 5))]
    assert read(session(STREAMS, "a", "b"), *rows) == [1, 7, 2, gap("a", 3, 4), 4, 8, 5]


def test_it_is_told_over_reads_and_is_first_where_the_read_begins_with_it() -> None:
    started = session(STREAMS, "a")
    assert read(started, {"s": "a", "n": 1}) == [1]
    assert read(started, {"s": "a", "n": 3}, {"s": "a", "n": 4}) == [gap("a", 2, 3), 3, 4]


def test_a_gap_of_opaque_numbers_names_its_stream_alone() -> None:
    rule = {"scope": ["$stream"], "previous": "p", "value": "v", "opaque": True}
    started = session({"stream": {"path": "s"}, "gap": [rule]}, "a")
    rows = [{"s": "a", "p": "x", "v": "y", "n": 1}, {"s": "a", "p": "z", "v": "w", "n": 2}]
    expected = {"cause": "sequence", "stream": "a", "expected": None, "got": None}
    assert read(started, *rows) == [1, expected, 2]


def test_heartbeats_are_counted_where_the_scope_is_the_connection() -> None:
    dialect = {
        "gap": [{"scope": [], "value": "n"}], "housekeeping": [{"contains": "beat", "match": {"beat": True}}],
        "stream": {"path": "s"},
    }  # fmt: skip
    rows = [{"s": "a", "n": 1}, {"beat": True, "n": 2}, {"s": "a", "n": 3}, {"beat": True, "n": 5}, {"s": "a", "n": 6}]
    assert read(session(dialect, "a"), *rows) == [1, 3, gap(None, 4, 5), 6]


def test_of_a_stream_that_is_filtered_out_no_gap_is_told() -> None:
    rows = [{"s": "a", "n": 1}, {"s": "b", "n": 1}, {"s": "a", "n": 5}, {"s": "b", "n": 5}]
    started = session(STREAMS, "a", "b", filter=Filter(exclude=("a",)))
    assert read(started, *rows) == [1, gap("b", 2, 5), 5]


def test_the_check_can_be_switched_off() -> None:
    dialect = {"gap": STREAMS["gap"]}
    assert read(session(dialect), {"s": "a", "n": 1}, {"s": "a", "n": 3}) == [1, gap(None, 2, 3), 3]
    assert read(session(dialect, gap_check=False), {"s": "a", "n": 1}, {"s": "a", "n": 3}) == ["passed"]


def test_a_read_without_a_rules_text_is_passed_on_as_it_is() -> None:
    dialect = {"gap": [{"contains": '"book"', "scope": [], "value": "n"}]}
    assert read(session(dialect), {"n": 1}, {"n": 3}) == ["passed"]
    assert read(session(dialect), {"book": 1, "n": 1}, {"book": 1, "n": 3}) == [1, gap(None, 2, 3), 3]
