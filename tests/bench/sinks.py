"""Sinks that are killed, and a NATS server that is killed: what is lost and what comes twice; and row 21, the speed.

    python -m tests.bench.sinks [--kills 50] [--sink-kills 100] [--quick]

A journal grows and sinks carry it. First each kind of sink that runs here gets its share of `--sink-kills` SIGKILLs; then the
NATS server gets `--kills` of them and is started again each time. At the end each target is compared with what was written:
every message once, in order. The exit code is 1 if that is not so. Kafka is the mock broker of librdkafka, which keeps no marks
of transactions: a reader of the mock sees also what was aborted, so a message may be there twice.
"""

from __future__ import annotations

import argparse
import json
import logging
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.bench.table import Figure, Outcome, Row, load_now, print_columns, show, write
from tests.support.brokers import NatsServer, killed_under_load
from tests.support.journals import add, batch, started, up, writing
from tests.support.sinks import END, growing, killed, line_numbers, lines
from tests.support.waiting import wait_until
from wsadapter.config.settings import SinkSettings
from wsadapter.contract.endpoint import Restart
from wsadapter.sinks.feed import first_position
from wsadapter.sinks.supervision import SinkProcess
from wsadapter.sinks.task import Task

_EXAMPLES = Path(__file__).resolve().parents[2] / "ops/examples"
_RESTART = Restart(backoff_initial=0.05, backoff_max=0.5, intensity=1_000_000)
"""Each kill ends the sink; so many in a minute would mean long waits, and a cool-down, in production."""
_PATIENCE = 120.0
_ENDPOINTS = 20
_ROW = 20
"""Messages of one record."""


