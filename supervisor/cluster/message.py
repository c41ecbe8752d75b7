"""The headers of a message in the cluster's stream: a writer encodes them, and the next writer reads them. Pure."""

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
    """The process that appends."""

    host: str
    id: str
    """Unique for the process."""
    journal: str
    """Id of the journal of that host."""


@dataclass(frozen=True, slots=True)
class Tenure:
    """One lease of one endpoint: the time in which one host has it."""

    term: int
    id: str
    """Id of the lease."""


@dataclass(frozen=True, slots=True)
class Message:
    """The last message of a subject."""

    tail: Tail
    point: Point


EMPTY: Final = Message(Tail(0, 0, 0, ""), Point())


def headers_of(endpoint: str, writer: Writer, lease: Tenure, point: Point, piece: Piece | None = None) -> dict[str, str]:
    """The headers of the message that ends at `point`. `piece`: its lines; None: no lines, or the `Down` of a claim."""
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
    """The message with that sequence, for a writer under the lease with this id. Offsets that were written under another lease
    are ignored, because they apply to another journal."""

    def integer(name: str) -> int:
        return integer_field(headers, name)

    has_offsets = text_field(headers, "Number-Offset") != ""
    offsets = Offsets(integer("Number-Offset"), integer("Epoch-Offset")) if has_offsets else None
    point = Point(integer("Number"), integer("Epoch"), bool(integer("Up")), integer("At") or None, integer("End"), offsets)
    if integer("Part") < integer(
        "Parts"
    ):  # the last part of this line is missing: the line does not count, and is written again
        point = replace(point, number=point.number - integer("Count"), end=integer("Begin"))
    written_under = text_field(headers, "Lease")
    if written_under != lease:
        point = replace(point, offsets=None)
    tail = Tail(sequence, integer("Term"), point.number, text_field(headers, "Writer"), written_under)
    return Message(tail, point)
