"""Wake-ups that must not be lost, and interrupts that must cost nothing."""

from __future__ import annotations

import dis
import os
import signal
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from types import FrameType
from typing import Any

import pytest

import wsadapter.delivery.inbox
import wsadapter.delivery.stream
import wsadapter.loop.dispatcher
import wsadapter.loop.reactor
from tests.unit.test_inbox import Feeder, Interrupt
from wsadapter.contract.items import Message
from wsadapter.delivery.inbox import Inbox
from wsadapter.delivery.stream import Consumption, Stream
from wsadapter.loop.reactor import Reactor

pytestmark = [pytest.mark.version, pytest.mark.portable]

PATIENCE = 5.0


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    reactor.start()
    yield reactor
    reactor.close()


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Have something called by a signal handler in the main thread, while that waits."""
    before = signal.getsignal(signal.SIGUSR1)
    senders: list[threading.Thread] = []

    def arrange(call: Callable[[], object]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: call())
        asleep = threading.Event()

        def send() -> None:
            asleep.wait(0.1)
            os.kill(os.getpid(), signal.SIGUSR1)

        senders.append(threading.Thread(target=send))
        senders[-1].start()

    yield arrange
    for sender in senders:
        sender.join()
    signal.signal(signal.SIGUSR1, before)


def test_what_a_signal_handler_does_while_the_loop_waits_is_seen_by_the_thread_that_waits(
    reactor: Reactor, on_signal: Any
) -> None:
    done: list[bool] = []
    on_signal(lambda: reactor.call(lambda: done.append(True)))
    began = time.monotonic()
    assert reactor.run_until(lambda: bool(done), PATIENCE)
    assert time.monotonic() - began < 1.0


def test_a_timer_that_a_signal_handler_sets_while_the_loop_waits_is_on_time(reactor: Reactor, on_signal: Any) -> None:
    done: list[bool] = []
    on_signal(lambda: reactor.call(lambda: reactor.call_later(0.01, lambda: done.append(True))))
    began = time.monotonic()
    assert reactor.run_until(lambda: bool(done), PATIENCE)
    assert time.monotonic() - began < 1.0


def test_a_timer_that_another_thread_sets_while_the_loop_waits_is_on_time(reactor: Reactor) -> None:
    done: list[bool] = []
    setter = threading.Thread(target=lambda: reactor.call(lambda: reactor.call_later(0.01, lambda: done.append(True))))
    timer = threading.Timer(0.1, setter.start)
    timer.start()
    began = time.monotonic()
    assert reactor.run_until(lambda: bool(done), PATIENCE)
    assert time.monotonic() - began < 1.0
    timer.join()
    setter.join()


def test_waiting_costs_no_turns(reactor: Reactor) -> None:
    reactor.call(lambda: reactor.call_later(3600, lambda: None))
    before = reactor.dispatcher.turns
    assert not reactor.run_until(lambda: False, 0.3)
    assert reactor.dispatcher.turns - before < 5


# -- interrupts ----------------------------------------------------------------------------------------------------------


def interrupt_at(step: int, call: Callable[[], None]) -> bool:
    """Run `call` and raise an Interrupt at the `step`-th place in its Python code where a signal handler may run."""
    modules = (wsadapter.delivery.stream, wsadapter.loop.reactor, wsadapter.loop.dispatcher, wsadapter.delivery.inbox, typing)
    files = {module.__file__ for module in modules}
    steps = count(1)
    before: dict[FrameType, str] = {}

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        frame.f_trace_opcodes = frame.f_code.co_filename in files
        if event == "opcode":
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            may = name in ("RESUME", "JUMP_BACKWARD") or before.get(frame) == "CALL"
            before[frame] = name
            if may and next(steps) == step:
                sys.settrace(None)
                raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        call()
    except Interrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def get_some(stream: Stream, seen: list[Any]) -> None:
    for _ in range(4):
        seen.append(stream.get(PATIENCE))


def iterate_some(stream: Stream, seen: list[Any]) -> None:
    for item in stream:
        seen.append(item)
        if len(seen) >= 4:
            return


def batches_some(stream: Stream, seen: list[Any]) -> None:
    for batch in stream.batches():
        seen += batch.messages()  # type: ignore[union-attr]
        if len(seen) >= 4:
            return


@pytest.mark.parametrize("consume", [get_some, iterate_some, batches_some])
def test_an_interrupt_in_a_consumer_loses_and_repeats_nothing(
    consume: Callable[[Stream, list[Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsadapter.loop.signal_guard.run_guarded", lambda work, *args: _untraced(partial(work, *args)))
    reactor = Reactor()
    try:
        for step in count(1):
            inbox = Inbox()
            feeder = Feeder(inbox)
            stream = Stream(Consumption(reactor, inbox, begin=lambda: None, over=lambda: False))
            feeder.put(b"1", b"2")
            feeder.put(b"3")
            reactor.post(lambda feeder=feeder: feeder.put(b"4", b"5"))  # type: ignore[misc]
            seen: list[Any] = []
            interrupted = interrupt_at(step, lambda s=stream, t=seen: consume(s, t))  # type: ignore[misc]
            while len(seen) < 5:
                seen.append(stream.get(PATIENCE))
            assert [item.number for item in seen if isinstance(item, Message)] == [1, 2, 3, 4, 5], f"at {step}"
            assert reactor._runner is None
            if not interrupted:
                assert step > 10
                return
    finally:
        reactor.close()


def _untraced(work: Callable[[], Any]) -> Any:
    """What `signal_guard` guarantees: no signal handler runs within the work."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        return work()
    finally:
        sys.settrace(trace)
