"""One turn of the loop: wait for descriptors, then call their handlers, the posted calls and the timers that are due.

    turn ──> poll ──> handlers of the ready descriptors ──> posted calls ──> timers that are due ──> the consumer's sink
                      └─────────────────────── guarded from signal handlers of the program ───────────────────────┘

Which thread runs a turn is decided by the reactor. Unless a docstring names another thread, everything here is for the thread
that runs a turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from wsadapter.loop import poller, signal_guard
from wsadapter.loop.descriptors import redirect_to_null
from wsadapter.loop.sink import Sink
from wsadapter.loop.timers import Timers
from wsadapter.loop.waker import Waker


class Dispatcher:
    """Descriptors with their handlers, posted calls and timers."""

    def __init__(self) -> None:
        self.busy_poll = 0.0
        """Seconds that a consumer polls without sleeping before it waits: lower latency for the time of a core. 0: not at
        all."""
        self.timers = Timers()
        self.posted: deque[Callable[[], object]] = deque()
        """Calls for the next turn. Any thread and any signal handler may append one; `waker` then ends the poll."""
        self.waker = Waker()
        self.turns = 0
        """The number of turns that were begun."""
        self.working = False
        """Whether a handler, a posted call or a timer is being run. False while the turn polls."""
        self.failure: BaseException | None = None
        """What a handler raised. That is a bug, and the loop does nothing more."""
        self.closed = False
        """Set when the loop begins to close: no turn begins any more, and nothing may use the poller or the waker."""
        self._poller = poller.make()
        self._handlers: dict[int, Callable[[int], object]] = {}
        self._ready_before: list[tuple[int, int]] = []
        """The ready descriptors of the last turn with several of them."""
        self.register(self.waker.fileno(), lambda _events: self.waker.clear())

    # -- what handlers use -----------------------------------------------------------------------------------------------

    def register(self, fd: int, handler: Callable[[int], object], events: int = poller.READ) -> None:
        """Call `handler(events)` whenever `fd` is ready."""
        self._handlers[fd] = handler
        self._poller.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events on `fd`; 0 for none."""
        self._poller.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Remove `fd`; to be called before `fd` is closed. Does nothing if `fd` isn't registered."""
        if self._handlers.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def is_registered(self, fd: int) -> bool:
        """Whether `fd` has a handler."""
        return fd in self._handlers

    # -- what the reactor uses -------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that is readable while a turn has something to do (timers aside). From any thread."""
        return self._poller.fileno()

    def turn(self, timeout: float | None, sink: Sink | None) -> bool:
        """Wait for at most `timeout` seconds (None: without a limit), then call the due handlers. Returns whether the consumer
        that `sink` belongs to has something."""
        due = False  # timers that come due while descriptors become ready wait for the next turn, whose poll costs nothing more
        if self.posted:
            due, timeout = True, 0.0
        elif self.timers.heap:
            until = self.timers.heap[0][0] - monotonic()
            if until <= 0:
                due, timeout = True, 0.0
            elif timeout is None or until < timeout:
                timeout = until
        ready: list[tuple[int, int]] | None = None
        try:
            signal_guard.arm()
            busy = self.busy_poll and sink is not None and timeout != 0
            ready = self._spin(timeout) if busy else self._poller.poll(timeout)
            self.turns += 1
            return signal_guard.run_guarded(self._work, ready, due or not ready, sink)
        except BaseException as error:
            signal_guard.disarm()  # whatever an interrupt has left, also of one between the poll and the work
            if (
                ready is None and self.closed and isinstance(error, OSError | ValueError)
            ):  # closed by a signal handler meanwhile
                return False
            raise

    def _spin(self, timeout: float | None) -> list[tuple[int, int]]:
        """Poll without sleeping for `busy_poll` seconds, and only then wait."""
        patience = self.busy_poll if timeout is None else min(self.busy_poll, timeout)
        poll, end = self._poller.poll, monotonic() + patience
        while True:
            ready = poll(0.0)
            if ready:
                return ready
            if monotonic() >= end:
                return poll(timeout if timeout is None else timeout - patience)

    def _work(self, ready: list[tuple[int, int]], due: bool, sink: Sink | None) -> bool:
        self.working = True
        if sink is not None:
            sink.accepting, sink.delivered = len(ready) == 1, False
        try:
            handlers = self._handlers
            if len(ready) > 1:
                self._let_the_quiet_go_first(ready)
            self._ready_before = ready
            for fd, events in ready:
                handler = handlers.get(fd)  # None: an earlier handler of this turn has unregistered the descriptor
                if handler is not None:
                    handler(events)
            if self.posted:
                self.run_posted()
            if due:
                self.timers.run_due(monotonic())
            return sink is not None and (sink.delivered or sink.finish())
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.working = False
            if sink is not None:
                sink.accepting = False

    def _let_the_quiet_go_first(self, ready: list[tuple[int, int]]) -> None:
        """Sort `ready`: first the descriptors that were not ready in the turn before. They have little to read, and a
        descriptor that floods is ready in each turn; so a quiet descriptor doesn't wait for a flood."""
        before = {fd for fd, _ in self._ready_before}
        ready.sort(key=lambda one: one[0] in before)

    def run_posted(self) -> None:
        """Run the calls that are posted now."""
        for _ in range(len(self.posted)):  # calls that are posted meanwhile wait for the next turn
            if not self.posted:
                return  # one of the calls used `submit`, which ran the rest
            self.posted.popleft()()

    def redirect_handlers_to_null(self) -> None:
        """Close what the registered descriptors lead to; whoever holds the descriptors can still close them."""
        redirect_to_null(fd for fd in self._handlers if fd != self.waker.fileno())

    def close(self) -> None:
        """Free the descriptors of the loop itself."""
        self._handlers.clear()
        self.timers.clear()
        self._poller.close()
        self.waker.close()
