"""The alarm that ends an owner that is stuck."""

from __future__ import annotations

import pytest

from wsadapter.worker.loop.alarm import Alarm


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays the kernel was asked for."""
    delays: list[float] = []
    monkeypatch.setattr("signal.signal", lambda _number, _action: None)
    monkeypatch.setattr("signal.setitimer", lambda _which, delay: delays.append(delay))
    return delays


def run(backstop: Alarm, turns: list[float]) -> None:
    for now in turns:
        backstop.postpone(now)


def test_a_loop_that_turns_every_few_seconds_never_wakes_for_it(armed: list[float]) -> None:
    backstop = Alarm()
    backstop.follow(10.0)
    for now in range(100, 200, 5):
        backstop.postpone(float(now))
        assert backstop.due >= now + 10
    assert set(armed) == {30.0}


def test_a_loop_that_turns_often_makes_few_system_calls(armed: list[float]) -> None:
    backstop = Alarm()
    backstop.follow(10.0)
    run(backstop, [100 + n / 1000 for n in range(5000)])
    assert len(armed) == 1


@pytest.mark.parametrize(("progress", "delay"), [(0.0, 60.0), (1.0, 15.0), (10.0, 30.0)])
def test_an_idle_loop_has_half_of_the_delay_in_hand(progress: float, delay: float, armed: list[float]) -> None:
    backstop = Alarm()
    backstop.follow(progress)
    backstop.postpone(100.0)
    assert armed == [delay]
    assert backstop.due == 100.0 + delay / 2
    backstop.postpone(backstop.due)
    assert armed == [delay, delay]


def test_an_assignment_arms_it_anew(armed: list[float]) -> None:
    backstop = Alarm()
    backstop.postpone(100.0)
    backstop.follow(1.0)
    assert backstop.due <= 100.0
    backstop.postpone(100.1)
    assert armed == [60.0, 15.0]
