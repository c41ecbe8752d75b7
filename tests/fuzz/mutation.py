"""Makes inputs by changing other inputs. The same seed makes the same inputs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

_NUMBERS: Final = (0, 1, 2, 125, *((1 << bits) + by for bits in (7, 8, 15, 16, 31, 32, 63, 64) for by in (-1, 0)))
_WIDTHS: Final = (1, 2, 4, 8)
_MOST_CHANGES: Final = 6
_LONGEST_BLOCK: Final = 64
_MOST_REPEATS: Final = 5000
"""More than the digits that CPython converts, and more than its recursion limit."""


class Mutator:
    """Changes bytes at random. Not thread-safe."""

    def __init__(self, seed: int | str, words: Sequence[bytes], longest: int) -> None:
        """`words`: what the format consists of. `longest`: bytes of an input, at most."""
        self._random = random.Random(seed)
        self._words = words
        self._longest = longest
        self._ways: tuple[Callable[[bytearray], None], ...] = (
            self._flip, self._set, self._insert, self._delete, self._copy, self._number, self._word, self._replace_by_word,
            self._repeat, self._line,
        )  # fmt: skip

    def next(self, pool: Sequence[bytes]) -> bytes:
        """One more input. `pool`: the inputs that it is made from, one or more."""
        made = bytearray(self._random.choice(pool))
        if self._random.random() < 0.15:
            other = self._random.choice(pool)
            made = made[: self._place(made)] + other[self._place(other) :]
        for _ in range(self._random.randint(1, _MOST_CHANGES)):
            self._random.choice(self._ways)(made)
        return bytes(made[: self._longest])

    def _place(self, data: bytes | bytearray) -> int:
        return self._random.randint(0, len(data))

    def _block(self, data: bytearray) -> slice:
        begin = self._place(data)
        return slice(begin, begin + self._random.randint(1, _LONGEST_BLOCK))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] = self._random.randrange(256)

    def _insert(self, data: bytearray) -> None:
        at = self._place(data)
        data[at:at] = self._random.randbytes(self._random.randint(1, 8))

    def _delete(self, data: bytearray) -> None:
        del data[self._block(data)]

    def _copy(self, data: bytearray) -> None:
        at = self._place(data)
        data[at:at] = data[self._block(data)]

    def _number(self, data: bytearray) -> None:
        width, value = self._random.choice(_WIDTHS), self._random.choice(_NUMBERS)
        at = self._place(data)
        raw = (value & ((1 << 8 * width) - 1)).to_bytes(width, self._random.choice(("big", "little")))  # type: ignore[arg-type]
        data[at : at + width] = raw

    def _word(self, data: bytearray) -> None:
        at = self._place(data)
        data[at:at] = self._random.choice(self._words)

    def _replace_by_word(self, data: bytearray) -> None:
        old, new = self._random.choice(self._words), self._random.choice(self._words)
        at = data.find(old, self._place(data))
        if at >= 0:
            data[at : at + len(old)] = new

    def _repeat(self, data: bytearray) -> None:
        """A few bytes many times: long numbers, deep nesting."""
        if self._random.random() < 0.2:
            at = self._place(data)
            unit = bytes(data[at : at + self._random.randint(1, 3)]) or b"["
            data[at:at] = unit * self._random.choice((3, 30, 300, _MOST_REPEATS))

    def _line(self, data: bytearray) -> None:
        """One line removed, doubled or moved."""
        lines = bytes(data).split(b"\n")
        at = self._random.randrange(len(lines))
        line = lines.pop(at) if self._random.random() < 0.6 else lines[at]
        if self._random.random() < 0.7:
            lines.insert(self._random.randint(0, len(lines)), line)
        data[:] = b"\n".join(lines)
