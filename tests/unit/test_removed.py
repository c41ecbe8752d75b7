"""Endpoints that were removed: who waits for their end, and how far their numbers came."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from wsadapter.endpoint.subscriptions import Numbers
from wsadapter.registry.removed import RemovedEndpoints

if TYPE_CHECKING:
    from wsadapter.endpoint.endpoint import EndpointRuntime


class FakeEndpoint:
    def __init__(self, name: str, *, has_ended: bool = False, last_number: int = 0) -> None:
        self.name, self.has_ended = name, has_ended
        self.stream = SimpleNamespace(numbers=Numbers(last_number=last_number))


def endpoint(name: str, *, has_ended: bool = False, last_number: int = 0) -> EndpointRuntime:
    return cast("EndpointRuntime", FakeEndpoint(name, has_ended=has_ended, last_number=last_number))


def test_the_successor_of_an_endpoint_waits_for_its_end() -> None:
    removed, first, second = RemovedEndpoints(), endpoint("a"), endpoint("a")
    assert removed.ending("a", first) is first
    removed.await_end(first, second)
    assert removed.waits(second)
    assert list(removed) == [first]
    assert removed.take_successor(first) is second
    assert not removed.waits(second)
    assert removed.take_successor(first) is None


def test_nobody_waits_for_an_endpoint_that_has_ended() -> None:
    assert RemovedEndpoints().ending("a", endpoint("a", has_ended=True)) is None
    assert RemovedEndpoints().ending("a", None) is None


def test_who_follows_an_endpoint_that_waited_itself_waits_for_the_same_end() -> None:
    removed, first, second = RemovedEndpoints(), endpoint("a"), endpoint("a", has_ended=True)
    removed.await_end(first, second)
    removed.add(second)  # it was never started
    assert removed.ending("a", second) is first
    assert removed.ending("b", None) is None


def test_the_numbers_of_a_removed_endpoint_are_kept_until_it_is_added_again() -> None:
    removed = RemovedEndpoints()
    removed.add_numbers({"a": Numbers(last_number=7), "b": Numbers(last_number=1)})
    removed.add(endpoint("a", last_number=9))
    assert {name: numbers.last_number for name, numbers in removed.numbers.items()} == {"a": 9, "b": 1}
    again = removed.take("a")
    assert again is not None
    assert again.stream.numbers.last_number == 9
    assert removed.take_numbers("a") == Numbers(last_number=7)
    assert removed.take_numbers("b") == Numbers(last_number=1)
    assert (removed.numbers, removed.take("a"), removed.take_numbers("b")) == ({}, None, None)
