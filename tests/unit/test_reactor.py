"""The reactor without a supervisor: timers, posted calls, which thread runs it, signals, and no CPU use without work."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from wsadapter.contract.errors import SupervisorStopped
from wsadapter.loop import poller
from wsadapter.loop.background import GRACE
from wsadapter.loop.reactor import Reactor
from wsadapter.loop.sink import Sink

pytestmark = [pytest.mark.version, pytest.mark.portable]

PATIENCE = 10.0


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    loop = Reactor()
    loop.start()
    yield loop
    loop.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def test_timers_run_in_the_order_of_their_time_and_not_before_it(reactor: Reactor) -> None:
    ran: list[tuple[str, float]] = []
    began = time.monotonic()
    for name, delay in (("late", 0.06), ("soon", 0.02), ("never", 0.03), ("middle", 0.04)):
        timer = reactor.call_later(delay, lambda name=name: ran.append((name, time.monotonic() - began)))
        if name == "never":
            timer.cancel()
            timer.cancel()
    assert reactor.run_until(lambda: len(ran) == 3, PATIENCE)
    assert [name for name, _ in ran] == ["soon", "middle", "late"]
    assert all(after >= delay for (_, after), delay in zip(ran, (0.02, 0.04, 0.06), strict=True))


def test_run_until_gives_up_after_the_time_it_was_given(reactor: Reactor) -> None:
    began = time.monotonic()
    assert not reactor.run_until(lambda: False, 0.1)
    assert 0.1 <= time.monotonic() - began < 1
    assert not reactor.run_until(lambda: False, 0)


def test_calls_from_many_threads_run_one_at_a_time(reactor: Reactor) -> None:
    inside = 0
    most = 0
    total = 0

    def work() -> int:
        nonlocal inside, most, total
        inside += 1
        most = max(most, inside)
        total += 1
        inside -= 1
        return total

    def hammer() -> None:
        for _ in range(300):
            reactor.call(work, PATIENCE)

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(hammer) for _ in range(6)]:
            future.result(PATIENCE * 3)
    assert (total, most) == (1800, 1)


def test_a_call_raises_what_the_called_function_raises_and_the_loop_goes_on(reactor: Reactor) -> None:
    with pytest.raises(ZeroDivisionError):
        reactor.call(lambda: 1 // 0)
    assert reactor.call(lambda: "alive") == "alive"


def test_a_call_within_a_call_runs_at_once(reactor: Reactor) -> None:
    assert reactor.call(lambda: reactor.call(lambda: "inner")) == "inner"


def test_waiting_within_the_loop_is_refused(reactor: Reactor) -> None:
    with pytest.raises(RuntimeError, match="for ever"):
        reactor.call(lambda: reactor.run_until(lambda: False))


def test_each_of_several_waiting_threads_sees_its_own_condition_come_true(reactor: Reactor, pipe: tuple[int, int]) -> None:
    read, write = pipe
    got: list[bytes] = []
    reactor.call(lambda: reactor.dispatcher.register(read, lambda _: got.append(os.read(read, 1))))
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(reactor.run_until, lambda n=n: len(got) >= n, PATIENCE) for n in range(1, 6)]
        for _ in range(5):
            os.write(write, b"x")
        assert all(future.result(PATIENCE) for future in waiting)


def test_a_thread_that_waits_without_end_sees_what_another_ones_turn_did(reactor: Reactor) -> None:
    for _ in range(200):
        done = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(reactor.run_until, done.is_set, PATIENCE)
            reactor.call(done.set)
            began = time.monotonic()
            assert waiting.result(PATIENCE)
            assert time.monotonic() - began < 1


def test_the_background_thread_runs_the_loop_if_no_other_thread_does(reactor: Reactor, pipe: tuple[int, int]) -> None:
    read, write = pipe
    handled = threading.Event()
    by: list[str] = []

    def handle(_events: int) -> None:
        os.read(read, 1)
        by.append(threading.current_thread().name)
        handled.set()

    reactor.call(lambda: reactor.dispatcher.register(read, handle))
    began = time.monotonic()
    os.write(write, b"x")
    assert handled.wait(PATIENCE)
    assert time.monotonic() - began < GRACE * 25
    assert by == ["wsadapter-background"]
    fired = threading.Event()
    reactor.call(lambda: reactor.call_later(0.05, fired.set))
    assert fired.wait(PATIENCE), "timers too"


def test_the_loop_uses_no_cpu_while_there_is_nothing_to_do(reactor: Reactor) -> None:
    reactor.call_later(3600, lambda: None)

    def cost() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    reactor.run_until(lambda: False, 0.1)
    turns, before = reactor.dispatcher.turns, cost()
    time.sleep(0.5)  # the idle time is what is measured
    assert reactor.dispatcher.turns - turns <= 2
    reactor.run_until(lambda: False, 0.5)
    assert reactor.dispatcher.turns - turns <= 6
    assert cost() - before < 0.2


def test_closing_wakes_the_threads_that_wait() -> None:
    reactor = Reactor()
    reactor.start()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(reactor.run_until, lambda: False) for _ in range(2)]
        reactor.call(lambda: None)
        reactor.close()
        for future in waiting:
            with pytest.raises(SupervisorStopped):
                future.result(PATIENCE)
    reactor.close()


def test_closing_ends_its_thread_and_frees_its_descriptors() -> None:
    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = held(), threading.active_count()
    for _ in range(5):
        reactor = Reactor()
        reactor.start()
        reactor.call(lambda: None)
        reactor.close()
    assert (held(), threading.active_count()) == before


def test_a_handler_may_unregister_itself_and_the_others(reactor: Reactor) -> None:
    pipes = [os.pipe() for _ in range(3)]
    called: list[int] = []

    def handle(fd: int) -> None:
        called.append(fd)
        for read, _ in pipes:
            reactor.dispatcher.unregister(read)

    def register() -> None:
        for read, write in pipes:
            reactor.dispatcher.register(read, lambda _, fd=read: handle(fd))
            os.write(write, b"x")

    reactor.call(register)
    assert reactor.run_until(lambda: bool(called), PATIENCE)
    reactor.run_until(lambda: False, 0.05)
    assert len(called) == 1
    for read, write in pipes:
        os.close(read)
        os.close(write)


def test_a_descriptor_that_was_quiet_in_the_last_turn_goes_before_those_that_flood(reactor: Reactor) -> None:
    floods, quiet = [os.pipe() for _ in range(3)], os.pipe()
    heard: list[int] = []

    def hear(fd: int) -> None:
        heard.append(fd)
        if fd == quiet[0]:
            os.read(fd, 1)

    def prepare() -> None:
        for read, _ in (*floods, quiet):
            reactor.dispatcher.register(read, lambda _, fd=read: hear(fd))
        for _, write in floods:
            os.write(write, b"x")

    def one_turn() -> list[int]:
        heard.clear()
        reactor.run_until(lambda: bool(heard), PATIENCE)
        return list(heard)

    reactor.call(prepare)
    for _ in range(5):
        assert set(one_turn()) == {read for read, _ in floods}
        os.write(quiet[1], b"q")
        assert one_turn()[0] == quiet[0]
    for read, write in (*floods, quiet):
        reactor.call(lambda fd=read: reactor.dispatcher.unregister(fd))  # type: ignore[misc]
        os.close(read)
        os.close(write)


def test_a_timer_runs_on_time_beside_descriptors_that_are_always_ready(reactor: Reactor, pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.write(write, b"x")
    ran: list[float] = []
    began = time.monotonic()

    def prepare() -> None:
        reactor.dispatcher.register(read, lambda _: None)  # never reads it
        reactor.call_later(0.05, lambda: ran.append(time.monotonic()))

    reactor.call(prepare)
    assert reactor.run_until(lambda: bool(ran), PATIENCE)
    assert 0.05 <= ran[0] - began < 1


# -- sinks, and busy polling -----------------------------------------------------------------------------


def test_a_sink_finishes_each_turn_of_its_consumer_and_ends_the_wait_if_it_delivered(
    reactor: Reactor, pipe: tuple[int, int]
) -> None:
    read, write = pipe
    order: list[str] = []
    asked: list[int] = []

    def handle(_events: int) -> None:
        os.read(read, 1)
        order.append("handler")

    def work() -> bool:
        order.append("work")
        return "handler" in order

    def done() -> bool:
        asked.append(len(order))
        return False

    reactor.call(lambda: reactor.dispatcher.register(read, handle))
    os.write(write, b"x")
    assert reactor.run_until(done, PATIENCE, sink=Sink(work))
    assert order[-2:] == ["handler", "work"]
    assert asked[-1] < len(order), "`done` is not asked after the sink has delivered"
    reactor.call(lambda: reactor.dispatcher.unregister(read))


@pytest.mark.parametrize("ready", [1, 2])
def test_a_sink_accepts_a_single_message_only_in_a_turn_with_one_ready_descriptor(ready: int) -> None:
    reactor = Reactor()  # not started, so that no other thread runs the turn
    pipes = [os.pipe() for _ in range(ready)]
    accepted: list[bool] = []
    finished: list[bool] = []

    def finish() -> bool:
        finished.append(True)
        return bool(accepted)

    sink = Sink(finish)

    def handle(fd: int) -> None:
        os.read(fd, 1)
        accepted.append(sink.accepting)
        sink.delivered = sink.accepting

    def prepare() -> None:
        for read, write in pipes:
            reactor.dispatcher.register(read, lambda _, fd=read: handle(fd))
            os.write(write, b"x")

    reactor.call(prepare)
    assert reactor.run_until(lambda: False, PATIENCE, sink=sink)
    assert accepted == [ready == 1] * ready
    assert bool(finished) == (ready == 2), "a message that was delivered directly ends the turn"
    assert not sink.accepting, "outside of its turns"
    reactor.close()
    for read, write in pipes:
        os.close(read)
        os.close(write)


def test_a_sink_is_guarded_from_interrupts(reactor: Reactor) -> None:
    finished: list[bool] = []

    def work() -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        finished.append(True)
        return True

    reactor.post(lambda: None)
    with pytest.raises(KeyboardInterrupt):
        reactor.run_until(lambda: False, PATIENCE, sink=Sink(work))
    assert finished == [True]
    assert reactor.call(lambda: "alive") == "alive"


class CountingPoller:
    """A poller that notes how long each poll was allowed to wait."""

    def __init__(self, inner: poller.Poller) -> None:
        self.inner = inner
        self.waits: list[float | None] = []

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        self.waits.append(timeout)
        return self.inner.poll(timeout)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_a_busy_poll_asks_without_sleep_before_it_waits() -> None:
    reactor = Reactor()
    reactor.dispatcher._poller = polls = CountingPoller(reactor.dispatcher._poller)  # type: ignore[assignment]
    reactor.dispatcher.busy_poll = 0.02
    assert not reactor.run_until(lambda: False, 0.1, sink=Sink(lambda: False))
    assert polls.waits[0] == 0
    slept = [wait for wait in polls.waits if wait]
    assert polls.waits.count(0) > 10 * len(slept)
    assert all(wait <= 0.1 - 0.02 + 1e-6 for wait in slept)
    polls.waits.clear()
    assert not reactor.run_until(lambda: False, 0.1)  # nobody's messages wait
    assert polls.waits.count(0) <= 1
    reactor.close()


def test_a_busy_poll_is_off_by_default() -> None:
    reactor = Reactor()
    reactor.dispatcher._poller = polls = CountingPoller(reactor.dispatcher._poller)  # type: ignore[assignment]
    assert reactor.dispatcher.busy_poll == 0
    assert not reactor.run_until(lambda: False, 0.05, sink=Sink(lambda: False))
    assert polls.waits.count(0) <= 1
    reactor.close()


@pytest.mark.parametrize("busy_poll", [0.0, 0.05, 60.0])
def test_a_busy_poll_delays_nothing(reactor: Reactor, busy_poll: float) -> None:
    """Neither timers, nor calls of other threads, nor timeouts, nor interrupts."""
    reactor.dispatcher.busy_poll = busy_poll
    ran: list[float] = []
    began = time.monotonic()
    reactor.call(lambda: reactor.call_later(0.03, lambda: ran.append(time.monotonic())))
    assert reactor.run_until(lambda: bool(ran), PATIENCE, sink=Sink(lambda: False))
    assert 0.03 <= ran[0] - began < PATIENCE
    assert not reactor.run_until(lambda: False, 0.05, sink=Sink(lambda: False))
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(reactor.call, lambda: "alive", PATIENCE)
        found.add_done_callback(lambda _: reactor.post(lambda: None))  # it ends after the turn that it waited for
        assert reactor.run_until(found.done, PATIENCE, sink=Sink(lambda: False))
    # To this thread: the kernel may give a signal of the process to another thread, and then the poll goes on.
    interrupter = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        interrupter.start()  # inside, because the interrupt may come before `run_until` on a busy machine
        reactor.run_until(lambda: False, PATIENCE, sink=Sink(lambda: False))
    interrupter.join()


def test_post_is_safe_in_a_signal_handler(reactor: Reactor) -> None:
    posted: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: reactor.post(lambda: posted.append(1)))
    try:
        sender = threading.Thread(target=lambda: [os.kill(os.getpid(), signal.SIGUSR1) or time.sleep(0.001) for _ in range(50)])
        sender.start()
        while sender.is_alive():  # its end makes no turn
            reactor.run_until(lambda: not sender.is_alive(), 0.02)
        sender.join(PATIENCE)
        assert reactor.run_until(lambda: len(posted) > 0, PATIENCE)
        assert reactor.call(lambda: "alive") == "alive"
    finally:
        signal.signal(signal.SIGUSR1, before)


# -- interrupts ----------------------------------------------------------------------------------------------------------


def test_an_interrupt_within_the_work_is_raised_after_it(reactor: Reactor) -> None:
    """Also if another thread of the program takes the signal, so that a mask would not help."""
    threading.Thread(target=threading.Event().wait, args=(5,), daemon=True).start()
    finished: list[bool] = []

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 0.05
        while time.monotonic() < deadline:
            sum(range(100))
        finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        reactor.call(work)
    assert finished == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert reactor.call(lambda: "alive") == "alive"


def test_a_turn_within_a_handler_that_is_called_while_the_loop_polls_leaves_the_next_work_guarded(reactor: Reactor) -> None:
    """The inner turn disarms the guard."""
    seen: list[str] = []

    def handler(_number: int, _frame: FrameType | None) -> None:
        seen.append(reactor.call(lambda: "inner"))

    def work() -> bool:
        os.kill(os.getpid(), signal.SIGUSR1)
        seen.append("work")
        return seen[0] == "inner"

    before = signal.signal(signal.SIGUSR1, handler)
    kicker = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    kicker.start()
    try:
        assert reactor.run_until(lambda: False, PATIENCE, sink=Sink(work))  # it polls when the first one comes
        assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        kicker.join()
        signal.signal(signal.SIGUSR1, before)
    assert seen == ["inner", "work", "inner"]


def test_interrupts_at_any_moment_leave_no_lock_taken(reactor: Reactor) -> None:
    """Each is raised somewhere in `run_until`; the background thread, and the next call, must be able to go on."""
    stop = threading.Event()
    ready = threading.Event()
    armed = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal armed
        if armed:  # a second one, sent because the first was late, would strike outside of the `try`
            armed = False
            raise KeyboardInterrupt

    def interrupt() -> None:
        while not stop.is_set():
            if ready.wait(0.1):
                ready.clear()
                os.kill(os.getpid(), signal.SIGINT)

    def call_until_interrupted() -> None:
        nonlocal armed
        while True:
            armed = True
            ready.set()  # again after a while: one that strikes within a gc callback is swallowed by the interpreter
            again = time.monotonic() + 0.5
            while time.monotonic() < again:
                reactor.call(lambda: None)

    before = signal.signal(signal.SIGINT, handle)
    sender = threading.Thread(target=interrupt)
    sender.start()
    caught = 0
    try:
        while caught < 1000:
            try:
                call_until_interrupted()  # not a loop: one could pass by this `except`, see test_interrupt_safety
            except KeyboardInterrupt:
                caught += 1
    finally:
        stop.set()
        sender.join()
        signal.signal(signal.SIGINT, before)
    assert ThreadPoolExecutor(1).submit(reactor.call, lambda: "alive").result(PATIENCE) == "alive"


# -- wake-ups that must not be lost --------------------------------------------------------------------------------------

FAR = 5.0
"""Seconds to a timer that no thread may sleep until."""


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
