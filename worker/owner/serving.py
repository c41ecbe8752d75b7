"""The phase with an open connection: read, let the session decide, perform its actions.

socket ─receive─> one whole text message, nothing to inspect ──────────────────────────────> outbox       (the fast path)
             └──> reader ─ReadResult─> nothing to inspect ─────────────────────────────────────> outbox
                             └──> session ─Action─> deliver, send, report, sign, leave
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any, Final, Protocol

from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.assignment import Assignment, Resume
from wsadapter.contract.ipc.commands import READING, SUBSCRIBE, UNSUBSCRIBE
from wsadapter.contract.ipc.reports import Change, ConnectionUp, LogLine, TokenKept
from wsadapter.contract.quarantine import Quarantine
from wsadapter.worker.hooks.decode_stage import DecodeStage
from wsadapter.worker.hooks.decode_thread import Decoder
from wsadapter.worker.owner.connect_thread import Opened
from wsadapter.worker.owner.handoff import Handoff
from wsadapter.worker.owner.leaving import Leaving
from wsadapter.worker.owner.phase import Host, InFlight, Phase, Stop
from wsadapter.worker.owner.sending import Sending
from wsadapter.worker.session.actions import Action, Deliver, Disconnect, Notify, Renew, Send, Sign, StopReading
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.byte_stream import READ_SIZE
from wsadapter.worker.websocket.connection import LOST, Connection, describe_loss
from wsadapter.worker.websocket.payload_codec import Unpacker, Unpacks
from wsadapter.worker.websocket.reader import ReadResult

_SMALL: Final = 4096
"""Bytes of a read that is tried as a single message: a larger one rarely is, and a failed attempt costs."""
_REFERS_BACK: Final = "the server did not agree to server_no_context_takeover: this connection ends with its owner"


class SigningHooks(Protocol):
    """The hooks `sign` and `renew`, in a thread of their own."""

    def sign(self, frame: Mapping[str, Any]) -> None:
        """Begins a call of `sign`; `outcomes` returns its outcome later."""

    def renew(self) -> None:
        """Begins a call of `renew`; `outcomes` returns its outcome later."""

    def outcomes(self) -> Sequence[tuple[Any, ...]]:
        """The outcomes since the last call: (error,) of `renew`, (frame, error, passing) of `sign`."""


class NoHooks:
    """The `SigningHooks` of an endpoint without hooks."""

    def sign(self, frame: Mapping[str, Any]) -> None:
        """Never called: a frame is signed only if there is a hook that signs (`load_hooks` refuses the endpoint otherwise)."""
        raise RuntimeError(f"there is no hook that could sign {frame!r:.100}")

    def renew(self) -> None:
        """Never called: a login is renewed by a hook only if there is one."""
        raise RuntimeError("there is no hook that could renew the login")

    def outcomes(self) -> Sequence[tuple[Any, ...]]:
        """None."""
        return ()


class Serving(Phase):
    """The connection is open."""

    name = "up"

    def __init__(self, host: Host, assignment: Assignment, opened: Opened, owed: list[Change]) -> None:
        """Call `start` next. `owed`: the changes of subscriptions that came while connecting."""
        super().__init__(host)
        self._outbox = host.outbox
        if opened.hook is not None:
            quarantine = Quarantine(assignment.quarantine, assignment.endpoint.name)
            host.output = DecodeStage(Decoder(opened.hook, quarantine, host.wakeup), host.outbox)
        self._hooks = _signing_hooks(host, opened)
        self._connection = make_connection(assignment, opened)
        self._byte_stream = self._connection.byte_stream
        self.fd = self._connection.fileno()
        self._direct = host.output is host.outbox
        """Messages that need no inspection go into the pipe as they are, because there is no decode hook."""
        self._single = self._direct and self._connection.split is None
        """A read of one text message may take the fast path: no decode hook, and the dialect does not split messages."""
        self._session = Session(assignment, salt=int.from_bytes(os.urandom(4), "big"))
        self._inspector = self._session.inspector
        self._handoff = Handoff(host.control, self._connection, self._session)
        send_timeout = assignment.endpoint.timeouts.send
        self._sending = Sending(host, self._connection, self._session, self._handoff, owed, send_timeout)
        self.sending = self._sending
        self._paused = False
        """Nothing is read at present."""
        self._reading_over = False
        """Nothing is read any more, because the session demanded it."""

    def start(self, assignment: Assignment, opened: Opened, unsent: bytes, now: float) -> None:
        """Reports the connection, and sends and reads what is possible at once. `unsent`: the rest of a frame that the previous
        owner began."""
        established, resume, output = opened.connection, assignment.resume, self.host.output
        if assignment.custody and self._direct and self._connection.can_outlive:
            self._handoff.enable(self._outbox, resume, len(established.first))
        if self._connection.refers_back and assignment.endpoint.compression == "no_context_takeover":
            output.report(LogLine("warning", _REFERS_BACK))
        if resume is not None:  # first of all: another frame in the middle of a begun one would break the stream
            self._connection.sender.complete(unsent, resume.ref, now)
        # "up" and the first messages are written together. If somebody kills the owner as a reaction to the "up", the
        # messages are then in the pipe already, and the death does not look as if these messages had caused it.
        self._outbox.cork()
        up = ConnectionUp(established.headers, established.subprotocol, established.peer, resumed=resume is not None)
        self._perform(self._session.start(up, now), now)
        if resume is None and opened.hooks is not None and opened.hooks.attempt.token is not None:
            output.report(TokenKept(opened.hooks.attempt.token))
        if resume is not None:
            self._sending.flush(now)
            try:
                self._connection.skip(resume.skip)
            except OSError as error:
                self._lose(error, now)
        if established.first:
            self._take(self._connection.parse(established.first), now)
        if resume is not None:
            self._read_inherited(resume, established.first)
        else:
            self._handoff.offer_if_due()  # before the "up" is written: a kill that follows the "up" then loses nothing
            self._outbox.uncork()

    def _read_inherited(self, resume: Resume, begun: bytes) -> None:
        """Reads the bytes that the previous owner left unread and may have died of. `begun`: the received part of the first
        message. READING is sent before each part is parsed, so that the supervisor can find the bytes that kill owners."""
        left, corked = min(resume.unread, READ_SIZE), True
        while left > 0 and (corked or not self.host.output.full):
            if self._session.ending.ended or self._reading_over:
                break
            now = time.monotonic()
            self.host.control.send(READING, 0, self._connection.received.to_bytes(8, "little"))
            try:
                chunk = self._connection.receive_inherited(left, begun if resume.careful else None)
            except LOST as error:
                self._lose(error, now)
                break
            if not chunk:
                break
            self._take(self._connection.parse(chunk), now)
            if corked:
                self._outbox.uncork()
            self._discard(now)
            left, begun, corked = left - len(chunk), b"", False
        if corked:
            self._outbox.uncork()
        if resume.unread:
            self.host.control.send(READING)

    # --- the loop

    def mask(self) -> int:
        return self._connection.mask(reading=not self._paused)

    def deadline(self) -> float:
        if self._byte_stream.ended and not self._paused:
            return 0.0  # TLS has decrypted the end already, so the poller will not report it
        return min(self._session.deadline() or inf, self._sending.deadline())

    def readable(self, now: float) -> None:
        if self._paused:
            return
        connection, session, outbox = self._connection, self._session, self._outbox
        try:
            chunk = self._byte_stream.receive()
        except LOST as error:
            self._lose(error, now)
            return
        if chunk:
            connection.received += len(chunk)
            single = self._single and len(chunk) < _SMALL and not self._inspector.needs_inspection(chunk)
            if single and (size := connection.reader.single_text(chunk)) >= 0:
                outbox.single_text(chunk, size, time.time_ns(), connection.received - len(chunk))
                session.note_activity(now)
            else:
                self._take(connection.parse(chunk), now)
            if self._handoff.every_byte:
                self._discard(now)
        if outbox.backlog or outbox.closed or self._byte_stream.ended or (not self._direct and self.host.output.full):
            self.host.changed = True

    def writable(self, now: float) -> None:
        self._sending.flush(now)

    def tick(self, now: float) -> None:
        for step in (self._discard, self._take_outcomes, self._check_connection, self._pause_or_resume, self._do_due):
            step(now)
            if self._session.ending.ended:  # the next phase is entered
                return

    def _check_connection(self, now: float) -> None:
        if self._byte_stream.ended:
            self.readable(now)  # see `deadline`: the poller does not report the end
        if text := self._sending.overdue(now):
            self._perform(self._session.ending.overdue(text), now)

    def _pause_or_resume(self, now: float) -> None:
        if (self.host.output.full or self._reading_over) is not self._paused:
            self._paused = not self._paused
            if self._paused:
                self._session.pause(now)
            else:
                self._session.resume(now)

    def _do_due(self, now: float) -> None:
        deadline, sender = self._session.deadline(), self._connection.sender
        if deadline is not None and now >= deadline:
            self._perform(self._session.tick(now), now)
        if sender.wants_flush or (sender.has_waiting and not sender.blocked):
            self._sending.flush(now)
        if not self._outbox.backlog:
            self._handoff.offer_if_due()

    def probe_answer(self) -> dict[str, Any]:
        rtt, received = self._session.heartbeat.rtt, self._connection.received
        return super().probe_answer() | {"rtt": rtt, "received": received}

    # --- reads

    def _take(self, read: ReadResult, now: float) -> None:
        if self._direct and read.count and self._session.try_fast_path(read, now):
            position = self._connection.received - len(read.data)
            self._outbox.messages(read, time.time_ns(), position, 0, read.count)
            if self._handoff.every_byte:
                self._outbox.cover_rest(read, time.time_ns(), position)
        elif not self._handoff.every_byte:
            self._perform(self._session.received(read, now), now)
        else:
            # A report of an answer and the bytes of the answer are written together: if the owner dies, the supervisor has both
            # or neither, and the next owner recognises the answer or does not see it again.
            self._outbox.cork()
            self._perform(self._session.received(read, now), now)
            self._outbox.cover_rest(read, time.time_ns(), self._connection.received - len(read.data))
            self._outbox.uncork()

    def _discard(self, now: float) -> None:
        """Removes the bytes that were read from the kernel, once all of them are in the pipe. In the other order a death
        between the two would lose them."""
        if not self._outbox.backlog:
            try:
                self._byte_stream.discard()
            except OSError as error:
                self._lose(error, now)

    def _lose(self, error: BaseException, now: float) -> None:
        self._perform(self._session.lost(describe_loss(error), now), now)

    # --- actions of the session

    def _perform(self, actions: Iterable[Action], now: float) -> None:
        host, sent = self.host, False
        for action in actions:
            if not isinstance(action, Deliver):
                host.changed = True
            if sent and not isinstance(action, Send):
                self._sending.flush(now)  # the answer to a ping is sent before anything slower is done
                sent = False
            match action:
                case Deliver(read=read):
                    host.output.deliver(action, time.time_ns(), self._connection.received - len(read.data))
                case Send():
                    self._sending.put(action)
                    sent = True
                case Notify(report):
                    host.output.report(report)
                case Sign(frame):
                    self._hooks.sign(frame)
                case Renew():
                    self._hooks.renew()
                case StopReading():
                    self._reading_over = True
                case Disconnect():
                    rtt = self._session.heartbeat.rtt
                    host.enter(Leaving(host, action, self._connection, self._sending, rtt, now))
        if sent:
            self._sending.flush(now)

    def _take_outcomes(self, now: float) -> None:
        """Passes the outcomes of the hooks to the session."""
        for outcome in self._hooks.outcomes():
            match outcome:
                case (error,):
                    self._perform(self._session.subscribing.renewed(error, now), now)
                case (frame, "", _):
                    self._perform(self._session.subscribing.signed(frame, now), now)
                case (_, error, passing):
                    self._perform(self._session.subscribing.not_signed(error, now, passing=passing), now)

    # --- commands of the supervisor

    def rejoin(self) -> InFlight | None:
        self._handoff.offer_again()
        return InFlight(self._sending.owed, self._inspector.open_requests)

    def forget(self, ids: Iterable[str]) -> None:
        self._inspector.forget(ids)

    def change_subscriptions(self, kind: int, streams: Sequence[Subscription], ref: int, now: float) -> None:
        if self._session.ending.open:
            subscribing = self._session.subscribing
            changes = {SUBSCRIBE: subscribing.subscribe, UNSUBSCRIBE: subscribing.unsubscribe}
            change = changes.get(kind, subscribing.resubscribe)
            self._perform(change(list(streams), now), now)
            self._sending.owe((ref, kind, tuple(streams)))
            self._sending.flush(now)

    def identify(self, ref: int, *, on: bool) -> None:
        self._inspector.identify(on=on)
        super().identify(ref, on=on)

    def stop(self, stop: Stop, now: float) -> None:
        closing_time = self.host.end.closing_time(stop, now)
        self._perform(self._session.stop(stop.code, stop.kind, now, within=closing_time, text=stop.text), now)


def make_connection(assignment: Assignment, opened: Opened) -> Connection:
    """The connection, with the reader that the endpoint and its dialect need."""
    packing = (assignment.dialect or {}).get("payload", {})
    compression = packing.get("compression", "")
    unpacker: Unpacks | None = Unpacker(compression) if compression else None
    if opened.hooks is not None and opened.hooks.decode is not None:
        from wsadapter.worker.hooks.sign_thread import Decoding  # most owners never need it

        unpacker = Decoding(opened.hooks.decode)
    return Connection(
        opened.connection, max_message=assignment.endpoint.max_message, pace=assignment.endpoint.limits.pace,
        resume=assignment.resume, unpacker=unpacker, text_in_binary=bool(packing.get("text")),
        split=_json_split() if packing.get("split") else None,
    )  # fmt: skip


def _signing_hooks(host: Host, opened: Opened) -> SigningHooks:
    if opened.hooks is None:
        return NoHooks()
    from wsadapter.worker.hooks.sign_thread import HookThread  # most owners never need it

    return HookThread(opened.hooks, host.wakeup)


def _json_split() -> Callable[[ReadResult], ReadResult]:
    from wsadapter.worker.session.json_array import split  # most owners never need it

    return split
