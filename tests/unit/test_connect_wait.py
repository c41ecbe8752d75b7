"""What a link waits for before its next owner, with a clock of its own."""

from __future__ import annotations

import pytest

from tests.unit.test_connect_slot import HOST, FakeClock
from wsadapter.endpoint.connect_slot import ConnectSlot
from wsadapter.endpoint.connect_wait import ConnectWait
from wsadapter.endpoint.restart_policy import ConnectBudget


class Case:
    """A link on a host that allows one connect in 10 s."""

    def __init__(self) -> None:
        self.clock, self.budget, self.called = FakeClock(), ConnectBudget(), list[str]()
        self.wait = ConnectWait(self.clock, self.slot)

    def slot(self) -> ConnectSlot:
        return ConnectSlot(self.budget, HOST, self.clock, lambda: self.clock.now)

    def reserve(self) -> bool:
        return self.wait.reserve_connect(lambda: self.called.append("allowed"))


@pytest.fixture
def case() -> Case:
    return Case()


def test_a_connect_that_the_budget_allows_at_once_is_not_waited_for(case: Case) -> None:
    assert case.reserve()
    case.clock.advance(60.0)
    assert case.called == []


def test_a_connect_that_the_budget_allows_later_is_called_once(case: Case) -> None:
    case.slot()
    assert not case.reserve()
    assert case.called == []
    case.clock.advance(60.0)
    assert case.called == ["allowed"]
    assert case.wait.slot is not None, "the owner has not made it"


def test_a_connect_is_taken_once(case: Case) -> None:
    case.reserve()
    assert isinstance(case.wait.take_slot(), ConnectSlot)
    assert case.wait.take_slot() is None


def test_a_cancelled_connect_is_not_called_and_others_need_not_wait_for_it(case: Case) -> None:
    case.slot()
    assert not case.reserve()
    case.wait.back_off(1.0, lambda: case.called.append("backoff"))
    case.wait.cancel()
    assert case.wait.slot is None
    assert case.slot().wait == 10.0, "as if it had never been reserved"
    case.clock.advance(60.0)
    assert case.called == []


def test_a_backoff_ends(case: Case) -> None:
    case.wait.back_off(1.0, lambda: case.called.append("backoff"))
    case.clock.advance(0.5)
    assert case.called == []
    case.clock.advance(1.0)
    assert case.called == ["backoff"]
