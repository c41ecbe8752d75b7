"""Timers: called in order, never after a cancellation, and not kept for long after it."""

from __future__ import annotations

import random
import sys

from wsadapter.loop.timers import Timers


def test_timers_are_called_in_the_order_of_their_times_and_of_their_setting() -> None:
    timers, called = Timers(), list[str]()
    timers.call_at(2.0, lambda: called.append("third"))
    timers.call_at(1.0, lambda: called.append("first"))
    timers.call_at(1.0, lambda: called.append("second"))
    assert timers.next_due() == 1.0
    timers.run_due(1.5)
    assert called == ["first", "second"]
    timers.run_due(2.0)
    assert called == ["first", "second", "third"]
    assert timers.next_due() == sys.float_info.max


def test_cancelled_timers_do_not_pile_up_until_their_time() -> None:
    timers = Timers()
    lasting = timers.call_at(5.0, lambda: None)
    for _ in range(10_000):
        timers.call_at(600.0, lambda: None).cancel()
    assert len(timers.heap) <= 64
    assert lasting.call is not None
    assert timers.next_due() == 5.0


def test_many_timers_that_live_keep_their_order_whatever_is_cancelled_between_them() -> None:
    chance = random.Random(1)
    timers, called, expected = Timers(), list[float](), list[float]()
    for _ in range(3000):
        when = chance.random()
        timer = timers.call_at(when, lambda when=when: called.append(when))  # type: ignore[misc]
        if chance.random() < 0.7:
            timer.cancel()
        else:
            expected.append(when)
    timers.run_due(1.0)
    assert called == sorted(expected)


def test_a_timer_may_set_and_cancel_others_while_it_is_called() -> None:
    timers, called = Timers(), list[int]()

    def run() -> None:
        for number in range(500):
            timer = timers.call_at(2.0, lambda number=number: called.append(number))  # type: ignore[misc]
            if number % 5:
                timer.cancel()

    timers.call_at(1.0, run)
    timers.run_due(3.0)
    assert called == list(range(0, 500, 5))
