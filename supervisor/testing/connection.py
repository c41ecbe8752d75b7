"""One client of a test exchange: handshake, frames, answers, and what it does wrong by order.

    TCP ──> [TLS] ──> HTTP request ──> open: frames both ways ──> closing: our close frame is out ──> gone

Runs in the exchange's event loop. What is sent passes one gate: nothing when muted, drop by drop when slowed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Sequence
from enum import Enum

from wsadapter.testing import frames as ws
from wsadapter.testing.deflate import Deflate
from wsadapter.testing.feed import Timed
from wsadapter.testing.frames import ClientFrame, ClientFrames, ProtocolViolation
from wsadapter.testing.handshake import (
    MAX_REQUEST,
    BadRequest,
    Refusal,
    Request,
    accept_response,
    agreed_deflate,
    parse_request,
    refusal_response,
)
from wsadapter.testing.house import Attendant, House
from wsadapter.testing.journal import Received
from wsadapter.testing.script import Frame
from wsadapter.testing.tls import ServerTls

_CLOSE_WAIT = 5.0
_DRIP_BACKLOG = 64 * 1024
_TRANSPORT_BACKLOG = 512 * 1024
_LIVE_BACKLOG = 64 * 1024 * 1024


class Stage(Enum):
    """How far a connection has come."""

    TLS = "tls"
    REQUEST = "request"
    SILENT = "silent"
    """After half a handshake."""
    OPEN = "open"
    CLOSING = "closing"
    GONE = "gone"


class Connection(asyncio.Protocol):
    """See the module."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._transport: asyncio.Transport
        self._tls = ServerTls(house.tls_context) if house.tls_context else None
        self._stage = Stage.TLS if self._tls else Stage.REQUEST
        self._request = bytearray()
        self._frames = ClientFrames()
        self._deflate: Deflate | None = None
        self._attendant: Attendant | None = None
        self._muted = False
        self._rest = b""
        """Of the frame in whose middle it was muted."""
        self._congested = False
        self._subscribed = False
        self._held_answers: list[bytes] = []
        self._dripping: asyncio.TimerHandle | None = None
        self._drops = bytearray()
        self._close_timer: asyncio.TimerHandle | None = None
        self.id = 0
        self.ready = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """From the end of the handshake to the first close frame."""
        return self._stage is Stage.OPEN

    @property
    def muted(self) -> bool:
        """Whether nothing is sent."""
        return self._muted

    # what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_TRANSPORT_BACKLOG)
        self.id = self._house.ledger.note_accepted()
        self._house.on_connected(self)
        if self._house.manners.accept_and_drop:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._stage is Stage.TLS and self._house.manners.half_handshake == "tls":
            self._answer_half_of_tls(data)
        elif self._tls is None:
            self._receive(data)
        else:
            self._receive_tls(self._tls, data)

    def pause_writing(self) -> None:
        self._congested = True
        self._update_ready()

    def resume_writing(self) -> None:
        self._congested = False
        self._update_ready()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how TCP ended is the client's affair
        self._stage = Stage.GONE
        for timer in (self._dripping, self._close_timer):
            if timer:
                timer.cancel()
        self.ready.set()  # who waits for it must see that it is gone
        if self._attendant:
            self._attendant.gone()
        self._house.on_gone(self)
        self._house.ledger.note_gone(self.id)

    # what comes in

    def _receive_tls(self, tls: ServerTls, data: bytes) -> None:
        try:
            plain = tls.receive(data)
        except ssl.SSLError:  # the client does not trust us, or speaks no TLS: its right, and tests want it
            self._transport.write(tls.take_output())
            self._transport.close()
            return
        if output := tls.take_output():
            self._emit(output)
        if tls.established and self._stage is Stage.TLS:
            self._stage = Stage.REQUEST
        if plain:
            self._receive(plain)

    def _answer_half_of_tls(self, data: bytes) -> None:
        assert self._tls is not None
        self._tls.receive(data)
        flight = self._tls.take_output()
        self._transport.write(flight[: len(flight) // 2])
        self._stage = Stage.SILENT

    def _receive(self, data: bytes) -> None:
        if self._stage is Stage.REQUEST:
            self._request += data
            head, end, rest = bytes(self._request).partition(b"\r\n\r\n")
            if not end and len(head) <= MAX_REQUEST:
                return
            self._shake_hands(head)
            data = rest
        if self._stage in (Stage.OPEN, Stage.CLOSING) and data:
            self._take_frames(data)

    def _shake_hands(self, head: bytes) -> None:
        manners = self._house.manners
        try:
            request = parse_request(head)
        except BadRequest as error:
            self._refuse(Refusal(400, body=str(error).encode()))
            return
        self._house.ledger.note_request(request)
        refusal = manners.refusal
        if refusal:
            if refusal.times is not None:
                refusal.times -= 1
                if refusal.times <= 0:
                    manners.refusal = None
            self._refuse(refusal)
        else:
            self._accept(request)

    def _refuse(self, refusal: Refusal) -> None:
        self._put([refusal_response(refusal)])
        self._stage = Stage.CLOSING
        self._hang_up()

    def _accept(self, request: Request) -> None:
        response = accept_response(request, self._house.manners, self._house.subprotocol)
        if self._house.manners.half_handshake == "http":
            self._put([response[: len(response) // 2]])
            self._stage = Stage.SILENT
            return
        if agreed := agreed_deflate(request, self._house.manners):
            self._deflate = Deflate(agreed)
            self._frames = ClientFrames(self._deflate.decompress)
        self._house.ledger.note_open(self.id)  # before the client can know
        self._put([response])
        self._stage = Stage.OPEN
        self._update_ready()
        self.send_answers(self._house.welcome)
        self._house.on_open(self)
        if self._house.attend:
            self._attendant = self._house.attend(self)
            self._attendant.opened()

    def _take_frames(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._house.ledger.note_received(Received(self.id, *frame))
                self._take_frame(frame)
        except ProtocolViolation as violation:
            self.close(violation.code, str(violation)[:100])

    def _take_frame(self, frame: ClientFrame) -> None:
        if frame.opcode == ws.CLOSE:
            self._take_close(frame.payload)
        elif self._stage is not Stage.OPEN:
            return  # what a client says after our close frame is kept, not answered
        elif frame.opcode in (ws.PING, ws.PONG):
            if frame.opcode == ws.PING and not self._house.manners.ignore_pings:
                self.send_frames([ws.encode_frame(ws.PONG, frame.payload)])
            if self._attendant:
                self._attendant.control(*frame)
        else:
            message: Frame = frame.payload.decode() if frame.opcode == ws.TEXT else frame.payload
            if self._attendant:
                self._attendant.message(message)
            else:
                self.answer(message)

    def answer(self, message: Frame) -> bool:
        """By the script; whether that knows the message."""
        answer = self._house.answer(message)
        self.reply([ws.encode_message(frame) for frame in answer.frames], answer.delay)
        if answer.accepted and not self._subscribed:
            self._subscribed = True
            self._house.on_subscribed(self)
        return answer.accepted or bool(answer.frames)

    def reply(self, frames: Sequence[bytes], delay: float = 0.0) -> None:
        """Sends answers, encoded, after so many seconds; or holds them back, where that was asked for."""
        if self._house.manners.hold_answers:
            self._held_answers += frames
        elif delay:
            asyncio.get_running_loop().call_later(delay, self.send_answers, frames)
        else:
            self.send_answers(frames)

    def _take_close(self, payload: bytes) -> None:
        self._house.ledger.note_close_code(self.id, ws.close_code(payload))
        if self._muted:
            return
        if self._stage is Stage.OPEN:
            self._put([ws.encode_frame(ws.CLOSE, payload)])
        self._hang_up()  # the server closes TCP first (RFC 6455 §7.1.1)

    # what goes out

    def send_messages(self, frames: list[bytes], count: int | None = None) -> None:
        """Data messages, encoded; `count`: how many they hold, where one may hold several. Lost when muted or no longer open.

        One that has let 64 MiB pile up is closed with 1008, as exchanges do.
        """
        if self._muted or self._stage is not Stage.OPEN:
            return
        if self._transport.get_write_buffer_size() + len(self._drops) > _LIVE_BACKLOG:
            self.close(1008, "slow consumer")
            return
        self._house.ledger.note_sent(self.id, len(frames) if count is None else count)
        if self._attendant:
            self._attendant.sent()
        self._put(self._encoded(frames))

    def send_frames(self, frames: list[bytes]) -> None:
        """Control frames, raw bytes. Lost when muted."""
        if not self._muted and frames and self._stage in (Stage.OPEN, Stage.CLOSING):
            self._put(frames)

    def release_answers(self) -> None:
        """Sends the answers that were held back."""
        frames, self._held_answers = self._held_answers, []
        self.send_answers(frames)

    def send_answers(self, frames: Sequence[bytes]) -> None:
        """What is no data, encoded, at once. Lost when muted or no longer open."""
        if not self._muted and frames and self._stage is Stage.OPEN:
            self._put(self._encoded(frames))

    def _encoded(self, messages: Sequence[bytes]) -> list[bytes]:
        """Messages as they go on the wire. All that is compressed must be sent: what follows refers to it."""
        return list(messages) if self._deflate is None else [self._deflate.compress(frame) for frame in messages]

    def mute(self) -> None:
        """Nothing is sent any more, no pongs either; TCP stays up."""
        self._muted = True
        self._update_ready()

    def mute_in(self, message: Timed | None) -> None:
        """Sends the first half of a message and falls mute."""
        if self._muted or self._stage is not Stage.OPEN:
            return
        frame = message.frame if message else ws.encode_message('{"note":"cut in the middle"}')
        cut = max(1, len(frame) // 2)
        self._put([frame[:cut]])
        self._rest = frame[cut:]
        self.mute()

    def unmute(self) -> None:
        """Goes on, first with the rest of a frame that was cut."""
        if not self._muted:
            return
        self._muted = False
        if self._rest and self._stage is Stage.OPEN:
            self._house.ledger.note_sent(self.id, 1)
            self._put([self._rest])
        self._rest = b""
        self._drip()
        self._update_ready()

    def close(self, code: int | None, reason: str = "") -> None:
        """Sends a close frame, waits 5 s for the client's, then closes TCP."""
        if self._stage is not Stage.OPEN:
            return
        self._put([ws.encode_close(code, reason)])
        self._stage = Stage.CLOSING
        self._update_ready()
        self._close_timer = asyncio.get_running_loop().call_later(_CLOSE_WAIT, self._transport.abort)

    def drop(self) -> None:
        """Closes TCP at once, without a close frame."""
        self._transport.abort()

    def reset(self) -> None:
        """Ends TCP with a RST instead of a FIN."""
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    def pace_changed(self) -> None:
        """`bytes_per_second` is another: what waited for the old pace goes on at the new."""
        if self._dripping:
            self._dripping.cancel()
            self._dripping = None
        self._drip()
        self._update_ready()

    def _put(self, pieces: list[bytes]) -> None:
        if self._tls is None:
            self._emit(b"".join(pieces))
        else:
            self._emit(self._tls.encrypt([b"".join(pieces)] if self._house.coalesce else pieces))

    def _emit(self, data: bytes) -> None:
        if self._house.manners.bytes_per_second or self._drops:
            self._drops += data
            if self._dripping is None:
                self._drip()
            self._update_ready()
        else:
            self._transport.write(data)

    def _drip(self) -> None:
        """Sends as much of what waits as is allowed now, and comes again for the rest."""
        self._dripping = None
        if self._muted or not self._drops:
            return
        rate = self._house.manners.bytes_per_second
        tick = max(0.02, 1 / rate) if rate else 0.0
        allowed = round(rate * tick) if rate else len(self._drops)
        self._transport.write(bytes(self._drops[:allowed]))
        del self._drops[:allowed]
        if self._drops:
            self._dripping = asyncio.get_running_loop().call_later(tick, self._drip)
        self._update_ready()

    def _hang_up(self) -> None:
        """Closes TCP behind what was sent."""
        if self._drops:
            self._transport.write(bytes(self._drops))
            self._drops.clear()
        self._stage = Stage.CLOSING
        self._transport.close()

    def _update_ready(self) -> None:
        backlog = self._congested or len(self._drops) > _DRIP_BACKLOG
        if self._stage is Stage.OPEN and not self._muted and not backlog:
            self.ready.set()
        elif self._stage is not Stage.GONE:
            self.ready.clear()
