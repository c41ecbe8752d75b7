"""What tests/tools/ways.py makes of the calls that it noted."""

from __future__ import annotations

from tests.tools.ways import PACKAGE, POLLED, Call, between, once, short, turns, usual


def test_turns_are_what_is_called_between_two_polls() -> None:
    assert list(turns(["a", "b", POLLED, POLLED, "c"])) == [["a", "b"], [], ["c"]]


def test_the_usual_way_is_the_most_frequent_one() -> None:
    assert usual([["a", "b"], ["a"], ["a", "b"]]) == ["a", "b"]


def test_each_function_is_counted_once_and_not_if_it_is_called_anyway() -> None:
    assert once(["a", POLLED, "b", "a", "c"], besides={"b"}) == ["a", "c"]


def test_only_the_calls_of_the_time_count() -> None:
    calls = [Call(at, str(at)) for at in range(5)]
    assert between(calls, 1, 3) == ["1", "2", "3"]


def test_a_call_is_shown_by_its_file_in_the_package_and_its_name() -> None:
    assert short(f"{PACKAGE}loop/reactor.py:Reactor.submit.<locals>.run") == "loop/reactor.py: Reactor.submit.run"
