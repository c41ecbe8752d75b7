"""The batch record: whatever way its bytes are split they decode the same, and no corruption passes."""

from __future__ import annotations

import tracemalloc
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.snapshots import transferred
from wsadapter.contract.ipc.record import (
    BATCH,
    HEADER_SIZE,
    MAX_RECORD,
    REPORT,
    CorruptRecord,
    Record,
    RecordReader,
    SingleMessage,
    encode,
    encode_head,
    encode_single_head,
    field,
)

payloads = st.lists(st.binary(max_size=60), max_size=12)


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    """What an owner would write after one read: payloads with other bytes around them, and what it says of them."""
    body, fields, sent = bytearray(), "", draw(payloads)
    for payload in sent:
        gap = draw(st.binary(max_size=9))
        body += gap + payload
        fields += field(len(gap), len(payload))
        skipped = draw(st.binary(max_size=4))
        body += skipped
        fields += f"{len(skipped)}x" if skipped else ""
    body += draw(st.binary(max_size=9))
    mixed = draw(st.booleans())
    return {
        "body": bytes(body),
        "payloads": tuple(sent),
        "kind": BATCH,
        "received_at": draw(st.integers(0, 2**63)),
        "position": draw(st.integers(0, 2**63)),
        "layout": fields,
        "count": len(sent),
        "tail": draw(st.integers(0, len(body))),
        "filtered": draw(st.integers(0, 9)),
        "binary": draw(st.lists(st.booleans(), min_size=len(sent), max_size=len(sent))) if mixed else draw(st.booleans()),
        "streams": draw(st.none() | st.lists(st.integers(0, 65535), min_size=len(sent), max_size=len(sent))),
        "identities": draw(st.none() | st.lists(st.integers(0, 2**64 - 1), min_size=len(sent), max_size=len(sent))),
    }


def written(records: list[dict[str, Any]]) -> bytes:
    pieces = []
    for sequence, fields in enumerate(records, 1):
        said = {name: value for name, value in fields.items() if name not in ("body", "payloads")}
        pieces.append(encode(fields["body"], sequence=sequence, **said))
    return b"".join(pieces)


def said(record: Record) -> tuple[Any, ...]:
    """All that a record says, independent of how its bytes lie in memory."""
    streams = None if record.streams is None else list(record.streams)
    return (
        record.kind, record.sequence, record.received_at, record.position, record.size, record.tail, record.filtered,
        record.payloads, record.binary, streams, None if record.identities is None else list(record.identities),
    )  # fmt: skip


