"""The demonstration's judge notices what it is there to notice."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest


def _load(name: str = "continuity") -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "ops" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def judge() -> Any:
    return _load().Continuity({"a": {"s": [b"[0]", b"[1]", b"[2]", b"[1]"], "t": [b"[7]", b"[8]"]}})


def tell(judge: Any, *lines: dict[str, Any] | tuple[int, int, bytes]) -> None:
    for line in lines:
        if isinstance(line, dict):
            judge.feed(orjson.dumps({"endpoint": "a", **line}) + b"\n")
        else:
            number, epoch, data = line
            head = b'{"endpoint":"a","epoch":%d,"number":%d,"stream":"%b"' % (epoch, number, b"t" if data > b"[6]" else b"s")
            judge.feed(head + b',"received_at":1,"data":%b}\n' % data)


UP = {"event": "up", "epoch": 1, "resumed": False}
DOWN = {"event": "down", "epoch": 1}
UP_AGAIN = {"event": "up", "epoch": 2, "resumed": False}
GAP = {"event": "gap", "epoch": 2}


def test_each_stream_is_compared_by_itself(judge: Any) -> None:
    tell(judge, UP, (1, 1, b"[0]"), (2, 1, b"[8]"), (3, 1, b"[1]"), (4, 1, b"[7]"), (5, 1, b"[2]"))
    assert judge.problems == []
    tell(judge, (6, 1, b"[7]"))
    assert "#6 does not follow the message of t before it" in judge.problems[0]


def test_what_is_as_promised_passes(judge: Any) -> None:
    tell(judge, UP, (1, 1, b"[2]"), (2, 1, b"[1]"), (3, 1, b"[0]"), (4, 1, b"[1]"), (5, 1, b"[2]"))
    tell(judge, DOWN, UP_AGAIN, GAP, (6, 2, b"[0]"), {"event": "dropped", "first": 7, "last": 8, "count": 2}, (9, 2, b"[1]"))
    assert judge.problems == []
    assert (judge.tallies["a"].messages, judge.tallies["a"].dropped, judge.tallies["a"].gaps) == (7, 2, 1)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([UP, (1, 1, b"[0]"), (3, 1, b"[2]")], "number 3 came where 2 was due"),
        ([UP, (1, 1, b"[0]"), (1, 1, b"[1]")], "number 1 came where 2 was due"),
        ([UP, (1, 1, b"[0]"), (2, 1, b"[2]")], "#2 does not follow the message of s before it"),
        ([UP, (1, 1, b"[9]")], "#1 is not what the exchange sent"),
        ([UP, DOWN, UP_AGAIN, (1, 2, b"[0]")], "#1 follows a new connection without a gap between"),
        ([UP, UP_AGAIN], "epoch 2 is up while epoch 1 was not down"),
        ([UP, DOWN, (1, 1, b"[0]")], "#1 is of epoch 1, but epoch 0 is up"),
    ],
)
def test_what_is_not_is_told(judge: Any, lines: list[Any], problem: str) -> None:
    tell(judge, *lines)
    assert any(problem in told for told in judge.problems)


def test_a_consumer_that_was_killed_may_repeat_the_message_in_its_hand_and_nothing_else() -> None:
    seen = _load("attached").SeenNumbers()
    for lines in (["a 1 1", "b 1 1", "a 2 2"], ["a 2 2", "a 3 5", "b 2 2"]):
        seen.begin()
        for line in lines:
            seen.feed(line)
    assert (seen.expected, seen.repeated, seen.problems) == ({"a": 6, "b": 3}, 1, [])
    seen.feed("b 2 2")  # not the first one of a process
    seen.begin()
    seen.feed("a 8 8")
    assert seen.problems == [
        "the consumer got message 2 of b where 3 was to come", "the consumer got message 8 of a where 6 was to come",
    ]  # fmt: skip
