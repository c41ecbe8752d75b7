"""The running supervisor's end of a takeover: a thread that talks, while the reactor goes on.

    PREPARING ──what is not up has stopped, no change is under way──> FROZEN ──the output has all that was read──> OFFERED
        └── too slow ──> goes on                                        └── too slow ──> goes on                    │
                       goes on <── anything but `ready` within the deadline, or the end of the connection ──────────┤
                                                                                   GIVEN: it ends <── `ready` ──────┘
"""

from __future__ import annotations

import logging
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NoReturn

from wsadapter.takeover import CONTRACT
from wsadapter.takeover.endpoints import freeze, is_changing, is_steady, relinquish, thaw
from wsadapter.takeover.whole import give
from wsadapter.takeover.wire import TakeoverError, receive_line, send_line, send_state
from wsadapter.version import VERSION

if TYPE_CHECKING:
    from wsadapter.roster import Kept
    from wsadapter.supervisor import Supervisor

logger = logging.getLogger("wsadapter.takeover")

_TO_PREPARE: Final = 45.0
"""Seconds: a change of connection that is under way takes up to half a minute until nothing can be repeated any more."""
_TO_FLUSH: Final = 10.0
"""Seconds for the output to take what was read."""
_TO_ANSWER: Final = 10.0
"""Seconds for the new supervisor to take what it is given, and to say that it is ready."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Stands in the stream like an event, for the runner alone: write all that came before it, then say so."""

    endpoint: str = ""
    written: Future[None] = field(default_factory=Future)


class Giver:
    """One takeover."""

    def __init__(self, supervisor: Supervisor, peer: socket.socket, asked: dict[str, Any]) -> None:
        """`peer`: the control socket's connection, which is ours now; `asked`: what the new supervisor said."""
        self._supervisor = supervisor
        self._peer = peer
        self._asked = asked
        self._frozen: list[Kept] = []
        self._halted: list[Kept] = []

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, name="wsadapter-takeover", daemon=True).start()

    def _run(self) -> None:
        with self._peer:
            try:
                self._peer.setblocking(True)
                why = "" if self._give() else "the new supervisor went before it was ready"
            except (TakeoverError, OSError) as error:  # TimeoutError is one
                why = str(error) or type(error).__name__
            if why:
                self._go_on(why)
                return
            self._supervisor.reactor.call(self._let_go)
            try:
                send_line(self._peer, {"ok": True, "gone": True}, monotonic() + _TO_ANSWER)
            except OSError as error:
                logger.warning("the new supervisor ended after it was ready: %s; its owners end with it", error)

    def _refuse(self, text: str) -> NoReturn:
        send_line(self._peer, {"ok": False, "error": text, "contract": CONTRACT}, monotonic() + _TO_ANSWER)
        raise TakeoverError(text)

    def _give(self) -> bool:
        """Whether the new supervisor is ready. Raises `TakeoverError`, `OSError`."""
        deadline = monotonic() + _TO_PREPARE
        if self._asked.get("contract") != CONTRACT:
            self._refuse(f"contract {CONTRACT} is spoken here ({VERSION}), not {self._asked.get('contract')!r}")
        if not self._supervisor.has_runner:
            self._refuse("this supervisor lives in a program of its own: only python -m wsadapter.supervise can be taken over")
        logger.info("a new supervisor (%s) takes over", self._asked.get("version"))
        reactor = self._supervisor.reactor
        if not reactor.run_until(self._is_quiet, deadline - monotonic()) or not self._prepare(deadline):
            self._refuse(f"not every connection was steady within {_TO_PREPARE:g} s; try again")
        written = reactor.call(self._freeze)
        written.result(_TO_FLUSH)
        state, fds = reactor.call(lambda: give(self._supervisor))
        deadline = monotonic() + _TO_ANSWER
        send_line(self._peer, {"ok": True, "contract": CONTRACT, "version": VERSION}, deadline)
        send_state(self._peer, state, fds, deadline)
        said = receive_line(self._peer, deadline)
        return bool(said and said.get("ready"))

    def _prepare(self, deadline: float) -> bool:
        """Nothing is stopped before everything else is steady: it is down until the new supervisor has it."""
        reactor = self._supervisor.reactor
        reactor.call(self._halt)
        return reactor.run_until(self._is_prepared, deadline - monotonic())

    # -- under the reactor's lock ----------------------------------------------------------------------------------------

    def _halt(self) -> None:
        """What has no connection that could go along is stopped: the new supervisor starts it."""
        for managed in self._supervisor.kept():
            if not is_steady(managed) and not is_changing(managed) and not managed.settled:
                self._halted.append(managed)
                managed.stop()

    def _is_quiet(self) -> bool:
        return not any(map(is_changing, self._supervisor.kept()))

    def _is_prepared(self) -> bool:
        kept = self._supervisor.kept()
        return all(managed.settled or (is_steady(managed) and not is_changing(managed)) for managed in kept)

    def _freeze(self) -> Future[None]:
        self._frozen = [managed for managed in self._supervisor.kept() if not managed.settled]
        for managed in self._frozen:
            freeze(managed)
        flush = Flush()
        self._supervisor.put_flush(flush)
        return flush.written

    def _let_go(self) -> None:
        for managed in self._frozen:
            relinquish(managed)
        self._supervisor.given_away(f"pid {self._asked.get('pid')}")

    def _go_on(self, why: str) -> None:
        logger.warning("the takeover did not come about, all goes on here: %s", why)
        self._supervisor.reactor.call(self._thaw)

    def _thaw(self) -> None:
        for managed in self._frozen:
            thaw(managed)
        for managed in self._halted:
            if managed.settled:
                managed.start()
            else:
                managed.restart()
