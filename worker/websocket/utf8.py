"""Checks UTF-8 that comes in pieces, and refuses it at the first byte that can't be right (RFC 6455 §8.1)."""

from __future__ import annotations

import codecs


class Utf8:
    """Checks one text after the other. Not thread-safe.

    `codecs.getincrementaldecoder` would work too, but at three times the cost: it is written in Python and copies each piece.
    """

    __slots__ = ("_torn",)

    def __init__(self) -> None:
        self._torn = b""  # the beginning of a character, at most 3 bytes

    def accepts(self, piece: bytes, *, final: bool) -> bool:
        """True if the text can continue with `piece` or, if `final`, end with it; after that the next piece begins a new
        text."""
        if self._torn:
            piece = self._torn + piece
        elif piece.isascii():
            return True
        try:
            _, used = codecs.utf_8_decode(piece, "strict", final)
        except UnicodeDecodeError:
            return False
        self._torn = piece[used:]
        return True


def is_utf8(text: bytes) -> bool:
    """True if the whole text is valid UTF-8."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
