"""The NATS sink against a real server: killed, frozen, too old, with small messages."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.brokers import NatsServer, killed_under_load
from tests.support.feeds import DEADLINE
from tests.support.journals import add, batch, started, up, writing
from tests.support.sinks import carry, line_numbers
from tests.support.waiting import wait_until
from wsadapter.config.settings import SinkSettings
from wsadapter.sinks import jetstream
from wsadapter.sinks import nats as ours
from wsadapter.sinks.base import OtherWriter, TargetRefused, TargetUnavailable
from wsadapter.sinks.feed import JournalFeed, first_position, resume
from wsadapter.sinks.nats import NatsSink
from wsadapter.sinks.supervision import SinkProcess
from wsadapter.sinks.task import Task

BOTH = list(range(1, 201))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "nats") as running:
        yield running


def sink(server: NatsServer, **settings: Any) -> NatsSink:
    return NatsSink("s", server.url, **({"stream": "prices"} | settings))


def test_the_stream_has_every_item_once_with_its_headers(server: NatsServer, journal: Path) -> None:
    carry(journal, sink(server))
    found = server.lines("prices")
    assert found.keys() == {"prices.a", "prices.b%231", "prices.%supervisor"}
    assert line_numbers(found["prices.a"], "a") == line_numbers(found["prices.b%231"], "b#1") == BOTH
    assert found["prices.%supervisor"][0]["event"] == "started"
    first = next(message for message in server.messages("prices") if message.subject == "prices.a")
    shown = {name.removeprefix("Wsadapter-"): value for name, value in first.headers.items()}
    assert {name: shown[name] for name in ("Run", "Endpoint", "Epoch", "First-Number")} == {
        "Run": "0123456789abcdef", "Endpoint": "a", "Epoch": "1", "First-Number": "1",
    }  # fmt: skip
    assert int(shown["Count"]) == int(shown["Number"])
    before = len(server.messages("prices"))
    carry(journal, sink(server))
    assert len(server.messages("prices")) == before


def test_without_its_own_position_a_sink_reads_it_from_the_stream(server: NatsServer, journal: Path) -> None:
    carry(journal, sink(server))
    (journal / "sinks/test.json").unlink()
    with writing(journal) as writer:
        add(writer, batch("a", [b"new"], 201))
    carry(journal, sink(server))
    found = server.lines("prices")
    assert line_numbers(found["prices.a"], "a") == [*BOTH, 201]
    assert line_numbers(found["prices.b%231"], "b#1") == BOTH


class Lossy:
    """A connection of JetStream whose answers to appends get lost, after the server has the append or before."""

    def __init__(self, real: Any, lost: list[str]) -> None:
        self._real = real
        self._lost = lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def publish(self, *args: Any, **named: Any) -> Any:
        kind = self._lost.pop(0) if self._lost else ""
        if kind == "before":
            raise TimeoutError
        answer = await self._real.publish(*args, **named)
        if kind == "after":
            raise TimeoutError
        return answer


@pytest.mark.parametrize("lost", [["after"], ["before"], ["", "after", "before", "after"]])
def test_an_append_without_an_answer_is_looked_up(server: NatsServer, journal: Path, lost: list[str]) -> None:
    one = sink(server)
    real = one.open

    def opened(position: Any) -> Any:
        found = real(position)
        one._jetstream = Lossy(one._jetstream, lost)
        return found

    one.open = opened  # type: ignore[method-assign]
    carry(journal, one)
    assert not lost
    found = server.lines("prices")
    assert line_numbers(found["prices.a"], "a") == line_numbers(found["prices.b%231"], "b#1") == BOTH


def test_a_message_that_is_larger_than_max_payload_goes_in_parts(tmp_path: Path) -> None:
    with writing(tmp_path / "journal") as writer:
        add(writer, started(), up("a"), batch("a", [b"1", b'"' + b"x" * 50_000 + b'"', b"3"], 1))
    with NatsServer(tmp_path / "nats", max_payload=16_384) as server:
        carry(tmp_path / "journal", sink(server))
        found = server.lines("prices")["prices.a"]
        assert [line["data"] for line in found if "number" in line] == [1, "x" * 50_000, 3]
        parts = [
            message.headers["Wsadapter-Part"] for message in server.messages("prices") if "Wsadapter-Part" in message.headers
        ]
        assert parts == ["1", "2", "3", "4", "5"]


def test_a_line_that_is_there_in_part_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writing(tmp_path / "journal") as writer:
        add(writer, started(), up("a"), batch("a", [b"1", b'"' + b"x" * 50_000 + b'"', b"3"], 1))
    with NatsServer(tmp_path / "nats", max_payload=16_384) as server:
        real, calls = ours.NatsSink._append, 0

        async def append(self: NatsSink, subject: ours.Subject, piece: ours.Piece) -> None:
            nonlocal calls
            calls += piece.endpoint == "a"
            if piece.part == 3:
                raise OSError("killed")
            await real(self, subject, piece)

        with monkeypatch.context() as patched:
            patched.setattr(ours.NatsSink, "_append", append)
            with pytest.raises(TargetUnavailable, match="killed"):
                carry(tmp_path / "journal", sink(server))
        carry(tmp_path / "journal", sink(server))
        found = server.lines("prices")["prices.a"]
        assert [line["data"] for line in found if "number" in line] == [1, "x" * 50_000, 3]
        assert len([1 for message in server.messages("prices") if "Wsadapter-Part" in message.headers]) == 5


FROZEN = """
import sys
from pathlib import Path
from wsadapter.sinks.base import SinkError
from wsadapter.sinks.feed import JournalFeed, first_position
from wsadapter.sinks.nats import NatsSink
url, journal = sys.argv[1:]
sink = NatsSink("s", url, stream="prices")
position = sink.open(first_position(Path(journal), "earliest"))
feed = JournalFeed(Path(journal), position)
sink.write(feed.read())
print("written", flush=True)
sys.stdin.readline()
try:
    sink.write(feed.read())
    print("accepted", flush=True)
