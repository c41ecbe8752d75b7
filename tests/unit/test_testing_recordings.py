"""Recordings: the bundled ones, the format, and the big message."""

from __future__ import annotations

import gzip
import json
from importlib import resources
from pathlib import Path

import pytest

from wsadapter.testing import Recording, big_message, bundled, load_recording
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
    notice = (resources.files("wsadapter.testing.recordings") / "NOTICE").read_text()
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
