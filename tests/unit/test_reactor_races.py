"""What the loop's threads may not miss of each other."""

from __future__ import annotations

import threading
import time

import pytest

from wsadapter.loop.reactor import Reactor

pytestmark = [pytest.mark.version, pytest.mark.portable]

FAR = 5.0
"""Seconds to a timer that nobody may sleep until."""


def _nothing() -> None:
    """Of the timer."""


def test_what_another_thread_finishes_between_the_look_and_the_wait_is_not_slept_over() -> None:
    reactor = Reactor()
    reactor.call_later(FAR, _nothing)
    happened: list[str] = []
    looks: list[bool] = []

    def turn_elsewhere() -> None:
        reactor.post(lambda: happened.append("it"))
        assert reactor.try_turn()

    def done() -> bool:
        looks.append(bool(happened))
        if len(looks) == 1:
            other = threading.Thread(target=turn_elsewhere)
            other.start()
            other.join()
        return looks[-1]

    began = time.monotonic()
    assert reactor.run_until(done, timeout=FAR)
    assert time.monotonic() - began < FAR / 2
    reactor.close()


def test_a_keeper_that_is_told_to_stop_while_it_naps_does_not_sleep_on() -> None:
    reactor = Reactor()
    reactor.call_later(FAR, _nothing)
    reactor.start()
    began = time.monotonic()
    reactor.close()
    assert time.monotonic() - began < FAR / 2
