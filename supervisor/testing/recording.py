"""Recordings: what an exchange sent on one connection, message by message, with the time of each.

A recording is a file of JSON lines (`.jsonl`, or gzip'ed `.jsonl.gz`), one per message, in order:

    {"t": 0.133, "text": "..."}      a text message; `t` is seconds since the first one
    {"t": 0.141, "b64": "..."}       a binary message, base64

`bundled()` names the ones that come with the package (see recordings/NOTICE for whose they are).
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, overload

import orjson

_SUFFIX = ".jsonl.gz"


class Recorded(NamedTuple):
    """One message of a recording."""

    offset: float
    """Seconds since the recording's first message."""
    payload: bytes
    """Exactly as received."""
    binary: bool
    """Whether it came as a binary message."""


class Recording(Sequence[Recorded]):
    """The messages of one connection, in order. Immutable."""

    def __init__(self, name: str, messages: Iterable[Recorded]) -> None:
        self.name = name
        self._messages = tuple(messages)

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, position: SupportsIndex) -> Recorded: ...
    @overload
    def __getitem__(self, position: slice) -> Recording: ...
    def __getitem__(self, position: SupportsIndex | slice) -> Recorded | Recording:
        if isinstance(position, slice):
            return Recording(self.name, self._messages[position])
        return self._messages[position]

    def __iter__(self) -> Iterator[Recorded]:
        return iter(self._messages)

    @property
    def payloads(self) -> list[bytes]:
        """The payloads alone."""
        return [message.payload for message in self._messages]

    @property
    def duration(self) -> float:
        """Seconds from the first message to the last."""
        return self._messages[-1].offset - self._messages[0].offset if self._messages else 0.0

    def __repr__(self) -> str:
        return f"Recording({self.name!r}, {len(self)} messages in {self.duration:.1f} s)"


def bundled() -> tuple[str, ...]:
    """The names of the recordings that come with the package."""
    folder = resources.files("wsadapter.testing.recordings")
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in folder.iterdir() if f.name.endswith(_SUFFIX)))


def load_recording(name_or_path: str | Path) -> Recording:
    """A bundled recording by its name, or one from a file.

    Raises `FileNotFoundError` (with the bundled names) where there is no such thing, `ValueError` with file and line
    where a line is not of the format.
    """
    path = Path(name_or_path)
    if str(name_or_path) in bundled():
        content = (resources.files("wsadapter.testing.recordings") / f"{name_or_path}{_SUFFIX}").read_bytes()
    elif path.is_file():
        content = path.read_bytes()
    else:
        raise FileNotFoundError(f"no recording {str(name_or_path)!r}: not a file, and bundled are {', '.join(bundled())}")
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    lines = enumerate(content.splitlines(), 1)
    return Recording(
        path.name.removesuffix(".gz").removesuffix(".jsonl"), [_parse(line, f"{path}:{n}") for n, line in lines if line]
    )


def save_recording(path: str | Path, messages: Iterable[Recorded]) -> None:
    """Writes a recording; gzip'ed where `path` ends in `.gz`."""
    content = b"".join(_format(message) for message in messages)
    path = Path(path)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _parse(line: bytes, place: str) -> Recorded:
    try:
        fields = orjson.loads(line)
        if "b64" in fields:
            return Recorded(float(fields["t"]), base64.b64decode(fields["b64"], validate=True), True)
        return Recorded(float(fields["t"]), fields["text"].encode(), False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{place}: not a line of a recording, {{"t": seconds, "text" or "b64": ...}}: {error!r}') from error


def _format(message: Recorded) -> bytes:
    fields: dict[str, Any] = {"t": round(message.offset, 6)}
    if message.binary:
        fields["b64"] = base64.b64encode(message.payload).decode()
    else:
        fields["text"] = message.payload.decode()
    return orjson.dumps(fields) + b"\n"


def big_message(size: int = 5_000_000) -> bytes:
    """A book snapshot of exactly `size` bytes of JSON, always the same: exchanges do send such in one message.

    Raises `ValueError` for less than 200 bytes.
    """
    if size < 200:
        raise ValueError("a book snapshot needs at least 200 bytes")
    head, middle, tail = b'{"type":"snapshot","product_id":"BTC-USD","bids":[', b'],"asks":[', b'],"padding":"'
    room = (size - len(head) - len(middle) - len(tail) - 2) // 2
    bids, asks = _levels(room, 50_000_00, -1), _levels(room, 50_000_01, 1)
    body = head + bids + middle + asks + tail
    return body + b"x" * (size - len(body) - 2) + b'"}'


def _levels(room: int, cents: int, step: int) -> bytes:
    """As many price levels as fit into `room` bytes."""
    levels: list[str] = []
    used = 0
    for number in range(room):
        price = cents + step * (number % 5_000_000)
        level = f'["{price / 100:.2f}","{number * 7919 % 100_003 / 1000:.8f}"]'
        used += len(level) + 1
        if used > room:
            break
        levels.append(level)
    return ",".join(levels).encode()
