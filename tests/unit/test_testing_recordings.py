"""Recordings: the bundled ones, the format, and the big message."""

from __future__ import annotations

import gzip
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from wsadapter.contract import items
from wsadapter.outputs.lines import batch_lines, event_line
from wsadapter.testing import Exchange, Recording, big_message, bundled, load_recording
from wsadapter.testing.feed import MessageSource
from wsadapter.testing.recording import Recorded, save_recording


def test_the_bundled_feeds_are_real_ordered_and_small() -> None:
    assert bundled() == (
        "binance", "binance_usdm", "bitfinex", "bitget", "bitmex", "bitstamp", "bybit", "coinbase", "deribit", "gate", "htx",
        "kraken", "kraken_futures", "kucoin", "okx",
    )  # fmt: skip
    folder = resources.files("wsadapter.testing.recordings")
    for name in bundled():
        recording = load_recording(name)
        offsets = [message.offset for message in recording]
        assert offsets[0] == 0
        assert offsets == sorted(offsets)
        assert recording.duration > 1
        assert len((folder / f"{name}.jsonl.gz").read_bytes()) < 60 * 1024


def test_text_feeds_hold_json_and_htx_holds_gzip() -> None:
    for name in bundled():
        for message in load_recording(name):
            assert message.binary == (name == "htx")
            assert json.loads(gzip.decompress(message.payload) if message.binary else message.payload) is not None


def test_the_notice_says_whose_they_are() -> None:
    notice = (resources.files("wsadapter.testing.recordings") / "NOTICE").read_text("utf-8")
    assert "This product includes software developed by Bryant Moscon" in notice
    for name in bundled():
        assert f"{name}.jsonl.gz" in notice


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.jsonl.gz"])
def test_what_is_saved_is_loaded_byte_for_byte(tmp_path: Path, name: str) -> None:
    messages = [
        Recorded(0.0, "ü\u2028\x85\n{}".encode(), False),
        Recorded(0.25, b"\x00\xff\n", True),
        Recorded(0.25, b"", False),
    ]
    save_recording(tmp_path / name, messages)
    recording = load_recording(tmp_path / name)
    assert list(recording) == messages
    assert recording.name == "mine"


def test_a_recording_is_a_sequence() -> None:
    recording = Recording("x", [Recorded(1.0, b"a", False), Recorded(3.5, b"b", True)])
    assert (len(recording), recording.duration, recording.payloads) == (2, 2.5, [b"a", b"b"])
    assert recording[1:].payloads == [b"b"]
    assert Recording("empty", []).duration == 0
    assert repr(recording) == "Recording('x', 2 messages in 2.5 s)"


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"t":1}', '{"t":1,"b64":"*"}', '{"text":"x"}', '{"t":1,"text":5}'])
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"t":0,"text":"fine"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"bad\.jsonl:2: not a line of a recording"):
        load_recording(path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError, match="bundled are binance, binance_usdm, bitfinex"):
        load_recording("nyse")


@pytest.mark.slow
@pytest.mark.parametrize("size", [200, 1000, 5_079_379])
def test_the_big_message_is_json_of_exactly_that_size_and_always_the_same(size: int) -> None:
    message = big_message(size)
    assert len(message) == size
    assert message == big_message(size)
    book = json.loads(message)
    assert book["type"] == "snapshot"
    assert len(book["bids"]) >= size // 100
    with pytest.raises(ValueError, match="at least 200"):
        big_message(100)


# -- what the runner writes ------------------------------------------------------------------------------------------------

S = 1_000_000_000
PAYLOADS = [b'{"price": 1.10, "big":12345678901234567890}', b"not JSON \xc3\xbc", b'{"two":\n"lines"}']


