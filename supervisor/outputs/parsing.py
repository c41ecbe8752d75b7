"""The reverse of `lines`: the items of JSON lines. Pure.

Messages that were read from the socket at once have one time, so they become one `Batch` again. What a line doesn't say is not
restored: a payload that is JSON counts as a text message, whichever kind it was.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final, cast

import msgspec

from wsadapter.contract.items import EVENT_NAMES, AnyEvent, Batch, LateAnswer, Restored
from wsadapter.contract.reasons import Reason

_EVENTS: Final = {name: kind for kind, name in EVENT_NAMES.items()}
_FIELDS: Final = {kind: frozenset(field.name for field in fields(kind)) for kind in EVENT_NAMES}
_DATA: Final = b',"data":'
"""Stands once before the payload: within a JSON string its quotation marks would have backslashes."""


class NotALine(ValueError):
    """Something that `lines` doesn't write."""


class _Head(msgspec.Struct):
    """A line of a message without its `data`, or the beginning of any line."""

    endpoint: str = ""
    epoch: int = 0
    number: int = 0
    received_at: int = 0
    stream: str | None = None
    event: str = ""
    text: str | None = None
    binary: str | None = None


_head: Final = msgspec.json.Decoder(_Head).decode
_any: Final = msgspec.json.Decoder(dict[str, Any]).decode


def parse(lines: bytes) -> Iterator[Batch | AnyEvent]:
    """The items of whole lines, in order. Raises `NotALine`."""
    waiting: list[tuple[_Head, bytes]] = []
    for line in lines.split(b"\n"):
        if not line:
            continue
        try:
            head, payload = _split(line)
            event = _event(head.event, line, payload) if head.event else None
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise NotALine(f"{error}: {line[:200]!r}") from error
        if waiting and (event is not None or not _goes_on(waiting[-1][0], head)):
            yield _batch(waiting)
            waiting = []
        if event is not None:
            yield event
        else:
            waiting.append((head, payload))
    if waiting:
        yield _batch(waiting)


def _split(line: bytes) -> tuple[_Head, bytes]:
    """The fields, and the payload as the exchange sent it."""
    begin = line.find(_DATA)
    if begin >= 0 and line.endswith(b"}"):
        return _head(line[:begin] + b"}"), line[begin + len(_DATA) : -1]
    head = _head(line)
    if head.binary is not None:
        return head, b64decode(head.binary)
    if head.text is None and not head.event:
        raise NotALine("neither a message nor an event")
    return head, (head.text or "").encode()


def _goes_on(before: _Head, head: _Head) -> bool:
    """Whether two messages were read at once."""
    return (before.number + 1, before.epoch, before.received_at, before.endpoint) == (
        head.number, head.epoch, head.received_at, head.endpoint,
    )  # fmt: skip


def _batch(messages: list[tuple[_Head, bytes]]) -> Batch:
    first = messages[0][0]
    binary = [head.binary is not None for head, _ in messages]
    streams = [head.stream for head, _ in messages]
    return Batch(
        first.endpoint, [payload for _, payload in messages], epoch=first.epoch, first_number=first.number,
        received_at=first.received_at, binary=binary if len(set(binary)) > 1 else binary[0],
        streams=streams if any(stream is not None for stream in streams) else None,
    )  # fmt: skip


def _event(name: str, line: bytes, payload: bytes) -> AnyEvent:
    kind = _EVENTS.get(name)
    if kind is None:
        raise NotALine(f"an event of a newer version: {name!r}")
    begin = line.find(_DATA) if kind is LateAnswer else -1
    said: dict[str, Any] = _any(line if begin < 0 else line[:begin] + b"}")
    given = {key: value for key, value in said.items() if key in _FIELDS[kind]}
    if "reason" in given:
        given["reason"] = Reason.from_json(given["reason"])
    if kind is Restored:
        given["failed"] = tuple(given["failed"])
    if kind is LateAnswer:
        given["data"] = payload
    made: Any = kind
    return cast("AnyEvent", made(**{"endpoint": "", "epoch": 0, **given}))
