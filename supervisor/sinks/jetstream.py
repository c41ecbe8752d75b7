"""NATS JetStream, as the sink "nats" and the cluster use it: error codes, server requirements, headers of a message. Pure.

Both append to one subject for each endpoint with "compare and append": every message names the sequence of the message before
it (`EXPECTED_SEQUENCE`), and the server refuses the message if another one is the last of the subject. Servers compare reliably
since version 2.11; `version_problem` rejects an earlier one.

This module doesn't import nats-py: `sinks.nats` reports its absence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from wsadapter.sinks.lines import Piece

EXPECTED_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
"""Header of an append: the sequence that the last message of the subject must have; 0: the subject must be empty."""
HEADER_PREFIX: Final = "Wsadapter-"

WRONG_SEQUENCE: Final = frozenset({10071, 10164})
"""Error codes: the last message of the subject isn't the expected one."""
IN_PROGRESS: Final = 10163
"""Error code: the server still works on an earlier append to this subject."""
NO_MESSAGE: Final = 10037
"""Error code: the subject is empty."""

_API_LEVEL: Final = 1
"""Of server 2.11. Servers before it don't serialise the comparison in a cluster."""
_HEADROOM: Final = 4096
"""Bytes of `max_payload` that are reserved for headers; the limit of a body must not be less."""


def server_list(text: str) -> list[str]:
    """The URLs in a list that is separated by commas."""
    return [server.strip() for server in text.split(",") if server.strip()]


def without_passwords(servers: Sequence[str]) -> str:
    """The servers for an error or a log line: host and port only."""
    return ", ".join(server.rpartition("@")[2].rpartition("//")[2] for server in servers)


def version_problem(answer: bytes, version: object) -> str | None:
    """Why this server can't be used; None: it can. `answer`: to a request to `$JS.API.INFO`. `version`: of the server."""
    level = api_level(answer)
    if level >= _API_LEVEL:
        return None
    return f"server {version} has API level {level}; 2.11 (level {_API_LEVEL}) or later is needed"


def api_level(answer: bytes) -> int:
    """The API level of JetStream in the account information; 0: a server before 2.11, which doesn't send one."""
    level = (json.loads(answer).get("api") or {}).get("level")
    return level if isinstance(level, int) else 0


def body_limit(max_payload: int) -> int | None:
    """The most bytes of a message's body; None: `max_payload` of the server is too little."""
    limit = max_payload - _HEADROOM
    return limit if limit >= _HEADROOM else None


def piece_fields(piece: Piece) -> dict[str, object]:
    """The fields that describe the lines of a piece. `encode_headers` makes headers of them."""
    found: dict[str, object] = {
        "Run": piece.position.run, "Count": piece.messages, "Begin": piece.begin, "End": piece.end,
    }  # fmt: skip
    if piece.first_number is not None:
        found["First-Number"] = piece.first_number
    if piece.parts > 1:
        found |= {"Part": piece.part, "Parts": piece.parts}
    return found


def encode_headers(fields: Mapping[str, object]) -> dict[str, str]:
    """Headers of a message, in ASCII without line ends, as NATS requires."""
    return {HEADER_PREFIX + name: _printable(str(value)) for name, value in fields.items()}


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode().replace("\r", " ").replace("\n", " ")


def text_field(headers: Mapping[str, str], name: str) -> str:
    """The reverse of `encode_headers` for one field; "": the message doesn't have it."""
    return headers.get(HEADER_PREFIX + name, "")


def integer_field(headers: Mapping[str, str], name: str) -> int:
    """As `text_field`; 0: the message doesn't have it, or it isn't an integer."""
    text = text_field(headers, name)
    return int(text) if text.removeprefix("-").isdecimal() else 0
