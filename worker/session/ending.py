"""How a connection ends, and why. Pure; the clock is passed in.

    OPEN --- stop(code) ----------------> CLOSING --- peer's close, deadline, end of stream ---> ENDED
      |                                                                                            ^
      +---- violation soon after messages --> VIOLATED --- deadline, stop, send overdue -----------+
      |                                                                                            |
      +---- peer's close, violation, end of stream, heartbeat missed, silence, send overdue -------+

    state      | reads | the user's messages | requests, subscriptions, heartbeats | watches
    OPEN       | yes   | sent                | sent                                | heartbeats, silence, streams, login
    CLOSING    | yes   | refused             | none                                | its deadline
    VIOLATED   | no    | sent                | none                                | its deadline
    ENDED      | no    | refused             | none                                | nothing

VIOLATED gives the consumer time to answer the messages that came before the violation. VIOLATED ends at a deadline and not at
an answer, because an answer that was sent need not be the last answer, and the owner is not notified of the consumer's calls.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Disconnect, Send, StopReading
from wsadapter.worker.websocket.frames import ABNORMAL, BadClosePayload, decode_close, encode_close
from wsadapter.worker.websocket.reader import ControlFrame, Violation

_NO_BLAME: Final = frozenset({1001, 1012, 1013})
"""Close codes with a reason on the peer's side, not in our frames: going away, restarting, overloaded."""
_ANSWERABLE: Final = 0.2
"""Seconds from the last message to the close frame after a violation. A consumer answers within milliseconds. A longer wait
would delay the next owner, and a peer that gets no close frame may give up after a second."""
_NEVER: Final = -1e9


class _State(Enum):
    OPEN = auto()
    CLOSING = auto()
    VIOLATED = auto()
    ENDED = auto()


class Ending:
    """How one connection ends. Times are monotonic seconds. Not thread-safe. After a method has returned a `Disconnect`, no
    method returns an action."""

    def __init__(self) -> None:
        self._state = _State.OPEN
        self._reason: Reason | None = None
        """Why the connection ends, whatever happens now; None: nothing has decided its end."""
        self._close_frame = b""
        """The frame to send at the end of VIOLATED."""
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
        """A `Disconnect` was returned."""
        return self._state is _State.ENDED

    def stop(self, code: int, reason: Reason, now: float, *, within: float, urgent: bool) -> list[Action]:
        """Closes as the supervisor demands, within `within` seconds; data are delivered until the peer's close frame. `urgent`:
        send the close frame as urgent, because only urgent frames are sent yet."""
        if self._state is _State.VIOLATED:
            return self._disconnect_violated()
        if self._state is not _State.OPEN:
            self._deadline = min(self._deadline, now + within)
            return []
        self._state, self._reason, self._deadline = _State.CLOSING, reason, now + within
        return [Send(encode_close(code), urgent=urgent)]

    def peer_closed(self, control: ControlFrame) -> tuple[list[Action], bool]:
        """The peer's close frame came. Also returns true if the peer may have closed because of what we sent."""
        try:
            code, text = decode_close(control.payload)
        except BadClosePayload as bad:
            return self._fail(Violation(bad.code, str(bad))), False
        if self._state is _State.CLOSING and self._reason is not None:
            return self.disconnect(self._reason), False
        suspicious = code not in _NO_BLAME and self.open
        reply: Action = Send(encode_close(code), urgent=True)
        return [reply, *self.disconnect(Reason(kind="closed_by_peer", code=code, text=text), flush=True)], suspicious

    def violated(self, violation: Violation, now: float) -> list[Action]:
        """The peer broke the protocol. If messages came just before, the consumer may answer them first."""
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
        return close + self.disconnect(_reason_of(violation), flush=True, linger=True)

    def _disconnect_violated(self) -> list[Action]:
        assert self._reason is not None
        return [Send(self._close_frame, urgent=True), *self.disconnect(self._reason, flush=True, linger=True)]

    def lost(self, text: str) -> tuple[list[Action], bool]:
        """The connection ended or broke without a close frame. Also returns true if the peer may have ended the connection
        because of what we sent."""
        suspicious = self._reason is None and self.open
        return self.disconnect(self._reason or Reason(kind="closed_by_peer", code=ABNORMAL, text=text)), suspicious

    def overdue(self, text: str) -> list[Action]:
        """A frame was not sent in time."""
        return self.disconnect(self._reason or Reason(kind="send_failed", text=text))

    def refused(self, reason: Reason) -> list[Action]:
        """The peer does not accept us on this connection: closes it."""
        close: list[Action] = [Send(encode_close(1000), urgent=True)]
        return close + self.disconnect(reason, flush=True, linger=True)

    def disconnect(self, reason: Reason, *, flush: bool = False, linger: bool = False) -> list[Action]:
        """The connection is over."""
        if self._state is _State.ENDED:
            return []
        self._state = _State.ENDED
        return [Disconnect(reason, flush, linger)]

    def tick(self, now: float) -> list[Action]:
        """Time has passed in a state other than OPEN."""
        if self._state is _State.ENDED or now < self._deadline or self._reason is None:
            return []
        return self._disconnect_violated() if self._state is _State.VIOLATED else self.disconnect(self._reason)

    def deadline(self) -> float | None:
        """When to call `tick`; None: the connection is open, or has ended."""
        return self._deadline if self._state in (_State.CLOSING, _State.VIOLATED) else None


def _reason_of(violation: Violation) -> Reason:
    return Reason(kind="protocol_error", code=violation.code, text=violation.text)
