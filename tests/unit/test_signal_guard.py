"""Signal handlers of the program are deferred while guarded work runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from tests.support.interrupts import interrupt_at
from wsadapter.loop import dispatcher as dispatcher_module
from wsadapter.loop import signal_guard
from wsadapter.loop.dispatcher import Dispatcher

pytestmark = [pytest.mark.version, pytest.mark.portable]


def test_work_is_not_interrupted_and_the_programs_handlers_are_back_after_it() -> None:
    seen: list[tuple[int, bool]] = []

    def handler(number: int, frame: FrameType | None) -> None:
        seen.append((number, frame is not None))

    before = {n: signal.signal(n, handler) for n in (signal.SIGUSR1, signal.SIGUSR2)}
    try:

        def work() -> str:
            for number in before:
                os.kill(os.getpid(), number)
            assert seen == []
            return "done"

        assert signal_guard.run_guarded(work) == "done"
        assert sorted(seen) == [(signal.SIGUSR1, True), (signal.SIGUSR2, True)]
        assert all(signal.getsignal(n) is handler for n in before)
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def test_between_arming_the_guard_and_the_work_signals_are_the_programs() -> None:
    seen: list[int] = []

    def handler(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if number == signal.SIGUSR1:
            signal.signal(signal.SIGUSR2, handler)  # it may set others, and replace itself
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def work() -> list[int]:
        os.kill(os.getpid(), signal.SIGUSR2)
        return list(seen)

    before = {n: signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGUSR2)}
    signal.signal(signal.SIGUSR1, handler)
    try:
        signal_guard.arm()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
        assert signal_guard.run_guarded(work) == [signal.SIGUSR1]
        assert seen == [signal.SIGUSR1, signal.SIGUSR2]
        assert [signal.getsignal(n) for n in before] == [signal.SIG_IGN, handler]
        signal_guard.arm()
        signal_guard.disarm()
        assert [signal.getsignal(n) for n in before] == [signal.SIG_IGN, handler]
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def test_an_interrupt_while_the_handlers_are_put_back_leaves_the_next_work_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def handler(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 1:
            raise KeyboardInterrupt

    def put_back_and_interrupt(number: int, handler: Any) -> Any:
        before = signal.signal(number, handler)
        if handler is mine and not seen:
            os.kill(os.getpid(), signal.SIGUSR1)
        return before

    def work() -> list[int]:
        os.kill(os.getpid(), signal.SIGUSR1)
        return list(seen)

    mine = handler
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        monkeypatch.setattr(signal_guard, "_set", put_back_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            signal_guard.run_guarded(lambda: None)
        assert signal_guard.run_guarded(work) == [signal.SIGUSR1]  # the first one only
        assert seen == [signal.SIGUSR1] * 2
        assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_work_that_raises_puts_the_handlers_back_too() -> None:
    with pytest.raises(LookupError):
        signal_guard.run_guarded(lambda: {}["no such thing"])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    dispatcher = Dispatcher()
    yield dispatcher
    dispatcher.closed = True
    dispatcher.close()


def test_an_interrupt_at_any_instruction_of_a_turn_leaves_the_next_work_guarded(dispatcher: Dispatcher) -> None:
    """Also between the arming of the guard and the work; and if the program sets another handler after the interrupt."""
    seen: list[str] = []

    def work() -> list[str]:
        os.kill(os.getpid(), signal.SIGUSR1)
        return list(seen)

    def one(_number: int, _frame: FrameType | None) -> None:
        seen.append("one")

    def another(_number: int, _frame: FrameType | None) -> None:
        seen.append("another")

    def may_come(frame: FrameType) -> bool:
        """Where a signal reaches the handler of the program: while the work runs, it is recorded."""
        module = vars(signal_guard)
        recorded = module["_working"] and signal.getsignal(signal.SIGUSR1) is module["_stand_in"]
        return not recorded and frame.f_code.co_name not in ("<module>", "_stand_in")

    files = {signal_guard.__file__, dispatcher_module.__file__}
    before = signal.signal(signal.SIGUSR1, one)
    try:
        step = 0
        while interrupt_at(step := step + 1, lambda: dispatcher.turn(0.0, None), files.__contains__, may_come):
            assert signal.getsignal(signal.SIGUSR1) is one, f"step {step}: the program's handler is not back"
            signal.signal(signal.SIGUSR1, another)
            seen.clear()
            assert signal_guard.run_guarded(work) == [], f"step {step}: the work was interrupted"
            assert seen == ["another"]
            signal.signal(signal.SIGUSR1, one)
        assert step > 100
    finally:
        signal.signal(signal.SIGUSR1, before)
