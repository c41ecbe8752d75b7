"""The exporter beside a running supervisor: what it answers, and that nothing it does or suffers reaches the feeds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.command_line import Running, environment, supervise, write_config, wsadapter
from tests.support.waiting import wait_until
from tests.support.web import connect, events, get
from wsadapter.exporter.metrics import METRICS
from wsadapter.testing import Exchange

TICKS = ['{"n":1}', '{"n":2}']
LISTENS = re.compile(r"status page: http://127\.0\.0\.1:(\d+)/")


def port_of(running: Running, nth: int = 1) -> int:
    """Of the exporter that was started as the `nth`."""
    running.wait_until(lambda: len(LISTENS.findall("\n".join(running.log))) >= nth)
    return int(LISTENS.findall("\n".join(running.log))[nth - 1])


@contextmanager
def exported(folder: Path, **urls: str) -> Iterator[tuple[Running, int]]:
    """A runner with an exporter, and the port, once all endpoints are up and the exporter has seen that."""
    config = write_config(folder / "feeds.toml", urls)
    config.write_text('[exporter]\nlisten = "127.0.0.1:0"\n' + config.read_text("utf-8"))
    with Running(folder, str(config)) as running:
        port = port_of(running)
        wait_until(lambda: get(port, "/ready").status == 200, 20, lambda: get(port, "/ready").body.decode())
        yield running, port
        assert running.stop() == 0


def exporter_of(running: Running) -> psutil.Process:
    children = psutil.Process(running.process.pid).children()
    return next(child for child in children if "wsadapter.exporter" in child.cmdline())


def test_every_path_answers_from_the_status_of_the_supervisor(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex, exported(tmp_path, a=ex.url, b=ex.url) as (_, port):
        assert get(port, "/live").status == 200
        assert get(port, "/ready").body == b"2 of 2 endpoints are up\n"
        scrape = get(port, "/metrics")
        assert scrape.headers["Content-Type"].startswith("text/plain; version=")
        text = scrape.body.decode()
        assert 'wsadapter_endpoint_up{endpoint="a"} 1.0' in text
        assert 'wsadapter_endpoint_owner_memory_bytes{endpoint="b"} ' in text
        assert 'wsadapter_connect_budget{host="127.0.0.1"} ' not in text  # without a limit
        assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} <= METRICS.keys()
        shown = json.loads(get(port, "/status.json").body)
        asked = json.loads(wsadapter(tmp_path, "status", "--json").stdout)
        assert shown.keys() == asked.keys()
        assert shown["endpoints"]["a"].keys() == asked["endpoints"]["a"].keys()
        assert shown["endpoints"]["a"]["memory"] > 1_000_000
        assert get(port, "/").body.startswith(b"<!doctype html>")
        assert get(port, "/", method="HEAD").body == b""
        assert get(port, "/metrics", method="POST").status == 405
        assert b"/status.json" in get(port, "/nope").body
        assert get(port, "/live", host="evil.example.com").status == 403


def test_ready_is_503_with_the_endpoint_and_the_reason_and_the_events_show_it(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex, exported(tmp_path, a=ex.url, b=ex.url) as (running, port), connect(port) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with closing(events(client)) as seen:
            name, start = next(seen)
            assert name == "start"
            assert [endpoint["name"] for endpoint in start["endpoints"]] == ["a", "b"]
            ex.refuse(503)
            ex.drop(connection=1)
            running.wait_until(lambda: running.events("down"))
            marks: list[list[str]] = []
            for _, tick in seen:
                marks += tick["marks"]
                if any(endpoint["state"] == "backoff" for endpoint in tick["endpoints"]):
                    break
            answer = get(port, "/ready")
            assert answer.status == 503
            assert re.fullmatch(r"[ab]: (backoff|connecting|starting): .*\n", answer.body.decode())
            down = answer.body.decode()[0]
            assert get(port, f"/ready?endpoint={'b' if down == 'a' else 'a'}").status == 200
            assert [down, "down"] in [mark[2:4] for mark in marks]
            assert get(port, "/live").status == 200
            counted = f'wsadapter_endpoint_restarts_total{{endpoint="{down}",reason="closed_by_peer"}} 1.0'
            assert counted in get(port, "/metrics").body.decode()


def test_the_exporter_gives_way_to_owners_where_cores_are_busy(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex, exported(tmp_path, a=ex.url) as (running, _port):
        own = psutil.Process(running.process.pid).nice()
        running.wait_until(lambda: exporter_of(running).nice() == min(19, own + 10), "the exporter is nice")


def test_a_killed_exporter_is_started_again_and_no_feed_notices(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex, exported(tmp_path, a=ex.url) as (running, _):
        exporter_of(running).kill()
        port = port_of(running, nth=2)
        wait_until(lambda: get(port, "/ready").status == 200, 20)
        assert "next start in 0.5 s" in "\n".join(running.log)
        assert running.events("down") == []


def test_a_stopped_exporter_and_a_browser_that_reads_nothing_delay_nobody(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex, exported(tmp_path, a=ex.url) as (running, port):
        with connect(port) as idle, connect(port) as deaf:
            idle.sendall(b"GET / HTTP/1.1\r\n")  # and no more
            deaf.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert get(port, "/live").status == 200
            stopped = exporter_of(running)
            stopped.send_signal(signal.SIGSTOP)
            assert wsadapter(tmp_path, "restart", "a").returncode == 0
        assert running.stop() == 0
        assert not stopped.is_running()


def test_live_turns_red_when_the_supervisor_is_stopped(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex, exported(tmp_path, a=ex.url) as (running, port):
        running.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: get(port, "/live").status == 503, 30)
        assert get(port, "/ready").status == 503
        assert "wsadapter_up 0.0" in get(port, "/metrics").body.decode()
        running.process.send_signal(signal.SIGCONT)
        wait_until(lambda: get(port, "/live").status == 200, 20)


def test_a_killed_runner_takes_its_exporter_along(tmp_path: Path) -> None:
    config = write_config(tmp_path / "feeds.toml", {"a": "ws://127.0.0.1:1/"})
    config.write_text('[exporter]\nlisten = "127.0.0.1:0"\n' + config.read_text("utf-8"))
    with Running(tmp_path, str(config)) as running:
        port_of(running)
        exporter = exporter_of(running)
        running.process.kill()
        exporter.wait(10)


def test_an_address_that_is_taken_is_logged_and_the_feeds_run(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex, connect_target() as port:
        config = write_config(tmp_path / "feeds.toml", {"a": ex.url})
        config.write_text(f'[exporter]\nlisten = "127.0.0.1:{port}"\n' + config.read_text("utf-8"))
        with Running(tmp_path, str(config)) as running:
            running.wait_until(lambda: running.events("up"))
            running.wait_until(lambda: "can't listen on" in "\n".join(running.log))
            assert running.stop() == 0


@contextmanager
def connect_target() -> Iterator[int]:
    """A port that somebody listens on."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_a_wrong_address_is_a_problem_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "feeds.toml"
    config.write_text('[exporter]\nlisten = "9464"\n[endpoints.a]\nurl = "ws://127.0.0.1:1/"\n')
    ended = supervise(tmp_path, str(config), "--check")
    assert ended.returncode == 2
    assert "exporter.listen: expected" in ended.stderr


