"""What the sink "nats" and the cluster share about NATS JetStream."""

from __future__ import annotations

import json

import pytest

from wsadapter.contract.items import Batch
from wsadapter.sinks.base import SinkRecord
from wsadapter.sinks.jetstream import (
    body_limit,
    encode_headers,
    integer_field,
    piece_fields,
    server_list,
    text_field,
    version_problem,
    without_passwords,
)
from wsadapter.sinks.lines import pieces


def information(**api: int) -> bytes:
    """An answer of a server to a request to `$JS.API.INFO`."""
    return json.dumps({"type": "io.nats.jetstream.api.v1.account_info_response", "api": api}).encode()


def test_a_server_without_an_api_level_is_too_old() -> None:
    assert version_problem(information(total=5, errors=0), "2.10.29") == (
        "server 2.10.29 has API level 0; 2.11 (level 1) or later is needed"
    )


def test_a_server_with_api_level_one_or_later_can_be_used() -> None:
    assert version_problem(information(level=1, total=5), "2.11.0") is None
    assert version_problem(information(level=2), "2.12.1") is None


def test_the_servers_are_separated_by_commas_and_shown_without_passwords() -> None:
    servers = server_list(" nats://user:secret@one:4222, tls://two ,")
    assert servers == ["nats://user:secret@one:4222", "tls://two"]
    assert without_passwords(servers) == "one:4222, two"


@pytest.mark.parametrize(("max_payload", "limit"), [(1 << 20, (1 << 20) - 4096), (8192, 4096), (8191, None)])
def test_a_body_leaves_room_for_headers(max_payload: int, limit: int | None) -> None:
    assert body_limit(max_payload) == limit


def test_headers_are_ascii_without_line_ends() -> None:
    assert encode_headers({"Endpoint": "é\r\nx"}) == {"Wsadapter-Endpoint": "\\xe9  x"}


def test_a_field_reads_what_the_headers_have() -> None:
    headers = encode_headers({"Number": 7, "Number-Offset": -3, "Run": "abc"})
    assert (integer_field(headers, "Number"), integer_field(headers, "Number-Offset")) == (7, -3)
    assert (text_field(headers, "Run"), integer_field(headers, "Run")) == ("abc", 0)
    assert (text_field(headers, "Missing"), integer_field(headers, "Missing")) == ("", 0)


def test_the_fields_of_a_piece_name_its_part_only_if_a_line_is_divided() -> None:
    batch = Batch("a", [b'"' + b"x" * 3000 + b'"'], epoch=4, first_number=504, received_at=7)
    record = SinkRecord(batch, 14, 15, 504, "run", 7)
    (whole,) = pieces([record], 1 << 20)
    assert piece_fields(whole) == {"Run": "run", "Count": 1, "Begin": 14, "End": 15, "First-Number": 504}
    parts = [piece_fields(piece) for piece in pieces([record], 1000)]
    assert [(fields["Part"], fields["Parts"]) for fields in parts] == [(at + 1, len(parts)) for at in range(len(parts))]
