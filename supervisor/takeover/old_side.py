"""The running supervisor's end of a takeover: a thread that exchanges messages with the new supervisor, while the reactor runs.

    PREPARING ──what is not up has stopped, no change is under way──> FROZEN ──the output has all that was read──> OFFERED
        └── too slow ──> goes on                                        └── too slow ──> goes on                    │
                       goes on <── anything but `ready` within the deadline, or the end of the connection ──────────┤
                                                                                PASSED: it ends <── `ready` ────────┘

A takeover is one transaction: a supervisor takes part in one at a time. Until everything is passed, every failure, and a stop
of this supervisor, undo all that was done for the takeover (`take_back`).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from wsadapter.contract.errors import SupervisorStopped, TakeoverError, WsAdapterError
from wsadapter.contract.items import Event
from wsadapter.takeover import CONTRACT
from wsadapter.takeover.endpoint_state import disown, freeze, is_changing, is_steady, thaw
from wsadapter.takeover.supervisor_state import SupervisorSnapshot, give
from wsadapter.takeover.transfer import receive_line, send_line, send_state
from wsadapter.version import VERSION

if TYPE_CHECKING:
    from wsadapter.endpoint.endpoint import EndpointRuntime
    from wsadapter.runtime import Runtime

logger = logging.getLogger("wsadapter.takeover")

_TO_PREPARE: Final = 45.0
"""Seconds. A rollover takes up to half a minute until the new connection can't repeat messages any more."""
_TO_FLUSH: Final = 10.0
"""Seconds for the output to write the items that were read."""
_TO_ANSWER: Final = 10.0
"""Seconds for the new supervisor to receive everything, and to report that it is ready."""
_TO_REFUSE: Final = 1.0
"""Seconds to send the new supervisor the reason of a refusal."""


@dataclass(frozen=True, slots=True)
class Flush:
    """In the stream like an event, for the runner alone: it writes all that came before, then completes the future."""

    endpoint: str = ""
    written: Future[None] = field(default_factory=Future)


class Condition(NamedTuple):
    """The condition of one endpoint before a takeover."""

    has_ended: bool
    """It has no process, and gets none by itself."""
    steady: bool
    """Its connection can go along."""
    changing: bool
    """Its connection is being changed; it is steady soon."""
    halted: bool
    """It was stopped for this takeover."""


class Step(Enum):
    """The next step before a takeover."""

    WAIT = "wait"
    HALT = "stop what has no connection that could go along"
    FREEZE = "freeze"


def next_step(conditions: Iterable[Condition], *, leaving: bool) -> Step:
    """Stop nothing before everything else is steady, because an endpoint that is stopped is down until the new supervisor
    starts it. `leaving`: an endpoint that was removed still has a process, which may deliver."""
    conditions = list(conditions)
    if any(each.changing for each in conditions):
        return Step.WAIT
    if any(not each.has_ended and not each.steady and not each.halted for each in conditions):
        return Step.HALT
    if leaving or not all(each.has_ended or each.steady for each in conditions):
        return Step.WAIT
    return Step.FREEZE


def allow_takeover(runtime: Runtime) -> None:
    """From now on a new supervisor may take this one over. For a program that completes each `Flush` in the stream."""

    def accept(peer: socket.socket, asked: dict[str, Any]) -> None:
        """Begin a takeover, which closes `peer`, unless this raises `SupervisorStopped` or `TakeoverError`."""
        runtime.check_running()
        if runtime.takeover.giving is not None:
            raise TakeoverError("another supervisor is taking over already; try again when that has ended")
        old_side = OldSide(runtime, peer, asked)
        try:
            old_side.start()
        except RuntimeError as error:
            raise TakeoverError(f"no thread can be started for it (a limit of processes, or of memory): {error}") from error
        runtime.takeover.giving = old_side

    runtime.takeover.accept = accept


