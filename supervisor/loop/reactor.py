"""One loop for data, control, deaths and timers. Whoever waits for something runs it.

              consumer's next() ──┐
      a caller waiting for an ────┤ run_until(done)
      answer (send, stop ...)     │        ┌──────────────────────────┐
              asyncio's loop ─────┼──────> │ turn: poll, handlers,    │ one lock: one runner at a time
                                  │        │ posted calls, timers     │
                the keeper ───────┘        └──────────────────────────┘

A hand-over between threads costs more than the rest of a message's way, so the consumer runs the loop in its own thread. But
supervision must go on while the consumer is busy: the keeper, a background thread, looks in when nobody has run a turn for
20 ms although something is ready or due. It never parks inside a turn, so it is never in anybody's way.

Handlers, timers and posted calls run under the lock, one after the other, and never block. A program's signal handlers may
raise in its main thread at any instruction (KeyboardInterrupt does); a turn's work is shielded from them, so that it is done
whole or not begun.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakSet

from wsadapter.contract.errors import SupervisorStopped, WrongProcess
from wsadapter.loop import poller, signal_guard
from wsadapter.loop.descriptors import blind
from wsadapter.loop.keeper import Keeper
from wsadapter.loop.timers import Timer, Timers
from wsadapter.loop.waiters import Waiters
from wsadapter.loop.waker import Waker

T = TypeVar("T")

__all__ = ["Reactor", "Timer"]


class Reactor:
    """The loop. Every method may be called from any thread unless it says otherwise."""

    def __init__(self) -> None:
        self.busy_poll = 0.0
        """Seconds that a consumer polls without sleep before it waits: lower latency for a core's time. 0: not at all."""
        self._door = threading.Lock()
        self._runner: int | None = None
        """Who runs a turn. Set and cleared by plain assignments: an interrupt can't fall between having it and knowing it."""
        self._working = False
        self.serves: Callable[[], object] | None = None
        """The work that ends the turn under way, see `run_until`, where all that is ready is one descriptor."""
        self.served = False
        """That work is not needed any more: who waits for it has got something."""
        self._poller = poller.make()
        self._handlers: dict[int, Callable[[int], object]] = {}
        self.timers = Timers()
        self._posted: deque[Callable[[], object]] = deque()
        self._waker = Waker()
        self._poller.register(self._waker.fileno(), poller.READ)
        self._handlers[self._waker.fileno()] = lambda _events: self._waker.clear()
        self.turns = 0
        """How many turns were begun."""
        self._finished = 0
        self._ready_before: list[tuple[int, int]] = []
        """Of the last turn."""
        self.waiters = Waiters()
        self.closers: set[Callable[[], None]] = set()
        """Called when the loop is closed: what nobody else lets go of then."""
        self.failure: BaseException | None = None
        """What a handler raised: that is a bug, and the loop does nothing more."""
        self._closed = False
        self._forked = False
        self._keeper = Keeper(self)
        _alive.add(self)

    # -- what handlers use: under the lock -------------------------------------------------------------------------------

    def register(self, fd: int, handler: Callable[[int], object], events: int = poller.READ) -> None:
        """Call `handler(events)` whenever `fd` is ready."""
        self._handlers[fd] = handler
        self._poller.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events on `fd`; 0 for none."""
        self._poller.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Forget `fd`; before it is closed. No harm where it is not known."""
        if self._handlers.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def is_registered(self, fd: int) -> bool:
        """Whether `fd` has a handler."""
        return fd in self._handlers

    def call_later(self, delay: float, call: Callable[[], object]) -> Timer:
        """Call it in `delay` seconds."""
        timer = self.timers.call_at(monotonic() + delay, call)
        self._keeper.heed(timer.when)
        return timer

    # -- what callers use ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the keeper."""
        self._keeper.start()

    def fileno(self) -> int:
        """A descriptor that is readable while a turn has something to do (timers aside)."""
        return self._poller.fileno()

    def post(self, call: Callable[[], object]) -> None:
        """Have it called in the next turn. Safe in a signal handler."""
        self._posted.append(call)
        if not self._closed:
            self._waker.set()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have it called under the lock: at once where nobody runs the loop, else by the one who does."""
        self.check()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except Exception as error:  # noqa: BLE001 - it is the caller's: result() raises it there
                future.set_exception(error)

        self._posted.append(run)
        if not self._try_posted():
            self._waker.set()
        return future

    def call(self, call: Callable[[], T], timeout: float | None = None) -> T:
        """`submit` and wait. Raises what the call raises, `TimeoutError` where it could not run in time."""
        return self.wait(self.submit(call), timeout)

    def wait(self, future: Future[T], timeout: float | None = None) -> T:
        """The future's result; the loop goes on meanwhile, in this thread or in another."""
        if not self.run_until(future.done, timeout):
            raise TimeoutError
        return future.result()

    def run_until(
        self, done: Callable[[], bool], timeout: float | None = None, *, work: Callable[[], object] | None = None
    ) -> bool:
        """Run the loop, or let the one who runs it, until `done()`. False where `timeout` seconds were not enough.

        `work` is the last part of each turn that this call runs, and as whole as the rest of it. True stands for `done()`.
        """
        try:
            return self._run_until(done, timeout, work)
        finally:
            if self._runner is not None and self.is_interrupted() and not self._closed:
                self._waker.set()  # what a signal handler waited for may be what the poll it interrupted waits for

    def _run_until(self, done: Callable[[], bool], timeout: float | None, work: Callable[[], object] | None) -> bool:
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
                late = remaining == 0  # one look is always taken, so that a timeout of 0 asks for what is there
            if self._runner is not None and self._is_working():
                raise RuntimeError("waiting inside the loop would wait for ever")
            match self._run_turn(remaining, seen, work):
                case True:
                    return True
                case None:
                    self.waiters.wait(remaining, self._is_running)

    def try_turn(self) -> bool:
        """One turn without waiting. False where somebody else runs the loop."""
        return self._run_turn(0.0) is not None

    def abandon(self) -> None:
        """Let go of everything without waiting: our ends of all channels close, and owners leave when theirs end."""
        if self._closed:
            return
        self._closed = True
        _alive.discard(self)
        self._keeper.stop()
        self._end_turns()
        self._blind()
        self._release()

    def close(self) -> None:
        """End the keeper and free every descriptor of the loop itself."""
        if self._closed:
            return
        self._closed = True
        self._keeper.stop()
        _alive.discard(self)
        self._end_turns()
        for let_go in tuple(self.closers):
            let_go()
        self._release()
        self.waiters.notify()

    @property
    def closed(self) -> bool:
        return self._closed

    # -- turns -----------------------------------------------------------------------------------------------------------

    def check_process(self) -> None:
        """Raises `WrongProcess` in a fork of the process that made it."""
        if self._forked:
            raise WrongProcess(
                "this supervisor belongs to the process that made it, this is a fork of it; make a new Supervisor here"
            )

    def check(self) -> None:
        """Raises if nothing can be waited for any more: `SupervisorStopped`, `WrongProcess`, or `RuntimeError` for a bug."""
        if not self._closed and self.failure is None:
            return
        self.check_process()
        if self.failure is not None:
            raise RuntimeError("the supervisor's loop failed; this is a bug in wsadapter") from self.failure
        if self._closed:
            raise SupervisorStopped("the supervisor was stopped; make a new one")

    def _run_turn(
        self, timeout: float | None, seen: int | None = None, work: Callable[[], object] | None = None
    ) -> bool | None:
        """Whether `work` said true; None where somebody else runs the loop. `seen`: how many turns were finished when the
        caller looked; where there were more, it should look again first."""
        me = threading.get_ident()
        if self._runner == me and not self._working:  # in a signal handler of the program, called while we poll
            return self._turn(timeout, work)
        served = False
        try:
            with self._door:
                if self._runner is not None:
                    return None
                self._runner = me
            if not self._closed and (seen is None or seen == self._finished):
                served = self._turn(timeout, work)
        finally:
            if self._runner == me:
                self._finished += 1
                self._runner = None
        waiters = self.waiters
        if waiters.gates or waiters.listeners:
            waiters.notify()
        return served

    def _is_running(self) -> bool:
        """Whether somebody runs a turn."""
        return self._runner is not None

    def _is_working(self) -> bool:
        """Whether this thread is within a handler, a timer or a posted call."""
        return self._working and self._runner == threading.get_ident()

    def is_interrupted(self) -> bool:
        """Whether this is a signal handler of the program, called while this thread polls."""
        return not self._working and self._runner == threading.get_ident()

    def _turn(self, timeout: float | None, work: Callable[[], object] | None) -> bool:
        due = False  # timers that come due while descriptors become ready wait for the next turn: its look costs nothing more
        if self._posted:
            due, timeout = True, 0.0
        elif self.timers.heap:
            until = self.timers.heap[0][0] - monotonic()
            if until <= 0:
                due, timeout = True, 0.0
            elif timeout is None or until < timeout:
                timeout = until
        try:
            signal_guard.raise_up()
            busy = self.busy_poll and work is not None and timeout != 0
            ready = self._spin(timeout) if busy else self._poller.poll(timeout)
        except BaseException as error:
            signal_guard.lower()
            if self._closed and isinstance(error, OSError | ValueError):  # by a signal handler, while we polled
                return False
            raise
        self.turns += 1
        return signal_guard.whole(self._work, ready, due or not ready, work)

    def _spin(self, timeout: float | None) -> list[tuple[int, int]]:
        """Poll without sleep for `busy_poll` seconds, and only then wait."""
        patience = self.busy_poll if timeout is None else min(self.busy_poll, timeout)
        poll, end = self._poller.poll, monotonic() + patience
        while True:
            ready = poll(0.0)
            if ready:
                return ready
            if monotonic() >= end:
                return poll(timeout if timeout is None else timeout - patience)

    def _work(self, ready: list[tuple[int, int]], due: bool, work: Callable[[], object] | None) -> bool:
        self._working = True
        self.serves = work if len(ready) == 1 else None
        self.served = False
        try:
            handlers = self._handlers
            if len(ready) > 1:
                self._let_the_quiet_go_first(ready)
            self._ready_before = ready
            for fd, events in ready:
                handler = handlers.get(fd)  # an earlier handler of this turn may have unregistered it
                if handler is not None:
                    handler(events)
            if self._posted:
                self._run_posted()
            if due:
                self.timers.run_due(monotonic())
            return work is not None and (self.served or bool(work()))
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._working = False
            self.serves = None

    def _let_the_quiet_go_first(self, ready: list[tuple[int, int]]) -> None:
        """A descriptor that was not ready in the turn before has little to say; one that floods is ready in each. So what the
        first brings need not wait for what the second does."""
        before = {fd for fd, _ in self._ready_before}
        ready.sort(key=lambda one: one[0] in before)

    def _run_posted(self) -> None:
        for _ in range(len(self._posted)):  # those posted meanwhile wait for the next turn
            if not self._posted:
                return  # one of them called `submit` itself, which ran the rest
            self._posted.popleft()()

    def _try_posted(self) -> bool:
        if self._is_working():
            self._run_posted()
            return True
        return self.try_turn()

    # -- the end ---------------------------------------------------------------------------------------------------------

    def _end_turns(self) -> None:
        """Wait until nobody runs a turn; none begins once it is closed."""
        while self._runner not in (None, threading.get_ident()):
            self._waker.set()
            self.waiters.wait(None, self._is_running)

    def _release(self) -> None:
        self._handlers.clear()
        self.timers.clear()
        self._poller.close()
        self._waker.close()

    def _disown(self) -> None:
        """In a forked child: nothing here is ours. Closing our copies of the descriptors leaves the parent's alone."""
        self._forked = self._closed = True
        self._keeper.disown()
        self._blind()
        self._release()

    def _blind(self) -> None:
        """Our ends of all channels close."""
        blind(fd for fd in self._handlers if fd != self._waker.fileno())


_alive: WeakSet[Any] = WeakSet()


def _after_fork_in_child() -> None:
    for reactor in list(_alive):
        reactor._disown()
    _alive.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