@dataclass
class Target:
    """A kind of sink with a target of its own."""

    kind: str
    settings: Mapping[str, Any]
    stored: Callable[[], object] | None
    """Changes when something was written; None: the position that the sink reports does."""
    read: Callable[[], Mapping[str, list[int]]]
    """The numbers of each endpoint, in the order of the target."""
    promise: str = "once"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a target has, against what was written."""

    lost: int
    twice: int
    disordered: int

    @classmethod
    def of(cls, found: Mapping[str, list[int]], written: Mapping[str, int]) -> Verdict:
        lost = sum(total - len(set(found.get(name, ()))) for name, total in written.items())
        twice = sum(len(numbers) - len(set(numbers)) for numbers in found.values())
        wrong = sum(b < a for numbers in found.values() for a, b in zip(numbers, numbers[1:], strict=False))
        return cls(lost, twice, wrong)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.twice or self.disordered)


# -- targets ---------------------------------------------------------------------------------------------------------------


def _jsonl(folder: Path) -> Target:
    files = folder / "jsonl"

    def read() -> Mapping[str, list[int]]:
        ordered = sorted(files.glob("*.jsonl"), key=lambda file: (len(file.name), file.name))
        found = lines(ordered)
        return {name: line_numbers(found, name) for name in "ab"}

    settings = {"path": str(files / "x.jsonl"), "rotate_bytes": 2_000_000}
    return Target("jsonl", settings, lambda: sum(file.stat().st_size for file in files.glob("*.jsonl")), read)


def _parquet(folder: Path) -> Target:
    from pyarrow import parquet

    files = folder / "parquet"

    def read() -> Mapping[str, list[int]]:
        found: dict[str, list[int]] = {"a": [], "b": []}
        for file in sorted(files.glob("segment-*.parquet")):
            rows = parquet.read_table(file, columns=["endpoint", "number"]).to_pydict()
            for name, number in zip(rows["endpoint"], rows["number"], strict=True):
                if number is not None:
                    found[name].append(number)
        return found

    promise = "once, whole segments of the journal"
    return Target("parquet", {"path": str(files)}, lambda: len(list(files.glob("segment-*"))), read, promise)


def _own(folder: Path) -> Target:
    path = folder / "rows.db"

    def rows(query: str) -> list[Any]:
        with closing(sqlite3.connect(path, timeout=30)) as database:
            return database.execute(query).fetchall()

    def stored() -> object:
        return (
            rows("SELECT max(rowid) FROM rows") if path.exists() and rows("SELECT 1 FROM sqlite_master LIMIT 1 OFFSET 2") else 0
        )

    def read() -> Mapping[str, list[int]]:
        return {
            name: [number for (number,) in rows(f"SELECT number FROM rows WHERE endpoint = '{name}' ORDER BY rowid")]
            for name in "ab"
        }

    return Target("sqlite_sink:SqliteSink", {"options": {"database": str(path)}}, stored, read)


def _nats(server: NatsServer) -> Target:
    def read() -> Mapping[str, list[int]]:
        found = server.lines("prices")
        return {name: line_numbers(found[f"prices.{name}"], name) for name in "ab"}

    return Target("nats", {"servers": server.url, "stream": "prices"}, None, read)


@contextmanager
def _mock_kafka() -> Iterator[Target]:
    import confluent_kafka
    from confluent_kafka.admin import AdminClient

    cluster = AdminClient({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    servers = ",".join(f"{each.host}:{each.port}" for each in cluster.list_topics(timeout=10).brokers.values())

    # The mock keeps the newest records only, so they are read while they come.
    reader = confluent_kafka.Consumer(
        {"bootstrap.servers": servers, "group.id": "bench", "enable.partition.eof": True, "enable.auto.commit": False}
    )
    for name in "ab":
        reader.list_topics(f"prices.{name}", timeout=10)  # which makes it
    reader.assign([confluent_kafka.TopicPartition(f"prices.{name}", 0, 0) for name in "ab"])
    found: dict[str, list[int]] = {"a": [], "b": []}
    ended: set[str] = set()
    over = threading.Event()

    def follow() -> None:
        while not over.is_set():
            message = reader.poll(0.2)
            if message is None:
                continue
            name = message.topic().rpartition(".")[2]
            if message.error() is None:
                ended.discard(name)
                found[name] += line_numbers([json.loads(message.value())], name)
            else:
                ended.add(name)

    thread = threading.Thread(target=follow)
    thread.start()

    def read() -> Mapping[str, list[int]]:
        wait_until(lambda: ended == {"a", "b"}, _PATIENCE)
        return found

    settings = {"servers": servers, "topic": "prices.{endpoint}"}
    try:
        yield Target("kafka", settings, None, read, "once for read_committed; the mock shows aborted ones too")
    finally:
        over.set()
        thread.join()
        reader.close()
        del cluster


def _targets(folder: Path, stack: ExitStack) -> Iterator[Target]:
    yield _jsonl(folder)
    yield _own(folder)
    yield _nats(stack.enter_context(NatsServer(folder / "nats")))
    if find_spec("pyarrow"):
        yield _parquet(folder)
    if find_spec("confluent_kafka"):
        yield stack.enter_context(_mock_kafka())


# -- kills -----------------------------------------------------------------------------------------------------------------


def kill_sinks(kills: int) -> bool:
    """SIGKILL of the processes of each kind of sink; whether each promise was kept."""
    table: list[tuple[str, ...]] = [("sink", "kills", "messages", "lost", "twice", "out of order", "promised")]
    kept = True
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        targets = list(_targets(folder, stack))
        for place, target in enumerate(targets):
            times = kills // len(targets) + (place < kills % len(targets))
            verdict, messages = _kill_one(folder / f"journal-{place}", target, times)
            counts = (verdict.lost, verdict.twice, verdict.disordered)
            table.append((target.kind.partition(":")[0], str(times), f"{messages:,}", *map(str, counts), target.promise))
            kept &= verdict.is_clean or (target.kind == "kafka" and not verdict.lost)
            print(table[-1], file=sys.stderr)
    print_columns(table)
    return kept


def _kill_one(journal: Path, target: Target, times: int) -> tuple[Verdict, int]:
    settings = SinkSettings(name="bench", kind=target.kind, restart=_RESTART, **target.settings)
    process = SinkProcess(Task(str(journal), settings, [str(_EXAMPLES)]))
    with growing(journal) as written:
        process.start()
        killed(process, times, target.stored or (lambda: process.status(END)["position"]))
    with writing(journal, segment_bytes=1 << 30) as writer:
        add(writer, up("c"))  # so that a segment that is complete is followed by an item
    try:
        end = first_position(journal, "latest").seq
        wait_until(lambda: _has_all(process, target, end, journal), _PATIENCE, lambda: str(process.status(END)))
    finally:
        process.close(time.monotonic() + 5)
    total = dict.fromkeys("ab", written[0])
    if target.kind == "parquet":  # what is in segments that are complete
        position = process.status(END)["position"] or 1
        before = first_position(journal, "earliest")
        assert before.seq <= position
        found = target.read()
        total = {name: max(found[name], default=0) for name in "ab"}
    return Verdict.of(target.read(), total), sum(total.values())


def _has_all(process: SinkProcess, target: Target, end: int, journal: Path) -> bool:
    position = process.status(END)["position"] or 0
    if target.kind != "parquet":
        return position == end
    return position >= max(int(file.stem.rpartition("-")[2]) for file in journal.glob("segment-*.db"))


def kill_server(kills: int) -> bool:
    """SIGKILL of the NATS server under load; whether nothing was lost and nothing is there twice."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder) / "nats") as server:
        journal = Path(folder) / "journal"
        with writing(journal) as writer:
            add(writer, started(), up("a"), up("b"))
        settings = SinkSettings(name="bench", kind="nats", servers=server.url, stream="prices", restart=_RESTART)
        process = SinkProcess(Task(str(journal), settings, []))
        total = killed_under_load(journal, server, process, kills)
        restarts = process.restarts
        found = server.lines("prices")
    verdict = Verdict.of({name: line_numbers(found[f"prices.{name}"], name) for name in "ab"}, dict.fromkeys("ab", total))
    print(
        f"{kills} kills of the server, {restarts} restarts of the sink, {2 * total:,} messages in "
        f"{time.monotonic() - began:.0f} s: {verdict.lost} lost, {verdict.twice} twice, {verdict.disordered} out of order"
    )
    return verdict.is_clean


