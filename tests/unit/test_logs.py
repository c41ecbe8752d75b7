"""The runner's log lines: what a person sees, and that a blocked standard error is in nobody's way."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from wsadapter.cli.logs import JsonLog, LogThread, is_journal, log_line

logger = logging.getLogger("wsadapter.test")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)


def rest_of(read: int) -> str:
    chunks = []
    while chunk := os.read(read, 65536):
        chunks.append(chunk)
    return b"".join(chunks).decode()


def test_a_line_has_time_level_and_text(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with LogThread(write):
        logger.warning("binance/%d down", 3)
        logger.debug("not at this level")
    os.close(write)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING binance/3 down\n", rest_of(read))


def test_text_of_a_peer_neither_controls_the_terminal_nor_looks_like_a_log_line(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = pipe
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own can't send a lone surrogate between its workers
    with LogThread(write):
        logger.info("%s", "\x1b[2J\r\n2026-01-01T00:00:00.000Z ERROR forged \ud800")
    os.close(write)
    first, second = rest_of(read).splitlines()
    assert first.endswith("INFO \\x1b[2J\\x0d")
    assert second == "    2026-01-01T00:00:00.000Z ERROR forged \\ud800"


def is_the_journal(write: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd does for a service."""
    about = os.fstat(write)
    monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino}")


def test_in_the_journal_each_line_has_its_priority_and_the_kept_lines_have_none(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = pipe
    is_the_journal(write, monkeypatch)
    with LogThread(write, logging.DEBUG) as log:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logger.log(level, "text")
        logger.error("refused:\n<0>forged")
        log_line(write, logging.ERROR, "of the keeper", as_json=False)
    os.close(write)
    lines = rest_of(read).splitlines()
    assert sorted(line[:4] for line in lines if line.endswith("text")) == ["<2>2", "<3>2", "<4>2", "<6>2", "<7>2"]
    assert "<3>    <0>forged" in lines
    assert next(line for line in lines if "keeper" in line).startswith("<3>2")
    assert log.recent()
    assert not any(line.startswith("<") for line in log.recent())


def test_another_stream_than_the_journal_gets_no_priorities(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    is_the_journal(pipe[1], monkeypatch)
    read, write = os.pipe()  # as if standard error was redirected in the service
    with LogThread(write):
        logger.warning("text")
    os.close(write)
    assert rest_of(read).startswith("2")
    os.close(read)
    assert not is_journal(read, os.environ)  # it is closed


@pytest.mark.slow
def test_logging_does_not_wait_for_a_blocked_standard_error_and_lost_lines_are_counted(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with LogThread(write):
        for number in range(40_000):
            logger.info(f"line {number}")  # a kind of its own: what repeats is limited
        came: list[str] = []
        reader = threading.Thread(target=lambda: came.append(rest_of(read)))
        reader.start()
    os.close(write)
    reader.join()
    lines = [line.partition(" INFO line ")[2] for line in came[0].splitlines() if " INFO line " in line]
    lost = [int(found) for found in re.findall(r"WARNING (\d+) log lines were lost here", came[0])]
    assert lost
    assert len(lines) + sum(lost) == 40_000


@pytest.mark.slow
def test_the_end_does_not_wait_for_a_standard_error_that_takes_nothing(pipe: tuple[int, int]) -> None:
    read, write = pipe
    log = LogThread(write)
    with log:
        for number in range(40_000):
            logger.info(f"line {number}")  # a kind of its own: what repeats is limited
        before = monotonic()
        log.finish(0.05)
        assert monotonic() - before < 5
        reader = threading.Thread(target=rest_of, args=(read,))
        reader.start()
    os.close(write)
    reader.join()


def test_as_json_each_line_is_an_object_with_the_endpoint_and_its_epoch(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with LogThread(write, as_json=True):
        logger.warning("%s/%d down: %s", "binance", 3, 'a "peer"\nsaid \x1b[31m')
        logger.info("%s has started", "it")
        logger.error("failed", exc_info=ValueError("why"))
    os.close(write)
    down, started, failed = [json.loads(line) for line in rest_of(read).splitlines()]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", down.pop("at"))
    assert down == {
        "level": "WARNING", "logger": "wsadapter.test", "endpoint": "binance", "epoch": 3,
        "text": 'binance/3 down: a "peer"\nsaid \x1b[31m',
    }  # fmt: skip
    assert (started["text"], "endpoint" in started) == ("it has started", False)
    assert failed["traceback"].endswith("ValueError: why")


def test_what_is_no_unicode_is_escaped() -> None:
    record = logging.LogRecord("wsadapter", logging.INFO, "", 0, "a path: %s", ("\ud800",), None)
    assert JsonLog().format(record).isascii()


@pytest.mark.slow
def test_what_was_lost_is_an_object_too(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with LogThread(write, as_json=True):
        for number in range(40_000):
            logger.info(f"line {number}")  # a kind of its own: what repeats is limited
        came: list[str] = []
        reader = threading.Thread(target=lambda: came.append(rest_of(read)))
        reader.start()
    os.close(write)
    reader.join()
    texts = [json.loads(line)["text"] for line in came[0].splitlines()]
    assert any("log lines were lost here" in text for text in texts)


def test_what_repeats_is_written_twenty_times_and_then_counted(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with LogThread(write):
        for number in range(500):
            logger.info("%s/%d printed: %d", "a", 3, number)
        logger.info("%s/%d printed: %d", "b", 3, 0)
    os.close(write)
    texts = [line.split(" INFO ")[1] for line in rest_of(read).splitlines()]
    assert texts[:20] == [f"a/3 printed: {number}" for number in range(20)]
    assert texts[20:] == ["b/3 printed: 0", "a/3 printed: 499 (and 479 more of this kind in 10 s)"]


def test_the_count_comes_also_if_no_other_line_follows(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = pipe
    monkeypatch.setattr("wsadapter.cli.logs.WINDOW", 0.05)
    monkeypatch.setattr("wsadapter.cli.repetition.WINDOW", 0.05)
    log = LogThread(write, as_json=True)
    with log:
        for _ in range(30):
            logger.info("%s/%d printed", "a", 3)
        with os.fdopen(os.dup(read)) as lines:
            texts = [json.loads(lines.readline()) for _ in range(21)]
    os.close(write)
    assert texts[-1]["text"] == "a/3 printed (and 9 more of this kind in 0.05 s)"
    assert (texts[-1]["endpoint"], texts[-1]["epoch"]) == ("a", 3)


def test_the_last_lines_are_kept_for_who_asks(pipe: tuple[int, int]) -> None:
    with LogThread(pipe[1]) as log:
        for number in range(600):
            logger.info(f"line {number}")
        recent = log.recent()
    os.close(pipe[1])
    assert [line.split(" INFO ")[1] for line in recent] == [f"line {number}" for number in range(100, 600)]
