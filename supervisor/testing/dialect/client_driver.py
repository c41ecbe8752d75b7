"""Between a connection and its conversation: carries out the steps that the conversation decides, and calls it in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from wsadapter.contract.endpoint import Subscription
from wsadapter.testing import frames as ws
from wsadapter.testing.connection import ClientConnection
from wsadapter.testing.dialect.client_view import ClientView
from wsadapter.testing.dialect.compose import written
from wsadapter.testing.dialect.conversation import Conversation
from wsadapter.testing.dialect.dialect_rules import DialectRules
from wsadapter.testing.dialect.heartbeats import terms
from wsadapter.testing.dialect.overrides import Overrides, name_of
from wsadapter.testing.dialect.recorded_market import Payload, RecordedMarket, payload_of
from wsadapter.testing.dialect.steps import (
    CloseFeed,
    Data,
    Disconnect,
    HeartbeatSeen,
    OpenFeed,
    Ping,
    SendFrame,
    Step,
    Unknown,
    Violation,
)
from wsadapter.testing.journal import Journal
from wsadapter.testing.script import Frame


class DialectServer:
    """What all conversations of an exchange share. Used in the exchange's event loop only."""

    def __init__(
        self, dialect: Mapping[str, Any], messages: Iterable[Payload], journal: Journal, *, pace: float, grace: float,
        folder: str = "",
    ) -> None:  # fmt: skip
        """`pace`: what the dialect's heartbeats' times are multiplied by; `grace`: seconds that a client may be late; `folder`:
        of the dialect's file."""
        self.dialect_rules = DialectRules(dialect)
        self.market = RecordedMarket(self.dialect_rules, messages, folder=folder)
        self.overrides = Overrides()
        self.journal = journal
        self.terms = terms(
            self.dialect_rules.heartbeat,
            questions=bool(self.dialect_rules.answers),
            beats=bool(self.dialect_rules.beats),
            pace=pace,
            grace=grace,
        )
        self.channels = count(1)
        self.clients: dict[int, ClientDriver] = {}
        """The open ones, by the number of their connection."""

    def notice(self) -> Frame:
        """A notice, encoded for sending. Raises `LookupError` if the dialect has none."""
        return self.packed(self.dialect_rules.notice())

    def packed(self, frame: Any) -> Frame:
        """A frame of the exchange, encoded for sending. A text that is not JSON can't be joined with others."""
        text = written(frame)
        return self.market.packed(text) if isinstance(frame, str) else self.together([text])

    def together(self, messages: Sequence[bytes]) -> Frame:
        """Messages that are sent as one, encoded for sending."""
        return self.market.packed(self.market.joined(messages))

    def revoke(self, stream: Subscription, text: str, connection: int | None) -> None:
        """End a stream that was confirmed, on one connection or all. Raises `LookupError` if the dialect has no [[error]]."""
        self.dialect_rules.replies.complain(text)
        for number, client in self.clients.items():
            if connection in (None, number):
                client.revoke(stream, text)

    def names(self, stream: Subscription) -> list[str]:
        """The names of the parts of a stream; `Overrides` uses these names."""
        return [name_of(part) for part in self.dialect_rules.parts(stream)]

    def paced_heartbeat(self, pace: float) -> dict[str, float]:
        """The intervals of the heartbeats at this pace, as settings of an endpoint; the timeouts stay the same."""
        heartbeat = self.dialect_rules.heartbeat
        return {"interval": heartbeat.interval * pace, "server_interval": heartbeat.server_interval * pace}


