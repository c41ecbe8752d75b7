"""A server of raw bytes for one connection at a time: the test provides every byte that is sent, and reads every byte that
comes."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import time
from typing import Self

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
DEADLINE = 10.0


def server_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """An unmasked frame, as a server sends it."""
    first = (0x80 if fin else 0) | opcode
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def head_of(head: bytes) -> tuple[str, dict[str, str]]:
    """The first line of an HTTP head, and its headers, names in lower case."""
    first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    return first, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def upgraded(headers: dict[str, str], *extra: str) -> bytes:
    """The valid response to a request with these headers; `extra`: header lines."""
    accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + GUID).encode()).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    return "\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", *extra, "", ""]).encode()


class TlsByHand:
    """The server's end of a TLS connection whose records the test can see and add to."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """The handshake is done here."""
        self.raw = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.raw.sendall(self._outgoing.read())
                self._incoming.write(self.raw.recv(65536))
            else:
                self.raw.sendall(self._outgoing.read())
                return

    def recv(self, size: int) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                chunk = self.raw.recv(65536)
                if not chunk:
                    return b""
                self._incoming.write(chunk)

    def seal(self, data: bytes) -> bytes:
        """The records of it, which are not sent."""
        self._tls.write(data)
        return self._outgoing.read()

    def sendall(self, data: bytes) -> None:
        self.raw.sendall(self.seal(data))

    def close(self) -> None:
        self.raw.close()


class RawServer:
    """Listens on a random port of a loopback address."""

    def __init__(self, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", *, by_hand: bool = False) -> None:
        """`by_hand`: the peers' sockets are `TlsByHand`."""
        self._context = context
        self._by_hand = by_hand
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._listener.settimeout(DEADLINE)
        self.port = self._listener.getsockname()[1]
        scheme = "ws" if context is None else "wss"
        name = f"[{host}]" if ":" in host else host
        self.url = f"{scheme}://{name}:{self.port}/feed?secret=1"
        self._peers: list[RawPeer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for peer in self._peers:
            peer.sock.close()

    def accept(self) -> RawPeer:
        """The next connection, TLS done."""
        sock, _ = self._listener.accept()
        sock.settimeout(DEADLINE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            sock = TlsByHand(sock, self._context) if self._by_hand else self._context.wrap_socket(sock, server_side=True)
        peer = RawPeer(sock)
        self._peers.append(peer)
        return peer

    def nobody_came(self) -> bool:
        """Whether no connection waits to be accepted."""
        self._listener.setblocking(False)
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return True
        finally:
            self._listener.settimeout(DEADLINE)
        return False

    def accept_websocket(self, *extra: str, behind: bytes = b"") -> RawPeer:
        """The next connection with the WebSocket handshake done, `behind` sent in the same breath; `extra`: header lines."""
        peer = self.accept()
        peer.read_request()
        peer.send(peer.valid_response(*extra) + behind)
        return peer


class RawPeer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket | TlsByHand) -> None:
        self.sock = sock
        self._received = b""
        self.request: dict[str, str] = {}
        self.request_line = ""
        self.reserved_bits = 0
        """Of the frame that was read last."""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_frame(self, opcode: int, payload: bytes, *, fin: bool = True) -> None:
        self.send(server_frame(opcode, payload, fin=fin))

    def read_request(self) -> dict[str, str]:
        """The request's headers, names in lower case."""
        while b"\r\n\r\n" not in self._received:
            self._received += self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        self.request_line, self.request = head_of(head)
        return self.request

    def valid_response(self, *extra: str) -> bytes:
        return upgraded(self.request, *extra)

    def read_frame(self) -> tuple[int, bytes]:
        """The next frame of the client: opcode and unmasked payload. `EOFError` at the end of the connection."""
        first, second = self._exactly(2)
        assert second & 0x80, "a client's frames must be masked"
        self.reserved_bits = first & 0x70
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(self._exactly(2), "big")
        elif size == 127:
            size = int.from_bytes(self._exactly(8), "big")
        key = self._exactly(4)
        masked = self._exactly(size)
        return first & 0x0F, bytes(byte ^ key[i % 4] for i, byte in enumerate(masked))

    def read_close(self) -> tuple[int, str]:
        """Code and text of the next close frame; other frames before it are skipped."""
        while True:
            opcode, payload = self.read_frame()
            if opcode == 8:
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def at_end(self) -> bool:
        """Whether the client ends the connection before the deadline; data before the end are skipped."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                if not self.sock.recv(65536):
                    return True
            except ConnectionError:
                return True
            except ssl.SSLError:
                return True
        return False

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._received += self._receive()
        data, self._received = self._received[:size], self._received[size:]
        return data

    def _receive(self) -> bytes:
        chunk = self.sock.recv(65536)
        if not chunk:
            raise EOFError("the client ended the connection")
        return chunk
