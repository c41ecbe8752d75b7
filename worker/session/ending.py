"""How a connection ends, and why. Pure; the clock is passed in.

    OPEN --- stop(code) ----------------> CLOSING --- peer's close, deadline, end of stream ---> ENDED
      |                                                                                            ^
      +---- violation soon after messages --> VIOLATED --- deadline, stop, send overdue -----------+
      |                                                                                            |
      +---- peer's close, violation, end of stream, heartbeat missed, silence, send overdue -------+

    state      | reads | the user's messages | requests, subscriptions, heartbeats | watches
    OPEN       | yes   | sent                | sent                                | heartbeats, silence, streams, the login
    CLOSING    | yes   | refused             | none                                | its deadline
    VIOLATED   | no    | sent                | none                                | its deadline
    ENDED      | no    | refused             | none                                | nothing

VIOLATED is for the consumer, who may answer the messages that came before the violation. VIOLATED ends with a deadline, not
with the consumer's next call: the owner does not know of these calls, and an answer that was sent need not be the last one.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Leave, Send, StopReading
from wsadapter.worker.websocket.frames import ABNORMAL, BadClosePayload, decode_close, encode_close
from wsadapter.worker.websocket.reader import Control, Violation

_NO_BLAME: Final = frozenset({1001, 1012, 1013})
"""Codes of the peer's close that are about the peer: it goes away, restarts, is overloaded."""
_ANSWERABLE: Final = 0.2
"""Seconds from the last message to the close frame after a violation. A consumer answers within milliseconds; the next owner
waits so much longer, and a peer that gets no close frame may give up after a second."""
_NEVER: Final = -1e9


class _State(Enum):
    OPEN = auto()
    CLOSING = auto()
    VIOLATED = auto()
    ENDED = auto()


class Ending:
    """The end of one connection. Times are monotonic seconds. Not thread-safe. Once a `Leave` was returned, no method returns
    an action any more."""

    def __init__(self) -> None:
        self._state = _State.OPEN
        self._reason: Reason | None = None
        """Why the connection ends, however it ends now; None: it has not to end."""
        self._close_frame = b""
        """What VIOLATED ends with."""
        self._deadline = 0.0
        self.last_message = _NEVER
        """When the last message came."""

    @property
    def open(self) -> bool:
        """True if frames may be sent."""
        return self._state is _State.OPEN

    @property
    def answerable(self) -> bool:
        """True if the user's messages may be sent."""
        return self._state in (_State.OPEN, _State.VIOLATED)

    @property
    def ended(self) -> bool:
        """A `Leave` was returned."""
        return self._state is _State.ENDED

    def stop(self, code: int, reason: Reason, now: float, *, within: float, urgent: bool) -> list[Action]:
        """Closes as demanded, within so many seconds; data are delivered until the peer's close. `urgent`: the close frame may
        not wait, because nothing but urgent frames is sent yet."""
        if self._state is _State.VIOLATED:
            return self._leave_violated()
        if self._state is not _State.OPEN:
            self._deadline = min(self._deadline, now + within)
            return []
        self._state, self._reason, self._deadline = _State.CLOSING, reason, now + within
        return [Send(encode_close(code), urgent=urgent)]

    def peer_closed(self, control: Control) -> tuple[list[Action], bool]:
        """The peer's close frame came. Also returns whether the peer may have closed because of what was sent to it."""
        try:
            code, text = decode_close(control.payload)
        except BadClosePayload as bad:
            return self._fail(Violation(bad.code, str(bad))), False
        if self._state is _State.CLOSING and self._reason is not None:
            return self.leave(self._reason), False
        blames = code not in _NO_BLAME and self.open
        reply: Action = Send(encode_close(code), urgent=True)
        return [reply, *self.leave(Reason(kind="closed_by_peer", code=code, text=text), flush=True)], blames

    def violated(self, violation: Violation, now: float) -> list[Action]:
        """The peer broke the protocol. Messages that were received just before may be answered first."""
        answerable_until = self.last_message + _ANSWERABLE
        if not self.open or now >= answerable_until:
            return self._fail(violation)
        self._state, self._reason, self._deadline = _State.VIOLATED, _reason_of(violation), answerable_until
        self._close_frame = encode_close(violation.code, violation.text)
        return [StopReading()]

    def _fail(self, violation: Violation) -> list[Action]:
        """Fails the connection (RFC 6455 §7.1.7)."""
        close: list[Action] = []
        if self._state is not _State.CLOSING:
            close.append(Send(encode_close(violation.code, violation.text), urgent=True))
        return close + self.leave(_reason_of(violation), flush=True, linger=True)

    def _leave_violated(self) -> list[Action]:
        assert self._reason is not None
        return [Send(self._close_frame, urgent=True), *self.leave(self._reason, flush=True, linger=True)]

    def lost(self, text: str) -> tuple[list[Action], bool]:
        """The connection ended or broke without a close frame. Also returns whether the peer may have ended the connection
        because of what was sent to it."""
        blames = self._reason is None and self.open
        return self.leave(self._reason or Reason(kind="closed_by_peer", code=ABNORMAL, text=text)), blames

    def overdue(self, text: str) -> list[Action]:
        """A frame was not sent in time."""
        return self.leave(self._reason or Reason(kind="send_failed", text=text))

    def refused(self, reason: Reason) -> list[Action]:
        """The peer does not want this connection: closes it and leaves."""
        close: list[Action] = [Send(encode_close(1000), urgent=True)]
        return close + self.leave(reason, flush=True, linger=True)

    def leave(self, reason: Reason, *, flush: bool = False, linger: bool = False) -> list[Action]:
        """The connection is over."""
        if self._state is _State.ENDED:
            return []
        self._state = _State.ENDED
        return [Leave(reason, flush, linger)]

    def tick(self, now: float) -> list[Action]:
        """Time has passed in a state other than OPEN."""
        if self._state is _State.ENDED or now < self._deadline or self._reason is None:
            return []
        return self._leave_violated() if self._state is _State.VIOLATED else self.leave(self._reason)

    def deadline(self) -> float | None:
        """When to call `tick`; None: the connection is open, or has ended."""
        return self._deadline if self._state in (_State.CLOSING, _State.VIOLATED) else None


def _reason_of(violation: Violation) -> Reason:
    return Reason(kind="protocol_error", code=violation.code, text=violation.text)