except SinkError as error:
    print(type(error).__name__, error, flush=True)
sink.close()
feed.close()
"""


def test_row_87_a_writer_that_was_frozen_and_replaced_is_refused_by_the_server(server: NatsServer, journal: Path) -> None:
    frozen = subprocess.Popen(
        [sys.executable, "-c", FROZEN, server.url, str(journal)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with frozen:
        assert frozen.stdin is not None
        assert frozen.stdout is not None
        assert frozen.stdout.readline() == "written\n"
        os.kill(frozen.pid, signal.SIGSTOP)
        frozen.stdin.write("go on\n")
        frozen.stdin.flush()
        carry(journal, sink(server))
        before = len(server.messages("prices"))
        os.kill(frozen.pid, signal.SIGCONT)
        said = frozen.stdout.readline()
        assert frozen.wait(DEADLINE) == 0
    assert said.startswith("OtherWriter NATS 127.0.0.1")
    assert "(10071)" in said or "(10164)" in said, said
    assert len(server.messages("prices")) == before
    found = server.lines("prices")
    assert line_numbers(found["prices.a"], "a") == line_numbers(found["prices.b%231"], "b#1") == BOTH


def test_a_writer_that_is_ahead_is_seen_by_the_next_one(server: NatsServer, journal: Path) -> None:
    one, two = sink(server), sink(server)
    feeds = []
    for each in (one, two):
        feeds.append(JournalFeed(journal, resume(journal, each.open(first_position(journal, "earliest")))))
    for each, feed in zip((one, two), feeds, strict=True):
        read = feed.read()
        assert read is not None
        if each is one:
            each.write(read)
        else:
            with pytest.raises(OtherWriter, match="another writer"):
                each.write(read)
        feed.close()
    one.close()
    two.close()


def test_a_server_that_is_too_old_is_refused_by_its_api_level(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, journal: Path
) -> None:
    monkeypatch.setattr(jetstream, "_API_LEVEL", 99)  # no server of today has it
    with pytest.raises(TargetRefused, match=r"has API level \d+; 2.11 \(level 99\) or later is needed"):
        carry(journal, sink(server))


def test_a_server_without_jetstream_or_no_server_is_unavailable(tmp_path: Path, journal: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(TargetUnavailable, match=r"NATS 127\.0\.0\.1"):
        carry(journal, NatsSink("s", f"nats://user:secret@127.0.0.1:{port}", stream="x"))


def test_a_server_that_is_killed_with_appends_in_flight_is_noticed_at_once(
    server: NatsServer, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "_PATIENCE", 10 * DEADLINE)
    one = sink(server)
    feed = JournalFeed(journal, one.open(first_position(journal, "earliest")))
    read = feed.read()
    assert read is not None
    assert server.process is not None
    before = one._connection.stats["out_msgs"]
    os.kill(server.process.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        append = pool.submit(one.write, read)
        wait_until(lambda: one._connection.stats["out_msgs"] > before, DEADLINE)
        assert not append.done()
        server.kill()
        with pytest.raises(TargetUnavailable, match="the connection is lost"):
            append.result(DEADLINE)
    one.close()
    feed.close()


def test_row_86_the_server_is_killed_under_load_and_nothing_is_lost_or_comes_twice(server: NatsServer, tmp_path: Path) -> None:
    kills = 3
    path = tmp_path / "journal"
    with writing(path) as writer:
        add(writer, started(), up("a"), up("b"))
    settings = SinkSettings(name="s", kind="nats", servers=server.url, stream="prices")
    process = SinkProcess(Task(str(path), settings, []))
    total = killed_under_load(path, server, process, kills)
    found = server.lines("prices")
    for name in "ab":
        assert line_numbers(found[f"prices.{name}"], name) == list(range(1, total + 1))
