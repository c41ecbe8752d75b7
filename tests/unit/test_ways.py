"""What tests/tools/ways.py makes of the calls that it noted."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import pytest

from tests.tools.ways import HANDED_ON, PACKAGE, POLLED, Call, between, once, short, stack, turns, usual, without_paths
from wsadapter.loop.reactor import Reactor


def test_turns_are_what_is_called_between_two_polls() -> None:
    assert list(turns(["a", "b", POLLED, POLLED, "c"])) == [["a", "b"], [], ["c"]]


def test_the_usual_way_is_the_most_frequent_one() -> None:
    assert usual([["a", "b"], ["a"], ["a", "b"]]) == ["a", "b"]


def test_each_function_is_counted_once_and_not_if_it_is_called_anyway() -> None:
    assert once(["a", POLLED, "b", "a", "c"], besides={"b"}) == ["a", "c"]


def test_what_is_entered_when_the_matter_is_handed_on_is_on_the_path() -> None:
    calls = ["a", "b", "b.<locals>.<listcomp>", "c", ">c", ">a", "d", "e", ">e", ">turn"]
    assert once(calls, besides={"d"}) == [">a", "b", ">c", ">e"]
    assert without_paths(["a", ">a", "b"]) == ["a", "b"]


def test_the_stack_has_the_functions_of_wsadapter_and_no_others(reactor: Reactor) -> None:
    found = reactor.call(lambda: [short(name) for name in stack(sys._getframe())])
    assert found[-1] == "loop/reactor.py: Reactor.call"
    assert "loop/reactor.py: Reactor.submit.run" in found
    assert list(stack(sys._getframe())) == []


@pytest.mark.parametrize("name", HANDED_ON)
def test_where_a_matter_is_handed_on_exists(name: str) -> None:
    file, _, function = name.partition(":")
    found: Any = import_module("wsadapter." + file.removesuffix(".py").replace("/", "."))
    for part in function.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_only_the_calls_of_the_time_count() -> None:
    calls = [Call(at, str(at)) for at in range(5)]
    assert between(calls, 1, 3) == ["1", "2", "3"]


def test_a_call_is_shown_by_its_file_in_the_package_and_its_name() -> None:
    assert short(f"{PACKAGE}loop/reactor.py:Reactor.submit.<locals>.run") == "loop/reactor.py: Reactor.submit.run"
