"""Which endpoints are restarted together with one that ended."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from wsadapter.config.settings import Strategy
from wsadapter.endpoint.strategy import restarted_with


@dataclass
class Fake:
    name: str
    has_ended: bool = False


@pytest.mark.parametrize(
    ("strategy", "names"),
    [("one_for_one", []), ("one_for_all", ["a", "b", "e"]), ("rest_for_one", ["e"])],
)
def test_the_strategy_names_those_that_still_run(strategy: Strategy, names: list[str]) -> None:
    a, b, ended, stopped, e = Fake("a"), Fake("b"), Fake("c"), Fake("d", has_ended=True), Fake("e")
    assert [other.name for other in restarted_with(strategy, [a, b, ended, stopped, e], ended)] == names
