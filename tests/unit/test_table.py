"""The status table."""

from __future__ import annotations

from typing import Any

import pytest

from wsadapter.cli import table


def endpoint(**given: Any) -> dict[str, Any]:
    status: dict[str, Any] = {
        "state": "up", "pid": 4711, "epoch": 3, "uptime": 42.0, "messages": 18310, "bytes": 1, "restarts": 2, "gaps": 2,
        "dropped": 0, "silence": 0.25, "rtt": 0.0032, "memory": 14_000_000, "buffered": 0, "last_exit": None,
    }  # fmt: skip
    return {**status, **given}


def test_columns_stand_below_their_headings() -> None:
    lines = table.render({"binance": endpoint(), "a": endpoint(messages=7, state="backoff", pid=None)})
    assert lines[0].split() == [
        "ENDPOINT", "STATE", "PID", "EPOCH", "UPTIME", "MESSAGES", "MSG/S", "BYTES/S", "RESTARTS", "GAPS", "DROPPED", "SILENCE",
        "RTT", "MEMORY", "LAST", "EXIT",
    ]  # fmt: skip
    end_of_messages = lines[0].index("MESSAGES") + len("MESSAGES")
    assert lines[1][:end_of_messages].endswith(" 18,310")
    assert lines[2][:end_of_messages].endswith(" 7")
    assert lines[2].split()[:3] == ["a", "backoff", "-"]


def test_no_endpoint_is_only_a_heading() -> None:
    assert len(table.render({})) == 1


def test_rates_are_shown_if_they_are_known() -> None:
    endpoints = {"a": endpoint(rate=1234.5, byte_rate=20480.0), "b": endpoint(rate=None, byte_rate=None), "c": endpoint()}
    lines = table.render(endpoints, ("rate", "byte_rate"))
    assert [line.split()[1:] for line in lines] == [["MSG/S", "BYTES/S"], ["1,234", "20.0KiB"], ["-", "-"], ["-", "-"]]


@pytest.mark.parametrize(
    ("rate", "shown"), [(None, "-"), (0.0, "0"), (0.04, "0.0"), (0.26, "0.3"), (9.94, "9.9"), (9.96, "10"), (54321.0, "54,321")]
)
def test_rates_are_short(rate: float | None, shown: str) -> None:
    assert table.per_second(rate) == shown


FAILED = {"kind": "connect_failed", "text": "connecting to 203.0.113.7:443 of a.very.long.name.example: Connection refused"}
MANY = {
    "binance-spot-all-majors": endpoint(rate=12345.6, byte_rate=5e6, messages=123_456_789, uptime=864000.0),
    "kraken-futures": endpoint(state="cooling_down", pid=None, uptime=None, rate=0.0, byte_rate=0.0, last_exit=FAILED),
}


def test_every_column_is_shown_if_there_is_room() -> None:
    assert table.fitted(MANY, 250) == table.render(MANY)


def test_on_80_columns_the_important_ones_are_shown_and_the_reason_below() -> None:
    lines = table.fitted(MANY, 80)
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["ENDPOINT", "STATE", "MSG/S", "RESTARTS", "GAPS", "DROPPED", "SILENCE"]
    assert lines[1].split() == ["binance-spot-all-majors", "up", "12,346", "2", "2", "0", "0.2s"]
    assert lines[3] == ""
    assert " ".join(line.strip() for line in lines[4:]) == f"kraken-futures: connect failed, {FAILED['text']}"


@pytest.mark.parametrize("width", range(24, 200))
def test_no_width_is_exceeded_and_no_endpoint_left_out(width: int) -> None:
    lines = table.fitted(MANY, width)
    assert max(map(len, lines)) <= width
    assert [line[:5] for line in lines[1:3]] == ["binan", "krake"]
    assert "cooling_down" in lines[2] or width < 28
    assert "STATE" in lines[0]


def test_a_wide_terminal_has_no_reasons_below() -> None:
    assert len(table.fitted(MANY, 200)) == 3
    assert len(table.fitted({"a": endpoint()}, 40)) == 2
    assert len(table.fitted({}, 80)) == 1


def test_the_last_exit_is_one_phrase() -> None:
    reason = {"kind": "handshake_rejected", "status": 503, "text": "busy"}
    assert table.render({"a": endpoint(last_exit=reason)}, ("last_exit",))[1].endswith("handshake rejected, HTTP 503, busy")


def test_text_of_a_peer_can_not_control_the_terminal() -> None:
    line = table.render({"a": endpoint(last_exit={"kind": "crashed", "text": "\x1b[2J\n" + "x" * 500})}, ("last_exit",))[1]
    assert line.isprintable()
    assert len(line) < 80


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"), (0, "0.0ms"), (0.0032, "3.2ms"), (0.4, "0.4s"), (42.9, "42s"), (425, "7m05s"), (11520, "3h12m"),
        (1051200, "12d04h"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: float | None, shown: str) -> None:
    assert table.duration(seconds) == shown


@pytest.mark.parametrize(("octets", "shown"), [(None, "-"), (812, "812B"), (4_928_307, "4.7MiB"), (5 * 1024**4, "5120.0GiB")])
def test_sizes_are_short(octets: float | None, shown: str) -> None:
    assert table.size(octets) == shown


def test_the_headline_counts_the_endpoints_that_are_up() -> None:
    status = {
        "name": "prices", "pid": 1, "version": "1.0", "state": "running", "uptime": 61, "spares": 1,
        "endpoints": {"a": endpoint(), "b": endpoint(state="backoff")},
    }  # fmt: skip
    assert table.headline(status) == "prices: pid 1, version 1.0, running for 1m01s, 1 of 2 endpoints up, 1 spare"


def test_each_sink_and_each_consumer_has_a_line() -> None:
    lag = {"messages": 1234, "bytes": 5000, "seconds": 0.5}
    running = {"kind": "jsonl", "state": "running", "pid": 4711, "restarts": 0, "position": 9, "lag": lag, "last_exit": None}
    ended = {
        **running,
        "kind": "nats",
        "state": "backoff",
        "pid": None,
        "lag": None,
        "last_exit": {"kind": "unavailable", "text": "no"},
    }
    assert [line.split() for line in table.sinks({"lines": running, "s": ended})] == [
        ["SINK", "KIND", "STATE", "PID", "RESTARTS", "BEHIND", "LAG", "LAST", "EXIT"],
        ["lines", "jsonl", "running", "4711", "0", "1,234", "0.5s", "-"],
        ["s", "nats", "backoff", "-", "0", "-", "-", "unavailable,", "no"],
    ]
    assert [line.split() for line in table.consumers({"c": {"pid": None, "position": 12, "lag": lag}})] == [
        ["CONSUMER", "PID", "POSITION", "BEHIND", "BYTES", "LAG"],
        ["c", "-", "12", "1,234", "4.9KiB", "0.5s"],
    ]
    assert table.sinks({}) == table.consumers({}) == []
