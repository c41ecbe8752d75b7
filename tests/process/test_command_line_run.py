"""`python -m wsadapter.supervise config.toml`: output, ends and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import Running, supervise, write_config
from tests.support.waiting import wait_until
from wsadapter.testing import Exchange

pytestmark = pytest.mark.portable

THREE = ['{"n": 1.50}', "not json", b"\x00\x01"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_writes_every_message_and_a_signal_ends_it_with_1000(tmp_path: Path, number: int) -> None:
    with Exchange(messages=THREE) as ex:
        config = write_config(tmp_path / "prices.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            running.wait_until(lambda: len(running.messages("a")) == 3)
            assert running.stop(number) == 0
        wait_until(lambda: ex.closes == {1: 1000}, 10)
    first, *_ = running.output
    assert (first["event"], first["name"], first["format"]) == ("started", "prices", 1)
    assert [(m["number"], m["epoch"]) for m in running.messages("a")] == [(1, 1), (2, 1), (3, 1)]
    assert [m.get("data", m.get("text", m.get("binary"))) for m in running.messages("a")] == [{"n": 1.5}, "not json", "AAE="]
    assert running.output[-1]["reason"]["kind"] == "stopped"
    assert any("a: 3 messages, 0 restarts, 0 gaps, 0 dropped" in line for line in running.log)


def test_tls_output_to_a_file_is_complete(tmp_path: Path) -> None:
    sent = [f'{{"n":{n}}}' for n in range(2000)]
    file = tmp_path / "out.jsonl"
    with Exchange(messages=sent, tls=True) as ex:
        trust = f'[defaults.tls]\nca_file = "{ex.ca_file}"'
        config = write_config(tmp_path / "a.toml", {"a": ex.url}, more=trust, output=str(file))
        with Running(tmp_path, str(config)) as running:
            running.wait_until(lambda: file.exists() and file.read_bytes().count(b'"number"') == 2000)
            assert running.stop() == 0
    lines = file.read_text("utf-8").splitlines()
    assert [line.partition('"data":')[2][:-1] for line in lines if '"number"' in line] == sent
    assert running.output == []


def test_it_ends_by_itself_after_the_duration(tmp_path: Path) -> None:
    with Exchange(messages=THREE) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        ended = supervise(tmp_path, str(config), "--duration", "500ms")
    assert ended.returncode == 0
    assert json.loads(ended.stdout.splitlines()[0])["event"] == "started"


def test_row_38_a_second_one_of_the_same_name_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with Exchange(messages=THREE) as ex:
        file = tmp_path / "out.jsonl"
        config = write_config(tmp_path / "a.toml", {"a": ex.url}, output=str(file))
        with Running(tmp_path, str(config)) as first:
            first.wait_until(lambda: file.exists() and b'"number":3' in file.read_bytes())
            before = file.read_bytes()
            second = supervise(tmp_path, str(config))
            assert second.returncode == 4
            assert str(first.process.pid) in second.stderr
            assert file.read_bytes() == before
            assert first.status()["a"]["state"] == "up"
            assert supervise(tmp_path, str(config), "--name", "b", "--duration", "0.2").returncode == 0
            assert first.stop() == 0


def test_row_38_the_lock_of_one_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    with Exchange(messages=THREE) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as first:
            first.wait_until(lambda: len(first.messages("a")) == 3)
            assert first.stop(signal.SIGKILL) == -signal.SIGKILL
        ex.wait_connections(0)
        assert ex.closes == {1: 1001}
        assert supervise(tmp_path, str(config), "--duration", "0.2").returncode == 0


def test_row_62_an_output_that_is_not_read_any_more_stops_it_with_5(tmp_path: Path) -> None:
    with Exchange(messages=THREE, rate=50, loop=True) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        read, write = os.pipe()
        with Running(tmp_path, str(config), stdout=write) as running:
            os.close(write)
            ex.wait_connections(1)
            os.close(read)
            assert running.wait() == 5
        assert any("standard output failed: Broken pipe" in line for line in running.log)
        wait_until(lambda: ex.closes == {1: 1000}, 10)


def test_an_output_that_can_not_be_opened_is_5(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Exchange() as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url}, output=str(tmp_path / "file" / "out.jsonl"))
        ended = supervise(tmp_path, str(config))
    assert ended.returncode == 5
    assert "out.jsonl failed: File exists" in ended.stderr


def test_row_62_a_full_disk_is_5(tmp_path: Path) -> None:
    with Exchange(messages=THREE) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url}, output="/dev/full")
        ended = supervise(tmp_path, str(config))
    assert ended.returncode == 5
    assert "No space left on device" in ended.stderr


@pytest.mark.parametrize("restart", ['type = "temporary"', 'intensity = 0\non_exceeded = "fatal"'])
def test_when_nothing_is_left_that_could_deliver_it_ends_with_3(tmp_path: Path, restart: str) -> None:
    with Exchange(messages=THREE) as ex:
        config = tmp_path / "a.toml"
        config.write_text(f'[endpoints.a]\nurl = "{ex.url}"\n[endpoints.a.restart]\n{restart}\n')
        with Running(tmp_path, str(config)) as running:
            running.wait_until(lambda: len(running.messages("a")) == 3)
            ex.drop()
            assert running.wait() == 3
    assert any("a: closed by peer, code 1006" in line for line in running.log if "no endpoint is left" in line)


def test_each_endpoint_begins_with_a_gap_if_a_file_is_continued(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    with Exchange(messages=THREE) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url, "b": ex.url}, output=str(file))
        for total in (6, 12):
            with Running(tmp_path, str(config)) as running:
                running.wait_until(lambda total=total: _messages_in(file) == total)  # type: ignore[misc]
                assert running.stop() == 0
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    second = next(at for at, line in enumerate(lines) if at and line.get("event") == "started")
    gaps = lines[second + 1 : second + 3]
    last = {m["endpoint"]: m["received_at"] for m in lines[:second] if "number" in m}
    assert [gap["event"] for gap in gaps] == ["gap", "gap"]
    assert {gap["endpoint"]: gap["last_received_at"] for gap in gaps} == last
    assert {(gap["cause"], gap["resumed_at"]) for gap in gaps} == {("supervisor_restarted", None)}


def _messages_in(file: Path) -> int:
    return file.read_bytes().count(b'"number"') if file.exists() else 0


def test_a_second_stop_signal_does_not_wait_for_a_peer_that_does_not_answer(tmp_path: Path) -> None:
    with Exchange(messages=THREE) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url}, more="[defaults.timeouts]\nclose = 60")
        with Running(tmp_path, str(config)) as running:
            running.wait_until(lambda: len(running.messages("a")) == 3)
            ex.mute()
            running.process.send_signal(signal.SIGTERM)
            running.wait_for_log("stopping: SIGTERM")
            wait_until(lambda: _sent_until_gone(running.process), 10)
            assert running.wait() == 128 + signal.SIGTERM


def _sent_until_gone(process: subprocess.Popen[bytes]) -> bool:
    """Signals that follow at once are taken for the same one; so until one is not."""
    process.send_signal(signal.SIGTERM)
    return process.poll() is not None


def test_supervision_goes_on_while_the_output_is_not_read(tmp_path: Path) -> None:
    with Exchange(messages=["x" * 60_000], rate=50, loop=True) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        read, write = os.pipe()
        with Running(tmp_path, str(config), stdout=write) as running:
            os.close(write)
            running.wait_until(lambda: (running.status().get("a") or {}).get("buffered", 0) > 300_000, "it was never blocked")
            ex.drop()
            ex.wait_accepted(2)
            running.wait_until(lambda: running.status()["a"]["epoch"] > 1 and running.status()["a"]["state"] == "up")
            running.process.send_signal(signal.SIGTERM)
            with open(read, "rb") as pipe:
                lines = [json.loads(line) for line in pipe]
            assert running.wait() == 0
    numbers = [line["number"] for line in lines if "number" in line]
    assert numbers == list(range(1, len(numbers) + 1))
    assert lines[-1]["event"] == "down"


def test_log_lines_are_json_objects_if_that_is_asked_for(tmp_path: Path) -> None:
    with (
        Exchange(messages=['{"n":1}']) as ex,
        Running(tmp_path, str(write_config(tmp_path / "f.toml", {"a": ex.url})), "--log-format", "json") as running,
    ):
        running.wait_until(lambda: running.events("up"))
        assert running.stop() == 0
    lines = [json.loads(line) for line in running.log]
    up = next(line for line in lines if line.get("endpoint") == "a" and " up: ws://" in line["text"])
    assert (up["level"], up["logger"], up["epoch"]) == ("INFO", "wsadapter.supervisor", 1)
