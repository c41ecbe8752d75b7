"""The bytes of an open connection, without blocking: plain TCP, or TLS over it.

TLS is driven by hand (`ssl.MemoryBIO`): one large `recv`, then every record in it is decrypted. `SSLSocket.recv` gives one
record at a time, exchanges send one message per record, and so each message would cost a system call and a read of its own.
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
    """Bytes in, bytes out. Not thread-safe. Errors of the socket come as `OSError` (`ssl.SSLError` is one)."""

    sock: socket.socket
    ended: bool
    """Nothing more comes, for the peer has said so or what it sent can't be read, and all before was received: `receive` would
    raise."""

    def receive(self) -> bytes:
        """What there is to read, empty when there is nothing now. Raises `EndOfStream`."""

    def seal(self, plain: bytes | memoryview) -> bytes | memoryview:
        """What has to be put on the wire for `plain`, which may be empty: then only what the protocol itself has to say."""

    def send(self, sealed: memoryview) -> int:
        """Gives sealed bytes to the kernel; how many it took, 0 when none now."""

    def goodbye(self) -> bytes:
        """What to put on the wire behind the last byte."""

    def discard(self) -> None:
        """What was received is no longer needed in the kernel, see `PlainByteStream.peek`. Raises `OSError`."""


class PlainByteStream:
    """TCP.

    Where it is told to `peek`, what was received stays in the kernel until `discard`: should the owner die between the two, its
    successor finds it there.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.ended = False
        self.most = 0
        """Bytes that `receive` takes, at most; 0: all for which it has room."""
        self._buffer = _new_buffer()
        self._peek = 0
        self._peeked = 0

    def peek(self) -> None:
        """From now on leave what is received in the kernel."""
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
        """Takes what was peeked at off the socket; it is no longer needed there. Raises `OSError`."""
        if self._peeked:
            left = self._peeked - self.sock.recv_into(self._buffer, self._peeked, socket.MSG_TRUNC)  # tcp(7): nothing is copied
            if left:
                self.skip(left)
            self._peeked = 0

    def skip(self, size: int) -> None:
        """Takes bytes off the socket that are known to have been received. Raises `OSError`."""
        while size:
            taken = self.sock.recv_into(self._buffer, min(size, READ_SIZE), socket.MSG_TRUNC)
            if not taken:
                raise ConnectionError("what was received is gone")
            size -= taken

    def seal(self, plain: bytes | memoryview) -> bytes | memoryview:
        return plain

    def send(self, sealed: memoryview) -> int:
        return _send(self.sock, sealed)

    def goodbye(self) -> bytes:
        return b""


class TlsByteStream:
    """TLS over TCP. Until `start_tls` has returned it may block, as long as the socket's timeout says."""

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
                self._push()  # the alert: the peer's log then says why
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
        """All that can be read of what has come in. The call after the one that returns the last bytes raises `EndOfStream`, or
        the error of the record that can't be read."""
        read = self.tls.read
        parts = []
        try:
            while part := read(_RECORD):
                parts.append(part)
                if len(parts) == 1 and not self._incoming.pending and not self.tls.pending():
                    break  # a small read: to be told the same by an exception costs more than all the rest of it
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
        with suppress(ssl.SSLError):  # close_notify is in the outgoing bytes all the same; the peer's own is not waited for
            self.tls.unwrap()
        return self._outgoing.read()

    def discard(self) -> None:
        """Nothing is ever left in the kernel: a TLS connection ends with its process."""


def _new_buffer() -> mmap.mmap:
    """Memory that costs nothing until it is used: most connections never fill it."""
    return mmap.mmap(-1, READ_SIZE, mmap.MAP_PRIVATE)


def _send(sock: socket.socket, sealed: memoryview) -> int:
    try:
        return sock.send(sealed)
    except BlockingIOError:
        return 0
