"""Wake-ups between the threads of the loop that must not be lost."""

from __future__ import annotations

import threading
import time

import pytest

from wsadapter.loop.reactor import Reactor

pytestmark = [pytest.mark.version, pytest.mark.portable]

FAR = 5.0
"""Seconds to a timer that no thread may sleep until."""


def _nothing() -> None:
    """Of the timer."""


def test_what_another_thread_finishes_between_the_question_and_the_wait_is_seen_at_once() -> None:
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


def test_the_background_thread_that_is_stopped_in_its_short_sleep_does_not_begin_a_long_one() -> None:
    reactor = Reactor()
    reactor.call_later(FAR, _nothing)
    reactor.start()
    began = time.monotonic()
    reactor.close()
    assert time.monotonic() - began < FAR / 2
