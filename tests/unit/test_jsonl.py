"""The JSON lines output: what a line holds, what is counted, where it goes on, how it fails."""

from __future__ import annotations

import base64
import errno
import json
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.config.output_path import PathTemplate, check_path
from wsadapter.config.settings import OutputSettings
from wsadapter.contract import items
from wsadapter.contract.items import Batch
from wsadapter.contract.reasons import Reason
from wsadapter.outputs import OutputFailed, open_output
from wsadapter.outputs import files as files_module
from wsadapter.outputs.base import NullOutput
from wsadapter.outputs.files import OutputFile
from wsadapter.outputs.jsonl import JsonLines, continuation_gaps
from wsadapter.outputs.lines import batch_lines, event_line, is_json_line

NOON = 1_732_363_200_000_000_000  # 2024-11-23 12:00:00 UTC
HOUR = 3_600_000_000_000


def batch(*payloads: bytes, endpoint: str = "binance", first: int = 1, at: int = NOON, **more: object) -> Batch:
    return Batch(endpoint, list(payloads), epoch=1, first_number=first, received_at=at, **more)  # type: ignore[arg-type]


def lines_of(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# -- lines -----------------------------------------------------------------------------------------------------------------


def test_a_payload_is_spliced_in_with_its_own_bytes() -> None:
    payload = b'{"p": 1.10, "b":18446744073709551616,"a":[ 1e5 ]}'
    expected = b'{"endpoint":"binance","epoch":1,"number":7,"received_at":%d,"data":%b}\n' % (NOON, payload)
    assert batch_lines(batch(payload, first=7)) == expected


def test_the_stream_comes_after_the_number_if_it_is_known() -> None:
    lines = batch_lines(batch(b"1", b"2", streams=["a@b", None])).splitlines()
    assert list(json.loads(lines[0])) == ["endpoint", "epoch", "number", "stream", "received_at", "data"]
    assert list(json.loads(lines[1])) == ["endpoint", "epoch", "number", "received_at", "data"]


@pytest.mark.parametrize(
    "payload",
    [b"", b" ", b"NaN", b"Infinity", b"-", b"01", b"1.", b"[1,]", b"{'a':1}", b"{}{}", b'"\\ud800"', b'"\x01"',
     b"\xef\xbb\xbf{}", b'{"a":\n1}', b"{}\r", b"{}\n", b"tru", b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_json_on_one_line_becomes_text(payload: bytes) -> None:
    [line] = batch_lines(batch(payload)).splitlines()
    assert json.loads(line)["text"] == payload.decode()


@pytest.mark.parametrize("payload", [b"1", b' {"a":1}\t', b'"\xe2\x80\xa8"', b"null", b'"\\u0000"', b"[[[]]]", b"1e5"])
def test_json_on_one_line_is_data(payload: bytes) -> None:
    assert is_json_line(payload)
    assert b'"data":' + payload + b"}\n" in batch_lines(batch(payload))


def test_a_binary_message_is_data_if_it_is_json_and_base64_otherwise() -> None:
    mixed = batch(b'{"a":1}', b"\x00\xff", b"pong", binary=[True, True, False])
    data, blob, text = map(json.loads, batch_lines(mixed).splitlines())
    assert (data["data"], blob["binary"], text["text"]) == ({"a": 1}, "AP8=", "pong")
    assert json.loads(batch_lines(batch(b"\xff")))["binary"] == "/w=="


any_payload = st.one_of(st.binary(), st.text().map(str.encode), st.sampled_from([b"{}", b'"\xff"', b"NaN", b"\n", b"1"]))


@given(st.lists(any_payload), st.booleans())
def test_any_payload_gives_one_line_that_decodes_to_the_same_bytes(payloads: list[bytes], binary: bool) -> None:
    whole = batch_lines(batch(*payloads, binary=binary))
    assert whole == batch_lines(batch(*payloads, binary=[binary] * len(payloads)))
    lines = whole.split(b"\n")[:-1]
    assert len(lines) == len(payloads)
    for number, (line, payload) in enumerate(zip(lines, payloads, strict=True), 1):
        item = json.loads(line, parse_constant=pytest.fail)
        assert item["number"] == number
        if "text" in item:
            assert item["text"].encode() == payload
        elif "binary" in item:
            assert base64.b64decode(item["binary"]) == payload
        else:
            assert item["data"] == json.loads(payload)
            assert line.endswith(b'"data":' + payload + b"}")


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@given(json_values, st.booleans())
def test_any_json_value_is_spliced(value: object, ascii_only: bool) -> None:
    payload = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    [line] = batch_lines(batch(payload)).split(b"\n")[:-1]
    assert line.endswith(b'"data":' + payload + b"}")


def test_the_first_line_of_a_run_is_as_documented() -> None:
    line = event_line(items.Started("", 0, 5, "9f0c", "prices", "1.0.0"))
    assert line == b'{"event":"started","run":"9f0c","name":"prices","version":"1.0.0","format":1,"at":5}\n'


def test_a_down_line_is_as_documented() -> None:
    line = event_line(items.Down("binance", 1, 5, Reason(kind="closed_by_peer", code=1006)))
    assert line == b'{"event":"down","endpoint":"binance","epoch":1,"at":5,"reason":{"kind":"closed_by_peer","code":1006}}\n'


def test_every_event_has_a_line() -> None:
    reason = Reason(kind="stopped")
    for event in [
        items.Up("x", 1, 5, "p", {"a": "b"}), items.Gap("x", 1, 5, "reconnected", 1, None),
        items.Dropped("x", 1, 5, 1, 2, 2, 9, "overflow"),
        items.Subscribed("x", 1, 5, "s"), items.Rejected("x", 1, 5, "s", "e"), items.Restored("x", 1, 5, 1, ("s",)),
        items.Stalled("x", 1, 5, None, 1.5), items.ClockStep("", 0, 5, -1.0), items.Fatal("x", 1, 5, reason),
    ]:  # fmt: skip
        assert json.loads(event_line(event))["event"] == event.kind
    late = json.loads(event_line(items.LateAnswer("x", 1, 5, "7", b'{"ok": true}')))
    assert late == {"event": "late_answer", "endpoint": "x", "epoch": 1, "at": 5, "id": "7", "data": {"ok": True}}


def test_a_text_that_is_not_utf_8_does_not_stop_an_event() -> None:
    assert json.loads(event_line(items.Rejected("x", 1, 5, "s", "bad \udcff")))["error"] == "bad ?"


# -- files -----------------------------------------------------------------------------------------------------------------


def test_lines_wait_for_the_flush_and_are_counted_then(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.jsonl"
    out = JsonLines(str(path))
    out.write_batch(batch(b"1", b"2"))
    out.write_event(items.Subscribed("binance", 1, NOON, "s"))
    assert (out.written, path.read_bytes()) == (0, b"")
    out.flush()
    assert (out.written, len(lines_of(path))) == (3, 3)
    out.close()
    out.close()


def test_many_lines_are_written_without_waiting_for_the_flush(tmp_path: Path) -> None:
    out = JsonLines(str(tmp_path / "out"))
    out.write_batch(batch(*[b'"' + b"x" * 1000 + b'"'] * 1000))
    assert out.written == 1000
    out.close()


def test_a_file_is_appended_to_and_a_torn_last_line_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b'{"a":1}\n{"endpo')
    out = JsonLines(str(path))
    out.write_batch(batch(b"1"))
    out.close()
    first, torn, line = path.read_bytes().splitlines()
    assert (first, torn) == (b'{"a":1}', b'{"endpo')
    assert json.loads(line)["data"] == 1


def test_endpoint_and_time_choose_the_file(tmp_path: Path) -> None:
    out = JsonLines(str(tmp_path / "{endpoint}" / "%Y%m%d-%H.jsonl"), most_open_files=2)
    started = items.Started("", 0, NOON, "r", "", "1")
    out.write_event(started)
    for at in (NOON, NOON + HOUR, NOON):
        for name in ("a", "b"):
            out.write_batch(batch(b"1", endpoint=name, at=at))
    out.write_event(items.ClockStep("", 0, NOON, 1.0))
    out.close()
    assert sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*.jsonl")) == [
        "a/20241123-12.jsonl", "a/20241123-13.jsonl", "b/20241123-12.jsonl", "b/20241123-13.jsonl",
    ]  # fmt: skip
    noon = lines_of(tmp_path / "a" / "20241123-12.jsonl")
    assert [line.get("event") for line in noon] == ["started", None, None, "clock_step"]
    assert out.written == 2 + 6 + 2


def test_no_more_files_are_open_than_allowed(tmp_path: Path) -> None:
    before = open_files()
    out = JsonLines(str(tmp_path / "{endpoint}"), most_open_files=3)
    for turn in range(3):
        for number in range(20):
            out.write_batch(batch(b"1", endpoint=f"e{number}"))
            if turn:
                out.flush()
            assert open_files() <= before + 3
    out.close()
    assert open_files() == before
    assert out.written == 60
    assert [len(lines_of(file)) for file in tmp_path.iterdir()] == [3] * 20


@pytest.mark.parametrize(("files", "most", "opened"), [(300, None, 300), (60, 50, 60 + 10 * 60 * 0.6), (60, 1000, 60)])
def test_a_file_is_opened_once_if_enough_files_may_be_open_and_seldom_again_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, most: int | None, opened: float
) -> None:
    """They take turns, which is the worst order for who closes the least recently used one."""
    opens, open_to_append = [], files_module._open_to_append
    monkeypatch.setattr(files_module, "_open_to_append", lambda path: (opens.append(path), open_to_append(path))[1])
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2000, 2000))
    out = JsonLines(str(tmp_path / "{endpoint}"), most_open_files=most)
    for _ in range(11):
        for number in range(files):
            out.write_batch(batch(b"1", endpoint=f"e{number}"))
            out.flush()
    out.close()
    assert files <= len(opens) <= opened
    assert out.written == 11 * files


