"""Between a connection and the conversation on it: carries out what that decides, and keeps its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from wsadapter.contract.endpoint import Subscription
from wsadapter.testing import frames as ws
from wsadapter.testing.connection import Connection
from wsadapter.testing.dialect.client_view import Outlet
from wsadapter.testing.dialect.compose import written
from wsadapter.testing.dialect.conversation import Talk
from wsadapter.testing.dialect.heartbeats import terms
from wsadapter.testing.dialect.overrides import Orders, name_of
from wsadapter.testing.dialect.recorded_market import Market, Payload, payload_of
from wsadapter.testing.dialect.rules import Speech
from wsadapter.testing.dialect.steps import Beat, Data, Leave, Note, Open, Ping, Say, Shut, Step, Unknown
from wsadapter.testing.journal import Ledger
from wsadapter.testing.script import Frame


class Venue:
    """What all conversations of an exchange share. Used in the exchange's event loop only."""

    def __init__(
        self, dialect: Mapping[str, Any], messages: Iterable[Payload], ledger: Ledger, *, pace: float, grace: float,
        folder: str = "",
    ) -> None:  # fmt: skip
        """`pace`: what the dialect's heartbeats' times are multiplied by; `grace`: seconds that a client may be late; `folder`:
        of the dialect's file."""
        self.speech = Speech(dialect)
        self.market = Market(self.speech, messages, folder=folder)
        self.orders = Orders()
        self.ledger = ledger
        self.terms = terms(
            self.speech.heartbeat, questions=bool(self.speech.answers), beats=bool(self.speech.beats), pace=pace, grace=grace
        )
        self.channels = count(1)
        self.lines: dict[int, Line] = {}
        """Those that are open, by the number of their connection."""

    def notice(self) -> Frame:
        """A notice, as it goes out. Raises `LookupError` where the dialect has none."""
        return self.packed(self.speech.notice())

    def packed(self, frame: Any) -> Frame:
        """What the exchange says, as it goes out. A text that is no JSON can't stand among others."""
        text = written(frame)
        return self.market.packed(text) if isinstance(frame, str) else self.together([text])

    def together(self, messages: Sequence[bytes]) -> Frame:
        """Messages that are sent as one, as they go out."""
        return self.market.packed(self.market.joined(messages))

    def revoke(self, stream: Subscription, text: str, connection: int | None) -> None:
        """Ends a stream that was confirmed, on one connection or all. Raises `LookupError` if the dialect has no [[error]]."""
        self.speech.replies.complain(text)
        for number, line in self.lines.items():
            if connection in (None, number):
                line.revoke(stream, text)

    def names(self, stream: Subscription) -> list[str]:
        """Of the parts of a stream, by which `Orders` know it."""
        return [name_of(part) for part in self.speech.parts(stream)]

    def paced_heartbeat(self, pace: float) -> dict[str, float]:
        """How often the heartbeats come at this pace, as settings of an endpoint; how late they may be stays as it is."""
        heartbeat = self.speech.heartbeat
        return {"interval": heartbeat.interval * pace, "server_interval": heartbeat.server_interval * pace}


