"""What a broker is given: the JSON lines of one endpoint, in pieces that the broker accepts, with a name for each endpoint.

Pure. The same records give the same pieces: so a writer that finds some of them in the broker continues behind these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote

from wsadapter.contract.items import Batch
from wsadapter.outputs.lines import batch_lines, event_line
from wsadapter.sinks.base import EndpointPosition, SinkRecord, halves

MOST_MESSAGES: Final = 1000
"""Of a piece."""
_UNSAFE: Final = re.compile(rb"[^A-Za-z0-9_-]")


class Piece(NamedTuple):
    """Lines of one endpoint that are appended at once."""

    body: bytes
    records: tuple[SinkRecord, ...]
    part: int = 1
    """Of a line that is too long for one piece: which part; the line is the bodies of all its parts, in order."""
    parts: int = 1

    @property
    def endpoint(self) -> str:
        return self.records[0].endpoint

    @property
    def begin(self) -> int:
        """Place in the journal of the first item."""
        return self.records[0].begin

    @property
    def end(self) -> int:
        return self.records[-1].end

    @property
    def first_number(self) -> int | None:
        """Of the first message; None: there are only events."""
        return next((each.item.first_number for each in self.records if isinstance(each.item, Batch)), None)

    @property
    def messages(self) -> int:
        """Of messages."""
        return sum(len(each.item) for each in self.records if isinstance(each.item, Batch))

    @property
    def position(self) -> EndpointPosition:
        """Of the endpoint, when this piece is durable."""
        last = self.records[-1]
        received = [each.at for each in self.records if isinstance(each.item, Batch)]
        return EndpointPosition(last.end, last.number, last.item.epoch, received[-1] if received else None, last.run)


def pieces(records: Iterable[SinkRecord], limit: int) -> Iterator[Piece]:
    """The records of one endpoint in pieces of at most `limit` bytes."""
    waiting: list[SinkRecord] = []
    bodies: list[bytes] = []
    size = messages = 0
    for record, lines in _fitting(records, limit):
        count = len(record.item) if isinstance(record.item, Batch) else 0
        if waiting and (size + len(lines) > limit or messages + count > MOST_MESSAGES):
            yield Piece(b"".join(bodies), tuple(waiting))
            waiting, bodies, size, messages = [], [], 0, 0
        if len(lines) > limit:
            parts = -(-len(lines) // limit)
            for part in range(parts):
                yield Piece(lines[part * limit : (part + 1) * limit], (record,), part + 1, parts)
            continue
        waiting.append(record)
        bodies.append(lines)
        size, messages = size + len(lines), messages + count
    if waiting:
        yield Piece(b"".join(bodies), tuple(waiting))


def _fitting(records: Iterable[SinkRecord], limit: int) -> Iterator[tuple[SinkRecord, bytes]]:
    """Each record with its lines; a record that is too large is halved, down to single messages."""
    for record in records:
        item = record.item
        if not isinstance(item, Batch):
            yield record, event_line(item)
            continue
        lines = batch_lines(item)
        if len(item) > 1 and (len(lines) > limit or len(item) > MOST_MESSAGES):
            yield from _fitting(halves(record), limit)
        else:
            yield record, lines


def token(endpoint: str, escape: str) -> str:
    """The endpoint as a part of a subject, or of a topic: each character but letters, digits, "_" and "-" becomes `escape` and
    two hexadecimal digits for each byte. No two endpoints have the same token. Events of the whole supervisor have `escape` and
    "supervisor"."""
    if not endpoint:
        return f"{escape}supervisor"
    return _UNSAFE.sub(lambda found: b"%s%02X" % (escape.encode(), ord(found[0])), endpoint.encode()).decode()


def endpoint_of(written: str, escape: str) -> str:
    """The reverse of `token`."""
    if written == f"{escape}supervisor":
        return ""
    return unquote(written.replace(escape, "%"))
