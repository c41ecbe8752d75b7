"""What stands above each message of the cluster's stream, and what a writer reads there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from wsadapter.cluster.fence import Tail
from wsadapter.cluster.numbering import Offsets, Point
from wsadapter.sinks.jetstream import encode_headers, integer_field, piece_fields, text_field
from wsadapter.sinks.lines import Piece


@dataclass(frozen=True, slots=True)
class Writer:
    """Who appends."""

    host: str
    id: str
    """Unique for the process."""
    journal: str
    """Id of the journal of that host."""


@dataclass(frozen=True, slots=True)
class Tenure:
    """Of one host over one endpoint."""

    term: int
    id: str
    """Of the lease."""


@dataclass(frozen=True, slots=True)
class Message:
    """The last message of a subject."""

    tail: Tail
    point: Point


EMPTY: Final = Message(Tail(0, 0, 0, ""), Point())


def headers_of(endpoint: str, writer: Writer, lease: Tenure, point: Point, piece: Piece | None = None) -> dict[str, str]:
    """Of the message that leads to `point`. `piece`: what it has; None: no lines, or one that the claim has made."""
    found: dict[str, object] = {
        "Term": lease.term, "Lease": lease.id, "Writer": writer.id, "Host": writer.host, "Journal": writer.journal,
        "Endpoint": endpoint, "Epoch": point.epoch, "Number": point.number, "Up": int(point.is_up), "Begin": point.end,
        "End": point.end, "Count": 0,
    }  # fmt: skip
    if point.at is not None:
        found["At"] = point.at
    if point.offsets is not None:
        found |= {"Number-Offset": point.offsets.number, "Epoch-Offset": point.offsets.epoch}
    if piece is not None:
        found |= piece_fields(piece) | {"End": point.end}
    return encode_headers(found)


def read_headers(sequence: int, headers: Mapping[str, str], lease: str) -> Message:
    """The message with that sequence, as a writer under the lease with this id sees it. What was written under another lease
    about places and offsets of a journal means nothing here."""

    def integer(name: str) -> int:
        return integer_field(headers, name)

    has_offsets = text_field(headers, "Number-Offset") != ""
    offsets = Offsets(integer("Number-Offset"), integer("Epoch-Offset")) if has_offsets else None
    point = Point(integer("Number"), integer("Epoch"), bool(integer("Up")), integer("At") or None, integer("End"), offsets)
    if integer("Part") < integer("Parts"):  # a line that is not there to its end: it does not count, and is written again
        point = replace(point, number=point.number - integer("Count"), end=integer("Begin"))
    written_under = text_field(headers, "Lease")
    if written_under != lease:
        point = replace(point, offsets=None)
    tail = Tail(sequence, integer("Term"), point.number, text_field(headers, "Writer"), written_under)
    return Message(tail, point)