def read_all(reader: RecordReader, chunks: list[bytes]) -> list[Record]:
    return [record for chunk in chunks for record in reader.feed(chunk)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


@pytest.mark.slow
@given(st.lists(batches(), max_size=5), st.lists(st.integers(0, 2**20), max_size=20))
def test_any_split_of_the_bytes_decodes_the_same(records: list[dict[str, Any]], places: list[int]) -> None:
    data = written(records)
    split, whole = RecordReader(), RecordReader()
    assert list(map(said, read_all(split, cut(data, places)))) == list(map(said, read_all(whole, [data])))
    assert split.torn == whole.torn == 0


@pytest.mark.slow
@given(st.lists(batches(), min_size=1, max_size=4), st.integers(0, 2**20))
def test_another_reader_goes_on_anywhere_in_the_bytes(records: list[dict[str, Any]], place: int) -> None:
    data = written(records)
    place %= len(data) + 1
    first, alone = RecordReader(), RecordReader()
    before = [said(record) for record in first.feed(data[:place])]
    other = RecordReader.from_snapshot(transferred(first.snapshot()))
    assert (other.torn, other.position, other.tail()) == (first.torn, first.position, first.tail())
    assert before + [said(record) for record in other.feed(data[place:])] == [said(record) for record in alone.feed(data)]
    assert (other.torn, other.position, other.tail()) == (0, alone.position, alone.tail())


@pytest.mark.slow
@given(st.lists(batches(), min_size=1, max_size=4))
def test_what_comes_out_is_what_went_in(records: list[dict[str, Any]]) -> None:
    decoded = read_all(RecordReader(), [written(records)])
    assert len(decoded) == len(records)
    for sequence, (record, fields) in enumerate(zip(decoded, records, strict=True), 1):
        assert record.sequence == sequence
        assert record.payloads == fields["payloads"]
        assert record.size == len(fields["body"])
        for name in ("kind", "received_at", "position", "count", "tail", "filtered"):
            assert getattr(record, name) == fields[name]
        if fields["count"]:
            assert record.binary == fields["binary"]
            assert record.streams is None if fields["streams"] is None else list(record.streams) == fields["streams"]
            identities = fields["identities"] or None
            assert record.identities is None if identities is None else list(record.identities) == identities
            places = list(range(0, record.count, 2))
            assert not places or record.only(places).payloads == record.payloads[::2]


@pytest.mark.slow
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


def read_one_by_one(reader: RecordReader, records: list[bytes]) -> list[Record]:
    """As the supervisor reads a connection without flood: a record each time, those that are a single text by the short way."""
    found = []
    for data in records:
        reader.room[: len(data)] = data
        single = reader.single(len(data))
        found += reader.advance(len(data)) if single is None else [Record.of_single(single)]
    return found


single_texts = st.builds(
    lambda gap, text, position, filtered: (gap + text, {
        "kind": BATCH, "received_at": 7, "position": position, "layout": field(len(gap), len(text)), "count": 1,
        "filtered": filtered,
    }),
    st.binary(min_size=2, max_size=10), st.binary(max_size=60), st.integers(0, 2**63), st.integers(0, 9),
)  # fmt: skip
others = batches().map(lambda batch: (batch["body"], {k: v for k, v in batch.items() if k not in ("body", "payloads")}))


@given(st.lists(single_texts | others, max_size=6))
def test_a_single_text_is_read_by_a_shorter_way_to_the_same(records: list[tuple[bytes, dict[str, Any]]]) -> None:
    encoded = [encode(body, sequence=n, **fields) for n, (body, fields) in enumerate(records, 1)]
    short, long = RecordReader(), RecordReader()
    assert list(map(said, read_one_by_one(short, encoded))) == list(map(said, read_all(long, encoded)))
    assert (short.torn, short.position, short.tail()) == (long.torn, long.position, long.tail())


def test_the_short_way_is_taken_by_what_has_the_size_of_one_before() -> None:
    first, second, other = (
        encode(b"\x81\x02" + text, kind=BATCH, sequence=n, received_at=7, position=4 * n, layout=field(2, size), count=1)
        for n, (text, size) in enumerate([(b"ab", 2), (b"cd", 2), (b"abc", 3)], 1)
    )
    reader = RecordReader()
    (record,) = reader.feed(first)
    assert record.payloads == (b"ab",)
    reader.room[: len(second)] = second
    assert reader.single(len(second)) == SingleMessage(b"cd", 2, 7, 8, 4)
    reader.room[: len(other)] = other
    assert reader.single(len(other)) is None


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["{gap}x{size}s", "0x" * 1000 + "{gap}x{size}s"], ids=["usual", "hostile"])
def test_what_is_remembered_is_bounded_whatever_comes(layout: str) -> None:
    reader = RecordReader()
    tracemalloc.start()
    try:
        for n in range(1, 6000):
            text = layout.format(gap=2, size=n)
            list(reader.feed(encode(bytes(n + 2), kind=BATCH, sequence=n, received_at=7, layout=text, count=1)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4 << 20


def test_a_reader_gets_the_short_way_whatever_another_one_was_sent() -> None:
    """No owner can spoil it for the others: neither by many sizes nor by other layouts in records of the same size."""
    mine, other = RecordReader(), RecordReader()
    for n in range(1, 3000):
        list(other.feed(encode(bytes(n), kind=BATCH, sequence=n, received_at=7, layout=field(0, n), count=1)))
        plain = encode(b"\x81\x63" + bytes(99), kind=BATCH, sequence=n, received_at=7, layout=field(2, 99), count=1)
        mine.room[: len(plain)] = plain
        if n == 1:
            list(mine.advance(len(plain)))
        else:
            assert mine.single(len(plain)) is not None


@given(single_texts, st.data())
def test_no_changed_byte_passes_by_the_short_way(text: tuple[bytes, dict[str, Any]], data: st.DataObject) -> None:
    body, fields = text
    reader = RecordReader()
    list(reader.feed(encode(body, sequence=1, **fields)))
    damaged = bytearray(encode(body, sequence=2, **fields))
    damaged[data.draw(st.integers(0, len(damaged) - len(body) - 1))] ^= data.draw(st.integers(1, 255))
    reader.room[: len(damaged)] = damaged
    assert reader.single(len(damaged)) is None
    with pytest.raises(CorruptRecord):
        list(reader.feed(bytes(damaged)))


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
    head = encode_head(kind=BATCH, sequence=1, received_at=0, size=5000)
    with pytest.raises(CorruptRecord, match="limit is 4096"):
        list(RecordReader(limit=4096).feed(head))


def test_a_report_is_its_json() -> None:
    (record,) = RecordReader().feed(encode(b'{"event":"up"}', kind=REPORT, sequence=1, received_at=7))
    assert (record.kind, record.count, record.report) == (REPORT, 0, b'{"event":"up"}')


def test_a_large_record_in_small_pieces_is_not_copied_again_for_each() -> None:
    size = 8 << 20
    data = encode(bytes(size), kind=BATCH, sequence=1, received_at=0, layout=field(0, size), count=1)
    reader = RecordReader()
    *early, last = (list(reader.feed(data[place : place + 4096])) for place in range(0, len(data), 4096))
    assert not any(early)
    assert len(last[0].payloads[0]) == size


# -- layouts that no owner writes -------------------------------------------------------------------------------------------


def decoded(layout: str, count: int, body: bytes, behind: bytes = b"") -> Record:
    (record,) = RecordReader().feed(encode(body, kind=BATCH, sequence=1, received_at=0, layout=layout, count=count) + behind)
    return record


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "letters", ["4q", "8p", "1P0", "4?4s", "@0x8s", "<0x8s", "0x 8s", "0x8S", "0x8s\0", "-1x8s", "0x8s0n", "1e1x8s"]
)
def test_a_layout_makes_nothing_but_bytes(letters: str, count: int) -> None:
    with pytest.raises(CorruptRecord, match=r"is invalid|contradict"):
        decoded("0x1s" * (count - 1) + letters, count, bytes(100))


@pytest.mark.parametrize(("layout", "count"), [("0x1s", 0), ("0x1s0x1s", 1), ("0x1s00000x1s", 3), ("100x", 1), ("0000", 1)])
def test_the_messages_of_a_layout_are_as_many_as_are_said(layout: str, count: int) -> None:
    with pytest.raises(CorruptRecord, match=r"is invalid|contradict"):
        decoded(layout, count, bytes(100))


@pytest.mark.parametrize("layout", ["0x101s", "100x1s", "0x50s1x50s", "1x50s1x49s", "0x0s99999999999999999999x0s", "0x5s9"])
def test_no_message_is_taken_from_beyond_its_record(layout: str) -> None:
    with pytest.raises(CorruptRecord, match="outside"):
        decoded(layout, layout.count("s"), bytes(100), behind=bytes(1000))


def test_a_layout_too_short_for_its_messages_is_refused_unread() -> None:
    with pytest.raises(CorruptRecord, match="contradict"):
        decoded("s" * 100, 100, bytes(100))


@given(st.text("0123456789xs", min_size=4, max_size=40), st.integers(0, 60))
def test_whatever_a_layout_says_it_is_obeyed_or_refused(layout: str, size: int) -> None:
    try:
        record = decoded(layout, layout.count("s"), bytes(size), behind=bytes(100))
    except CorruptRecord:
        return
    assert sum(map(len, record.payloads)) <= size


def resealed(record: bytes, at: int, new: bytes) -> bytes:
    """The record with other bytes in its header and a checksum that fits them."""
    head = record[:at] + new + record[at + len(new) : HEADER_SIZE - 4]
    return head + crc32(head).to_bytes(4, "little") + record[HEADER_SIZE:]


@pytest.mark.parametrize(("at", "new"), [(0, b"wsR2"), (48, b"\x03")], ids=["version", "kind"])
def test_a_record_of_another_version_is_corrupt_also_for_the_short_way(at: int, new: bytes) -> None:
    first, second = (encode(b"..ab", sequence=number, kind=BATCH, received_at=1, layout="2x2s", count=1) for number in (1, 2))
    reader = RecordReader()
    assert [record.payloads for record in reader.feed(first)] == [(b"ab",)]
    other = resealed(second, at, new)
    reader.room[: len(other)] = other
    assert reader.single(len(other)) is None
    with pytest.raises(CorruptRecord, match="not a record of this version"):
        list(reader.advance(len(other)))


def test_a_record_longer_than_its_length_field_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode_head(kind=BATCH, sequence=1, received_at=1, size=MAX_RECORD)


@pytest.mark.parametrize(("tail", "kept"), [(1, b"f"), (2, b"ef"), (5, b"bcdef"), (6, b"abcdef")])
def test_a_tail_is_continued_and_cut_at_its_beginning(tail: int, kept: bytes) -> None:
    reader = RecordReader()
    list(reader.feed(encode(b"abcd", sequence=1, kind=BATCH, received_at=1, position=4, tail=4)))
    list(reader.feed(encode(b"ef", sequence=2, kind=BATCH, received_at=2, position=6, tail=tail, continues=True)))
    assert reader.tail() == kept


def test_the_short_way_writes_and_reads_the_same_record() -> None:
    first, second = (
        encode_single_head(sequence=number, received_at=5, position=9, size=2, frame=4, filtered=0) + b"..ab"
        for number in (1, 2)
    )
    assert first == encode(b"..ab", sequence=1, kind=BATCH, received_at=5, position=9, layout="2x2s", count=1)
    reader, other = RecordReader(), RecordReader()
    list(reader.feed(first))
    reader.room[: len(second)] = second
    single = reader.single(len(second))
    assert single is not None
    (_, expected) = other.feed(first + second)
    assert said(Record.of_single(single)) == said(expected)


def test_a_message_that_begins_in_the_kept_tail_is_whole() -> None:
    reader = RecordReader()
    list(reader.feed(encode(b"..abcd", sequence=1, kind=BATCH, received_at=1, position=6, tail=4)))
    (record,) = reader.feed(
        encode(b"efg", sequence=2, kind=BATCH, received_at=2, position=9, layout="0x6s", count=1, tail=1, continues=True)
    )
    assert (record.payloads, reader.tail()) == ((b"abcdef",), b"g")
