"""Between a connection and the conversation on it: carries out what that decides, and keeps its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

import orjson

from wsadapter.testing import frames as ws
from wsadapter.testing.connection import Connection
from wsadapter.testing.dialect.beats import terms
from wsadapter.testing.dialect.market import Market, Payload, payload_of
from wsadapter.testing.dialect.orders import Orders
from wsadapter.testing.dialect.outlet import Outlet
from wsadapter.testing.dialect.speech import Speech
from wsadapter.testing.dialect.talk import Beat, Leave, Note, Open, Ping, Say, Shut, Step, Talk, Unknown
from wsadapter.testing.ledger import Ledger
from wsadapter.testing.script import Frame


class Venue:
    """What all conversations of an exchange share. Used in the exchange's event loop only."""

    def __init__(
        self, dialect: Mapping[str, Any], messages: Iterable[Payload], ledger: Ledger, *, pace: float, grace: float
    ) -> None:
        """`pace`: what the dialect's heartbeats' times are multiplied by; `grace`: seconds that a client may be late."""
        self.speech = Speech(dialect)
        self.market = Market(self.speech, messages)
        self.orders = Orders()
        self.ledger = ledger
        self.terms = terms(
            self.speech.heartbeat, questions=bool(self.speech.answers), beats=bool(self.speech.beats), pace=pace, grace=grace
        )
        self.channels = count(1)

    def notice(self) -> Frame:
        """A notice, as it goes out. Raises `LookupError` where the dialect has none."""
        return self.market.packed(orjson.dumps(self.speech.notice()))

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
        on_stream: Callable[[Line, str], None],
        on_stream_end: Callable[[Line, str], None],
    ) -> None:
        """`on_stream`: the data of a stream are to begin."""
        self._loop = asyncio.get_running_loop()
        self._venue = venue
        self.connection = connection
        self._on_stream, self._on_stream_end = on_stream, on_stream_end
        self._outlet = Outlet(venue.speech, venue.market, venue.orders)
        self._talk = Talk(
            venue.speech, venue.terms, venue.orders, self._outlet, channels=venue.channels, now=self._loop.time()
        )
        self._timer: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        """See `Attendant`; so with what follows."""
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
        if self._timer:
            self._timer.cancel()

    def take(self, frame: bytes, only: str | None = None) -> bytes | None:
        """A message of the feed, encoded, as this client gets it; None where it does not. `only`: of this stream."""
        payload = ws.payload_of(frame)
        sent = self._outlet.take(payload, only)
        if sent is None or (sent is payload and frame[0] & 0x0F == ws.BINARY):
            return None if sent is None else frame
        return ws.encode_message(self._venue.market.packed(sent))

    def belongs(self, message: Payload, stream: str) -> bool:
        """Whether a message is of this stream."""
        return self._outlet.stream_of(payload_of(message)) == stream

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
                text = frame.encode() if isinstance(frame, str) else orjson.dumps(frame)
                encoded = [ws.encode_message(self._venue.market.packed(text))]
                if answer:
                    self.connection.reply(encoded)
                else:
                    self.connection.send_answers(encoded)
                self.sent()
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
            case Open(stream):
                self._on_stream(self, stream)
            case Shut(stream):
                self._on_stream_end(self, stream)
            case Leave(None, _):
                self.connection.drop()
            case Leave(code, reason):
                self.connection.close(code, reason)

    def _violated(self, text: str) -> None:
        self._venue.ledger.note_violation(self.connection.id, text)


class Share:
    """What a client gets of a feed: the messages of one stream, or of all that it has subscribed. A `Listener` of the feed."""

    def __init__(self, line: Line, only: str | None = None) -> None:
        self._line, self._only = line, only

    @property
    def ready(self) -> asyncio.Event:
        """Set while more can be taken."""
        return self._line.connection.ready

    def send_messages(self, frames: list[bytes]) -> None:
        """Sends those that are this client's."""
        sent = [taken for frame in frames if (taken := self._line.take(frame, self._only)) is not None]
        if sent:
            self._line.connection.send_messages(sent)
