"""An open connection: its channel, reader and sender, and how it is taken down."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from wsadapter.contract.framing import message_end
from wsadapter.contract.ipc.commands import Custody, Resume
from wsadapter.contract.ipc.tcp_info import counters
from wsadapter.worker.loop.poller import READ, WRITE
from wsadapter.worker.websocket.byte_stream import Channel, EndOfStream, PlainChannel
from wsadapter.worker.websocket.deflate import Agreement, Deflater, Inflater
from wsadapter.worker.websocket.frame_maker import SLICE, FrameMaker
from wsadapter.worker.websocket.frames import encode_frame
from wsadapter.worker.websocket.payload_codec import Unpacks
from wsadapter.worker.websocket.reader import Batch, Reader
from wsadapter.worker.websocket.sender import Sender


@dataclass(frozen=True, slots=True)
class Established:
    """A connection whose opening handshake is done. Its socket is non-blocking."""

    channel: Channel
    subprotocol: str | None
    headers: dict[str, str]
    """Of the response, names in lower case."""
    peer: str
    first: bytes
    """What the server sent right behind its handshake."""
    deflate: Agreement | None = None
    """What was agreed about permessage-deflate; None: messages are not compressed."""


class Lost(Exception):
    """The connection ended or broke; the text says how."""


class Wire:
    """Not thread-safe."""

    def __init__(
        self,
        connection: Established,
        *,
        max_message: int,
        pace: float,
        resume: Resume | None = None,
        unpacker: Unpacks | None = None,
        text_in_binary: bool = False,
        split: Callable[[Batch], Batch] | None = None,
    ) -> None:
        """`resume`: what a predecessor had done with it; `connection.first` is then what it left unfinished. `unpacker`:
        where the peer packs binary payloads itself. `text_in_binary`: see `Reader`. `split`: makes several messages of one,
        see `worker/session/json_array.py`."""
        self._channel = connection.channel
        agreed = connection.deflate
        inflater = None if agreed is None else Inflater(agreed)
        self._reader = Reader(max_message, inflater, unpacker, text_in_binary=text_in_binary)
        self._split = split
        self._deflater = None if agreed is None else Deflater(agreed)
        self.refers_back = agreed is not None and not agreed.server_no_context_takeover
        """The peer's compressed messages may refer to earlier ones, which only this process has inflated. What we send needs
        no such state: a new compressor refers to nothing that another has sent."""
        self._first = connection.first
        self._plain = connection.channel if isinstance(connection.channel, PlainChannel) else None
        position, allowed_at = (resume.sent, resume.allowed_at) if resume else (0, 0.0)
        self.sender = Sender(connection.channel, pace=pace, position=position, allowed_at=allowed_at)
        self.received = resume.position if resume else len(connection.first)
        """Bytes received since the handshake."""
        self.half_closed = False
        """The peer was told that nothing more comes."""

    def fileno(self) -> int:
        """Of the socket; -1 after `close`."""
        return self._channel.sock.fileno()

    def put_message(self, opcode: int, payload: bytes, *, ref: int, until: float = inf) -> None:
        """Queues a message of the user's, which is not begun after `until`, monotonic seconds. One that is compressed, which
        refers to those before it, and a large one are made when their turn comes."""
        deflater = self._deflater if self._deflater is not None and self._deflater.pays(payload) else None
        if deflater is None and len(payload) <= SLICE:
            self.sender.put(encode_frame(opcode, payload), ref=ref, until=until)
        else:
            self.sender.put(FrameMaker(opcode, payload, deflater), ref=ref, until=until)

    def first(self) -> Batch:
        """What came right behind the handshake."""
        return self.parse(self._first)

    def receive(self) -> bytes:
        """What one read gives, to be passed to `lone_text` or `parse`; empty where there is nothing to read. Raises `Lost`."""
        try:
            chunk = self._channel.receive()
        except EndOfStream:
            raise Lost("the peer ended the connection without a close frame") from None
        except OSError as error:
            raise Lost(error.strerror or str(error)) from error
        self.received += len(chunk)
        return chunk

    def receive_inherited(self, most: int, message: bytes | None) -> bytes:
        """As `receive`, but no more than so many bytes, and, with the beginning of a `message` that was received before, which
        may be empty, no more than what completes it. What is received must be left in the kernel."""
        assert self._plain is not None
        self._plain.most = most
        chunk = self.receive()
        if message is not None:
            end = message_end(message + chunk) or 0
            if len(message) < end < len(message) + len(chunk):
                self.received -= len(chunk)
                self._plain.most = end - len(message)
                chunk = self.receive()
        self._plain.most = 0
        return chunk

    def lone_text(self, chunk: bytes) -> int:
        """See `Reader.lone_text`; -1 where a message may be several."""
        return self._reader.lone_text(chunk) if self._split is None else -1

    def parse(self, chunk: bytes) -> Batch:
        """What it completes."""
        batch = self._reader.feed(chunk)
        return batch if self._split is None else self._split(batch)

    @property
    def can_outlive(self) -> bool:
        """Whether another process could go on with the connection: nothing of its state is in this one alone."""
        return self._plain is not None and not self.refers_back

    def leave_in_kernel(self) -> None:
        """From now on what is read stays in the kernel until `discard`."""
        if self._plain is not None:
            self._plain.peek()

    def discard(self) -> None:
        """What was read is in the pipe: it is no longer needed in the kernel. Raises `Lost`."""
        if self._plain is not None:
            try:
                self._plain.discard()
            except OSError as error:
                raise Lost(error.strerror or str(error)) from error

    def skip(self, size: int) -> None:
        """Takes off the socket what a predecessor had read already. Raises `Lost`."""
        if self._plain is not None:
            try:
                self._plain.skip(size)
            except OSError as error:
                raise Lost(error.strerror or str(error)) from error

    def custody(self) -> Custody | None:
        """How to count its streams; None where the kernel does not tell. All that was read must be discarded."""
        kernel = counters(self._channel.sock)
        if kernel is None:
            return None
        received, sent = kernel.taken - self.received, kernel.given - self.sender.position
        return Custody(received=received, sent=sent, allowed_at=self.sender.allowed_at)

    @property
    def ended(self) -> bool:
        """Whether `read` would raise without the socket being readable."""
        return self._channel.ended

    def mask(self, *, reading: bool) -> int:
        """What to watch the socket for."""
        return (READ if reading else 0) | (WRITE if self.sender.blocked else 0)

    def half_close(self) -> None:
        """Tells the peer that nothing more comes."""
        if self.half_closed:
            return
        self.half_closed = True
        with suppress(Lost):
            self.discard()  # unread bytes would make the kernel send an RST instead of a FIN
        with suppress(OSError):  # it is going away anyhow
            self._channel.sock.send(self._channel.goodbye())
            self._channel.sock.shutdown(socket.SHUT_WR)

    def peer_left(self) -> bool:
        """Reads and throws away; whether the peer has ended the connection too."""
        try:
            while self._channel.sock.recv(65536):
                pass
        except BlockingIOError:
            return False
        except OSError:
            pass  # broken is ended too
        return True

    def close(self) -> None:
        """Ends the connection, also where another process holds a duplicate of the socket."""
        self.half_close()
        with suppress(OSError):  # the peer was faster
            self._channel.sock.shutdown(socket.SHUT_RDWR)
        self._channel.sock.close()
