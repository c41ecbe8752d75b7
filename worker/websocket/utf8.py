"""UTF-8 that comes in pieces: refused at the first byte that can't be right (RFC 6455 §8.1)."""

from __future__ import annotations

import codecs


class Utf8:
    """One text after the other. Not thread-safe.

    `codecs.getincrementaldecoder` would do, at three times the cost: it is written in Python and copies each piece.
    """

    __slots__ = ("_torn",)

    def __init__(self) -> None:
        self._torn = b""  # the beginning of a character, at most 3 bytes

    def accepts(self, piece: bytes, *, final: bool) -> bool:
        """Whether the text can go on with `piece`, or, if `final`, end with it: then the next piece begins a new text."""
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
    """Whether it is, as a whole."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
