"""One connect of an endpoint by the budget of its host, with a clock of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import pytest

from wsadapter.contract.endpoint import Endpoint
from wsadapter.endpoint.connect_slot import ConnectSlot, ConnectTarget, connect_target
from wsadapter.endpoint.restart_policy import ConnectBudget

HOST = ConnectTarget("h", "h ", 1, 10.0)
"""One connect in 10 s."""


class Call:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class FakeClock:
    """Time passes only in `advance`."""

    def __init__(self) -> None:
        self.now = 100.0
        self._calls: list[tuple[float, int, Call]] = []

    def call_later(self, delay: float, call: Callable[[], None]) -> Call:
        entry = Call(call)
        heapq.heappush(self._calls, (self.now + delay, len(self._calls), entry))
        return entry

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self._calls and self._calls[0][0] <= until:
            self.now, _, entry = heapq.heappop(self._calls)
            if entry.call is not None:
                entry.call()
        self.now = until


class Host:
    """A budget, a clock, and when connects to `HOST` were allowed."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.budget = ConnectBudget()
        self.allowed: list[float] = []

    def slot(self, target: ConnectTarget = HOST) -> ConnectSlot:
        slot = ConnectSlot(self.budget, target, self.clock, lambda: self.clock.now)
        slot.when_allowed(lambda: self.allowed.append(self.clock.now))
        return slot


@pytest.fixture
def host() -> Host:
    return Host()


def test_the_first_connect_is_allowed_at_once_but_never_within_the_call_that_asked(host: Host) -> None:
    assert host.slot().wait == 0
    assert host.allowed == []
    host.clock.advance(0)
    assert host.allowed == [100.0]


def test_the_next_connects_are_allowed_one_period_apart(host: Host) -> None:
    assert [host.slot().wait for _ in range(3)] == [0, 10, 20]
    host.clock.advance(30)
    assert host.allowed == [100.0, 110.0, 120.0]


def test_a_connect_behind_one_that_was_made_late_waits_again(host: Host) -> None:
    first = host.slot()
    host.slot()
    host.clock.advance(4)  # its owner had to be started first
    first.use()
    host.clock.advance(6)
    assert host.allowed == [100.0]
    host.clock.advance(4)
    assert host.allowed == [100.0, 114.0]


def test_a_pause_that_the_host_asks_for_applies_to_connects_that_are_booked_already(host: Host) -> None:
    host.slot()
    host.slot()
    host.clock.advance(5)
    host.budget.hold(HOST.key, host.clock.now + 60)
    host.clock.advance(59.9)
    assert host.allowed == [100.0]
    host.clock.advance(0.1)
    assert host.allowed == [100.0, 165.0]


def test_a_connect_that_waits_again_can_be_cancelled(host: Host) -> None:
    host.slot()
    waiting = host.slot()
    host.budget.hold(HOST.key, 150.0)
    host.clock.advance(10)  # it was due, and waits again
    waiting.cancel()
    host.clock.advance(1000)
    assert host.allowed == [100.0]


def test_a_cancelled_connect_is_available_to_later_ones(host: Host) -> None:
    host.slot()
    waiting = host.slot()
    waiting.cancel()
    waiting.cancel()
    assert host.slot().wait == 10
    host.clock.advance(30)
    assert host.allowed == [100.0, 110.0]


def test_a_connect_that_was_allowed_counts_even_if_it_is_cancelled(host: Host) -> None:
    host.slot().cancel()
    host.clock.advance(0)
    assert host.allowed == []
    assert host.slot().wait == 10


def test_a_connect_counts_from_the_moment_at_which_it_is_made(host: Host) -> None:
    slot = host.slot()
    host.clock.advance(7)
    slot.use()
    assert host.slot().wait == 10


def test_a_connect_to_a_host_without_a_limit_is_allowed_at_once(host: Host) -> None:
    free = ConnectTarget("h", "h ", 0, 60.0)
    assert [host.slot(free).wait for _ in range(5)] == [0] * 5


def test_connects_count_by_host_and_source_address(host: Host) -> None:
    def target(url: str, bind: str = "") -> ConnectTarget:
        return connect_target(Endpoint("a", bind=bind, limits={"connects": 1, "connects_period": 10.0}), url)

    assert target("wss://h.test/a") == ConnectTarget("h.test", "h.test ", 1, 10.0)
    slots = [host.slot(target(*where)) for where in (["wss://h.test/a"], ["ws://h.test:1/b"], ["wss://h.test/a", "192.0.2.1"])]
    assert [slot.wait for slot in slots] == [0, 10, 0]