class ClientDriver:
    """The `ClientHandler` of one connection."""

    def __init__(
        self,
        dialect_server: DialectServer,
        connection: ClientConnection,
        on_feed: Callable[[ClientDriver, OpenFeed], None],
        on_feed_end: Callable[[ClientDriver, str], None],
    ) -> None:
        """`on_feed` is called when a feed begins, `on_feed_end` when it ends."""
        self._loop = asyncio.get_running_loop()
        self._dialect_server = dialect_server
        self.connection = connection
        self._on_feed, self._on_feed_end = on_feed, on_feed_end
        self._view = ClientView(dialect_server.dialect_rules, dialect_server.market, dialect_server.overrides)
        self._conversation = Conversation(
            dialect_server.dialect_rules,
            dialect_server.terms,
            dialect_server.overrides,
            self._view,
            channels=dialect_server.channels,
            now=self._loop.time(),
        )
        self._timer: asyncio.TimerHandle | None = None
        self._together: list[bytes] = []
        """Messages that are sent as one, if the dialect joins messages."""

    def opened(self) -> None:
        """See `ClientHandler` for this and the next four methods."""
        self._dialect_server.clients[self.connection.id] = self
        self._arm()

    def message(self, message: Frame) -> None:
        if isinstance(message, bytes):
            self._violated("a binary message")
        else:
            self._carry_out(self._conversation.message(message, self._loop.time()))

    def control(self, opcode: int, payload: bytes) -> None:
        self._carry_out(self._conversation.control(opcode, payload, self._loop.time()))

    def sent(self) -> None:
        self._conversation.sent(self._loop.time())

    def gone(self) -> None:
        self._dialect_server.clients.pop(self.connection.id, None)
        if self._timer:
            self._timer.cancel()

    def revoke(self, stream: Subscription, text: str) -> None:
        """End a stream of this client."""
        self._carry_out(self._conversation.revoke(stream, text))

    def send(self, frames: Sequence[bytes], only: str | None = None, sent: list[bytes] | None = None) -> None:
        """Messages of the feed, encoded: those that are this client's. `only`: of this feed. `sent`: not these, once each; they
        are taken from there."""
        if self._dialect_server.market.splits:
            elements = [element for frame in frames for element in self._dialect_server.market.elements(ws.payload_of(frame))]
            fresh = (element for element in elements if not _is_taken(element, sent))
            self._send_together([taken for element in fresh if (taken := self._view.take(element, only)) is not None])
            return
        if sent:
            frames = [frame for frame in frames if not _is_taken(ws.payload_of(frame), sent)]
        if own := [taken for frame in frames if (taken := self._take(frame, only)) is not None]:
            self.connection.send_messages(own)

    def _take(self, frame: bytes, only: str | None) -> bytes | None:
        """A message as this client gets it; None if it does not get the message."""
        payload = ws.payload_of(frame)
        sent = self._view.take(payload, only)
        if sent is None or (sent is payload and frame[0] & 0x0F == ws.BINARY):
            return None if sent is None else frame
        return ws.encode_message(self._dialect_server.market.packed(sent))

    def _send_together(self, messages: Sequence[bytes]) -> None:
        """Send what all feeds send in one turn of the event loop as one message."""
        if messages and not self._together:
            self._loop.call_soon(self._flush)
        self._together += messages

    def _flush(self) -> None:
        messages, self._together = self._together, []
        if messages:
            self.connection.send_messages([ws.encode_message(self._dialect_server.together(messages))], len(messages))

    def belongs(self, message: Payload, feed: str) -> bool:
        """Whether a message, or one of those that it holds, is sent with this feed."""
        elements = self._dialect_server.market.elements(payload_of(message))
        return any(self._view.feed_of(element) == feed for element in elements)

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        deadline = self._conversation.deadline()
        self._timer = None if deadline is None or not self.connection.is_open else self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        if self.connection.outgoing.muted:  # a muted exchange enforces nothing; look again later
            self._timer = self._loop.call_later(1.0, self._tick)
        else:
            self._carry_out(self._conversation.tick(self._loop.time()))

    def _carry_out(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._do(step)
        self._arm()

    def _do(self, step: Step) -> None:
        match step:
            case SendFrame(frame, answer):
                self._flush()
                encoded = [ws.encode_message(self._dialect_server.packed(frame))]
                if answer:
                    self.connection.answers.reply(encoded)
                else:
                    self.connection.send_answers(encoded)
                self.sent()
            case Data(payload):
                self.connection.send_messages([ws.encode_message(self._dialect_server.together([payload]))])
            case Ping(payload):
                self.sent()
                self.connection.send_frames([ws.encode_frame(ws.PING, payload)])
            case HeartbeatSeen(kind):
                self._dialect_server.journal.note_heartbeat(self.connection.id, kind)
            case Violation(text):
                self._violated(text)
            case Unknown(text):
                if not self.connection.answers.answer(text):
                    self._violated(f"a frame that the dialect does not know: {text[:200]}")
            case OpenFeed():
                self._on_feed(self, step)
            case CloseFeed(feed):
                self._on_feed_end(self, feed)
            case Disconnect(None, _):
                self.connection.drop()
            case Disconnect(code, reason):
                self.connection.close(code, reason)

    def _violated(self, text: str) -> None:
        self._dialect_server.journal.note_violation(self.connection.id, text)


class FeedShare:
    """A `Listener`: the messages that a client gets from a feed, either from all its subscriptions or from one separate
    feed."""

    def __init__(self, client: ClientDriver, only: str | None = None, sent: Sequence[bytes] = ()) -> None:
        """`sent`: messages that the client got before the feed began."""
        self._client, self._only = client, only
        self._sent = list(sent)

    @property
    def ready(self) -> asyncio.Event:
        """Set while more can be taken."""
        return self._client.connection.ready

    def send_messages(self, frames: list[bytes]) -> None:
        """Send those that this client has subscribed."""
        self._client.send(frames, self._only, self._sent)


def _is_taken(message: bytes, sent: list[bytes] | None) -> bool:
    """Whether a message is among those that were sent; it is removed from them."""
    if not sent or message not in sent:
        return False
    sent.remove(message)
    return True
