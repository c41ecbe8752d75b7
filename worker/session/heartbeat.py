"""Heartbeats: what to send when, and whether the peer still responds. Pure; the clock is passed in.

A heartbeat is sent every `interval`, or only after an `interval` in which nothing came. Each heartbeat must be answered within
`timeout`. An answer also counts for the heartbeats sent before (RFC 6455 §5.5.3 lets a peer answer only the newest ping), but
never for a heartbeat sent after: the payload of a ping is unique, and if several texts are unanswered, an answer counts for the
oldest.

If the peer sends heartbeats of its own, these must come too. Such a peer need not answer pings: a pong is demanded only after
the peer has answered a ping on this connection. Until then only the peer's own heartbeats show that it is alive.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, Final, NamedTuple

import orjson

from wsadapter.contract.dialect.paths import matches
from wsadapter.contract.endpoint import Heartbeat as Settings
from wsadapter.worker.websocket.frames import PING, TEXT, encode_frame

_TOKEN: Final = struct.Struct(">IQ")
_MOST_OUTSTANDING: Final = 1024
_LONGEST_JSON_ANSWER: Final = 4096


class _Beat(NamedTuple):
    token: bytes
    sent_at: float


class Heartbeat:
    """The heartbeat of one connection. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, settings: Settings, *, salt: int) -> None:
        """`salt` (32 bits) makes the tokens of this connection different from those of other connections."""
        self._settings = settings
        self._salt = salt
        self._count = 0
        self._next: float | None = None
        self._outstanding: deque[_Beat] = deque(maxlen=_MOST_OUTSTANDING)
        self._inherited_until = 0.0
        self._paused = False
        self._resumed_at = 0.0
        self._replies = _replies(settings)
        self._peer_beat_at: float | None = None
        self._answers_pings = False
        """The peer has answered a ping on this connection."""
        self.last_received = 0.0
        """When anything was received last. Public and not a method, because the fast path sets it at every read."""
        self.replies = 0
        """How many messages were answers to heartbeats."""
        self.rtt: float | None = None
        """Seconds from the last answered heartbeat to its answer; None before the first."""

    def start(self, now: float) -> None:
        """The connection is up."""
        self.last_received = now
        if self._settings.kind != "none" and self._settings.interval > 0:
            self._next = now + self._settings.interval
        if self._settings.server_interval > 0:
            self._peer_beat_at = now

    def inherit(self, now: float, sent_at: float | None) -> None:
        """The connection is a previous owner's, which sent its last heartbeat at `sent_at`; None: that is not known.

        Call it after `start`. The peer's clock did not stop while the owner was replaced, so the next heartbeat is due one
        interval after the last heartbeat of the previous owner, or at once. An answer to that heartbeat is not a message, and
        it is not demanded. The peer's own heartbeats get their full time again, because some may still be unread.
        """
        self._inherited_until = now + self._settings.timeout
        if self._next is not None:
            self._next = now if sent_at is None else min(sent_at, now) + self._settings.interval
        # When the previous owner received something last is not known here. Assuming silence costs one unneeded heartbeat.
        self.last_received = now - self._settings.interval

    def due(self, now: float) -> bytes | None:
        """The heartbeat frame to send now; None: it is not time."""
        if now >= self._inherited_until:
            self._inherited_until = 0.0
        due = self._due_at()
        if due is None or now < due:
            return None
        if self._inherited_until:
            # Two answers may come now, to the previous owner's heartbeat and to this one; a text does not name its heartbeat.
            self._inherited_until = now + self._settings.timeout
        self._next = now + self._settings.interval
        self._count += 1
        token = _TOKEN.pack(self._salt, self._count) if self._settings.kind == "ping" else b""
        self._outstanding.append(_Beat(token, now))
        return encode_frame(PING, token) if token else encode_frame(TEXT, self._settings.payload.encode())

    def _due_at(self) -> float | None:
        if self._next is None or self._settings.when != "idle":
            return self._next
        return max(self._next, self.last_received + self._settings.interval)

    def pause(self) -> None:
        """Nothing is read for a while, so answers can't be seen: no heartbeat counts as missed until `resume`."""
        self._paused = True

    def resume(self, now: float) -> None:
        """Reading continues: unanswered heartbeats have `timeout` seconds from now."""
        self._paused = False
        self._resumed_at = now

    def missed(self, now: float) -> str:
        """The text of what is overdue, an answer or the peer's own heartbeats; empty: nothing is overdue."""
        answer, beats = self._answer_deadline(), self._beats_deadline()
        if answer is not None and now >= answer:
            return f"no answer to a heartbeat within {self._settings.timeout:g} s"
        if beats is not None and now >= beats:
            missed, interval = self._settings.server_missed, self._settings.server_interval
            return f"the peer missed {missed} of its own heartbeats, which are due every {interval:g} s"
        return ""

    def deadline(self) -> float | None:
        """When to call `due` and `missed` next; None: never."""
        times = [t for t in (self._due_at(), self._answer_deadline(), self._beats_deadline()) if t is not None]
        return min(times, default=None)

    def peer_beat(self, now: float) -> None:
        """The peer sent a heartbeat of its own: a ping, or a message that the dialect defines as a heartbeat."""
        if self._peer_beat_at is not None:
            self._peer_beat_at = now
        if self._settings.kind == "ping" and not self._answers_pings:
            self._outstanding.clear()

    def _beats_deadline(self) -> float | None:
        if self._peer_beat_at is None or self._paused:
            return None
        return max(self._peer_beat_at, self._resumed_at) + self._settings.server_interval * self._settings.server_missed

    def _answer_deadline(self) -> float | None:
        if not self._outstanding or self._paused:
            return None
        if self._settings.kind == "ping" and not self._answers_pings and self._peer_beat_at is not None:
            return None  # the peer's own heartbeats show whether it is alive; it may never answer a ping
        return max(self._outstanding[0].sent_at, self._resumed_at) + self._settings.timeout

    def pong(self, payload: bytes, now: float) -> None:
        """A pong came. A pong that answers no ping of ours is ignored (RFC 6455 §5.5.3)."""
        if len(payload) == _TOKEN.size and _TOKEN.unpack(payload)[0] == self._salt:
            self._answers_pings = True  # also if a heartbeat of the peer came first and has cleared the ping already
        for answered, beat in enumerate(self._outstanding, start=1):
            if beat.token == payload and payload:
                self.rtt = now - beat.sent_at
                for _ in range(answered):
                    self._outstanding.popleft()
                return

    @property
    def awaits_reply(self) -> bool:
        """True if a message may now be the answer to a heartbeat, so that each message must be passed to `answer`."""
        return bool(self._outstanding or self._inherited_until) and self._settings.kind != "ping" and bool(self._settings.reply)

    def any_message(self, now: float) -> None:
        """Messages came. If `reply` is empty, any message answers all heartbeats, and is still delivered."""
        if self._outstanding and self._settings.kind != "ping" and not self._settings.reply:
            self.rtt = now - self._outstanding[0].sent_at
            self._outstanding.clear()

    def answer(self, payload: bytes, now: float) -> bool:
        """True if a text message is an answer to a heartbeat, and therefore not delivered."""
        if not self.awaits_reply or not self._is_reply(payload):
            return False
        self.replies += 1
        self._answered(now)
        return True

    def _is_reply(self, payload: bytes) -> bool:
        if self._settings.kind == "text":
            return payload == self._settings.reply.encode()
        if len(payload) > _LONGEST_JSON_ANSWER or not payload.lstrip().startswith(b"{"):
            return False
        try:
            value = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return False
        return any(matches(value, fields) for fields in self._replies)

    def _answered(self, now: float) -> None:
        if not self._outstanding:
            self._inherited_until = 0.0
            return
        sent_at = self._outstanding.popleft().sent_at
        if not self._inherited_until:  # otherwise it may answer the previous owner's heartbeat, and `sent_at` is wrong
            self.rtt = now - sent_at


def _replies(settings: Settings) -> list[dict[str, Any]]:
    """The fields of each possible answer."""
    if settings.kind != "json" or not settings.reply:
        return []
    replies = orjson.loads(settings.reply)
    return replies if isinstance(replies, list) else [replies]
