"""Items as JSON lines. Pure.

A payload that is valid JSON on one line becomes the value of `data`, its own bytes spliced in: digits, key order and
spacing are what the exchange sent. Otherwise it is `text` (a text message) or `binary` (base64). "One line" excludes
CR as well: many readers end lines there.

JSON is judged by RFC 8259: no NaN, no lone surrogates, and UTF-8. msgspec judges the grammar without building values,
three times as fast as orjson, but not the UTF-8 within strings. Nesting deeper than Python's recursion limit is not
accepted as `data`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson

from wsadapter.contract.items import Batch, Event, LateAnswer, Message, Started

FORMAT: Final = 1
"""Version of the line format; a field of `started`."""

_judge: Final = msgspec.json.Decoder(msgspec.Raw).decode


def is_json_line(payload: bytes) -> bool:
    """Whether it can be spliced into a line as it is."""
    try:
        if not payload.isascii():
            payload.decode()
        _judge(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return b"\n" not in payload and b"\r" not in payload


def payload_field(payload: bytes, *, binary: bool) -> bytes:
    """`"data":...`, `"text":"..."` or `"binary":"..."`."""
    if is_json_line(payload):
        return b'"data":' + payload
    if not binary:
        try:
            return b'"text":' + orjson.dumps(payload.decode())
        except UnicodeDecodeError:  # what a decode hook returned
            pass
    return b'"binary":"' + b64encode(payload) + b'"'


def batch_lines(batch: Batch) -> bytes:
    """All lines of a batch, each ended."""
    head = b'{"endpoint":%b,"epoch":%d,"number":' % (orjson.dumps(batch.endpoint), batch.epoch)
    stamp = b',"received_at":%d,' % batch.received_at
    if batch.streams is None and isinstance(batch.binary, bool):
        return _plain_lines(batch, head, stamp, batch.binary)
    streams = [b"" if s is None else b',"stream":' + orjson.dumps(s) for s in batch.streams or [None] * len(batch)]
    binaries = [batch.binary] * len(batch) if isinstance(batch.binary, bool) else batch.binary
    numbered = enumerate(batch, batch.first_number)
    return b"".join(
        [
            b"%b%d%b%b%b}\n" % (head, number, stream, stamp, payload_field(payload, binary=binary))
            for (number, payload), stream, binary in zip(numbered, streams, binaries, strict=True)
        ]
    )


def _plain_lines(batch: Batch, head: bytes, stamp: bytes, binary: bool) -> bytes:
    """The hot path: the tests of `is_json_line` stand in the loop, a call per message would cost as much as they do."""
    judge = _judge
    stamp_and_data = stamp + b'"data":'
    lines: list[bytes] = []
    append = lines.append
    for number, payload in enumerate(batch, batch.first_number):
        try:
            if not payload.isascii():
                payload.decode()
            judge(payload)
            if b"\n" not in payload and b"\r" not in payload:
                append(b"%b%d%b%b}\n" % (head, number, stamp_and_data, payload))
                continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # no JSON: below
        append(b"%b%d%b%b}\n" % (head, number, stamp, payload_field(payload, binary=binary)))
    return b"".join(lines)


def message_line(message: Message) -> bytes:
    """The line of a single message, ended."""
    stream = b"" if message.stream is None else b',"stream":' + orjson.dumps(message.stream)
    return b'{"endpoint":%b,"epoch":%d,"number":%d%b,"received_at":%d,%b}\n' % (
        orjson.dumps(message.endpoint), message.epoch, message.number, stream, message.received_at,
        payload_field(message.data, binary=message.binary),
    )  # fmt: skip


def event_line(event: Event) -> bytes:
    """The line of an event, ended."""
    if isinstance(event, Started):
        ordered = {"event": event.kind, "run": event.run, "name": event.name, "version": event.version}
        return _dumps({**ordered, "format": FORMAT, "at": event.at}) + b"\n"
    said = event.to_json()
    if isinstance(event, LateAnswer):
        del said["data"]
        return _dumps(said)[:-1] + b"," + payload_field(event.data, binary=False) + b"}\n"
    return _dumps(said) + b"\n"


def _dumps(said: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(said)
    except orjson.JSONEncodeError:  # a lone surrogate, from a path or a header that is not UTF-8
        return orjson.dumps(_encodable(said))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_encodable(str(name)): _encodable(item) for name, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value


def last_received_at(tail: bytes) -> dict[str, int]:
    """For each endpoint with a line in `tail`, when its last message was received.

    A `gap` line also says so: the last message before it. Lines that are not JSON are skipped (the first and the
    last may be torn).
    """
    found: dict[str, int] = {}
    for line in reversed(tail.split(b"\n")):
        if b'"received_at":' not in line and b'"last_received_at":' not in line:
            continue
        try:
            item = msgspec.json.decode(line, type=_Stamp)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
            continue
        stamp = item.last_received_at if item.event == "gap" else item.received_at if not item.event else None
        if stamp is not None:
            found.setdefault(item.endpoint, stamp)
    return found


class _Stamp(msgspec.Struct):
    endpoint: str
    event: str = ""
    received_at: int | None = None
    last_received_at: int | None = None
