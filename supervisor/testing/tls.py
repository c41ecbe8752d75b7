"""The server's end of TLS on a memory buffer, so that an exchange itself decides which bytes form a TLS record and when they
are sent."""

from __future__ import annotations

import ssl
from collections.abc import Iterable


class ServerTls:
    """One connection's TLS. Bytes in, bytes out, no socket. Not thread-safe."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.established = False

    def receive(self, data: bytes) -> bytes:
        """Process bytes from the network. Returns the plaintext in them. Afterwards `take_output()` returns what must be sent.

        Raises `ssl.SSLError` if the client refuses the certificate or does not use TLS.
        """
        self._incoming.write(data)
        try:
            if not self.established:
                self._tls.do_handshake()
                self.established = True
            return self._read_all()
        except ssl.SSLWantReadError:
            return b""

    def _read_all(self) -> bytes:
        parts: list[bytes] = []
        try:
            while part := self._tls.read(256 * 1024):
                parts.append(part)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # nothing more for now, or close_notify: the end of TCP follows
        return b"".join(parts)

    def encrypt(self, pieces: Iterable[bytes]) -> bytes:
        """Each piece as one record (several if it is longer than 16 KiB), as exchanges send."""
        write = self._tls.write
        for piece in pieces:
            sent = write(piece)
            while sent < len(piece):
                sent += write(memoryview(piece)[sent:])
        return self._outgoing.read()

    def take_output(self) -> bytes:
        """What TLS itself has to send: its handshake, its alerts."""
        return self._outgoing.read()
