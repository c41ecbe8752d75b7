"""The owner's loop: one thread, one poller, and around it the phases of an owner's life.

    IDLE --ASSIGN--> CONNECTING --opened--> UP --Leave--> LEAVING --everything written--> DONE
                         `------failed, STOP---------------^

It carries out what the session decides, and keeps deadlines. Nothing in it blocks.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from wsadapter.contract.ipc.commands import (
    ANNOUNCE,
    ASSIGN,
    BEGUN,
    CUSTODY,
    FORGET,
    HANDED,
    HOLD,
    IDENTIFY,
    PROBE,
    PROBED,
    READING,
    READY,
    REFUSED,
    REQUEST,
    RESUBSCRIBE,
    SEND_BINARY,
    SEND_TEXT,
    STOP,
    SUBSCRIBE,
    TAKEN,
    UNSUBSCRIBE,
    WITHDRAW,
    AnnounceCommand,
    Assignment,
    Command,
    RequestCommand,
    Resume,
)
from wsadapter.contract.ipc.reports import ConnectionDown, ConnectionUp, LogLine, StageReached, TokenKept
from wsadapter.contract.quarantine import Quarantine
from wsadapter.contract.reasons import Reason
from wsadapter.worker.command_socket import Control
from wsadapter.worker.connect.tls_holder import Hold
from wsadapter.worker.hooks.decode_stage import DecodeStage
from wsadapter.worker.hooks.decode_thread import Decoder, Hook
from wsadapter.worker.loop.alarm import Backstop
from wsadapter.worker.loop.poller import READ, WRITE, make_poller
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.outbox import Outbox, Output
from wsadapter.worker.owner.connect_thread import Connector, Failed, Opened, Step
from wsadapter.worker.owner.receipts import Receipts
from wsadapter.worker.session.actions import Action, Deliver, Leave, Renew, Say, Send, Sign, StopReading
from wsadapter.worker.session.session import Session
from wsadapter.worker.subscription.subscriptions import forgiven, without
from wsadapter.worker.websocket.byte_stream import READ_SIZE
from wsadapter.worker.websocket.connection import Lost, Wire
from wsadapter.worker.websocket.frames import BINARY, TEXT
from wsadapter.worker.websocket.payload_codec import Unpacker, Unpacks
from wsadapter.worker.websocket.reader import Batch
from wsadapter.worker.websocket.sender import Frame

if TYPE_CHECKING:
    from wsadapter.worker.hooks.sign_thread import Hooks, HookThread

_WITHOUT_SUPERVISOR: Final = 1.0
"""Seconds for everything that is left to do once the supervisor is gone."""
_LINGER: Final = 1.0
"""Seconds to wait for the peer to end the connection too, see `Leave.linger`."""
_NEVER: Final = float("inf")
_SMALL: Final = 4096
"""Bytes of a read that may be a single message."""
_TAKES_OVER: Final = "the server did not agree to server_no_context_takeover: this connection ends with its owner"
_TOO_LATE: Final = "its time was over before it could be sent"


class _Phase(Enum):
    IDLE = auto()
    CONNECTING = auto()
    UP = auto()
    LEAVING = auto()
    DONE = auto()


class Owner:
    """One owner process. Main thread only, but for `ask_to_terminate`, which a signal handler calls."""

    def __init__(self, pipe_fd: int, control: socket.socket, wakeup: Wakeup) -> None:
        """`pipe_fd` and `control` must be non-blocking."""
        self._pipe_fd = pipe_fd
        self._outbox = Outbox(pipe_fd)
        self._output: Output = self._outbox
        """The outbox, or the decode stage in front of it."""
        self._control = Control(control)
        self._wakeup = wakeup
        self._poller = make_poller()
        self._backstop = Backstop()
        self.hold: Hold | None = None
        """It is to become a TLS holder instead."""
        self._phase = _Phase.IDLE
        self._changed = True
        self._look_at = 0.0
        self._terminate = False
        self._orphaned = False
        self._assignment: Assignment | None = None
        self._connector: Connector | None = None
        self._step = ""
        self._step_limit = self._step_deadline = _NEVER
        self._wire: Wire | None = None
        self._wire_fd = -1
        self._session: Session | None = None
        self._paused = False
        """Nothing is read."""
        self._reading_over = False
        """It stays so."""
        self._leave: Leave | None = None
        self._wire_deadline = _NEVER
        self._pipe_deadline = _NEVER
        self._down_said = False
        self._probe: int | None = None
        self._handed: tuple[socket.socket, bytes] | None = None
        self._custody_due = self._in_custody = False
        self._busy_poll = 0.0
        self._tells_all = False
        self._announced: tuple[int, Frame] = (-1, b"")
        self._owed: list[int] = []
        """Refs of changes of subscriptions whose frames wait."""
        self._receipts = Receipts()
        self._hooks: HookThread | None = None

    def ask_to_terminate(self) -> None:
        """SIGTERM: close with 1001 and leave."""
        self._terminate = self._changed = True

    def run(self) -> int:
        """The whole life; the exit code: 0 where the reason of the end was written, or there was none to write."""
        self._control.say(READY)
        self._poller.watch(self._wakeup.fd, READ)
        while True:
            now = time.monotonic()
            if self._changed or now >= self._look_at:
                self._look_around(now)
                if self._phase is _Phase.DONE:
                    return 0 if self._assignment is None or self._output.drained else 1
            timeout = max(0.0, self._look_at - now)
            for fd, mask in self._spin(timeout) if self._busy_poll else self._poller.wait(timeout):
                self._serve(fd, mask, time.monotonic())

    def _spin(self, timeout: float) -> list[tuple[int, int]]:
        """Polls without sleep for a while, and only then waits."""
        patience = min(self._busy_poll, timeout)
        wait, end = self._poller.wait, time.monotonic() + patience
        while True:
            ready = wait(0.0)
            if ready or self._changed:
                return ready
            if time.monotonic() >= end:
                return wait(timeout - patience)

    def _look_around(self, now: float) -> None:
        """All that may be due. It is skipped after reads that gave nothing but messages: they make no deadline earlier."""
        self._changed = False
        self._backstop.put_off(now)
        self._go_on(now)
        self._watch()
        self._look_at = self._deadline()

    # --- waiting

    def _watch(self) -> None:
        watch = self._poller.watch
        if self._control.gone:
            watch(self._control.fileno(), 0)
        else:
            watch(self._control.fileno(), READ | WRITE if self._control.backlog else READ)
        watch(self._pipe_fd, WRITE if self._outbox.backlog else 0)
        if self._wire is not None:
            self._wire_fd = self._wire.fileno()
            watch(self._wire_fd, self._wire.mask(reading=self._reads))

    @property
    def _reads(self) -> bool:
        """Whether to look at the connection for data, or, when leaving, for its end."""
        if self._phase is _Phase.LEAVING:
            return self._wire is not None and self._wire.half_closed
        return not self._paused

    def _deadline(self) -> float:
        times = [self._backstop.due]
        if self._phase is _Phase.CONNECTING:
            times.append(self._step_deadline)
        elif self._phase is _Phase.LEAVING:
            times.append(self._wire_deadline if self._wire is not None else self._pipe_deadline)
        if self._wire is not None and self._wire.sender.eager:
            return 0.0
        if self._session is not None and self._wire is not None and self._phase is _Phase.UP:
            times += [self._session.deadline() or _NEVER, self._send_deadline() or _NEVER]
            times.append(self._wire.sender.paced_until() or _NEVER)
            if self._wire.ended and not self._paused:
                return 0.0
        return min(times)

    def _send_deadline(self) -> float | None:
        if self._wire is None or self._assignment is None or self._wire.sender.stuck_since is None:
            return None
        return self._wire.sender.stuck_since + self._assignment.endpoint.timeouts.send

    def _serve(self, fd: int, mask: int, now: float) -> None:
        if fd == self._wire_fd:
            if mask & WRITE or self._phase is not _Phase.UP:
                self._changed = True
                self._flush(now)
            if mask & READ and self._phase is _Phase.UP and not self._paused:
                self._read(now)
            return
        self._changed = True
        if fd == self._control.fileno():
            self._control.flush()
            for command in self._control.receive() if mask & READ else ():
                self._obey(command, now)
        elif fd == self._wakeup.fd:
            self._wakeup.drain()

    def _go_on(self, now: float) -> None:
        """What does not depend on a file descriptor."""
        if self._control.gone or self._outbox.closed:
            self._without_supervisor(now)
        if self._terminate:
            self._stop(1001, "stopped", now, text="SIGTERM")
            self._terminate = False
        self._output.flush()
        self._discard(now)
        if self._phase is _Phase.CONNECTING:
            self._connecting(now)
        if self._phase is _Phase.UP:
            self._up(now)
        if self._phase is _Phase.LEAVING:
            self._leaving(now)
        if self._probe is not None:
            self._answer_probe(now)

    # --- commands

    def _obey(self, command: Command, now: float) -> None:
        match command.kind:
            case k if k == HANDED:
                fd = self._control.take_fd()
                if fd is not None:
                    self._handed = socket.socket(fileno=fd), command.body
            case k if k == HOLD:
                self._become_holder(command)
            case k if k == ASSIGN:
                self._assign(Assignment.from_body(command.json()))
            case k if k in (SEND_TEXT, SEND_BINARY):
                self._send(command)
            case k if k in (REQUEST, WITHDRAW, FORGET):
                self._obey_request(command)
            case k if k in (SUBSCRIBE, UNSUBSCRIBE, RESUBSCRIBE):
                self._change_subscriptions(command, now)
            case k if k == IDENTIFY:
                self._identify(command)
            case k if k == PROBE:
                self._probe = command.ref
            case k if k == STOP:
                wish = command.json()
                self._stop(int(wish.get("code", 1000)), str(wish.get("kind", "stopped")), now)

    def _become_holder(self, command: Command) -> None:
        fd = self._control.take_fd()
        if fd is not None:
            assignment = Assignment.from_body(command.json())
            self.hold = Hold(assignment, socket.socket(fileno=fd), self._control, self._backstop)
        self._phase = _Phase.DONE

    def _assign(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._busy_poll = assignment.busy_poll
        self._backstop.follow(assignment.endpoint.watchdog.progress)
        self._phase = _Phase.CONNECTING
        if (assignment.resume is not None or assignment.held) and self._handed is None:
            text = "the connection to go on with did not arrive (too many open files?)"
            self._begin_leaving(Leave(Reason(kind="connect_failed", text=text)), time.monotonic())
            return
        sock, body = self._handed or (None, b"")
        tail = body[assignment.resume.rest :] if assignment.resume is not None else b""
        self._connector = Connector(assignment, self._wakeup, sock, tail)
        self._connector.start()

    def _send(self, command: Command) -> None:
        if self._wire is None or not self._can_send:
            self._refuse(command.ref, "the connection is not up")
            return
        opcode = TEXT if command.kind == SEND_TEXT else BINARY
        self._wire.put_message(opcode, command.body, ref=command.ref)
        self._flush(time.monotonic())

    @property
    def _can_send(self) -> bool:
        if self._session is None or self._wire is None:
            return False
        return self._session.answerable and not self._wire.sender.broken

    def _refuse(self, ref: int, text: str) -> None:
        self._control.say(REFUSED, ref, {"text": text, "fate": "not_sent"})

    def _obey_request(self, command: Command) -> None:
        if command.kind == REQUEST:
            self._request(command.ref, RequestCommand.decode(command.body))
        elif command.kind == FORGET and self._session is not None:
            self._session.forget(map(str, command.json()["ids"]))
        elif command.kind == WITHDRAW and self._wire is not None and self._wire.sender.withdraw(command.ref):
            self._refuse(command.ref, "it was withdrawn")

    def _request(self, ref: int, request: RequestCommand) -> None:
        if self._wire is None or self._session is None or not self._can_send or not self._session.open:
            self._refuse(ref, "the connection is not up")
        elif time.monotonic() >= request.until:
            self._refuse(ref, _TOO_LATE)
        elif not self._session.expect(request.id):
            self._refuse(ref, f"a frame that subscribes has the id {request.id!r} now")
        else:
            self._wire.put_message(TEXT, request.payload, ref=ref, until=request.until)
            self._flush(time.monotonic())

    def _change_subscriptions(self, command: Command, now: float) -> None:
        streams, kind = command.json()["streams"], command.kind
        if (session := self._session) is not None and session.open:
            changes = {SUBSCRIBE: session.subscribe, UNSUBSCRIBE: session.unsubscribe, RESUBSCRIBE: session.resubscribe}
            self._carry_out(changes[kind](streams, now), now)
            self._owed.append(command.ref)
            self._flush(now)
        elif session is None and self._assignment is not None:  # still connecting: it will be restored like the others
            if kind != RESUBSCRIBE:
                wanted = without(self._assignment.wanted, streams)
                wanted = (*wanted, *streams) if kind == SUBSCRIBE else wanted
                blamed = forgiven(self._assignment.blamed, streams)
                self._assignment = replace(self._assignment, wanted=wanted, blamed=blamed)
            self._owed.append(command.ref)

    def _identify(self, command: Command) -> None:
        on = bool(command.json()["on"])
        if self._session is not None:
            self._session.identify(on=on)
        elif self._assignment is not None:
            self._assignment = replace(self._assignment, identify=on)
        self._control.say(TAKEN, command.ref)

    def _answer_probe(self, now: float) -> None:
        """A decode hook that does not return is no progress either: the answer waits for it."""
        assert self._probe is not None
        progress = self._assignment.endpoint.watchdog.progress if self._assignment is not None else 0.0
        if progress and self._output.stuck_for(now) > progress / 2:
            return
        ref, self._probe = self._probe, None
        rtt = self._session.heartbeat.rtt if self._session is not None else None
        received = self._wire.received if self._wire is not None else 0
        stage = self._step if self._phase is _Phase.CONNECTING else self._phase.name.lower()
        self._outbox.report_filtered()
        self._control.say(PROBED, ref, {"rtt": rtt, "received": received, "stage": stage})

    def _stop(self, code: int, kind: str, now: float, *, text: str = "", within: float | None = None) -> None:
        if self._assignment is None:
            self._phase = _Phase.DONE
            return
        patience = self._assignment.endpoint.timeouts.close if within is None else within
        self._pipe_deadline = min(self._pipe_deadline, now + 2 * patience)
        if self._phase is _Phase.CONNECTING:
            self._begin_leaving(Leave(Reason(kind=kind, code=code, text=text or "while connecting")), now)
        elif self._phase is _Phase.UP and self._session is not None:
            self._carry_out(self._session.stop(code, kind, now, within=patience, text=text), now)
        elif self._phase is _Phase.LEAVING:
            self._wire_deadline = min(self._wire_deadline, now + patience)

    def _without_supervisor(self, now: float) -> None:
        """Nobody is left to report to: a close frame to the peer, and out."""
        if self._orphaned:
            return
        self._orphaned = self._control.gone = True
        self._outbox.close()
        self._stop(1001, "supervisor_gone", now, within=_WITHOUT_SUPERVISOR)

    # --- connecting

    def _connecting(self, now: float) -> None:
        assert self._connector is not None
        for news in self._connector.news():
            match news:
                case Step(name):
                    self._begin_step(name, now)
                case Opened():
                    self._begin_session(news, now)
                    return
                case Failed(reason):
                    self._begin_leaving(Leave(reason), now)
                    return
        if now >= self._step_deadline:
            kind = "config" if self._step == "importing" else "connect_failed"
            self._begin_leaving(Leave(Reason(kind=kind, text=f"{self._step} took longer than {self._step_limit:g} s")), now)

    def _begin_step(self, name: str, now: float) -> None:
        assert self._assignment is not None
        timeouts = self._assignment.endpoint.timeouts
        within = {
            "importing": self._assignment.endpoint.watchdog.startup or _NEVER,
            "preparing": timeouts.handshake,
            "resolving": timeouts.resolve,
            "connecting": timeouts.connect,
            "tls": timeouts.handshake,
            "handshake": timeouts.handshake,
        }[name]
        if not (self._step == "tls" and name == "handshake"):  # these two share one deadline
            self._step_limit = within
            self._step_deadline = now + within
        self._step = name
        self._output.report(StageReached(name))

    def _begin_session(self, opened: Opened, now: float) -> None:
        assert self._assignment is not None
        endpoint = self._assignment.endpoint
        connection = opened.connection
        if opened.hook is not None:
            self._use_decode_hook(opened.hook, self._assignment)
        resume = self._assignment.resume
        packing = (self._assignment.dialect or {}).get("payload", {})
        compression = packing.get("compression", "")
        unpacker: Unpacks | None = Unpacker(compression) if compression else None
        if opened.hooks is not None:
            unpacker = self._use_hooks(opened.hooks) or unpacker
        longest, pace = endpoint.max_message, endpoint.limits.pace
        self._wire = Wire(
            connection, max_message=longest, pace=pace, resume=resume, unpacker=unpacker,
            text_in_binary=bool(packing.get("text")), split=_split() if packing.get("split") else None,
        )  # fmt: skip
        self._session = Session(self._assignment, salt=int.from_bytes(os.urandom(4), "big"))
        self._phase = _Phase.UP
        up = ConnectionUp(connection.headers, connection.subprotocol, connection.peer, resumed=resume is not None)
        if self._assignment.custody and opened.hook is None and self._wire.can_outlive:
            self._be_ready_to_die(resume, len(connection.first))
        if self._wire.refers_back and endpoint.compression == "no_context_takeover":
            self._output.report(LogLine("warning", _TAKES_OVER))
        self._wire.sender.announce = self._announce
        if resume is not None and self._handed is not None:  # before anything else is sent
            self._wire.sender.complete(self._handed[1][: resume.rest], resume.ref, now)
        self._outbox.cork()
        self._carry_out(self._session.start(up, now), now)
        if resume is None and opened.hooks is not None and opened.hooks.attempt.token is not None:
            self._output.report(TokenKept(opened.hooks.attempt.token))
        if resume is not None:
            self._go_on_with(self._wire, resume, now)
        if connection.first:
            self._parsed(self._wire.first(), now)
        if resume is not None:
            self._read_inherited(self._wire, resume, connection.first)
        else:
            self._give_custody_if_due()  # in time for a kill that follows on the "up"
            self._outbox.uncork()

    def _use_decode_hook(self, hook: Hook, assignment: Assignment) -> None:
        quarantine = Quarantine(assignment.quarantine, assignment.endpoint.name)
        self._output = DecodeStage(Decoder(hook, quarantine, self._wakeup), self._outbox)

    def _use_hooks(self, hooks: Hooks) -> Unpacks | None:
        """What decodes binary messages, where a hook does."""
        from wsadapter.worker.hooks.sign_thread import Decoding, HookThread  # most owners never need it

        self._hooks = HookThread(hooks, self._wakeup)
        return Decoding(hooks.decode) if hooks.decode is not None else None

    def _be_ready_to_die(self, resume: Resume | None, first: int) -> None:
        """From now on the connection can outlive this process: every byte is in the pipe before it leaves the kernel."""
        assert self._wire is not None
        self._tells_all = True
        self._wire.leave_in_kernel()
        if resume is None:
            self._outbox.report_every_byte(0, 0)
            self._custody_due = True
        else:
            self._outbox.report_every_byte(resume.position, first)
            self._in_custody = True

    def _go_on_with(self, wire: Wire, resume: Resume, now: float) -> None:
        self._flush(now)
        try:
            wire.skip(resume.skip)
        except Lost as lost:
            self._lost(lost, now)

    @property
    def _may_read(self) -> bool:
        return self._phase is _Phase.UP and not self._reading_over

    def _read_inherited(self, wire: Wire, resume: Resume, begun: bytes) -> None:
        """Read what the last owner left unread, of which it may have died; `begun` is what was received of its first message.

        The supervisor is told while that is parsed, so it knows which deaths may come of it. "up" and the first messages go up
        in one write, so a kill that answers the "up" comes too late to look like such a death.
        """
        left, corked = min(resume.unread, READ_SIZE), True
        while left > 0 and self._may_read and (corked or not self._output.full):
            now = time.monotonic()
            self._control.say(READING, 0, wire.received.to_bytes(8, "little"))
            try:
                chunk = wire.receive_inherited(left, begun if resume.careful else None)
            except Lost as lost:
                self._lost(lost, now)
                break
            if not chunk:
                break
            self._take(wire.parse(chunk), now, direct=self._output is self._outbox)
            if corked:
                self._outbox.uncork()
            self._discard(now)
            left, begun, corked = left - len(chunk), b"", False
        if corked:
            self._outbox.uncork()
        if resume.unread:
            self._control.say(READING)

    def _announce(self, ref: int, position: int, frame: Frame, allowed_at: float) -> bool:
        """Whether the supervisor will know what was about to be sent, whatever happens now. Without custody only what somebody
        waits to hear of is of interest."""
        if not self._in_custody and (not ref or self._receipts.is_ours(ref)):
            return True
        if self._announced[0] != position or self._announced[1] is not frame:  # else it is asked again
            self._announced = position, frame
            if self._in_custody:
                self._control.say_large(ANNOUNCE, ref, AnnounceCommand(position, allowed_at).head(), frame)
            else:
                self._control.say(BEGUN, ref)
        return not self._control.backlog

    def _give_custody_if_due(self) -> None:
        """The connection can be handed on as soon as what only this owner would send is out, while frames that subscribe may
        wait for their pace, see supervisor/handoff/held_connection.py."""
        assert self._wire is not None
        assert self._session is not None
        if not (self._custody_due and self._phase is _Phase.UP and self._wire.sender.can_be_left) or self._session.holds:
            return
        custody = self._wire.custody()
        handed = custody is not None and self._control.hand(CUSTODY, asdict(custody), self._wire.fileno())
        self._custody_due = custody is not None and not handed
        self._in_custody = handed

    # --- up

    def _read(self, now: float) -> None:
        assert self._wire is not None
        assert self._session is not None
        wire, session = self._wire, self._session
        try:
            chunk = wire.receive()
        except Lost as lost:
            self._lost(lost, now)
            return
        if chunk:
            direct = self._output is self._outbox
            if direct and len(chunk) < _SMALL and not session.looks_into(chunk) and (size := wire.lone_text(chunk)) >= 0:
                self._outbox.lone_text(chunk, size, time.time_ns(), wire.received - len(chunk))
                session.passed(now)
            else:
                self._take(wire.parse(chunk), now, direct=direct)
            if self._tells_all:
                self._discard(now)
        if self._output.full or self._outbox.closed or self._wire.ended:
            self._changed = True

    def _take(self, batch: Batch, now: float, *, direct: bool) -> None:
        assert self._session is not None
        assert self._wire is not None
        if direct and batch.count and self._session.passes(batch, now):
            position = self._wire.received - len(batch.data)
            self._outbox.messages(batch, time.time_ns(), position, 0, batch.count)
            if self._tells_all:
                self._cover(batch)
        else:
            self._parsed(batch, now)

    def _parsed(self, batch: Batch, now: float) -> None:
        assert self._session is not None
        assert self._wire is not None
        if not self._tells_all:
            self._carry_out(self._session.received(batch, now), now)
            return
        self._outbox.cork()  # a report on an answer and the answer's bytes: a next owner is told of both or of neither
        self._carry_out(self._session.received(batch, now), now)
        self._cover(batch)
        self._outbox.uncork()

    def _cover(self, batch: Batch) -> None:
        """What of a read is in no message's record yet must not be lost either."""
        if self._wire is not None:
            self._outbox.cover_rest(batch, time.time_ns(), self._wire.received - len(batch.data))

    def _discard(self, now: float) -> None:
        """What was read leaves the kernel when all of it is in the pipe."""
        if self._wire is not None and not self._outbox.backlog:
            try:
                self._wire.discard()
            except Lost as lost:
                self._lost(lost, now)

    def _lost(self, lost: Lost, now: float) -> None:
        assert self._session is not None
        self._carry_out(self._session.lost(str(lost), now), now)

    def _carry_out(self, actions: Iterable[Action], now: float) -> None:
        assert self._wire is not None
        sent = False
        for action in actions:
            if not isinstance(action, Deliver):
                self._changed = True
            if sent and not isinstance(action, Send):
                self._flush(now)  # an answer to a ping is on the wire before anything else is done
                sent = False
            match action:
                case Deliver(batch=batch):
                    position = self._wire.received - len(batch.data)
                    self._output.deliver(action, time.time_ns(), position)
                case Send(frame, urgent, once, then):
                    ref = self._receipts.ref(then) if then is not None and self._tells_all else 0
                    self._wire.sender.put(frame, ref=ref, urgent=urgent, once=once)
                    sent = True
                case Say(report):
                    self._output.report(report)
                case Sign(frame):
                    assert self._hooks is not None
                    self._hooks.sign(frame)
                case Renew():
                    assert self._hooks is not None
                    self._hooks.renew()
                case StopReading():
                    self._reading_over = True
                case Leave():
                    self._begin_leaving(action, now)
        if sent:
            self._flush(now)

    def _flush(self, now: float) -> None:
        if self._wire is not None:
            self._wire.sender.held = self._session is not None and self._session.holds
            for ref in self._wire.sender.flush(now):
                if not self._receipts.is_ours(ref):
                    self._control.say(TAKEN, ref)
                elif (report := self._receipts.taken(ref)) is not None:
                    self._output.report(report)
            for ref in self._wire.sender.overdue():
                self._refuse(ref, _TOO_LATE)
            if self._wire.sender.idle:
                self._announced = (-1, b"")  # it may be large
            if self._owed and not self._wire.sender.waits and not (self._session is not None and self._session.signs):
                for ref in self._owed:
                    self._control.say(TAKEN, ref)
                self._owed.clear()

    def _take_outcomes(self, now: float) -> None:
        """What the hooks have come to."""
        assert self._session is not None
        for outcome in self._hooks.outcomes() if self._hooks is not None else ():
            match outcome:
                case (error,):
                    self._carry_out(self._session.renewed(error, now), now)
                case (frame, "", _):
                    self._carry_out(self._session.signed(frame, now), now)
                case (_, error, passing):
                    self._carry_out(self._session.not_signed(error, now, passing=passing), now)

    def _up(self, now: float) -> None:
        assert self._session is not None
        assert self._wire is not None
        assert self._assignment is not None
        self._take_outcomes(now)
        if self._wire.ended and not self._paused:
            self._read(now)
        send_deadline = self._send_deadline()
        if send_deadline is not None and now >= send_deadline:
            text = self._wire.sender.broken or f"not sent within {self._assignment.endpoint.timeouts.send:g} s"
            self._carry_out(self._session.overdue(text), now)
        if (self._output.full or self._reading_over) is not self._paused:
            self._paused = not self._paused
            if self._paused:
                self._session.pause(now)
            else:
                self._session.resume(now)
        deadline = self._session.deadline()
        if deadline is not None and now >= deadline:
            self._carry_out(self._session.tick(now), now)
        if self._wire.sender.eager or (self._wire.sender.waits and not self._wire.sender.blocked):
            self._flush(now)
        if self._custody_due and not self._outbox.backlog:
            self._give_custody_if_due()

    # --- leaving

    def _begin_leaving(self, leave: Leave, now: float) -> None:
        assert self._assignment is not None
        if self._phase is _Phase.LEAVING:
            return
        self._phase = _Phase.LEAVING
        self._leave = leave
        patience = _WITHOUT_SUPERVISOR if self._orphaned else self._assignment.endpoint.timeouts.close
        self._wire_deadline = now + patience

    def _leaving(self, now: float) -> None:
        """First the connection is taken down, then the reason is written, last of all."""
        if self._wire is not None and not self._take_down(self._wire, now):
            return
        if not self._down_said:
            self._down_said = True
            assert self._leave is not None
            self._output.report(ConnectionDown(self._leave.reason))
            self._output.flush()
        written = self._output.drained and not self._control.backlog
        if written or self._outbox.closed or now >= self._pipe_deadline:
            self._phase = _Phase.DONE

    def _take_down(self, wire: Wire, now: float) -> bool:
        """Whether the connection is closed now."""
        assert self._leave is not None
        if not wire.sender.idle and now < self._wire_deadline and self._leave.flush:
            self._flush(now)
            if not wire.sender.idle:
                return False
        if self._leave.linger and not wire.half_closed:
            wire.half_close()
            self._wire_deadline = min(self._wire_deadline, now + _LINGER)
        if self._leave.linger and not wire.peer_left() and now < self._wire_deadline:
            return False
        self._poller.watch(wire.fileno(), 0)
        self._wire_fd = -1
        for ref, fate in wire.sender.abandon():
            if not self._receipts.is_ours(ref):
                self._control.say(REFUSED, ref, {"text": "the connection is gone", "fate": fate})
        wire.close()
        self._wire = None
        return True


def _split() -> Callable[[Batch], Batch]:
    from wsadapter.worker.session.json_array import split  # most owners never need it

    return split