class OldSide:
    """One takeover."""

    def __init__(self, runtime: Runtime, peer: socket.socket, asked: dict[str, Any]) -> None:
        """`peer`: the connection of the control socket, which this object closes; `asked`: the new supervisor's request."""
        self._runtime = runtime
        self._peer = peer
        self._asked = asked
        self._frozen: list[EndpointRuntime] = []
        self._halted: list[EndpointRuntime] = []
        self._is_over = False
        """All is passed, or nothing is and nothing will be."""
        self._deadline = 0.0

    def start(self) -> None:
        """Begin, in a separate thread."""
        threading.Thread(target=self._run, name="wsadapter-takeover", daemon=True).start()

    @property
    def has_frozen(self) -> bool:
        """Whether nothing may be done with an endpoint now."""
        return bool(self._frozen)

    def _run(self) -> None:
        with suppress(SupervisorStopped):
            self._runtime.reactor.call(lambda: None)  # the end of the turn in which the control server releases the socket
        with self._peer:
            try:
                self._peer.setblocking(True)
                self._give()
            except (WsAdapterError, OSError) as error:  # TimeoutError is one
                self._go_on(str(error) or type(error).__name__)
            except Exception as error:
                logger.exception("the takeover failed in an unknown way; this is a bug in wsadapter")
                self._go_on(repr(error))
            else:
                self._say_goodbye()

    def _say_goodbye(self) -> None:
        try:
            send_line(self._peer, {"ok": True, "gone": True}, monotonic() + _TO_ANSWER)
        except OSError as error:
            logger.warning("the new supervisor ended after it was ready: %s; its owners end too", error)

    def _go_on(self, why: str) -> None:
        logger.warning("takeover failed, this supervisor keeps running: %s", why)
        with suppress(SupervisorStopped):  # then it was undone before
            self._runtime.reactor.call(self.take_back)
        with suppress(OSError):  # the new supervisor has ended, or does not read
            send_line(self._peer, {"ok": False, "error": why, "contract": CONTRACT}, monotonic() + _TO_REFUSE)

    def _give(self) -> None:
        """Pass everything. Raises `WsAdapterError`, `OSError` if nothing was passed."""
        if self._asked.get("contract") != CONTRACT:
            raise TakeoverError(
                f"the running supervisor ({VERSION}) has contract {CONTRACT}, the new one {self._asked.get('contract')!r:.100}"
            )
        logger.info("a new supervisor (%.40s) takes over", self._asked.get("version"))
        self._prepare().result(_TO_FLUSH)
        snapshot, fds = self._runtime.reactor.call(self._offer)
        self._deadline = monotonic() + _TO_ANSWER
        send_line(self._peer, {"ok": True, "contract": CONTRACT, "version": VERSION, "pid": os.getpid()}, self._deadline)
        send_state(self._peer, snapshot.encode(), fds, self._deadline)
        answer = receive_line(self._peer, self._deadline)
        self._check()  # `take_back` ends the waiting
        if not answer or not answer.get("ready"):
            raise TakeoverError("the new supervisor ended before it was ready")
        self._runtime.reactor.call(self._let_go)

    def _prepare(self) -> Future[None]:
        """Freeze all steady endpoints. The future is done when the output has all that was read. Raises `TakeoverError`."""
        reactor, deadline = self._runtime.reactor, monotonic() + _TO_PREPARE
        while (written := reactor.call(self._step)) is None:
            if not reactor.run_until(lambda: self._is_over or self._next_step() is not Step.WAIT, deadline - monotonic()):
                raise TakeoverError(f"not every connection was steady within {_TO_PREPARE:g} s; try again")
        return written

    def _next_step(self) -> Step:
        roster = self._runtime.registry
        kept = self._runtime.endpoints()
        conditions = [Condition(m.has_ended, is_steady(m), is_changing(m), m in self._halted) for m in kept]
        return next_step(conditions, leaving=any(not removed.has_ended for removed in roster.removed))

    # -- under the reactor's lock ----------------------------------------------------------------------------------------

    def _step(self) -> Future[None] | None:
        """Check and freeze in one turn of the reactor, so that each frozen endpoint is still steady."""
        self._check()
        match self._next_step():
            case Step.HALT:
                self._halt()
            case Step.FREEZE:
                return self._freeze()
            case Step.WAIT:
                pass
        return None

    def _halt(self) -> None:
        """Stop each endpoint whose connection can't be passed: the new supervisor starts it."""
        for endpoint in self._runtime.endpoints():
            if not is_steady(endpoint) and not endpoint.has_ended and endpoint not in self._halted:
                self._halted.append(endpoint)
                endpoint.stop()

    def _freeze(self) -> Future[None]:
        self._frozen = [endpoint for endpoint in self._runtime.endpoints() if not endpoint.has_ended]
        for endpoint in self._frozen:
            freeze(endpoint)
        flush = Flush()
        self._runtime.registry.main.put_event(cast("Event", flush))
        return flush.written

    def _offer(self) -> tuple[SupervisorSnapshot, list[int]]:
        self._check()
        return give(self._runtime)

    def _check(self) -> None:
        if self._is_over:
            raise TakeoverError("this supervisor is being stopped")

    def _let_go(self) -> None:
        """Pass everything to the new supervisor, at this one moment. Raises `TakeoverError` if that is no longer possible."""
        self._check()
        if monotonic() > self._deadline or not self._is_there():
            raise TakeoverError("the new supervisor was ready too late")
        self._is_over = True
        for endpoint in self._frozen:
            disown(endpoint)
        self._runtime.given_away(f"pid {self._asked.get('pid')}")

    def _is_there(self) -> bool:
        """Whether the new supervisor still waits: it closes its end when it gives up."""
        self._peer.setblocking(False)
        try:
            return self._peer.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def take_back(self) -> None:
        """Undo all that was done for the takeover. Does nothing if all is passed, or was taken back before."""
        if self._is_over:
            return
        self._is_over = True
        frozen, self._frozen = self._frozen, []
        for endpoint in frozen:
            try:
                thaw(endpoint)
            except Exception:  # the other endpoints must not stay frozen because of it
                logger.exception("%s can't continue as before and gets a new owner; this is a bug in wsadapter", endpoint.name)
                endpoint.restart(at_once=True)
        if self._runtime.state == "running":
            self._start_halted()
        self._runtime.takeover.giving = None
        with suppress(OSError):  # it is closed already
            self._peer.shutdown(socket.SHUT_RD)  # wakes the thread, which may wait for an answer

    def _start_halted(self) -> None:
        kept = self._runtime.endpoints()
        for endpoint in self._halted:
            if endpoint not in kept:
                continue  # it was removed meanwhile
            if endpoint.has_ended:
                endpoint.start()
            elif endpoint.state == "stopping":
                endpoint.restart()
