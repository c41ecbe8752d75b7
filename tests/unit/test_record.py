"""The batch record: whatever way its bytes are split they decode the same, and no corruption passes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.record import (
    BATCH,
    HEADER_SIZE,
    REPORT,
    CorruptRecord,
    Record,
    RecordReader,
    encode,
    encode_head,
)

payloads = st.lists(st.binary(max_size=60), max_size=12)


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    """What an owner would write after one read: payloads with other bytes around them, and what it says of them."""
    body, starts, ends = bytearray(draw(st.binary(max_size=9))), [], []
    for payload in draw(payloads):
        starts.append(len(body))
        body += payload
        ends.append(len(body))
        body += draw(st.binary(max_size=4))
    raw = draw(st.integers(0, len(body)))
    mixed = draw(st.booleans())
    return {
        "body": bytes(body),
        "kind": BATCH,
        "received_at": draw(st.integers(0, 2**63)),
        "position": draw(st.integers(0, 2**63)),
        "starts": starts,
        "ends": ends,
        "raw": raw,
        "tail": draw(st.integers(0, raw)),
        "filtered": draw(st.integers(0, 9)),
        "binary": draw(st.lists(st.booleans(), min_size=len(starts), max_size=len(starts))) if mixed else draw(st.booleans()),
        "streams": draw(st.none() | st.lists(st.integers(0, 65535), min_size=len(starts), max_size=len(starts))),
    }


def written(records: list[dict[str, Any]]) -> bytes:
    pieces = []
    for sequence, fields in enumerate(records, 1):
        body = fields["body"]
        head = {name: value for name, value in fields.items() if name != "body"}
        pieces.append(encode_head(sequence=sequence, extra=len(body) - head["raw"], **head) + body)
    return b"".join(pieces)


def said(record: Record) -> tuple[Any, ...]:
    """All that a record says, independent of how its bytes lie in memory."""
    streams = None if record.streams is None else list(record.streams)
    return (
        record.kind, record.sequence, record.received_at, record.position, record.raw_bytes(), record.tail, record.filtered,
        record.payloads(), record.binary, streams,
    )  # fmt: skip


def read_all(reader: RecordReader, chunks: list[bytes]) -> list[Record]:
    return [record for chunk in chunks for record in reader.feed(chunk)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


@given(st.lists(batches(), max_size=5), st.lists(st.integers(0, 2**20), max_size=20))
def test_any_split_of_the_bytes_decodes_the_same(records: list[dict[str, Any]], places: list[int]) -> None:
    data = written(records)
    split, whole = RecordReader(), RecordReader()
    assert list(map(said, read_all(split, cut(data, places)))) == list(map(said, read_all(whole, [data])))
    assert split.torn == whole.torn == 0


@given(st.lists(batches(), min_size=1, max_size=4))
def test_what_comes_out_is_what_went_in(records: list[dict[str, Any]]) -> None:
    decoded = read_all(RecordReader(), [written(records)])
    assert len(decoded) == len(records)
    for sequence, (record, fields) in enumerate(zip(decoded, records, strict=True), 1):
        body = fields["body"]
        assert record.sequence == sequence
        assert record.payloads() == [body[a:b] for a, b in zip(fields["starts"], fields["ends"], strict=True)]
        assert record.raw_bytes() == body[: fields["raw"]]
        for name in ("kind", "received_at", "position", "raw", "tail", "filtered"):
            assert getattr(record, name) == fields[name]
        if fields["starts"]:
            assert record.binary == fields["binary"]
            assert record.streams is None if fields["streams"] is None else list(record.streams) == fields["streams"]


@given(st.lists(batches(), min_size=1, max_size=3), st.data())
def test_any_changed_byte_of_header_or_tables_is_noticed(records: list[dict[str, Any]], data: st.DataObject) -> None:
    whole = bytearray(written(records))
    target = data.draw(st.integers(0, len(records) - 1))
    offset = len(written(records[:target]))
    fields = records[target]
    checked = len(written(records[: target + 1])) - offset - len(fields["body"])
    place = offset + data.draw(st.integers(0, checked - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    reader, seen = RecordReader(), []
    with pytest.raises(CorruptRecord):
        for record in reader.feed(bytes(whole)):
            seen.append(said(record))
    assert seen == list(map(said, read_all(RecordReader(), [written(records[:target])])))


@given(st.lists(batches(), min_size=1, max_size=3), st.data())
def test_a_torn_record_is_told_from_a_complete_one(records: list[dict[str, Any]], data: st.DataObject) -> None:
    whole = written(records)
    last = len(written(records[:-1]))
    end = data.draw(st.integers(last, len(whole) - 1))
    reader = RecordReader()
    assert len(read_all(reader, [whole[:end]])) == len(records) - 1
    assert reader.torn == end - last


@pytest.mark.parametrize("sequence", [0, 2, 3])
def test_a_missing_or_repeated_record_is_noticed(sequence: int) -> None:
    reader = RecordReader()
    with pytest.raises(CorruptRecord, match="came after record 0"):
        list(reader.feed(encode(b"", kind=BATCH, sequence=sequence, received_at=0)))


@given(st.binary(min_size=HEADER_SIZE, max_size=300))
def test_garbage_is_never_taken_for_a_record(garbage: bytes) -> None:
    with pytest.raises(CorruptRecord):
        list(RecordReader().feed(garbage))


def test_a_length_beyond_the_limit_is_refused_before_it_is_waited_for() -> None:
    head = encode_head(kind=BATCH, sequence=1, received_at=0, raw=5000)
    with pytest.raises(CorruptRecord, match="limit is 4096"):
        list(RecordReader(limit=4096).feed(head))


def test_a_report_is_its_json() -> None:
    (record,) = RecordReader().feed(encode(b'{"event":"up"}', kind=REPORT, sequence=1, received_at=7))
    assert (record.kind, record.count, record.report()) == (REPORT, 0, b'{"event":"up"}')


def test_a_large_record_in_small_pieces_is_not_copied_again_for_each() -> None:
    size = 8 << 20
    data = encode(bytes(size), kind=BATCH, sequence=1, received_at=0, starts=[0], ends=[size])
    reader = RecordReader()
    *early, last = (list(reader.feed(data[place : place + 4096])) for place in range(0, len(data), 4096))
    assert not any(early)
    assert len(last[0].payloads()[0]) == size
