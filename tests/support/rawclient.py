"""A WebSocket client that hides nothing: it shows single frames, HTTP heads and how TCP ended. For tests of the other side."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
)
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # belongs to the key above (RFC 6455 §1.3)


class Frame(NamedTuple):
    opcode: int
    payload: bytes


class Ended(Exception):
    """TCP ended; `reset`: by RST."""

    def __init__(self, *, reset: bool, pending: bytes) -> None:
        self.reset = reset
        self.pending = pending
        super().__init__(f"TCP ended, {'RST' if reset else 'FIN'}, {len(pending)} bytes of an unfinished frame")


class _Tls:
    """TLS over a socket of which it shows everything: `SSLSocket.recv` calls a RST the end of data."""

    def __init__(self, tcp: socket.socket, context: ssl.SSLContext, server: str) -> None:
        self._tcp = tcp
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=server)
        self._step(self._tls.do_handshake)
        self.settimeout, self.gettimeout, self.close = tcp.settimeout, tcp.gettimeout, tcp.close

    def recv(self, size: int) -> bytes:
        """One record; b"" at the end of TCP."""
        try:
            return self._step(lambda: self._tls.read(size))
        except (EOFError, ssl.SSLZeroReturnError):
            return b""

    def sendall(self, data: bytes) -> None:
        self._tls.write(data)
        self._tcp.sendall(self._out.read())

    def _step(self, step: Callable[[], T]) -> T:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._tcp.sendall(self._out.read())
                data = self._tcp.recv(1024 * 1024)
                if not data:
                    raise EOFError("TCP ended") from None
                self._in.write(data)
            else:
                self._tcp.sendall(self._out.read())
                return done


class RawClient:
    """Every wait has `timeout` seconds and then raises `TimeoutError`."""

    def __init__(self, url: str, ca_file: str = "", *, timeout: float = 5.0, shake_hands: bool = True, extra: str = "") -> None:
        parts = urlsplit(url)
        assert parts.hostname
        tcp = socket.create_connection((parts.hostname, parts.port or 80), timeout)
        self.socket: socket.socket | _Tls = tcp
        self.pending = b""
        self.head = ""
        try:
            if parts.scheme == "wss":
                context = ssl.create_default_context(cafile=ca_file)
                self.socket = _Tls(tcp, context, parts.hostname)
            self.socket.sendall(REQUEST.format(path=parts.path or "/", host=parts.netloc, extra=extra).encode())
            if shake_hands:
                self.head = self.read_head()
                assert self.head.startswith("HTTP/1.1 101"), self.head
                assert ACCEPT in self.head
        except BaseException:
            tcp.close()
            raise

    def read_head(self) -> str:
        while b"\r\n\r\n" not in self.pending:
            self._more()
        head, _, self.pending = self.pending.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def read_to_end(self) -> bytes:
        while True:
            try:
                self._more()
            except Ended:
                return self.pending

    def frame(self) -> Frame:
        while (cut := self._cut()) is None:
            self._more()
        return cut

    def frames(self, count: int) -> list[Frame]:
        return [self.frame() for _ in range(count)]

    def texts(self, count: int) -> list[str]:
        found = self.frames(count)
        assert {frame.opcode for frame in found} <= {1}, found
        return [frame.payload.decode() for frame in found]

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing at all comes for so long."""
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            self._more()
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(before)
        return False

    def wait_end(self) -> Ended:
        while True:
            try:
                self.frame()
            except Ended as ended:
                return ended

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> None:
        mask = os.urandom(4) if masked else b"\0\0\0\0"
        size = len(payload)
        head = bytes([opcode | 0x80 * fin])
        if size < 126:
            head += bytes([size | 0x80 * masked])
        elif size < 65536:
            head += struct.pack("!BH", 126 | 0x80 * masked, size)
        else:
            head += struct.pack("!BQ", 127 | 0x80 * masked, size)
        body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.socket.sendall(head + (mask if masked else b"") + body)

    def text(self, text: str) -> None:
        self.send(1, text.encode())

    def _cut(self) -> Frame | None:
        data = self.pending
        if len(data) < 2:
            return None
        assert not data[1] & 0x80, "a server's frame is masked"
        size, at = data[1] & 0x7F, 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at])
        if len(data) < at + size:
            return None
        self.pending = data[at + size :]
        return Frame(data[0] & 0x0F, data[at : at + size])

    def _more(self) -> None:
        try:
            data = self.socket.recv(1024 * 1024)
        except ConnectionResetError:
            raise Ended(reset=True, pending=self.pending) from None
        if not data:
            raise Ended(reset=False, pending=self.pending)
        self.pending += data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
