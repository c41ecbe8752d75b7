"""permessage-deflate as a server does it (RFC 7692): messages deflated on their way out, a client's inflated. No I/O."""

from __future__ import annotations

import zlib
from typing import Final

from wsadapter.testing.frames import MAX_MESSAGE, ProtocolViolation, encode_frame, payload_of

_RSV1: Final = 0x40
_END: Final = b"\x00\x00\xff\xff"


def negotiate(extensions: str) -> str | None:
    """The answer to the first offer of permessage-deflate in a Sec-WebSocket-Extensions, which agrees to all; None: no offer.

    The client's offer for its own window (`client_max_window_bits`) needs no answer (RFC 7692 §7.1.2.2).
    """
    for offer in extensions.split(","):
        name, *parameters = (word.strip() for word in offer.split(";"))
        if name == "permessage-deflate":
            return "; ".join([name, *(word for word in parameters if not word.startswith("client_max_window_bits"))])
    return None


class Deflate:
    """Both directions of one connection. Not thread-safe."""

    def __init__(self, answer: str) -> None:
        """`answer`: the Sec-WebSocket-Extensions that the client got. What makes no sense in it is passed over: it may be
        wrong on purpose."""
        words = (word.partition("=") for word in answer.replace(" ", "").split(";")[1:])
        values = {name: value.strip('"') for name, _, value in words}
        self._out_bits = _bits(values.get("server_max_window_bits", ""))
        self._in_bits = _bits(values.get("client_max_window_bits", ""))
        self._out_takeover = "server_no_context_takeover" not in values
        self._in_takeover = "client_no_context_takeover" not in values
        self._out = self._new_out()
        self._in = zlib.decompressobj(-self._in_bits)

    def _new_out(self) -> zlib._Compress:
        return zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -self._out_bits)

    def compress(self, frame: bytes) -> bytes:
        """A whole data message's frame, as `encode_message` gives it, compressed."""
        payload = payload_of(frame)
        if not self._out_takeover:
            self._out = self._new_out()
        deflated = self._out.compress(payload) + self._out.flush(zlib.Z_SYNC_FLUSH)
        return encode_frame(frame[0] & 0x0F | _RSV1, deflated.removesuffix(_END))

    def decompress(self, payload: bytes) -> bytes:
        """A client's whole message. Raises `ProtocolViolation`."""
        if not self._in_takeover:
            self._in = zlib.decompressobj(-self._in_bits)
        try:
            inflated = self._in.decompress(payload + _END, MAX_MESSAGE + 1)
        except zlib.error as error:
            raise ProtocolViolation(1007, f"a compressed message that can't be inflated: {error}") from error
        if len(inflated) > MAX_MESSAGE:
            raise ProtocolViolation(1009, "a compressed message is too long")
        return inflated


def _bits(value: str) -> int:
    """zlib does not deflate with a window of 8 bits. The difference matters only to the side that inflates."""
    return min(15, max(9, int(value))) if value.isdecimal() else 15