def written(tmp_path: Path, *contents: bytes, name: str = "out.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(b"".join(contents))
    return path


def started() -> bytes:
    return event_line(items.Started("", 0, S, "run", "", "1"))


def lines(endpoint: str, *payloads: bytes, at: int = S, binary: bool = False, streams: list[str | None] | None = None) -> bytes:
    return batch_lines(items.Batch(endpoint, payloads, epoch=1, first_number=1, received_at=at, binary=binary, streams=streams))


def test_what_the_runner_writes_is_a_recording_byte_for_byte(tmp_path: Path) -> None:
    path = written(
        tmp_path, started(), event_line(items.Up("a", 1, S)), lines("a", *PAYLOADS, streams=["s", None, "t"]),
        event_line(items.LateAnswer("a", 1, S, "7", b'{"id":7}')), lines("a", b"\x00\xff", at=S + S // 4, binary=True),
    )  # fmt: skip
    assert list(load_recording(path)) == [
        *[Recorded(0.0, payload, False) for payload in PAYLOADS], Recorded(0.25, b"\x00\xff", True),
    ]  # fmt: skip
    assert load_recording(path).name == "out"
    (tmp_path / "out.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert list(load_recording(tmp_path / "out.jsonl.gz")) == list(load_recording(path))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load_recording(path)) == 4


def test_the_messages_of_one_endpoint_are_chosen_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, started(), lines("a", b"1", at=5 * S), lines("b", b"2", at=6 * S), lines("a", b"3", at=7 * S))
    assert list(load_recording(path, "a")) == [Recorded(0.0, b"1", False), Recorded(2.0, b"3", False)]
    assert Exchange(replay=path, replay_endpoint="b")._source.listed.payloads == [b"2"]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"out\.jsonl: messages of several endpoints \(a, b\); choose one"):
        load_recording(path)
    with pytest.raises(ValueError, match=r"out\.jsonl: no messages of the endpoint 'c'; there are those of a, b"):
        load_recording(path, "c")
    with pytest.raises(ValueError, match="replay_endpoint"):
        Exchange(messages=["1"], replay_endpoint="a")


def test_time_stands_still_where_the_clock_was_set_back(tmp_path: Path) -> None:
    path = written(tmp_path, *(lines("a", b"%d" % n, at=at * S) for n, at in enumerate((5, 7, 6, 8))))
    assert [message.offset for message in load_recording(path)] == [0, 2, 2, 3]


def test_what_a_run_that_was_killed_left_unfinished_is_passed_over(tmp_path: Path) -> None:
    torn = lines("a", b'"torn"')[:-7]
    whole = lines("a", b"1")
    assert load_recording(written(tmp_path, whole, torn + b"\n", started(), whole, torn)).payloads == [b"1", b"1"]
    for wrong in (whole + torn + b"\n" + whole, whole + torn + b"\n", whole + torn + b"\n" + torn):
        with pytest.raises(ValueError, match=r"out\.jsonl:2: not a line of a recording"):
            load_recording(written(tmp_path, wrong))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"endpoint":"a","number":1,"received_at":5}', "expected one payload"),
        (b'{"endpoint":"a","number":1,"received_at":5,"data":1,"text":"2"}', "expected one payload"),
        (b'{"endpoint":"a","number":1,"received_at":5,"binary":"*"}', "base64"),
        (b'{"endpoint":"a","number":1,"data":1}', "expected a time"),
        (b'{"number":1,"received_at":5,"data":1}', "expected a time"),
        (b'{"event":"started","format":9}', "written in format 9; this version reads format 1"),
    ],
)
def test_a_wrong_line_of_an_output_is_named(tmp_path: Path, line: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=r"out\.jsonl:2: .*") as caught:
        load_recording(written(tmp_path, started(), line + b"\n"))
    assert problem in str(caught.value)


@pytest.mark.parametrize("rate", ["fast", "10", -1, float("nan")])
def test_a_rate_that_is_none_is_refused_with_what_it_may_be(rate: Any) -> None:
    with pytest.raises(ValueError, match='rate is "real", None or messages per second, not ' + repr(rate)):
        MessageSource(["a"], rate=rate, loop=False)
