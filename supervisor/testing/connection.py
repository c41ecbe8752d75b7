"""One client of a test exchange: handshake, frames, answers, and the misbehaviour that a test asked for.

    TCP ──> [TLS] ──> HTTP request ──> open: frames both ways ──> closing: our close frame is sent ──> gone

Runs in the exchange's event loop. Everything that is sent goes through `ClientOutput`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Sequence
from enum import Enum

from wsadapter.testing import frames as ws
from wsadapter.testing.context import ClientHandler, ExchangeContext
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
from wsadapter.testing.journal import Received
from wsadapter.testing.outgoing import ClientOutput
from wsadapter.testing.script import Frame
from wsadapter.testing.tls import ServerTls

_CLOSE_WAIT = 5.0
_TRANSPORT_BACKLOG = 512 * 1024
_LIVE_BACKLOG = 64 * 1024 * 1024


class ConnectionStage(Enum):
    """How far a connection has come."""

    TLS = "tls"
    REQUEST = "request"
    SILENT = "silent"
    """After half a handshake."""
    OPEN = "open"
    CLOSING = "closing"
    GONE = "gone"


class ScriptedAnswers:
    """The answers to one client: by the script of the exchange, at once, late, or held back."""

    def __init__(self, connection: ClientConnection, context: ExchangeContext) -> None:
        self._connection, self._context = connection, context
        self._has_subscribed = False
        self._held: list[bytes] = []

    def answer(self, message: Frame) -> bool:
        """Answer a client's message by the script. Returns whether the script knows the message."""
        answer = self._context.answer(message)
        self.reply([ws.encode_message(frame) for frame in answer.frames], answer.delay)
        if answer.accepted and not self._has_subscribed:
            self._has_subscribed = True
            self._context.on_subscribed(self._connection)
        return answer.accepted or bool(answer.frames)

    def reply(self, frames: Sequence[bytes], delay: float = 0.0) -> None:
        """Send encoded answers after `delay` seconds, or hold them back if a test asked for that."""
        if self._context.misbehaviour.hold_answers:
            self._held += frames
        elif delay:
            asyncio.get_running_loop().call_later(delay, self._connection.send_answers, frames)
        else:
            self._connection.send_answers(frames)

    def release(self) -> None:
        """Send the answers that were held back."""
        frames, self._held = self._held, []
        self._connection.send_answers(frames)