class Line:
    """One client: an attendant of its connection."""

    def __init__(
        self,
        venue: Venue,
        connection: Connection,
        on_feed: Callable[[Line, Open], None],
        on_feed_end: Callable[[Line, str], None],
    ) -> None:
        """`on_feed`: a feed is to begin."""
        self._loop = asyncio.get_running_loop()
        self._venue = venue
        self.connection = connection
        self._on_feed, self._on_feed_end = on_feed, on_feed_end
        self._outlet = Outlet(venue.speech, venue.market, venue.orders)
        self._talk = Talk(venue.speech, venue.terms, venue.orders, self._outlet, channels=venue.channels, now=self._loop.time())
        self._timer: asyncio.TimerHandle | None = None
        self._together: list[bytes] = []
        """Messages that are sent as one, where the dialect has such."""

    def opened(self) -> None:
        """See `Attendant`; so with what follows."""
        self._venue.lines[self.connection.id] = self
        self._arm()

    def message(self, message: Frame) -> None:
        if isinstance(message, bytes):
            self._violated("a binary message")
        else:
            self._carry_out(self._talk.message(message, self._loop.time()))

    def control(self, opcode: int, payload: bytes) -> None:
        self._carry_out(self._talk.control(opcode, payload, self._loop.time()))

    def sent(self) -> None:
        self._talk.sent(self._loop.time())

    def gone(self) -> None:
        self._venue.lines.pop(self.connection.id, None)
        if self._timer:
            self._timer.cancel()

    def revoke(self, stream: Subscription, text: str) -> None:
        """Ends a stream of this client's."""
        self._carry_out(self._talk.revoke(stream, text))

    def send(self, frames: Sequence[bytes], only: str | None = None, sent: list[bytes] | None = None) -> None:
        """Messages of the feed, encoded: those that are this client's. `only`: of this feed. `sent`: not these, once each; they
        are taken from there."""
        if self._venue.market.splits:
            elements = [element for frame in frames for element in self._venue.market.elements(ws.payload_of(frame))]
            fresh = (element for element in elements if not _is_taken(element, sent))
            self._send_together([taken for element in fresh if (taken := self._outlet.take(element, only)) is not None])
            return
        if sent:
            frames = [frame for frame in frames if not _is_taken(ws.payload_of(frame), sent)]
        if own := [taken for frame in frames if (taken := self._take(frame, only)) is not None]:
            self.connection.send_messages(own)

    def _take(self, frame: bytes, only: str | None) -> bytes | None:
        """A message as this client gets it; None where it does not."""
        payload = ws.payload_of(frame)
        sent = self._outlet.take(payload, only)
        if sent is None or (sent is payload and frame[0] & 0x0F == ws.BINARY):
            return None if sent is None else frame
        return ws.encode_message(self._venue.market.packed(sent))

    def _send_together(self, messages: Sequence[bytes]) -> None:
        """What all feeds send in one turn of the loop goes out as one."""
        if messages and not self._together:
            self._loop.call_soon(self._flush)
        self._together += messages

    def _flush(self) -> None:
        messages, self._together = self._together, []
        if messages:
            self.connection.send_messages([ws.encode_message(self._venue.together(messages))], len(messages))

    def belongs(self, message: Payload, feed: str) -> bool:
        """Whether a message, or one of those that it holds, is sent with this feed."""
        elements = self._venue.market.elements(payload_of(message))
        return any(self._outlet.feed_of(element) == feed for element in elements)

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        deadline = self._talk.deadline()
        self._timer = None if deadline is None or not self.connection.is_open else self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        if self.connection.muted:  # an exchange that is gone enforces nothing; it looks again
            self._timer = self._loop.call_later(1.0, self._tick)
        else:
            self._carry_out(self._talk.tick(self._loop.time()))

    def _carry_out(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._do(step)
        self._arm()

    def _do(self, step: Step) -> None:
        match step:
            case Say(frame, answer):
                self._flush()
                encoded = [ws.encode_message(self._venue.packed(frame))]
                if answer:
                    self.connection.reply(encoded)
                else:
                    self.connection.send_answers(encoded)
                self.sent()
            case Data(payload):
                self.connection.send_messages([ws.encode_message(self._venue.together([payload]))])
            case Ping(payload):
                self.sent()
                self.connection.send_frames([ws.encode_frame(ws.PING, payload)])
            case Beat(kind):
                self._venue.ledger.note_heartbeat(self.connection.id, kind)
            case Note(text):
                self._violated(text)
            case Unknown(text):
                if not self.connection.answer(text):
                    self._violated(f"a frame that the dialect does not know: {text[:200]}")
            case Open():
                self._on_feed(self, step)
            case Shut(feed):
                self._on_feed_end(self, feed)
            case Leave(None, _):
                self.connection.drop()
            case Leave(code, reason):
                self.connection.close(code, reason)

    def _violated(self, text: str) -> None:
        self._venue.ledger.note_violation(self.connection.id, text)


class Share:
    """What a client gets of a feed: all that it has subscribed, or what is sent with one feed of its own. A `Listener`."""

    def __init__(self, line: Line, only: str | None = None, sent: Sequence[bytes] = ()) -> None:
        """`sent`: messages that it was sent before the feed began."""
        self._line, self._only = line, only
        self._sent = list(sent)

    @property
    def ready(self) -> asyncio.Event:
        """Set while more can be taken."""
        return self._line.connection.ready

    def send_messages(self, frames: list[bytes]) -> None:
        """Sends those that are this client's."""
        self._line.send(frames, self._only, self._sent)


def _is_taken(message: bytes, sent: list[bytes] | None) -> bool:
    """Whether a message is among those that were sent; it is taken from them."""
    if not sent or message not in sent:
        return False
    sent.remove(message)
    return True