def test_a_flush_writes_to_files_for_which_lines_wait_and_looks_at_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained, drain = [], OutputFile.drain
    monkeypatch.setattr(OutputFile, "drain", lambda sink: (drained.append(sink.path), drain(sink))[1])
    out = JsonLines(str(tmp_path / "{endpoint}"))
    for name in ("a", "b", "c", "a"):
        out.write_batch(batch(b"1", endpoint=name))
    out.flush()
    out.write_batch(batch(b"1", endpoint="b"))
    out.flush()
    out.flush()
    out.close()
    assert [Path(path).name for path in drained] == ["a", "b", "c", "b"]


def test_the_files_of_an_hour_that_is_over_are_closed_at_the_next_flush(tmp_path: Path) -> None:
    before = open_files()
    out = JsonLines(str(tmp_path / "{endpoint}-%H"))
    for name in ("a", "b", "quiet"):
        out.write_batch(batch(b"1", endpoint=name))
    out.flush()
    assert open_files() == before + 3
    for name in ("a", "b", "late"):
        out.write_batch(batch(b"2", endpoint=name, at=NOON + HOUR))
    out.write_batch(batch(b"3", endpoint="a"))  # it was received before the others
    out.flush()
    assert open_files() == before + 3
    out.write_batch(batch(b"4", endpoint="late"))
    out.flush()
    assert open_files() == before + 3
    out.close()
    assert [line["data"] for line in lines_of(tmp_path / "a-12")] == [1, 3]
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["a-12", "a-13", "b-12", "b-13", "late-12", "late-13", "quiet-12"]


