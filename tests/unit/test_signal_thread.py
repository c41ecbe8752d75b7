"""The thread that acts on signals: an action that fails does not end it, and a stop that fails ends the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from tests.support.waiting import wait_until
from wsadapter.cli.signals import SignalThread

DEADLINE = 20.0


def fails(*_: object) -> None:
    raise MemoryError


def acting(done: list[str], *, stop: Callable[[str], None], dump: Callable[[], None]) -> SignalThread:
    return SignalThread(stop=stop, leave=lambda number: done.append(f"leave {number}"), reload=lambda: None, dump=dump)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals are the main thread's")
def test_after_an_action_that_failed_the_next_signal_is_acted_on() -> None:
    done: list[str] = []
    with acting(done, stop=done.append, dump=fails):
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: done, DEADLINE, "SIGTERM was not acted on")
    assert done == ["SIGTERM"]


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals are the main thread's")
def test_a_stop_that_fails_ends_the_process() -> None:
    done: list[str] = []
    with acting(done, stop=fails, dump=lambda: None):
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: done, DEADLINE, "it went on")
    assert done == [f"leave {signal.SIGTERM:d}"]
