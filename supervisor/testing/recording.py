"""Recordings: what an exchange sent on one connection, message by message, with the time of each.

A recording is a file of JSON lines (`.jsonl`, or gzip'ed `.jsonl.gz`), one per message, in order:

    {"t": 0.133, "text": "..."}      a text message; `t` is seconds since the first one
    {"t": 0.141, "b64": "..."}       a binary message, base64

What the runner writes (wsadapter.outputs) is one too: the lines of one endpoint's messages, without the events between them.
A binary message that is JSON on one line is recorded as `data`, and is replayed as a text message.

`bundled()` names the ones that come with the package (see recordings/NOTICE for whose they are).
"""

from __future__ import annotations

import base64
import gzip
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, overload

import msgspec
import orjson

from wsadapter.outputs.lines import FORMAT

_SUFFIX = ".jsonl.gz"
_FORMS = '{"t": seconds, "text" or "b64": ...}, nor one of the runner\'s output'


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


def load_recording(name_or_path: str | Path, endpoint: str | None = None) -> Recording:
    """A bundled recording by its name, or one from a file.

    `endpoint`: the endpoint whose messages are read from a file that the runner has written; required if the file has several.

    Raises `FileNotFoundError` (with the bundled names) if there is no such file, `ValueError` with file and line if a line is
    not of the format, and `ValueError` with the file's endpoints if `endpoint` is missing or not among them.
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
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    return Recording(name, _messages(str(path), content.removeprefix(BOM_UTF8), endpoint))


class _Line(msgspec.Struct):
    """A line of either form."""

    t: float | None = None
    b64: str | None = None
    endpoint: str = ""
    received_at: int | None = None
    data: msgspec.Raw = msgspec.Raw()
    text: str | None = None
    binary: str | None = None
    event: str = ""
    format: int = FORMAT

    def payload(self) -> tuple[bytes, bool]:
        """And whether it is binary. Raises `ValueError`."""
        encoded = self.binary if self.b64 is None else self.b64
        if sum((bool(bytes(self.data)), self.text is not None, encoded is not None)) != 1:
            raise ValueError("expected one payload")
        if encoded is not None:
            return base64.b64decode(encoded, validate=True), True
        return bytes(self.data) if self.text is None else self.text.encode(), False


def _messages(path: str, content: bytes, endpoint: str | None) -> list[Recorded]:
    """The messages of one recording, or of one endpoint in it."""
    recorded: list[Recorded] = []
    written: dict[str, list[tuple[int, bytes, bool]]] = {}
    for place, line in _lines(path, content):
        if line.event:
            continue
        try:
            payload, binary = line.payload()
        except ValueError as error:
            raise ValueError(f"{place}: not a line of a recording, {_FORMS}: {error}") from error
        if line.t is not None:
            recorded.append(Recorded(line.t, payload, binary))
        elif line.endpoint and line.received_at is not None:
            written.setdefault(line.endpoint, []).append((line.received_at, payload, binary))
        else:
            raise ValueError(f"{place}: not a line of a recording, {_FORMS}: expected a time")
    if not written and endpoint is None:
        return recorded
    if recorded:
        raise ValueError(f"{path}: lines of a recording and of the runner's output in one file")
    return _timed(written[_chosen(path, list(written), endpoint)])


def _lines(path: str, content: bytes) -> Iterator[tuple[str, _Line]]:
    """Each with its place. What a run that was killed left unfinished is passed over: it stands at the end, or before the next
    run's first line."""
    torn: ValueError | None = None
    decode = msgspec.json.Decoder(_Line).decode
    *lines, last = content.split(b"\n")
    for number, text in enumerate([*lines, last], 1):
        if not text.strip():
            continue
        try:
            line = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if torn is not None:
                raise torn from None
            torn = ValueError(f"{path}:{number}: not a line of a recording, {_FORMS}: {error}")
            continue
        if torn is not None and line.event != "started":
            raise torn
        torn = None
        if line.event == "started" and line.format != FORMAT:
            raise ValueError(f"{path}:{number}: written in format {line.format}; this version reads format {FORMAT}")
        yield f"{path}:{number}", line
    if torn is not None and not last:
        raise torn


def _chosen(path: str, found: list[str], endpoint: str | None) -> str:
    if endpoint is None and len(found) == 1:
        return found[0]
    if endpoint in found:
        assert endpoint is not None
        return endpoint
    there = ", ".join(found) or "none"
    if endpoint is None:
        raise ValueError(f"{path}: messages of several endpoints ({there}); choose one of them with `replay_endpoint`")
    raise ValueError(f"{path}: no messages of the endpoint {endpoint!r}; there are those of {there}")


def _timed(written: list[tuple[int, bytes, bool]]) -> list[Recorded]:
    """The messages with offsets. If the clock was set back, time stands still."""
    begin = latest = written[0][0]
    recorded = []
    for at, payload, binary in written:
        latest = max(latest, at)
        recorded.append(Recorded((latest - begin) / 1e9, payload, binary))
    return recorded


def save_recording(path: str | Path, messages: Iterable[Recorded]) -> None:
    """Writes a recording; gzip'ed where `path` ends in `.gz`."""
    content = b"".join(_format(message) for message in messages)
    path = Path(path)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


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
    """Price levels that fit into `room` bytes."""
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