def test_a_file_is_closed_if_the_process_may_open_no_more_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, open_to_append = open_files(), files_module._open_to_append

    def scarce(path: str) -> int:
        if open_files() >= before + 2:
            raise OSError(errno.EMFILE, "too many")
        return open_to_append(path)

    monkeypatch.setattr(files_module, "_open_to_append", scarce)
    out = JsonLines(str(tmp_path / "{endpoint}"))
    for number in range(5):
        out.write_batch(batch(b"1", endpoint=f"e{number}"))
    out.close()
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize(
    ("template", "wrong"),
    [
        ("-", ""), ("a/{endpoint}-%Y%m%d-%H.jsonl", ""), ("100%%", ""),
        ("", 'expected a path, or "-" for standard output'),
        ("{name}.jsonl", "only {endpoint} is filled in, not {name}"),
        ("{endpoint", "only {endpoint} is filled in, not {endpoint"),
        ("%Q", "%Q is no date field here; there are %Y, %m, %d, %H, %M, %S, %j, %y, %U, %u, %G, %V, and %% for a % sign"),
        ("/", "expected a file, this is a folder"), ("/tmp", "expected a file, this is a folder"),
        ("x" * 300, "can't be written: File name too long"),
    ],
)  # fmt: skip
def test_a_path_template_is_judged(template: str, wrong: str) -> None:
    assert check_path(template) == wrong


