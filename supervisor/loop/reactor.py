"""One loop for data, control, deaths and timers. The thread that waits for something runs it.

              consumer's next() ──┐
      a caller waiting for an ────┤ run_until(done)
      answer (send, stop ...)     │        ┌──────────────────────────┐
              asyncio's loop ─────┼──────> │ turn: poll, handlers,    │ one lock: one thread at a time
                                  │        │ posted calls, timers     │
           background thread ─────┘        └──────────────────────────┘

Passing a message to another thread costs more than all other work for the message, so the consumer runs the loop in its
own thread. But supervision must go on while the consumer is busy: a background thread runs a turn if no thread has run one for
20 ms although something is ready or due. It never waits inside a turn, so it never blocks another thread.

Handlers, timers and posted calls run under the lock, one after the other, and never block. A program's signal handlers may
raise an exception in its main thread at any instruction (KeyboardInterrupt does). The work of a turn is guarded from them
(`signal_guard`), so that no signal handler interrupts it halfway.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakSet

from wsadapter.contract.errors import SupervisorStopped, WrongProcess
from wsadapter.loop.background import BackgroundRunner
from wsadapter.loop.dispatcher import Dispatcher
from wsadapter.loop.sink import Sink
from wsadapter.loop.timers import Timer
from wsadapter.loop.waiters import WaitingThreads

T = TypeVar("T")

__all__ = ["Reactor", "Timer"]


class Reactor:
    """Runs the turns of one loop, in the threads that wait for it. Every method may be called from any thread unless it says
    otherwise."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher()
        """What a turn waits for and calls. Under the lock."""
        self.waiters = WaitingThreads()
        self.closers: set[Callable[[], None]] = set()
        """Called when the loop is closed, for what nobody else frees then."""
        self._door = threading.Lock()
        self._runner: int | None = None
        """The thread that runs a turn. Plain assignments set and clear it, so that no interrupt can come between the begin of a
        turn and the record of its thread."""
        self._finished = 0
        """The number of turns that have ended."""
        self._forked = False
        self._background = BackgroundRunner(self.dispatcher, self.try_turn)
        _alive.add(self)

    def start(self) -> None:
        """Start the background thread."""
        self._background.start()

    # -- calls -----------------------------------------------------------------------------------------------------------

    def call_later(self, delay: float, call: Callable[[], object]) -> Timer:
        """Call `call` in `delay` seconds. Under the lock."""
        timer = self.dispatcher.timers.call_at(monotonic() + delay, call)
        self._background.wake_for(timer.when)
        return timer

    def post(self, call: Callable[[], object]) -> None:
        """Schedule `call` for the next turn. Safe in a signal handler."""
        self.dispatcher.posted.append(call)
        if not self.dispatcher.closed:
            self.dispatcher.waker.set()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run `call` under the lock: at once if no thread runs the loop, otherwise in the thread that runs the loop."""
        self.check()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except Exception as error:  # noqa: BLE001 - result() raises it in the caller's thread
                future.set_exception(error)

        self.dispatcher.posted.append(run)
        if self._is_working():  # called by a handler: its turn would otherwise wait for itself
            self.dispatcher.run_posted()
        elif self._run_turn(0.0) is None:
            self.dispatcher.waker.set()
        return future

    def call(self, call: Callable[[], T], timeout: float | None = None) -> T:
        """`submit` and wait. Raises what `call` raises, and `TimeoutError` if it could not run in time."""
        return self.wait(self.submit(call), timeout)

    def wait(self, future: Future[T], timeout: float | None = None) -> T:
        """Wait for the future's result; meanwhile the loop runs, in this thread or in another."""
        if not self.run_until(future.done, timeout):
            raise TimeoutError
        return future.result()

    # -- waiting ---------------------------------------------------------------------------------------------------------

    def run_until(self, done: Callable[[], bool], timeout: float | None = None, *, sink: Sink | None = None) -> bool:
        """Run the loop, or wait for the thread that runs it, until `done()`. Returns false after `timeout` seconds.

        `sink`: of a consumer. Each turn that this call runs delivers to it; as soon as it has something, `run_until` returns
        true without asking `done`.
        """
        try:
            return self._run_until(done, timeout, sink)
        finally:
            # The signal handler may have consumed the event that the interrupted poll waits for, so end that poll.
            if self._runner is not None and self.is_interrupted() and not self.dispatcher.closed:
                self.dispatcher.waker.set()

    def _run_until(self, done: Callable[[], bool], timeout: float | None, sink: Sink | None) -> bool:
        deadline = remaining = None
        if timeout is not None:
            deadline = monotonic() + timeout
        late = False
        while True:
            seen = self._finished
            if done():
                return True
            self.check()
            if late:
                return False
            if deadline is not None:
                remaining = max(0.0, deadline - monotonic())
                late = remaining == 0  # one turn is always run, so that a timeout of 0 finds what is there already
            if self._runner is not None and self._is_working():
                raise RuntimeError("waiting inside the loop would wait for ever")
            match self._run_turn(remaining, seen, sink):
                case True:
                    return True
                case None:
                    self.waiters.wait(remaining, self._is_running)

    def check(self) -> None:
        """Raises if waiting makes no sense any more: `SupervisorStopped`, `WrongProcess`, or `RuntimeError` for a bug."""
        dispatcher = self.dispatcher
        if not dispatcher.closed and dispatcher.failure is None:
            return
        self.check_process()
        if dispatcher.failure is not None:
            raise RuntimeError("the supervisor's loop failed; this is a bug in wsadapter") from dispatcher.failure
        if dispatcher.closed:
            raise SupervisorStopped("the supervisor was stopped; make a new one")

    def check_process(self) -> None:
        """Raises `WrongProcess` in a fork of the process that made it."""
        if self._forked:
            raise WrongProcess(
                "this supervisor belongs to the process that made it, and this process is a fork of that one; make a new "
                "Supervisor here"
            )

    # -- turns -----------------------------------------------------------------------------------------------------------

    def try_turn(self) -> bool:
        """Run one turn without waiting. False if another thread runs the loop."""
        return self._run_turn(0.0) is not None

    def _run_turn(self, timeout: float | None, seen: int | None = None, sink: Sink | None = None) -> bool | None:
        """Returns whether the sink has something; None if another thread runs the loop. `seen`: the number of finished turns
        when the caller last checked its condition. If more turns have finished since, no turn is run, because the caller has to
        check its condition first."""
        me = threading.get_ident()
        if self._runner == me and not self.dispatcher.working:  # in a signal handler of the program, called during our poll
            return self.dispatcher.turn(timeout, sink)
        delivered = False
        try:
            with self._door:
                if self._runner is not None:
                    return None
                self._runner = me
            if not self.dispatcher.closed and (seen is None or seen == self._finished):
                delivered = self.dispatcher.turn(timeout, sink)
        finally:
            if self._runner == me:
                self._finished += 1
                self._runner = None
        waiters = self.waiters
        if waiters.gates or waiters.listeners:
            waiters.notify()
        return delivered

    def _is_running(self) -> bool:
        """Whether a thread runs a turn."""
        return self._runner is not None

    def _is_working(self) -> bool:
        """Whether this thread is within a handler, a timer or a posted call."""
        return self.dispatcher.working and self._runner == threading.get_ident()

    def is_interrupted(self) -> bool:
        """Whether this code runs in a signal handler of the program that was called while this thread polls."""
        return not self.dispatcher.working and self._runner == threading.get_ident()

    # -- the end ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the background thread and free every descriptor of the loop itself."""
        if self.dispatcher.closed:
            return
        self._end_turns()
        for closer in tuple(self.closers):
            closer()
        self.dispatcher.close()
        self.waiters.notify()

    def abandon(self) -> None:
        """Free everything without waiting for owners: our ends of all channels close, and an owner exits when its channels
        close."""
        if self.dispatcher.closed:
            return
        self._end_turns()
        self.dispatcher.redirect_handlers_to_null()
        self.dispatcher.close()

    def _end_turns(self) -> None:
        """Let no turn begin any more, and wait until no other thread runs one."""
        self.dispatcher.closed = True
        _alive.discard(self)
        self._background.stop()
        while self._runner not in (None, threading.get_ident()):
            self.dispatcher.waker.set()
            self.waiters.wait(None, self._is_running)

    def disown(self) -> None:
        """In a forked child, where nothing of this loop may be used: close this process's copies of its descriptors, which
        leaves those of the parent process open."""
        self._forked = self.dispatcher.closed = True
        self._background.disown()
        self.dispatcher.redirect_handlers_to_null()
        self.dispatcher.close()


_alive: WeakSet[Any] = WeakSet()


def _after_fork_in_child() -> None:
    for reactor in list(_alive):
        reactor.disown()
    _alive.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
