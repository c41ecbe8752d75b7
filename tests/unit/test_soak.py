"""The soak's judgement: what counts as lost, doubled, late, and as growth."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.bench.accounts import KEY, Backlog, Totals, summed
from tests.bench.soak import Chaos, Lane, Marks
from tests.bench.soak_picture import JUDGED, PANELS, draw, growth, judge

DOWN = {"event": "down", "endpoint": "a"}
GAP = {"event": "gap", "endpoint": "a"}


def judged(*lines: dict[str, Any] | int | tuple[str, int]) -> Totals:
    """Messages are given by their number (of the series "x") or as (series, number)."""
    backlog = Backlog("a")
    number = 0
    for line in lines:
        if not isinstance(line, dict):
            number += 1
            series, n = line if isinstance(line, tuple) else ("x", line)
            line = {"endpoint": "a", "epoch": 1, "number": number, "data": {KEY: [series, n, 0]}}
        backlog.take(line, now=1.0, wall_ns=5_000_000)
    return backlog.totals


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((7, 8, 9), {"received": 3}),
        ((0, 1, 3), {"received": 3, "silent": 1}),
        ((0, 1, GAP, 5), {"received": 3, "covered": 3, "gaps": 1}),
        ((0, GAP, 1, 3), {"received": 3, "silent": 1, "gaps": 1}),
        ((0, 1, 1), {"received": 3, "doubled": 1}),
        ((0, 2, 1), {"received": 3, "doubled": 1, "silent": 1}),
        ((0, 1, 2, GAP, 1, 2, 3), {"received": 6, "repeated": 2, "gaps": 1}),
        ((0, 1, 2, GAP, 1, 2, 1), {"received": 6, "repeated": 2, "doubled": 1, "gaps": 1}),
        ((("x", 0), ("y", 5), GAP, ("x", 2), ("y", 6), ("y", 8)), {"received": 5, "covered": 1, "silent": 1, "gaps": 1}),
        ((0, DOWN, 1), {"received": 2, "downs": 1}),
    ],
)
def test_every_missing_number_is_covered_by_an_event_of_its_place(lines: Any, expected: dict[str, int]) -> None:
    totals = judged(*lines)
    assert {name: value for name, value in vars(totals).items() if value} == expected
    assert totals.wrong == expected.get("silent", 0) + expected.get("doubled", 0)


def test_the_supervisors_own_numbers_go_up_by_one_and_dropped_ones_are_counted() -> None:
    backlog = Backlog("a")
    dropped = {"event": "dropped", "count": 2, "first": 2, "last": 3}
    message: dict[str, Any] = {"epoch": 1, "data": {KEY: ["x", 0, 0]}}
    backlog.take(message | {"number": 1}, now=0.0, wall_ns=0)
    backlog.take(dropped, now=0.0, wall_ns=0)
    backlog.take(message | {"number": 4, "data": {KEY: ["x", 3, 0]}}, now=0.0, wall_ns=0)
    assert (backlog.totals.misnumbered, backlog.totals.covered, backlog.totals.dropped) == (0, 2, 2)
    backlog.take(message | {"number": 6, "data": {KEY: ["x", 4, 0]}}, now=0.0, wall_ns=0)
    assert (backlog.totals.misnumbered, backlog.texts) == (1, ["a: number 6 after 4"])
    assert summed([backlog, backlog]).misnumbered == 2


def test_a_mark_says_series_number_and_the_time_when_the_message_is_due() -> None:
    marks = Marks()
    messages = marks.paced(iter([("x", b"{}"), ("y", b'{"a":1}'), ("x", b'{"b":2}')]), rate=10)
    first, second, third = (eval(message) for message in messages)
    assert [first[KEY][:2], second[KEY][:2], third[KEY][:2]] == [["x", 0], ["y", 0], ["x", 1]]
    assert (second["a"], third["b"], third[KEY][2] - first[KEY][2]) == (1, 2, 200_000_000)


def rows(minutes: int, rss: Any) -> list[dict[str, float]]:
    constant = dict.fromkeys(set(vars(Totals())) | set(JUDGED) | {name for panel in PANELS for name in panel.columns}, 0.0)
    return [{**constant, "seconds": 30.0 * n, "rss": rss(n / 2)} for n in range(2 * minutes)]


def test_growth_after_the_first_ten_minutes_is_judged() -> None:
    flat = rows(40, lambda minute: min(30 + minute, 40))
    leaking = rows(40, lambda minute: 40 + minute / 10)
    found = growth(leaking, "rss")
    assert found is not None
    assert found.share > 0.05
    assert judge(flat, {"wrong": []})[1]
    lines, good = judge(leaking, {"wrong": []})
    assert not good
    assert any(line.startswith("rss: ") and line.endswith("GROWS") for line in lines)
    assert growth(rows(15, lambda _: 40), "rss") is None


def test_what_was_wrong_is_in_the_verdict() -> None:
    last = rows(40, lambda _: 40)
    lines, good = judge(last, {"wrong": ["ws: nothing for 70 s"], "total": last[-1]})
    assert (good, lines[-1]) == (False, "WRONG: ws: nothing for 70 s")
    last[-1]["silent"] = 2.0
    assert not judge(last, {})[1]


def test_the_picture_is_small_and_has_each_column() -> None:
    picture = draw(rows(600, lambda minute: minute), "2 cores")
    assert len(picture) < 80_000
    assert all(f">{name}</text>" in picture for name in ("rss", "owners_pss", "fds", "p99", "faults"))


@pytest.mark.parametrize("fault", ["half_open", "refuse", "violate"])
def test_a_fault_that_finds_no_connection_changes_nothing(fault: str) -> None:
    lane = Lane("a", 10.0)
    chaos = Chaos(random.Random(1), [lane], None, lambda: None, {"a"})  # type: ignore[arg-type]
    with lane.exchange as exchange:
        before = vars(exchange._run.call(lambda server: server.misbehaviour)).copy()
        with pytest.raises(LookupError):
            getattr(chaos, fault)(lane)
        assert vars(exchange._run.call(lambda server: server.misbehaviour)) == before
