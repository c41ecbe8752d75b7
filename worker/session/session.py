"""The state machine of an open connection: reads and times go in, actions come out. No socket, no clock.

    reads ──> received ──> Inspector ──┬── Subscribing (readiness, login, subscriptions, StreamWatch)
    time  ──> tick                     ├── Heartbeat
    stop, lost, overdue ──> Ending     └──> actions

ending.py decides how a connection ends, and draws the states of a connection. Every method returns actions in the order in
which they must be performed. After a `Disconnect` there are no more actions.
"""

from __future__ import annotations

from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import ConnectionUp, HeartbeatSent
from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Notify, Send
from wsadapter.worker.session.ending import Ending
from wsadapter.worker.session.heartbeat import Heartbeat
from wsadapter.worker.session.inspector import Inspector
from wsadapter.worker.session.subscribing import Subscribing
from wsadapter.worker.websocket.frames import CLOSE, PING, PONG, encode_frame
from wsadapter.worker.websocket.reader import ReadResult


class Session:
    """One connection, from the end of the handshake on. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, assignment: Assignment, *, salt: int) -> None:
        """`salt` (32 bits, random) goes into the payloads of pings. Call `start` next."""
        self._assignment = assignment
        self._silence = assignment.endpoint.watchdog.silence
        self.ending = Ending()
        self.heartbeat = Heartbeat(assignment.endpoint.heartbeat, salt=salt)
        self.subscribing = Subscribing(assignment, self.ending, self.heartbeat)
        self.inspector = Inspector(assignment, self.ending, self.heartbeat, self.subscribing)
        self._last_message = 0.0
        """When the last message came that answers no heartbeat; the clock of `watchdog.silence`."""
        self._paused = False
        self._paused_at = 0.0

    def start(self, up: ConnectionUp, now: float) -> list[Action]:
        """The handshake is done; `up` is the report of it."""
        self._last_message = now
        actions: list[Action] = [Notify(up)]
        if self._assignment.resume is not None and self._assignment.opening is None:
            self.heartbeat.start(now)
            self.heartbeat.inherit(now, self._assignment.heartbeat_at)
            return actions + list(self.subscribing.inherit(now))
        if self.subscribing.readiness.done:
            return actions + self.subscribing.begin(now)
        return actions + self.subscribing.wait_for_peer(now)

    # --- reads

    def try_fast_path(self, read: ReadResult, now: float) -> bool:
        """The fast path. If the read contains only messages that need no inspection, notes the activity and returns true: the
        caller delivers the messages as they are. Otherwise returns false: the caller must call `received`."""
        if read.controls or read.joined or read.violation is not None or self.inspector.needs_inspection(read.data):
            return False
        self.note_activity(now)
        return True

    def note_activity(self, now: float) -> None:
        """Messages were delivered as they are."""
        self._last_message = self.ending.last_message = self.heartbeat.last_received = now
        self.heartbeat.any_message(now)

    def received(self, read: ReadResult, now: float) -> list[Action]:
        """A read was parsed."""
        self.heartbeat.last_received = now
        actions: list[Action] = []
        closes = None
        replies = self.heartbeat.replies
        for control in read.controls:
            if control.opcode == PING and self.ending.open:
                self.heartbeat.peer_beat(now)
                actions.append(Send(encode_frame(PONG, control.payload), urgent=True))
            elif control.opcode == PONG:
                self.heartbeat.pong(control.payload, now)
            elif control.opcode == CLOSE:
                closes = control
        if read.count:
            self.ending.last_message = now
            self.heartbeat.any_message(now)
            actions += self.inspector.messages(read, now)
        # A peer that only answers heartbeats is silent. Without a control frame, the read is part of a message at least.
        if read.count > self.heartbeat.replies - replies or not (read.count or read.controls):
            self._last_message = now
        if self.ending.ended:  # one of these messages ended the connection
            return actions
        if read.violation is not None:
            return actions + self.ending.violated(read.violation, now)
        if closes is not None:
            return actions + self._with_suspects(*self.ending.peer_closed(closes), now)
        return actions

    def lost(self, text: str, now: float) -> list[Action]:
        """The connection ended or broke without a close frame."""
        return self._with_suspects(*self.ending.lost(text), now)

    def _with_suspects(self, actions: list[Action], suspicious: bool, now: float) -> list[Action]:
        """Adds, in front of the `Disconnect`, a report on the subscriptions because of which the peer may have ended the
        connection, if it is `suspicious`."""
        suspects = self.subscribing.closed(now) if suspicious else []
        return actions[:-1] + suspects + actions[-1:]

    # --- demands of the supervisor

    def stop(self, code: int, kind: str, now: float, *, within: float, text: str = "") -> list[Action]:
        """Closes as the supervisor demands, within `within` seconds; data are delivered until the peer's close frame."""
        reason = Reason(kind=kind, code=code, text=text)
        return self.ending.stop(code, reason, now, within=within, urgent=self.subscribing.not_ready)

    def pause(self, now: float) -> None:
        """Reading stops for a while because the supervisor is slower than the peer. Answers may be among the unread bytes, so
        no deadline that waits for the peer may pass meanwhile."""
        self._paused, self._paused_at = True, now
        self.heartbeat.pause()
        self.subscribing.streams.pause()

    def resume(self, now: float) -> None:
        """Reading continues."""
        self._paused = False
        self._last_message = now
        self.heartbeat.resume(now)
        self.subscribing.login.postpone(now - self._paused_at)
        self.subscribing.subscriptions.postpone(now - self._paused_at)
        self.subscribing.streams.resume(now)

    # --- time

    def tick(self, now: float) -> list[Action]:
        """Time has passed. Call `tick` not later than `deadline`."""
        if not self.ending.open:
            return self.ending.tick(now)
        reason = self._overdue(now)
        if reason is not None:
            return self.ending.disconnect(reason)
        subscribing = self.subscribing
        actions = subscribing.begin_if_due(now)
        if not (self._paused and subscribing.login.awaits_answer):
            actions += subscribing.login_steps(subscribing.login.tick(now), now)
        if self.ending.ended:
            return actions
        beat = self.heartbeat.due(now)
        if beat is not None:
            actions.append(Send(beat, urgent=True))
            if self._assignment.custody:
                # Reported after the frame is sent. If the owner died between the two in the other order, the next owner would
                # count a heartbeat that was never sent, and the peer might close the connection.
                actions.append(Notify(HeartbeatSent(now)))
        if not self._paused:
            actions += subscribing.steps(subscribing.subscriptions.tick(now), now)
        return actions + subscribing.check_stalls(now)

    def _overdue(self, now: float) -> Reason | None:
        """Why the connection is given up; None: nothing is overdue."""
        if text := self.subscribing.readiness.overdue(now):
            return Reason(kind="not_ready", text=text)
        if text := self.heartbeat.missed(now):
            return Reason(kind="heartbeat_missed", text=text)
        if self._silence and not self._paused and now >= self._last_message + self._silence:
            return Reason(kind="silence", text=f"no message for {self._silence:g} s")
        return None

    def deadline(self) -> float | None:
        """When to call `tick`; None: not before another method was called."""
        if not self.ending.open:
            return self.ending.deadline()
        subscribing = self.subscribing
        times = [self.heartbeat.deadline(), subscribing.readiness.deadline(), subscribing.streams.deadline()]
        if not self._paused:
            times.append(subscribing.subscriptions.deadline())
        if not (self._paused and subscribing.login.awaits_answer):
            times.append(subscribing.login.deadline())
        if self._silence and not self._paused:
            times.append(self._last_message + self._silence)
        return min((t for t in times if t is not None), default=None)
