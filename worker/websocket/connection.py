"""An open connection: its byte stream, its reader, its sender, and how it is closed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from wsadapter.contract.framing import message_end
from wsadapter.contract.ipc.assignment import Custody, Resume
from wsadapter.contract.ipc.tcp_info import counters
from wsadapter.worker.loop.poller import READ, WRITE
from wsadapter.worker.websocket.byte_stream import ByteStream, EndOfStream, PlainByteStream
from wsadapter.worker.websocket.deflate import Agreement, Deflater, Inflater
from wsadapter.worker.websocket.frame_maker import SLICE, FrameMaker
from wsadapter.worker.websocket.frames import encode_frame
from wsadapter.worker.websocket.payload_codec import Unpacks
from wsadapter.worker.websocket.reader import Reader, ReadResult
from wsadapter.worker.websocket.sender import Sender

LOST = (OSError, EndOfStream)
"""The exceptions of a read if the connection ended or broke; see `describe_loss`."""


def describe_loss(error: BaseException) -> str:
    """The text for a reason: how the connection ended."""
    if isinstance(error, EndOfStream):
        return "the peer ended the connection without a close frame"
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


@dataclass(frozen=True, slots=True)
class Established:
    """A connection whose opening handshake is done. Its socket is non-blocking."""

    byte_stream: ByteStream
    subprotocol: str | None
    headers: dict[str, str]
    """The headers of the response, names in lower case."""
    peer: str
    first: bytes
    """The bytes that the server sent directly after its handshake."""
    deflate: Agreement | None = None
    """The agreed parameters of permessage-deflate; None: messages are not compressed."""


class Connection:
    """A connection after the handshake. The owner calls `byte_stream` and `reader` directly, for speed; this class decides what
    concerns several of its parts. Not thread-safe."""

    def __init__(
        self,
        established: Established,
        *,
        max_message: int,
        pace: float,
        resume: Resume | None = None,
        unpacker: Unpacks | None = None,
        text_in_binary: bool = False,
        split: Callable[[ReadResult], ReadResult] | None = None,
    ) -> None:
        """`resume`: how far the previous owner of the connection was; `established.first` is then the beginning of its
        unfinished message. `unpacker`: decodes binary payloads if the peer compresses them itself. `text_in_binary`: see
        `Reader`. `split`: makes several messages of one, see worker/session/json_array.py."""
        self.byte_stream = established.byte_stream
        agreed = established.deflate
        inflater = None if agreed is None else Inflater(agreed)
        self.reader = Reader(max_message, inflater, unpacker, text_in_binary=text_in_binary)
        self.split = split
        self._deflater = None if agreed is None else Deflater(agreed)
        self.refers_back = agreed is not None and not agreed.server_no_context_takeover
        """The peer's compressed messages may refer to earlier ones, which only this process has inflated. Our own messages need
        no such state: the compressor of the next owner refers to nothing that this process has sent."""
        self._plain = established.byte_stream if isinstance(established.byte_stream, PlainByteStream) else None
        position, allowed_at = (resume.sent, resume.allowed_at) if resume else (0, 0.0)
        self.sender = Sender(established.byte_stream, pace=pace, position=position, allowed_at=allowed_at)
        self.received = resume.position if resume else len(established.first)
        """Bytes received since the handshake. The owner adds what it reads from `byte_stream`."""
        self.half_closed = False
        """We have ended our side of the connection."""

    def fileno(self) -> int:
        """The socket's descriptor; -1 after `close`."""
        return self.byte_stream.sock.fileno()

    def put_message(self, opcode: int, payload: bytes, *, ref: int, until: float = inf) -> None:
        """Queues a message of the user, which is not begun after `until`, monotonic seconds. A compressed message and a large
        message are made when their turn comes: the first refers to the messages before it, the second would block the loop."""
        deflater = self._deflater if self._deflater is not None and self._deflater.pays(payload) else None
        if deflater is None and len(payload) <= SLICE:
            self.sender.put(encode_frame(opcode, payload), ref=ref, until=until)
        else:
            self.sender.put(FrameMaker(opcode, payload, deflater), ref=ref, until=until)

    def receive_inherited(self, most: int, message: bytes | None) -> bytes:
        """Reads at most `most` of the bytes that the previous owner left unread. If `message` is given, the received part of a
        message, which may be empty: at most the bytes that complete this message. `leave_in_kernel` must have been called.
        Raises `LOST`."""
        assert self._plain is not None
        self._plain.most = most
        chunk = self._plain.receive()
        if message is not None:
            end = message_end(message + chunk) or 0
            if len(message) < end < len(message) + len(chunk):
                self._plain.most = end - len(message)
                chunk = self._plain.receive()
        self._plain.most = 0
        self.received += len(chunk)
        return chunk

    def parse(self, chunk: bytes) -> ReadResult:
        """The messages and control frames that `chunk` completes."""
        read = self.reader.feed(chunk)
        return read if self.split is None else self.split(read)

    @property
    def can_outlive(self) -> bool:
        """True if another process could continue the connection, because no state of it is only in this process."""
        return self._plain is not None and not self.refers_back

    def leave_in_kernel(self) -> None:
        """From now on the bytes of a read stay in the kernel until `byte_stream.discard`."""
        if self._plain is not None:
            self._plain.peek()

    def skip(self, size: int) -> None:
        """Removes bytes from the kernel that the previous owner had read already. Raises `OSError`."""
        if self._plain is not None:
            self._plain.skip(size)

    def custody(self) -> Custody | None:
        """How to count the streams of the connection; None if the kernel does not report it. Everything that was read must be
        discarded before."""
        kernel = counters(self.byte_stream.sock)
        if kernel is None:
            return None
        received, sent = kernel.read - self.received, kernel.written - self.sender.position
        return Custody(received=received, sent=sent, allowed_at=self.sender.allowed_at)

    def mask(self, *, reading: bool) -> int:
        """READ and WRITE, as the poller must watch the socket."""
        return (READ if reading else 0) | (WRITE if self.sender.blocked else 0)

    def half_close(self) -> None:
        """Ends our side of the connection: TLS close_notify and FIN."""
        if self.half_closed:
            return
        self.half_closed = True
        with suppress(OSError):
            self.byte_stream.discard()  # unread bytes would make the kernel send an RST instead of a FIN
        with suppress(OSError):  # the connection ends in any case
            self.byte_stream.sock.send(self.byte_stream.goodbye())
            self.byte_stream.sock.shutdown(socket.SHUT_WR)

    def peer_left(self) -> bool:
        """Reads and discards bytes; true if the peer has ended the connection too."""
        try:
            while self.byte_stream.sock.recv(65536):
                pass
        except BlockingIOError:
            return False
        except OSError:
            pass  # a broken connection has ended too
        return True

    def close(self) -> None:
        """Ends the connection, even if another process has a duplicate of the socket."""
        self.half_close()
        with suppress(OSError):  # the peer has closed first
            self.byte_stream.sock.shutdown(socket.SHUT_RDWR)
        self.byte_stream.sock.close()
