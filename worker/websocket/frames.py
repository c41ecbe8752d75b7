"""RFC 6455 frames as a client sends them, and the payload of close frames. Pure."""

from __future__ import annotations

import os
from typing import Final

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
RSV1: Final = 0x40
"""Set in the first byte of a compressed message (RFC 7692 §6)."""

NO_STATUS: Final = 1005
"""The code of a close frame without a status; never sent (RFC 6455 §7.4.1)."""
ABNORMAL: Final = 1006
"""The code of the end of a connection without a close frame; never sent."""

_FIN: Final = 0x80
_MASKED: Final = 0x80
_MAX_CLOSE_TEXT: Final = 123
_CODES_OF_THE_RFC: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class BadClosePayload(ValueError):
    """A close frame's payload violates RFC 6455; `code` is the close code to answer with."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def encode_frame(opcode: int, payload: bytes, *, key: bytes | None = None, rsv1: bool = False) -> bytes:
    """One final, masked frame (RFC 6455 §5.2). `key`: the 4-byte masking key; None: a random one. `rsv1`: the payload is
    compressed (RFC 7692 §6)."""
    mask = new_mask() if key is None else key
    return frame_head(opcode | (RSV1 if rsv1 else 0), len(payload), mask) + apply_mask(payload, mask)


def new_mask() -> bytes:
    """An unpredictable masking key (RFC 6455 §5.3)."""
    return os.urandom(4)


def frame_head(opcode: int, size: int, key: bytes) -> bytes:
    """The head of a frame with a masked payload of `size` bytes; `opcode` includes `RSV1` if the payload is compressed."""
    first = _FIN | opcode
    if size < 126:
        head = bytes((first, _MASKED | size))
    elif size < 1 << 16:
        head = bytes((first, _MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, _MASKED | 127)) + size.to_bytes(8, "big")
    return head + key


def apply_mask(payload: bytes | memoryview, key: bytes) -> bytes:
    """`payload` XOR the repeated `key`; applied twice it gives the payload."""
    size = len(payload)
    # The interpreter XORs two big integers word by word; a loop over bytes would cost 50 ns per byte.
    repeated = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")


def encode_close(code: int, text: str = "") -> bytes:
    """A close frame. `NO_STATUS` and `ABNORMAL` must not be sent: they give an empty payload."""
    if code in (NO_STATUS, ABNORMAL):
        return encode_frame(CLOSE, b"")
    reason = text.encode()[:_MAX_CLOSE_TEXT].decode("utf-8", "ignore").encode()
    return encode_frame(CLOSE, code.to_bytes(2, "big") + reason)


def decode_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a received close frame; the code is `NO_STATUS` if the payload is empty.

    Raises `BadClosePayload` (RFC 6455 §5.5.1, §7.4).
    """
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise BadClosePayload(1002, "a close frame with a payload of 1 byte")
    code = int.from_bytes(payload[:2], "big")
    if code not in _CODES_OF_THE_RFC and not 3000 <= code <= 4999:
        raise BadClosePayload(1002, _with_reason(f"a close frame with the code {code}", payload))
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        text = _with_reason(f"a close frame with the code {code} whose reason is not UTF-8", payload)
        raise BadClosePayload(1007, text) from None


def _with_reason(what: str, payload: bytes) -> str:
    """Adds the peer's text, which is often more specific than its code."""
    reason = payload[2:].decode("utf-8", "replace")
    return f"{what}: {reason}" if reason else what
