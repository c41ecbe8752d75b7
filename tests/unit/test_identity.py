"""What makes a message of one connection the same as one of another."""

from __future__ import annotations

import gzip

import pytest

from tests.bench.gaps import dialect_of
from wsadapter.config.dialect import load_dialect
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.record import NO_IDENTITY, SNAPSHOT
from wsadapter.testing import bundled, load_recording
from wsadapter.worker.session.identity import make_identity

DIALECT = {
    "identity": [
        {"contains": '"e":"trade"', "match": {"e": "trade"}, "fields": ["s", "t"]},
        {"match": {"e": "book"}, "fields": ["s", "u"]},
    ],
    "snapshot": [{"match": {"e": "book", "whole": True}}],
}


def identities(endpoint: Endpoint, dialect: object, *payloads: bytes) -> list[int]:
    identity = make_identity(dialect, endpoint)  # type: ignore[arg-type]
    assert identity is not None
    return [identity.of(Text(payload)) for payload in payloads]


def test_the_fields_decide_and_nothing_else() -> None:
    one, same, other, spaced = identities(
        Endpoint("x"), DIALECT, b'{"e":"trade","s":"a","t":1,"E":5}', b'{"E":6,"t":1,"s":"a","e":"trade"}',
        b'{"e":"trade","s":"a","t":2}', b'{"e": "trade", "s": "a", "t": 1}',
    )  # fmt: skip
    assert one == same
    assert len({one, other, NO_IDENTITY, SNAPSHOT}) == 4
    assert spaced == NO_IDENTITY  # its text lacks what the rule looks for first, and no other rule fits


def test_two_kinds_of_message_with_equal_numbers_differ_by_their_fields_only() -> None:
    trade, book = identities(Endpoint("x"), DIALECT, b'{"e":"trade","s":"a","t":7}', b'{"e":"book","s":"a","u":8}')
    assert trade != book


def test_numbers_above_53_bits_differ() -> None:
    one, other = identities(
        Endpoint("x"), DIALECT, b'{"e":"book","s":"a","u":9007199254740993}', b'{"e":"book","s":"a","u":9007199254740992}'
    )
    assert one != other


@pytest.mark.parametrize("payload", [b"ping", b"[]", b'{"e":"other"}', b'{"e":"book","s":"a"}'])
def test_what_lacks_a_field_or_fits_no_rule_has_none(payload: bytes) -> None:
    assert identities(Endpoint("x"), DIALECT, payload) == [NO_IDENTITY]


def test_a_snapshot_is_one_before_it_is_anything_else() -> None:
    assert identities(Endpoint("x"), DIALECT, b'{"e":"book","whole":true,"s":"a","u":1}') == [SNAPSHOT]


def test_the_endpoints_own_rule_goes_before_the_dialects() -> None:
    endpoint = Endpoint("x", identity=["t"])
    one, same = identities(endpoint, DIALECT, b'{"e":"trade","s":"a","t":1}', b'{"e":"book","s":"b","t":1}')
    assert one == same != NO_IDENTITY


def test_bytes() -> None:
    one, same, other = identities(Endpoint("x", identity="bytes"), None, b"\xff\x00", b"\xff\x00", b"\xff\x01")
    assert one == same != other


def test_bytes_of_what_fits() -> None:
    dialect = {"identity": [{"contains": '"book"', "bytes": True}, {"match": {"e": "x"}, "bytes": True}]}
    book, other, x = identities(Endpoint("x"), dialect, b'{"e":"book"}', b'{"e":"ticker"}', b'{"e":"x"}')
    assert NO_IDENTITY not in (book, x)
    assert other == NO_IDENTITY


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*bundled()} - {"bitfinex", "bybit"}))
def test_no_two_messages_that_a_real_exchange_sent_on_one_connection_have_the_same(name: str) -> None:
    # of bitfinex nothing is the same on two connections, and the recording of bybit is of an older version
    dialect = load_dialect(dialect_of(name, ()))
    payloads = load_recording(name).payloads
    if dialect.get("payload"):
        payloads = [gzip.decompress(payload) for payload in payloads]
    found = [one for one in identities(Endpoint("x"), dialect, *payloads) if one not in (NO_IDENTITY, SNAPSHOT)]
    assert len(found) == len(set(found))
    assert len(found) > 30


def test_without_a_rule_there_is_nothing_to_go_by() -> None:
    assert make_identity(None, Endpoint("x")) is None
    assert make_identity({"snapshot": [{"match": {"a": 1}}]}, Endpoint("x")) is None
