"""The bytes of an open connection, without blocking: plain TCP, or TLS over it.

TLS is driven with `ssl.MemoryBIO`: one large `recv`, then every TLS record in it is decrypted. `SSLSocket.recv` returns one TLS
record at a time, and exchanges send one message per record, so each message would cost a separate system call and read.
"""

from __future__ import annotations

import mmap
import socket
import ssl
from contextlib import suppress
from typing import Final, Protocol

READ_SIZE: Final = 128 * 1024
_RECORD: Final = 16 * 1024


class EndOfStream(Exception):
    """The peer ended the connection (FIN, or TLS close_notify)."""


class ByteStream(Protocol):
    """Receives and sends bytes. Not thread-safe. Raises `OSError` for errors of the socket (`ssl.SSLError` is one)."""

    sock: socket.socket
    ended: bool
    """Everything was received, and nothing more comes: the peer has ended the stream, or its bytes can't be decrypted. The next
    `receive` raises."""

    def receive(self) -> bytes:
        """The bytes that can be read now; empty if there are none. Raises `EndOfStream`."""

    def seal(self, plain: bytes | memoryview) -> bytes | memoryview:
        """The bytes to send for `plain`. For an empty `plain`: the bytes that TLS itself wants to send, if there are any."""

    def send(self, sealed: memoryview) -> int:
        """Passes sealed bytes to the kernel; returns how many it took, 0 if none now."""

    def goodbye(self) -> bytes:
        """The bytes to send after the last sealed byte."""

    def discard(self) -> None:
        """Removes the received bytes from the kernel, see `PlainByteStream.peek`. Raises `OSError`."""


class PlainByteStream:
    """TCP.

    After `peek`, received bytes stay in the kernel until `discard`: if the owner dies between the two, the next owner reads
    them again.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.ended = False
        self.most = 0
        """The most bytes that `receive` reads; 0: as many as the buffer has room for."""
        self._buffer = _new_buffer()
        self._peek = 0
        self._peeked = 0

    def peek(self) -> None:
        """From now on received bytes stay in the kernel until `discard`."""
        self._peek = socket.MSG_PEEK

    def receive(self) -> bytes:
        try:
            size = self.sock.recv_into(self._buffer, self.most, self._peek)
        except BlockingIOError:
            return b""
        if not size:
            raise EndOfStream
        if self._peek:
            self._peeked = size
        return self._buffer[:size]

    def discard(self) -> None:
        """Removes the bytes that were peeked at from the kernel. Raises `OSError`."""
        if self._peeked:
            left = self._peeked - self.sock.recv_into(self._buffer, self._peeked, socket.MSG_TRUNC)  # tcp(7): nothing is copied
            if left:
                self.skip(left)
            self._peeked = 0

    def skip(self, size: int) -> None:
        """Removes bytes from the kernel that are known to be there. Raises `OSError`."""
        while size:
            taken = self.sock.recv_into(self._buffer, min(size, READ_SIZE), socket.MSG_TRUNC)
            if not taken:
                raise ConnectionError("received bytes are no longer in the kernel")
            size -= taken

    def seal(self, plain: bytes | memoryview) -> bytes | memoryview:
        return plain

    def send(self, sealed: memoryview) -> int:
        return _send(self.sock, sealed)

    def goodbye(self) -> bytes:
        return b""


class TlsByteStream:
    """TLS over TCP. Until `start_tls` has returned, calls may block, as long as the socket's timeout allows."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None) -> None:
        self.sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._buffer = _new_buffer()
        self._view = memoryview(self._buffer)
        self._failure: ssl.SSLError | None = None
        self.ended = False

    def start_tls(self) -> None:
        """The TLS handshake, blocking. Raises `OSError`, `ssl.SSLError`, `EndOfStream`."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
                self._pull()
            except ssl.SSLError:
                self._push()  # the alert, so that the peer's log has the reason
                raise
            else:
                self._push()
                return

    def _push(self) -> None:
        if self._outgoing.pending:
            self.sock.sendall(self._outgoing.read())

    def _pull(self) -> None:
        size = self.sock.recv_into(self._buffer)
        if not size:
            raise EndOfStream
        self._incoming.write(self._view[:size])

    def receive(self) -> bytes:
        if self.ended:
            raise self._failure or EndOfStream
        try:
            self._pull()
        except BlockingIOError:
            return b""
        return self.decrypt()

    def decrypt(self) -> bytes:
        """All bytes that can be decrypted now. The call after the one that returned the last bytes raises `EndOfStream`, or the
        error of the TLS record that can't be decrypted."""
        read = self.tls.read
        parts = []
        try:
            while part := read(_RECORD):
                parts.append(part)
                if len(parts) == 1 and not self._incoming.pending and not self.tls.pending():
                    break  # a small read is complete: SSLWantReadError would say the same, and costs more than the whole read
            else:
                self.ended = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.ended = True
        except ssl.SSLError as error:
            self.ended, self._failure = True, error
        if self.ended and not parts:
            raise self._failure or EndOfStream
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def seal(self, plain: bytes | memoryview) -> bytes:
        if plain:
            self.tls.write(plain)
        return self._outgoing.read()

    def send(self, sealed: memoryview) -> int:
        return _send(self.sock, sealed)

    def goodbye(self) -> bytes:
        with suppress(ssl.SSLError):  # it raises because the peer's close_notify has not come; ours is in the outgoing bytes
            self.tls.unwrap()
        return self._outgoing.read()

    def discard(self) -> None:
        """Does nothing: TLS bytes never stay in the kernel, because a TLS connection ends with its process."""


def _new_buffer() -> mmap.mmap:
    """A buffer whose pages cost nothing until they are used: most connections never fill it."""
    return mmap.mmap(-1, READ_SIZE, mmap.MAP_PRIVATE)


def _send(sock: socket.socket, sealed: memoryview) -> int:
    try:
        return sock.send(sealed)
    except BlockingIOError:
        return 0
