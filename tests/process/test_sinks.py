"""Sinks as processes: killed, full, frozen, beside each other, and with the supervisor that they belong to."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.brokers import NatsServer
from tests.support.command_line import Running, status_of, write_config, wsadapter
from tests.support.feeds import DEADLINE, numbered
from tests.support.journals import add, batch, fill, items, writing
from tests.support.sinks import growing, killed, line_numbers, lines
from tests.support.waiting import wait_until
from wsadapter import Message, SinkError, SupervisorStopped, UnknownConsumer, Up, attach
from wsadapter.config.settings import SinkSettings
from wsadapter.contract.endpoint import Restart
from wsadapter.journal.journal import Journal
from wsadapter.sinks import supervision, task
from wsadapter.sinks.feed import first_position
from wsadapter.sinks.store import SinkStore
from wsadapter.sinks.supervision import JournalEnd, SinkProcess
from wsadapter.sinks.task import Task
from wsadapter.status import SinkStatus
from wsadapter.testing import Exchange

FAST = Restart(backoff_initial=0.05, backoff_max=0.1, intensity=1000)
EXAMPLES = Path(__file__).resolve().parents[2] / "ops/examples"
END = JournalEnd(0, 0, 0)


def status(process: SinkProcess) -> SinkStatus:
    return process.status(END)


def position(process: SinkProcess) -> int:
    return status(process)["position"] or 0


@contextmanager
def running(journal: Path, **settings: Any) -> Iterator[SinkProcess]:
    process = SinkProcess(Task(str(journal), SinkSettings(name="s", restart=FAST, **settings), [str(EXAMPLES)]))
    process.start()
    try:
        yield process
    finally:
        process.close(0.0)


def at_the_end(process: SinkProcess, journal: Path) -> None:
    end = first_position(journal, "latest").seq
    wait_until(lambda: position(process) == end, DEADLINE * 3, lambda: f"{status(process)}, the end is {end}")


def test_row_86_a_sink_that_is_killed_writes_each_line_once(tmp_path: Path) -> None:
    journal, out = tmp_path / "journal", tmp_path / "out"

    def stored() -> int:
        return sum(file.stat().st_size for file in out.glob("*.jsonl"))

    with (
        growing(journal) as written,
        running(journal, kind="jsonl", path=str(out / "x.jsonl"), rotate_bytes=500_000) as process,
    ):
        killed(process, 6, stored)
        reason = status(process)["last_exit"]
        written_at_least = written[0]
    assert reason is not None
    assert (reason["kind"], reason["signal"]) == ("crashed", "SIGKILL")
    with running(journal, kind="jsonl", path=str(out / "x.jsonl"), rotate_bytes=500_000) as process:
        at_the_end(process, journal)
    found = lines(sorted(out.glob("*.jsonl")))
    assert len(list(out.glob("*.jsonl"))) > 1
    for name in "ab":
        assert sorted(line_numbers(found, name)) == list(range(1, written[0] + 1))
    assert written[0] >= written_at_least > 100


def test_row_86_a_class_of_the_users_own_with_its_position_in_one_transaction(tmp_path: Path) -> None:
    journal, database = tmp_path / "journal", tmp_path / "rows.db"

    def stored() -> object:
        if not database.exists():
            return 0
        with closing(sqlite3.connect(database, timeout=10)) as found:
            tables = found.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            return found.execute("SELECT count(*) FROM rows").fetchone()[0] if tables == 3 else 0

    own = {"kind": "sqlite_sink:SqliteSink", "options": {"database": str(database)}}
    with growing(journal) as written, running(journal, **own) as process:
        killed(process, 4, stored)
    with running(journal, **own) as process:
        at_the_end(process, journal)
    with closing(sqlite3.connect(database)) as found:
        for name in "ab":
            rows = found.execute("SELECT number FROM rows WHERE endpoint = ? ORDER BY rowid", (name,)).fetchall()
            assert [number for (number,) in rows] == list(range(1, written[0] + 1))


def test_a_full_disk_ends_the_sink_with_its_reason_and_space_brings_it_back(tmp_path: Path) -> None:
    fill(tmp_path / "journal", 600)
    file = tmp_path / "out/x.jsonl"
    with running(tmp_path / "journal", kind="jsonl", path=str(file), start="latest") as process:
        wait_until(lambda: status(process)["state"] == "running", DEADLINE, lambda: str(status(process)))
        pid = status(process)["pid"]
        assert pid is not None
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (200_000, 200_000))  # no file of it may be larger
        with writing(tmp_path / "journal") as writer:
            for number in range(1201, 2001):
                add(writer, batch("a", [b'"%s"' % (b"x" * 1000)], number))
        wait_until(lambda: status(process)["last_exit"] is not None, DEADLINE, lambda: str(status(process)))
        reason = status(process)["last_exit"]
        assert reason is not None
        assert reason["kind"] == "full"
        assert "File too large" in reason["text"]
        assert not file.exists() or not file.stat().st_size or file.read_bytes().endswith(b"\n")
        at_the_end(process, tmp_path / "journal")
    assert line_numbers(lines([file]), "a") == list(range(1201, 2001))


def test_a_sink_that_hangs_is_killed_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "journal", 10)
    with running(tmp_path / "journal", kind="jsonl", path=str(tmp_path / "x.jsonl")) as process:
        at_the_end(process, tmp_path / "journal")
        pid = status(process)["pid"]
        assert pid is not None
        monkeypatch.setattr(task, "_SILENCE", 1.0)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: status(process)["last_exit"] is not None, DEADLINE)
        monkeypatch.undo()
        reason = status(process)["last_exit"]
        assert reason is not None
        assert reason["kind"] == "hung"
        wait_until(lambda: status(process)["state"] == "running", DEADLINE)
        assert status(process)["pid"] != pid
    assert line_numbers(lines([tmp_path / "x.jsonl"]), "a") == list(range(1, 21))


def test_settings_that_no_retry_can_mend_are_fatal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path / "journal", 1)
    with running(tmp_path / "journal", kind="no_such_module:Class") as process:
        wait_until(lambda: status(process)["state"] == "fatal", DEADLINE * 2, lambda: str(status(process)))
        reason = status(process)["last_exit"]
        assert reason is not None
        assert reason["kind"] == "config"
        assert status(process)["pid"] is None
    assert "can't be imported" in caplog.text
    assert "use `wsadapter sinks s --restart`, or change the settings and reload" in caplog.text


BROKEN = """
[[sink]]
name = "broken"
kind = "no_such_module:Class"
"""


def configured(folder: Path, url: str, nats: str) -> str:
    """The example, with other addresses and folders, and a sink that cannot begin."""
    text = (EXAMPLES / "sinks.toml").read_text()
    for before, after in {
        "wss://stream.binance.com:9443/ws/btcusdt@trade": url, "nats://127.0.0.1:4222": nats, "/var/lib/prices": str(folder),
    }.items():  # fmt: skip
        assert before in text
        text = text.replace(before, after)
    path = folder / "sinks.toml"
    path.write_text(text.replace("[endpoints", BROKEN + "[endpoints"))
    (folder / "sqlite_sink.py").write_text((EXAMPLES / "sqlite_sink.py").read_text())
    return str(path)


def shown(folder: Path, name: str = "sinks") -> dict[str, Any]:
    sinks: dict[str, Any] = status_of(folder, name).get("sinks", {})
    return sinks


def test_the_example_runs_over_a_kill_of_its_supervisor(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server:
        with Exchange(messages=numbered, rate=500) as ex, Running(tmp_path, configured(tmp_path, ex.url, server.url)) as first:
            names = ("lines", "stream", "table")
            wait_until(lambda: are_running(shown(tmp_path), names), DEADLINE, lambda: "".join(first.log))
            found = shown(tmp_path)
            assert found["lines"]["lag"].keys() == {"messages", "bytes", "seconds"}
            wait_until(lambda: shown(tmp_path)["broken"]["last_exit"], DEADLINE)
            assert shown(tmp_path)["broken"]["last_exit"]["kind"] == "config"
            table = wsadapter(tmp_path, "status", "--name", "sinks").stdout
            assert [line.split()[0] for line in table.splitlines()[-5:]] == ["SINK", "lines", "stream", "table", "broken"]
            consumers = json.loads(wsadapter(tmp_path, "consumers", "--name", "sinks", "--json").stdout)
            assert sorted(consumers) == ["sink:lines", "sink:stream", "sink:table"]  # one without a position is none
            assert consumers["sink:stream"]["pid"] == found["stream"]["pid"]
            pids = [found[name]["pid"] for name in names]
            first.process.kill()  # its sinks end by themselves
            first.process.wait()
            wait_until(lambda: not any(map(psutil.pid_exists, pids)), DEADLINE)
        with Exchange(messages=numbered, rate=500) as ex, Running(tmp_path, configured(tmp_path, ex.url, server.url)) as second:
            wait_until(lambda: ups(tmp_path) >= 2, DEADLINE, lambda: "".join(second.log))
            wait_until(lambda: are_running(shown(tmp_path), names), DEADLINE, lambda: "".join(second.log))
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(DEADLINE) == 0, second.log
        expected = [item.number for item in items(tmp_path / "journal") if isinstance(item, Message)]
        assert expected == list(range(1, len(expected) + 1))
        # Each target has the last item: the stop waits for that.
        assert line_numbers(lines(sorted((tmp_path / "lines").glob("*.jsonl"))), "binance") == expected
        assert line_numbers(server.lines("prices")["prices.binance"], "binance") == expected
        with closing(sqlite3.connect(tmp_path / "table.db")) as database:
            assert [number for (number,) in database.execute("SELECT number FROM rows ORDER BY rowid")] == expected


def are_running(sinks: dict[str, Any], names: Sequence[str]) -> bool:
    """And have carried something."""
    return all(name in sinks and sinks[name]["state"] == "running" and sinks[name]["position"] > 1 for name in names)


def ups(folder: Path) -> int:
    return sum(isinstance(item, Up) for item in Journal(folder / "journal").read())


def test_what_a_class_prints_and_raises_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path / "journal", 1)
    (tmp_path / "talking.py").write_text(
        "from wsadapter import TargetRefused\n"
        "class Talks:\n"
        "    def __init__(self, name, options): print('a print of', name)\n"
        "    def open(self, position): self.position = position; return position\n"
        "    def write(self, batch): raise TargetRefused('it says no')\n"
        "    def flush(self): pass\n"
        "    def close(self): print('closed')\n"
    )
    task = Task(str(tmp_path / "journal"), SinkSettings(name="t", kind="talking:Talks", restart=FAST), [str(tmp_path)])
    process = SinkProcess(task)
    process.start()
    try:
        wait_until(lambda: status(process)["last_exit"] is not None, DEADLINE)
        assert status(process)["last_exit"] == {"kind": "refused", "text": "it says no", "retry_after": 10.0}
        assert status(process)["state"] == "backoff"
    finally:
        process.close(0.0)
    assert "sink t: a print of t" in caplog.text
    assert "sink t: closed" in caplog.text


HOLDER = """
import sys, time
from pathlib import Path
from wsadapter.sinks.store import SinkStore
store = SinkStore(Path(sys.argv[1]), "s")
print("held", flush=True)
time.sleep(600)
"""


def test_a_process_that_a_killed_supervisor_left_frozen_is_killed_by_the_next_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "journal", 1)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "journal")], stdout=subprocess.PIPE) as frozen:
        assert frozen.stdout is not None
        assert frozen.stdout.readline() == b"held\n"
        frozen.send_signal(signal.SIGSTOP)
        SinkStore(tmp_path / "journal", "s", patience=0.1).close()
        assert frozen.wait(DEADLINE) == -signal.SIGKILL
    assert "did not end; it is killed" in caplog.text


# -- restarts and reloads by an operator -----------------------------------------------------------------------------------


def test_a_restart_that_is_asked_for_ends_the_process_in_order_and_is_done_when_the_next_one_is_there(tmp_path: Path) -> None:
    fill(tmp_path / "journal", 10)
    with running(tmp_path / "journal", kind="jsonl", path=str(tmp_path / "x.jsonl")) as process:
        at_the_end(process, tmp_path / "journal")
        pid = status(process)["pid"]
        process.restart().result(DEADLINE)
        assert status(process)["state"] == "running"
        assert status(process)["pid"] not in (pid, None)
        assert (status(process)["restarts"], status(process)["last_exit"]) == (1, {"kind": "stopped"})
    assert line_numbers(lines([tmp_path / "x.jsonl"]), "a") == list(range(1, 21))
    with pytest.raises(SupervisorStopped, match="is being ended"):
        process.restart().result(0)


def test_a_restart_ends_fatal_and_a_cool_down_and_reports_the_end_of_the_process_that_it_started(tmp_path: Path) -> None:
    fill(tmp_path / "journal", 1)
    slow = Restart(backoff_initial=0.0, backoff_max=0.0, intensity=2, cool_down=3600.0)
    own = {"kind": "later:Class", "path": ""}
    for state, restart in (("fatal", FAST), ("cooling_down", slow)):
        folder = tmp_path / state
        folder.mkdir()
        task = Task(str(tmp_path / "journal"), SinkSettings(name=state, restart=restart, **own), [str(folder)])
        process = SinkProcess(task)
        process.start()
        try:
            wait_until(lambda: status(process)["state"] == state, DEADLINE * 2, lambda: str(status(process)))  # noqa: B023
            with pytest.raises(SinkError, match="can't be imported"):
                process.restart().result(DEADLINE)
            (folder / "later.py").write_text(
                "class Class:\n"
                "    def __init__(self, name, options): pass\n"
                "    def open(self, position): self.position = position; return position\n"
                "    def write(self, batch): self.position = batch.after\n"
                "    def flush(self): pass\n"
                "    def close(self): pass\n"
            )
            process.restart().result(DEADLINE)
            assert status(process)["state"] == "running"
        finally:
            process.close(0.0)


def test_a_process_that_does_not_end_is_killed_for_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "journal", 1)
    monkeypatch.setattr(supervision, "_END_WITHIN", 0.5)
    with running(tmp_path / "journal", kind="jsonl", path=str(tmp_path / "x.jsonl")) as process:
        at_the_end(process, tmp_path / "journal")
        pid = status(process)["pid"]
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        process.restart().result(DEADLINE)
        assert not psutil.pid_exists(pid)


def with_sinks(url: str, *sinks: str) -> str:
    tables = "".join(f'[[sink]]\nname = "{name}"\nkind = "jsonl"\npath = "{name}.jsonl"\n{more}\n' for name, _, more in
                     (sink.partition(" ") for sink in sinks))  # fmt: skip
    return f'[journal]\npath = "journal"\n{tables}[endpoints.a]\nurl = "{url}"\nrestart = {{ backoff_max = "1s" }}\n'


def test_a_reload_adds_removes_and_changes_sinks_and_leaves_the_others_alone(tmp_path: Path) -> None:
    config = tmp_path / "f.toml"
    with Exchange(messages=numbered, rate=500) as ex:
        config.write_text(with_sinks(ex.url, "kept", "gone", "other"))
        with Running(tmp_path, str(config)) as feed:
            feed.wait_until(lambda: are_running(shown(tmp_path, "f"), ("kept", "gone", "other")), "the sinks are not running")
            before = shown(tmp_path, "f")
            config.write_text(with_sinks(ex.url, "kept", "other rotate_bytes = '1MiB'", "new"))
            answer = json.loads(wsadapter(tmp_path, "reload", "--json").stdout)["changes"]
            assert {kind: names for kind, names in answer.items() if names} == {
                "sinks_added": ["new"], "sinks_removed": ["gone"], "sinks_changed": ["other"],
            }  # fmt: skip
            feed.wait_until(lambda: are_running(shown(tmp_path, "f"), ("kept", "other", "new")), "the sinks are not running")
            after = shown(tmp_path, "f")
            assert list(after) == ["kept", "other", "new"]
            assert after["kept"]["pid"] == before["kept"]["pid"]
            assert after["other"]["pid"] != before["other"]["pid"]
            wait_until(lambda: not psutil.pid_exists(before["gone"]["pid"]), DEADLINE)
            assert feed.stop() == 0
    everything = [item.number for item in items(tmp_path / "journal") if isinstance(item, Message)]
    for name in ("kept", "other", "new"):
        assert line_numbers(lines([tmp_path / f"{name}.jsonl"]), "a") == everything
    left = line_numbers(lines([tmp_path / "gone.jsonl"]), "a")
    assert left == everything[: len(left)]


def test_commands_show_sinks_and_consumers_and_restart_sinks(tmp_path: Path) -> None:
    config = tmp_path / "f.toml"
    with Exchange(messages=numbered, rate=500) as ex:
        config.write_text(with_sinks(ex.url, "lines") + "\n")
        with Running(tmp_path, str(config)) as feed, ExitStack() as attached:
            feed.wait_until(lambda: are_running(shown(tmp_path, "f"), ("lines",)), "the sink is not running")
            attached.enter_context(attach(tmp_path / "journal", "strategy", start="earliest")).get(DEADLINE)
            pid = shown(tmp_path, "f")["lines"]["pid"]
            restarted = wsadapter(tmp_path, "sinks", "lines", "--restart", "--json")
            assert restarted.returncode == 0, restarted.stderr
            after = json.loads(restarted.stdout)["lines"]
            assert after["state"] == "running"
            assert after["pid"] not in (pid, None)
            feed.wait_until(lambda: "strategy" in wsadapter(tmp_path, "consumers").stdout, "the consumer is not shown")
            shows = wsadapter(tmp_path, "consumers", "strategy", "--json")
            assert json.loads(shows.stdout)["strategy"]["pid"] == os.getpid()
            assert [line.split()[0] for line in wsadapter(tmp_path, "sinks").stdout.splitlines()] == ["SINK", "lines"]
            for words, text in {
                ("consumers", "strateg"): "known: sink:lines, strategy; did you mean 'strategy'?",
                ("sinks", "linse"): "no sink named 'linse'; known: lines; did you mean 'lines'?",
                ("sinks", "linse", "--restart"): "no sink named 'linse'; known: lines; did you mean 'lines'?",
            }.items():
                refused = wsadapter(tmp_path, *words)
                assert refused.returncode == 1
                assert text in refused.stderr
            usage = wsadapter(tmp_path, "consumers", "--forget")
            assert (usage.returncode, usage.stderr) == (2, "wsadapter: consumers: --forget needs the names of the consumers\n")
            of_sink = wsadapter(tmp_path, "consumers", "sink:lines", "--forget")
            assert of_sink.returncode == 2
            assert "sink:lines is a sink, whose position is in its target" in of_sink.stderr
            in_use = wsadapter(tmp_path, "consumers", "strategy", "--forget")
            assert in_use.returncode == 1
            assert f"'strategy' is attached by pid {os.getpid()}; end it before" in in_use.stderr
            attached.close()
            assert wsadapter(tmp_path, "consumers", "strategy", "--forget").stdout == "strategy: its position is removed\n"
            feed.wait_until(lambda: "strategy" not in wsadapter(tmp_path, "consumers").stdout, "the consumer is still shown")
            with pytest.raises(UnknownConsumer):
                attach(tmp_path / "journal", "strategy", start="position")
            usage = wsadapter(tmp_path, "sinks", "--restart")
            assert (usage.returncode, usage.stderr) == (2, "wsadapter: sinks: --restart needs the names of the sinks\n")
            assert feed.stop() == 0


def test_without_a_journal_there_is_neither_a_consumer_nor_a_sink(tmp_path: Path) -> None:
    with Exchange(messages=numbered) as ex, Running(tmp_path, str(write_config(tmp_path / "f.toml", {"a": ex.url}))) as feed:
        feed.wait_until(lambda: wsadapter(tmp_path, "status").returncode == 0, "it is not up")
        refused = wsadapter(tmp_path, "consumers")
        assert refused.returncode == 1
        assert "has no journal to attach to: add a table [journal]" in refused.stderr
        alone = wsadapter(tmp_path, "rebalance")
        assert (alone.returncode, "no host of a cluster: it has no table [cluster]" in alone.stderr) == (1, True), alone.stderr
        assert wsadapter(tmp_path, "sinks").stdout == "this supervisor has no sinks: add a table [[sink]]\n"
        assert feed.stop() == 0