# -- speed -----------------------------------------------------------------------------------------------------------------


def measure(*, quick: bool = False) -> Outcome:
    """Row 21."""
    outcome = Outcome(load={"sinks": load_now()})
    each = 4_000 if quick else 40_000
    rates = [_carry_to_nats(each) for _ in range(2 if quick else 3)]
    outcome.rows.append(
        Row("21", "NATS sink, 20 endpoints, messages/s (0 lost, 0 twice)", Figure.of(rates), "/s", 40_000, 150_000, True)
    )
    return outcome


def _carry_to_nats(each: int) -> float:
    """From a journal of `each` messages of 200 B of 20 endpoints to a server; messages per second. Raises `RuntimeError` if one
    is lost or twice."""
    names = [f"e{n}" for n in range(_ENDPOINTS)]
    payload = b'{"x":"%s"}' % (b"." * 190)
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder) / "nats") as server:
        journal = Path(folder) / "journal"
        with writing(journal, segment_bytes=1 << 28) as writer:
            add(writer, started(), *map(up, names))
            for number in range(1, each + 1, _ROW):
                add(writer, *(batch(name, [payload] * _ROW, number) for name in names))
        settings = SinkSettings(name="bench", kind="nats", servers=server.url, stream="prices", restart=_RESTART)
        process = SinkProcess(Task(str(journal), settings, []))
        end = first_position(journal, "latest").seq
        began = time.monotonic()  # with the start of the process: the first report may come late
        process.start()
        try:
            wait_until(lambda: process.status(END)["position"] == end, _PATIENCE, lambda: str(process.status(END)))
            took = time.monotonic() - began
        finally:
            process.close(time.monotonic() + 10)
        found = server.lines("prices")
    verdict = Verdict.of({name: line_numbers(found[f"prices.{name}"], name) for name in names}, dict.fromkeys(names, each))
    if not verdict.is_clean:
        raise RuntimeError(f"the stream is not what was written: {verdict}")
    print(f"row 21: {each * _ENDPOINTS / took:,.0f}/s", file=sys.stderr)
    return each * _ENDPOINTS / took


def main() -> int:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs of the NATS server; 0: none")
    parser.add_argument("--sink-kills", type=int, default=100, help="SIGKILLs of sinks, of all kinds together; 0: none")
    parser.add_argument("--quick", action="store_true", help="a short row 21")
    options = parser.parse_args()
    outcome = measure(quick=options.quick)
    logging.disable(logging.CRITICAL)  # each kill is a warning
    kept = [kill_sinks(options.sink_kills) if options.sink_kills else True]
    kept.append(kill_server(options.kills) if options.kills else True)
    show(outcome)
    write(outcome)
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