def test_a_template_finds_the_files_of_its_series(tmp_path: Path) -> None:
    for name in ("a[1]-2024.x", "a[1]-20245.x", "b-2024.x"):
        (tmp_path / name).touch()
    assert PathTemplate(str(tmp_path / "{endpoint}-%Y.x")).series("a[1]") == [tmp_path / "a[1]-2024.x"]


# -- going on --------------------------------------------------------------------------------------------------------------


def test_going_on_finds_the_last_message_of_each_endpoint(tmp_path: Path) -> None:
    path = tmp_path / "out"
    first = JsonLines(str(path))
    first.write_batch(batch(b"1", endpoint="a", at=NOON))
    first.write_batch(batch(b"1", endpoint="a", at=NOON + 1))
    first.write_batch(batch(b'{"received_at":1,"endpoint":"c"}', endpoint="b", at=NOON + 2))
    first.close()
    with path.open("ab") as file:
        file.write(b'{"endpoint":"a","epoch":1,"number":9,"received_at":99')
    out = JsonLines(str(path))
    found = out.continued(["a", "b", "c"])
    assert found == {"a": NOON + 1, "b": NOON + 2, "c": None}
    for gap in continuation_gaps(found, at=NOON + 5):
        out.write_event(gap)
    out.close()
    gap_a = json.loads(path.read_bytes().splitlines()[-3])
    assert (gap_a["event"], gap_a["cause"], gap_a["last_received_at"]) == ("gap", "supervisor_restarted", NOON + 1)
    third = JsonLines(str(path))
    assert third.continued(["a"]) == {"a": NOON + 1}  # no message since: the gap says it
    third.close()


def test_a_file_that_begins_with_a_byte_order_mark_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"\xef\xbb\xbf" + batch_lines(batch(b"1", endpoint="a", at=NOON)))
    out = JsonLines(str(path))
    assert out.continued(["a"]) == {"a": NOON}
    out.close()


def test_only_the_end_of_a_large_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "out"
    out = JsonLines(str(path))
    out.write_batch(batch(b"1", endpoint="early"))
    out.write_batch(batch(*[b'"' + b"x" * 1000 + b'"'] * 2000, endpoint="late", at=NOON + 1))
    out.close()
    again = JsonLines(str(path))
    assert again.continued(["early", "late"]) == {"early": None, "late": NOON + 1}
    again.close()


def test_a_dated_series_goes_on_from_its_newest_file(tmp_path: Path) -> None:
    template = str(tmp_path / "{endpoint}-%H")
    out = JsonLines(template)
    out.write_batch(batch(b"1", endpoint="a", at=NOON))
    out.write_batch(batch(b"1", endpoint="a", at=NOON + HOUR))
    out.flush()
    os.utime(tmp_path / "a-12", ns=(1, 1))
    assert JsonLines(template).continued(["a", "b"]) == {"a": NOON + HOUR}
    out.close()


def test_nothing_is_continued_in_an_empty_file_or_on_standard_output(tmp_path: Path) -> None:
    out = JsonLines(str(tmp_path / "out"))
    assert out.continued(["a"]) == {}
    out.close()
    assert JsonLines("-").continued(["a"]) == {}


# -- failing ---------------------------------------------------------------------------------------------------------------


@contextmanager
def stdout_as_pipe() -> Iterator[int]:
    """Standard output is a pipe; gives its read end. No fixture: pytest changes standard output between set-up and call."""
    saved = os.dup(1)
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(writer)
    try:
        yield reader
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(reader)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_reported_with_the_count() -> None:
    out = JsonLines("/dev/full")
    out.write_batch(batch(b"1", b"2"))
    with pytest.raises(OutputFailed) as caught:
        out.flush()
    text = "the output /dev/full failed: No space left on device; 2 lines were not written, after 0 that were"
    assert str(caught.value) == text
    assert (caught.value.errno, caught.value.unwritten, out.written) == (errno.ENOSPC, 2, 0)
    with pytest.raises(OutputFailed):
        out.write_batch(batch(b"3"))
    out.close()