class ClientConnection(asyncio.Protocol):
    """See the module."""

    def __init__(self, context: ExchangeContext) -> None:
        self._context = context
        self._transport: asyncio.Transport
        self.outgoing: ClientOutput
        """The sending side, once TCP is connected."""
        self.answers = ScriptedAnswers(self, context)
        self._tls = ServerTls(context.tls_context) if context.tls_context else None
        self._stage = ConnectionStage.TLS if self._tls else ConnectionStage.REQUEST
        self._request = bytearray()
        self._frames = ClientFrames()
        self._handler: ClientHandler | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self.id = 0
        self.ready = asyncio.Event()
        """Set while the feed may send; also set after the end, so that a feed that waits notices the end."""

    @property
    def is_open(self) -> bool:
        """From the end of the handshake to the first close frame."""
        return self._stage is ConnectionStage.OPEN

    # called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.outgoing = ClientOutput(transport, self._tls, self._context, self._update_ready)
        transport.set_write_buffer_limits(high=_TRANSPORT_BACKLOG)
        self.id = self._context.journal.note_accepted()
        self._context.on_connected(self)
        if self._context.misbehaviour.accept_and_drop:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._stage is ConnectionStage.TLS and self._context.misbehaviour.half_handshake == "tls":
            self._answer_half_of_tls(data)
        elif self._tls is None:
            self._receive(data)
        else:
            self._receive_tls(self._tls, data)

    def pause_writing(self) -> None:
        self.outgoing.congested = True
        self._update_ready()

    def resume_writing(self) -> None:
        self.outgoing.congested = False
        self._update_ready()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how TCP ended matters to the client only
        self._stage = ConnectionStage.GONE
        self.outgoing.stop()
        if self._close_timer:
            self._close_timer.cancel()
        self.ready.set()
        if self._handler:
            self._handler.gone()
        self._context.on_gone(self)
        self._context.journal.note_gone(self.id)

    # receiving

    def _receive_tls(self, tls: ServerTls, data: bytes) -> None:
        try:
            plain = tls.receive(data)
        except ssl.SSLError:  # the client doesn't trust this certificate, or doesn't use TLS; tests do that on purpose
            self._transport.write(tls.take_output())
            self._transport.close()
            return
        if output := tls.take_output():
            self.outgoing.write(output)
        if tls.established and self._stage is ConnectionStage.TLS:
            self._stage = ConnectionStage.REQUEST
        if plain:
            self._receive(plain)

    def _answer_half_of_tls(self, data: bytes) -> None:
        assert self._tls is not None
        self._tls.receive(data)
        flight = self._tls.take_output()
        self._transport.write(flight[: len(flight) // 2])
        self._stage = ConnectionStage.SILENT

    def _receive(self, data: bytes) -> None:
        if self._stage is ConnectionStage.REQUEST:
            self._request += data
            head, end, rest = bytes(self._request).partition(b"\r\n\r\n")
            if not end and len(head) <= MAX_REQUEST:
                return
            self._shake_hands(head)
            data = rest
        if self._stage in (ConnectionStage.OPEN, ConnectionStage.CLOSING) and data:
            self._receive_frames(data)

    def _shake_hands(self, head: bytes) -> None:
        try:
            request = parse_request(head)
        except BadRequest as error:
            self._close_tcp(refusal_response(Refusal(400, body=str(error).encode())))
            return
        self._context.journal.note_request(request)
        refusal = self._context.misbehaviour.next_refusal()
        if refusal is None:
            self._accept(request)
        else:
            self._close_tcp(refusal_response(refusal))

    def _accept(self, request: Request) -> None:
        response = accept_response(request, self._context.misbehaviour, self._context.subprotocol)
        if self._context.misbehaviour.half_handshake == "http":
            self.outgoing.put([response[: len(response) // 2]])
            self._stage = ConnectionStage.SILENT
            return
        if agreed := agreed_deflate(request, self._context.misbehaviour):
            self.outgoing.deflate = Deflate(agreed)
            self._frames = ClientFrames(self.outgoing.deflate.decompress)
        self._context.journal.note_open(self.id)  # before the client is notified
        self.outgoing.put([response])
        self._stage = ConnectionStage.OPEN
        self._update_ready()
        self.send_answers(self._context.welcome)
        self._context.on_open(self)
        if self._context.make_handler:
            self._handler = self._context.make_handler(self)
            self._handler.opened()

    def _receive_frames(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._context.journal.note_received(Received(self.id, *frame))
                self._on_frame(frame)
        except ProtocolViolation as violation:
            self.close(violation.code, str(violation)[:100])

    def _on_frame(self, frame: ClientFrame) -> None:
        if frame.opcode == ws.CLOSE:
            self._on_close(frame.payload)
        elif self._stage is not ConnectionStage.OPEN:
            return  # a frame after our close frame is recorded and not answered
        elif frame.opcode in (ws.PING, ws.PONG):
            if frame.opcode == ws.PING and not self._context.misbehaviour.ignore_pings:
                self.send_frames([ws.encode_frame(ws.PONG, frame.payload)])
            if self._handler:
                self._handler.control(*frame)
        else:
            message: Frame = frame.payload.decode() if frame.opcode == ws.TEXT else frame.payload
            if self._handler:
                self._handler.message(message)
            else:
                self.answers.answer(message)

    def _on_close(self, payload: bytes) -> None:
        self._context.journal.note_close_code(self.id, ws.close_code(payload))
        if self.outgoing.muted:
            return
        # The server closes TCP first (RFC 6455 §7.1.1).
        self._close_tcp(ws.encode_frame(ws.CLOSE, payload) if self._stage is ConnectionStage.OPEN else b"")

    # sending

    def send_messages(self, frames: list[bytes], count: int | None = None) -> None:
        """Send encoded data messages. `count`: how many messages they hold, if a frame may hold several. They are lost if the
        client is muted or the connection is not open.

        A client that has let 64 MiB pile up is closed with 1008, as exchanges do.
        """
        if self.outgoing.muted or self._stage is not ConnectionStage.OPEN:
            return
        if self.outgoing.size > _LIVE_BACKLOG:
            self.close(1008, "slow consumer")
            return
        self._context.journal.note_sent(self.id, len(frames) if count is None else count)
        if self._handler:
            self._handler.sent()
        self.outgoing.put_messages(frames)

    def send_frames(self, frames: list[bytes]) -> None:
        """Send control frames or raw bytes. They are lost if the client is muted."""
        if not self.outgoing.muted and frames and self._stage in (ConnectionStage.OPEN, ConnectionStage.CLOSING):
            self.outgoing.put(frames)

    def send_answers(self, frames: Sequence[bytes]) -> None:
        """Send encoded messages that are no data. They are lost if the client is muted or the connection is not open."""
        if not self.outgoing.muted and frames and self._stage is ConnectionStage.OPEN:
            self.outgoing.put_messages(frames)

    def mute_within(self, message: Timed | None) -> None:
        """Send the first half of a message and mute the client. None: of a made-up message."""
        if not self.outgoing.muted and self._stage is ConnectionStage.OPEN:
            self.outgoing.mute_within(message.frame if message else ws.encode_message('{"note":"cut in the middle"}'))

    def unmute(self) -> None:
        """Send again. If a frame was cut in the middle, its rest is sent first."""
        if not self.outgoing.muted:
            return
        if self.outgoing.is_cut and self._stage is ConnectionStage.OPEN:
            self._context.journal.note_sent(self.id, 1)  # before the client is notified
        self.outgoing.unmute(complete=self._stage is ConnectionStage.OPEN)

    # the end

    def close(self, code: int | None, reason: str = "") -> None:
        """Send a close frame, wait 5 s for the client's, then close TCP."""
        if self._stage is not ConnectionStage.OPEN:
            return
        self.outgoing.put([ws.encode_close(code, reason)])
        self._stage = ConnectionStage.CLOSING
        self._update_ready()
        self._close_timer = asyncio.get_running_loop().call_later(_CLOSE_WAIT, self._transport.abort)

    def drop(self) -> None:
        """Close TCP at once, without a close frame."""
        self._transport.abort()

    def reset(self) -> None:
        """End TCP with a RST instead of a FIN."""
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    def _close_tcp(self, last: bytes) -> None:
        """Send the last bytes, and close TCP after them."""
        if last:
            self.outgoing.put([last])
        self.outgoing.flush()
        self._stage = ConnectionStage.CLOSING
        self._transport.close()

    def _update_ready(self) -> None:
        if self._stage is ConnectionStage.OPEN and not self.outgoing.is_blocked:
            self.ready.set()
        elif self._stage is not ConnectionStage.GONE:
            self.ready.clear()