def test_the_exporter_needs_neither_prometheus_client_nor_a_supervisor(tmp_path: Path) -> None:
    """As where the extra is not installed: an import of it fails."""
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('this stands for a package that is not installed')\n")
    code = (
        "import sys, importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'prometheus_client' else found(name, *a)\n"
        "from wsadapter.exporter.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "--name", "nobody", "--listen", "127.0.0.1:0", "--until-eof"],
        env={**environment(tmp_path), "PYTHONPATH": str(tmp_path)}, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as exporter:  # fmt: skip
        assert exporter.stderr is not None
        assert exporter.stdin is not None
        said = ""
        while not (found := LISTENS.search(said)):
            line = exporter.stderr.readline()
            assert line, said
            said += line
        port = int(found[1])
        assert "wsadapter[metrics]" in said
        assert get(port, "/metrics").status == 501
        assert get(port, "/").status == 200
        wait_until(lambda: b"no supervisor named 'nobody'" in get(port, "/live").body, 20)
        exporter.stdin.close()
        assert exporter.wait(10) == 0


@pytest.mark.parametrize("words", [["--listen", "x"], ["--name", "a"], []])
def test_wrong_arguments_are_refused_and_help_names_every_path(tmp_path: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "wsadapter.exporter", *words]
    ended = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    command = [sys.executable, "-m", "wsadapter.exporter", "--help"]
    helped = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=20, check=False)
    assert all(path in helped.stdout for path in ("/metrics", "/live", "/ready", "/status.json", "/events", "example"))
