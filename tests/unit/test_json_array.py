"""Texts that are arrays, as the messages that are their elements: which bytes, in which order, with which numbers. Pure."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rawserver import server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.record import ANSWER
from wsadapter.contract.ipc.reports import ConnectionUp
from wsadapter.worker.session.actions import Action, Deliver, Notify
from wsadapter.worker.session.json_array import MOST_ELEMENTS, elements, split
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.deflate import Agreement, Inflater
from wsadapter.worker.websocket.frames import BINARY, PING, RSV1, TEXT
from wsadapter.worker.websocket.payload_codec import Unpacker
from wsadapter.worker.websocket.reader import Reader, ReadResult

LIMIT = 1 << 20


def parts(payload: bytes) -> list[bytes]:
    return [payload[start:stop] for start, stop in elements(payload)]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'[{"a":1},{"b":2}]', [b'{"a":1}', b'{"b":2}']),
        (b' \t[\n{"a": 1.500e+00 } ,\r\n"x" ] ', [b'{"a": 1.500e+00 }', b'"x"']),
        (b'["],[", "\\"],", [[1],[2]], {"a":"},{"}]', [b'"],["', b'"\\"],"', b"[[1],[2]]", b'{"a":"},{"}']),
        (b"[0,-0.0,12345678901234567890123,1E400,true,false,null]",
         [b"0", b"-0.0", b"12345678901234567890123", b"1E400", b"true", b"false", b"null"]),
        ('["größer","\\u00fc€𝄞",1]'.encode(), ['"größer"'.encode(), '"\\u00fc€𝄞"'.encode(), b"1"]),
        (b"[" + b"9" * 10_000 + b"]", [b"9" * 10_000]),
    ],
)  # fmt: skip
def test_the_elements_of_an_array_are_its_bytes_as_they_came(payload: bytes, expected: list[bytes]) -> None:
    assert parts(payload) == expected


@pytest.mark.parametrize(
    "payload",
    [
        b"", b" ", b"[", b"[]", b" [ ] ", b'{"a":[1]}', b'"[1]"', b"1", b"Ping", b"[1", b"[1,", b"[1,]", b"[,1]", b"[1 2]",
        b"[1]]", b"[1],[2]", b"[1]x", b"[x]", b'["a', b"[" * 100_000 + b"]" * 100_000, b"[\x0b1]", b'["\n"]',
        b"\xef\xbb\xbf[1]",
    ],
)  # fmt: skip
def test_what_is_no_array_or_an_empty_one_is_left_alone(payload: bytes) -> None:
    assert elements(payload) == []


def test_an_array_of_too_many_elements_is_one_message() -> None:
    assert len(elements(b"[" + b",".join([b"1"] * MOST_ELEMENTS) + b"]")) == MOST_ELEMENTS
    assert elements(b"[" + b",".join([b"1"] * (MOST_ELEMENTS + 1)) + b"]") == []


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@given(st.lists(values, min_size=1), st.sampled_from([(",", ":"), (" , ", ": ")]), st.booleans())
def test_any_array_is_its_elements(items: list[Any], separators: tuple[str, str], ascii_only: bool) -> None:
    texts = [json.dumps(item, separators=separators, ensure_ascii=ascii_only) for item in items]
    try:
        payload = f"[{separators[0].join(texts)}]".encode()
    except UnicodeEncodeError:  # half a character, which no text message holds
        return
    assert parts(payload) == [text.encode() for text in texts]


def messages(batch: ReadResult) -> list[tuple[bytes, bool]]:
    return [(batch.payload(index), index in batch.binary) for index in range(batch.count)]


def deflated(payload: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    return bytes((0x80 | RSV1 | TEXT, len(data) - 4)) + data[:-4]


def test_a_read_has_the_elements_in_the_places_of_their_arrays_however_they_were_packed() -> None:
    unpacker = Unpacker("zlib")
    reader = Reader(LIMIT, Inflater(Agreement(server_no_context_takeover=True)), unpacker)
    array = b'[1, {"a":2}]'
    data = b"".join([
        server_frame(TEXT, b"{}"), server_frame(TEXT, array), server_frame(PING, b"p"), server_frame(BINARY, b""),
        deflated(array), server_frame(TEXT, array[:5], fin=False), server_frame(0, array[5:]),
        server_frame(BINARY, zlib.compress(array)), server_frame(BINARY, zlib.compress(b"\xff[1]")),
        server_frame(TEXT, b"[3]"), b"\x81",
    ])  # fmt: skip
    whole = reader.feed(data)
    apart = split(whole)
    both = [(b"1", False), (b'{"a":2}', False)]
    assert messages(apart) == [(b"{}", False), *both, (b"", True), *both, *both, *both, (b"\xff[1]", True), (b"3", False)]
    assert (apart.consumed, apart.unfinished, apart.controls) == (whole.consumed, whole.unfinished, whole.controls)
    assert [apart.end_of(at) for at in (0, 2, 3)] == [4, 4 + 14, 4 + 14 + 3 + 2]
    assert [apart.first_of.get(at, at) for at in range(apart.count)] == [0, 1, 1, 3, 4, 4, 6, 6, 8, 8, 10, 11]
    assert split(Reader(LIMIT).feed(server_frame(TEXT, b"{}"))).first_of == {}


def test_a_read_without_an_array_is_not_copied_and_a_violation_stays() -> None:
    batch = Reader(LIMIT).feed(server_frame(TEXT, b"{}") + server_frame(BINARY, b"[1]"))
    assert split(batch) is batch
    assert split(Reader(LIMIT).feed(server_frame(TEXT, b"[1]") + b"\x83\x00")).violation is not None


# -- in the session ------------------------------------------------------------------------------------------------------

DIALECT = {
    "subscribe": {"frame": '{"sub":"$streams"}', "per_frame": 9},
    "stream": {"path": "S"},
    "gap": [{"contains": '"n"', "scope": ["S"], "value": "n"}],
    "ack": [{"match": {"T": "subscription"}}],
    "housekeeping": [{"contains": "hb", "match": {"T": "hb"}}],
    "identity": [{"fields": ["S", "n"]}],
}


def started(**assignment: Any) -> Session:
    endpoint = Endpoint("feed", url="ws://feed.example/")
    session = Session(
        Assignment(endpoint=endpoint, epoch=1, url="ws://x/", wanted=("a", "b"), dialect=DIALECT, **assignment), salt=1
    )
    session.start(ConnectionUp({}, None), 0.0)
    return session


def received(session: Session, *payloads: bytes) -> list[Action]:
    data = b"".join(server_frame(TEXT, payload) for payload in payloads)
    return session.received(split(Reader(LIMIT).feed(data)), 1.0)


def said(actions: list[Action]) -> list[str]:
    return [action.report.event for action in actions if isinstance(action, Notify)]


def test_each_element_has_its_own_stream_identity_and_number() -> None:
    session = started(identify=True)
    data = b'[{"S":"a","n":1},{"T":"hb"},{"S":"b","n":7},{"S":"a","n":2}]'
    actions = received(session, b'[{"T":"subscription"}]', data)
    assert said(actions) == ["subscribed", "subscribed", "restored", "stream", "stream"]
    first, last = (action for action in actions if isinstance(action, Deliver))
    assert (first.first, first.last, first.skipped) == (0, 1, {0})
    assert (last.first, last.last, last.skipped, last.streams) == (1, 5, {2}, [0, 1, 0, 2, 1])
    assert last.identities is not None
    assert len({*last.identities[1:2], *last.identities[3:]}) == 3


def test_what_is_told_of_an_element_comes_before_the_frame_that_brought_it() -> None:
    session = started()
    received(session, b'[{"T":"subscription"}]', b'{"S":"a","n":1}')
    actions = received(session, b'{"S":"a","n":2}', b'[{"S":"a","n":3},{"T":"hb"},{"S":"a","n":9},{"S":"a","n":12}]', b"{}")
    before, first, second, behind = actions
    assert isinstance(before, Deliver)
    assert isinstance(first, Notify)
    assert isinstance(second, Notify)
    assert isinstance(behind, Deliver)
    assert (before.first, before.last) == (0, 1)
    assert [(say.report.fields["expected"], say.report.fields["got"]) for say in (first, second)] == [(4, 9), (10, 12)]
    assert (behind.first, behind.last, behind.skipped) == (1, 6, {2})


def test_an_element_can_be_the_answer_to_a_request() -> None:
    session = started()
    assert session.inspector.expect("7")
    (say, deliver) = received(session, b'[{"id":1},{"id":7},{"id":2}]')
    assert isinstance(say, Notify)
    assert isinstance(deliver, Deliver)
    assert say.report.fields == {"id": "7", "rejected": False}
    assert deliver.streams == [0, ANSWER, 0]


# -- text in binary messages ---------------------------------------------------------------------------------------------

BINARIES = st.lists(st.one_of(st.text(max_size=300).map(str.encode), st.binary(max_size=300)), max_size=8)


@given(BINARIES, st.lists(st.integers(0, 1 << 12), max_size=6), st.booleans())
def test_a_binary_message_that_is_text_is_one_where_the_dialect_says_so(
    payloads: list[bytes], cuts: list[int], fragmented: bool
) -> None:
    stream = bytearray()
    for payload in payloads:
        if fragmented:
            stream += server_frame(BINARY, payload[:5], fin=False) + server_frame(PING, b"") + server_frame(0, payload[5:])
        else:
            stream += server_frame(PING, b"x") + server_frame(BINARY, payload) + server_frame(TEXT, b"text")
    for text_in_binary in (True, False):
        reader = Reader(LIMIT, text_in_binary=text_in_binary)
        places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
        batches = [reader.feed(bytes(stream[a:b])) for a, b in zip(places, places[1:], strict=False)]
        found = [message for batch in batches for message in messages(batch)]
        expected = [(payload, not (text_in_binary and is_text(payload))) for payload in payloads]
        assert [message for message in found if message != (b"text", False)] == [m for m in expected if m != (b"text", False)]
        assert not any(batch.joined for batch in batches) or fragmented


def is_text(payload: bytes) -> bool:
    try:
        return bool(payload.decode())
    except UnicodeDecodeError:
        return False


def test_a_compressed_binary_message_can_be_text_too() -> None:
    data = bytearray(deflated(b"some text"))
    data[0] = 0x80 | RSV1 | BINARY
    agreed = Agreement(server_no_context_takeover=True)
    assert messages(Reader(LIMIT, Inflater(agreed), text_in_binary=True).feed(bytes(data))) == [(b"some text", False)]
    assert messages(Reader(LIMIT, Inflater(agreed)).feed(bytes(data))) == [(b"some text", True)]