def test_a_path_that_can_not_be_opened_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputFailed, match=r"Not a directory|File exists"):
        JsonLines(str(tmp_path / "file" / "out"))


def test_a_slow_reader_of_a_non_blocking_standard_output_gets_every_byte() -> None:
    received = bytearray()

    def read(source: int) -> None:
        while not received.endswith(b'"end"}\n') and (chunk := os.read(source, 1000)):
            received.extend(chunk)

    with stdout_as_pipe() as source:
        os.set_blocking(1, False)
        reader = threading.Thread(target=read, args=(source,))
        reader.start()
        out = JsonLines("-")
        out.write_batch(batch(*[b'"' + b"x" * 300 + b'"'] * 2000))
        out.write_batch(batch(b'"end"', first=2001))
        out.close()
        reader.join(30)
    assert out.written == 2001
    assert [json.loads(line)["number"] for line in received.splitlines()] == list(range(1, 2002))


def test_a_closed_standard_output_is_reported_with_the_exact_count(monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = os.write, [500]

    def write(fd: int, data: memoryview) -> int:
        if not room:
            raise BrokenPipeError(errno.EPIPE, "gone")
        return real(fd, data[: room.pop()])

    with stdout_as_pipe() as source, monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        out = JsonLines("-")
        out.write_batch(batch(*[b"1"] * 100))
        with pytest.raises(OutputFailed) as caught:
            out.flush()
        whole = os.read(source, 10_000).count(b"\n")
    assert whole > 0
    assert (caught.value.written, caught.value.unwritten, caught.value.path) == (whole, 100 - whole, "-")
    assert "standard output failed: Broken pipe" in str(caught.value)


def test_a_reader_that_goes_away_is_a_broken_pipe() -> None:
    saved = os.dup(1)
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(writer)
    os.close(reader)
    out = JsonLines("-")
    out.write_batch(batch(b"1"))
    try:
        with pytest.raises(OutputFailed) as caught:
            out.flush()
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert (caught.value.errno, caught.value.unwritten) == (errno.EPIPE, 1)


def test_a_message_that_there_is_no_memory_for_becomes_a_dropped_and_the_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limited(some: Batch) -> bytes:
        if sum(map(len, some)) > 10:
            raise MemoryError
        return batch_lines(some)

    monkeypatch.setattr("wsadapter.outputs.jsonl.batch_lines", limited)
    out = JsonLines(str(tmp_path / "x"))
    out.write_batch(batch(b"1", b'"' + b"x" * 50 + b'"', b"3", first=7, streams=["s", None, "s"], binary=[False, False, True]))
    out.close()
    first, dropped, last = lines_of(tmp_path / "x")
    assert (first["number"], first["stream"], first["data"]) == (7, "s", 1)
    assert dropped | {"at": 0} == items.Dropped("binance", 1, 0, 8, 8, 1, 52, "memory").to_json()
    assert (last["number"], last["data"], out.written) == (9, 3, 3)


def test_a_failed_output_is_closed_without_losing_its_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()
    out = JsonLines(str(tmp_path / "{endpoint}"))
    for name in ("a", "b"):
        out.write_batch(batch(b"1", endpoint=name))

    def fail(fd: int, data: memoryview) -> int:
        raise OSError(errno.EIO, "io")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OutputFailed):
        out.close()
    assert open_files() == before


def test_the_settings_choose_the_output(tmp_path: Path) -> None:
    nothing = open_output(OutputSettings(kind="none"))
    assert isinstance(nothing, NullOutput)
    nothing.write_batch(batch(b"1", b"2"))
    nothing.write_event(items.Subscribed("x", 1, 5, "s"))
    nothing.flush()
    nothing.close()
    assert (nothing.written, nothing.continued(["x"])) == (3, {})
    lines = open_output(OutputSettings(path=str(tmp_path / "x")))
    assert isinstance(lines, JsonLines)
    lines.close()
