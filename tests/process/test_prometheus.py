"""A real Prometheus reads a real exporter with the files of ops/examples: target, alerts, queries of the dashboard."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.process.test_exporter import port_of
from tests.support.command_line import Running, wsadapter
from tests.support.prometheus import EXAMPLES, PROGRAM, Prometheus
from tests.support.waiting import wait_until
from wsadapter import attach
from wsadapter.testing import Exchange

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="there is no Prometheus here (Debian: prometheus)"),
]

PATIENCE = 60.0
NOT_SEEN = {"Dropped messages by cause"}
"""Panels that are empty here, because nothing is dropped."""


class Watched(NamedTuple):
    """A runner with everything that has a panel, and its Prometheus."""

    running: Running
    exchange: Exchange
    prometheus: Prometheus

    def pid_of(self, endpoint: str) -> int | None:
        """Of its owner."""
        pid: int | None = json.loads(wsadapter(self.running.folder, "status", "--json").stdout)["endpoints"][endpoint]["pid"]
        return pid


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    config = tmp_path / "feeds.toml"
    with Exchange(messages=['{"n":1}', '{"n":2}'], loop=True, rate=20) as ex:
        config.write_text(
            f'[exporter]\nlisten = "127.0.0.1:0"\n[journal]\npath = "journal"\n'
            f'[[sink]]\nname = "lines"\nkind = "jsonl"\npath = "{tmp_path}/lines.jsonl"\n'
            f'[endpoints.a]\nurl = "{ex.url}"\nlimits = {{ connects = 100 }}\nheartbeat = {{ interval = 0.5 }}\n'
        )
        with (
            Running(tmp_path, str(config)) as running,
            Prometheus(tmp_path / "prometheus", port_of(running)) as prometheus,
            attach(tmp_path / "journal", consumer="test", start="earliest", follow=False) as feed,
        ):
            feed.get(timeout=PATIENCE)
            yield Watched(running, ex, prometheus)
            assert running.stop() == 0


def queries() -> list[tuple[str, str]]:
    """Panel and expression of each query of the dashboard, with all supervisors and all endpoints chosen."""
    panels = json.loads((EXAMPLES / "dashboard.json").read_text("utf-8"))["panels"]
    return [
        (panel["title"], target["expr"].replace("$instance", ".*").replace("$endpoint", ".*"))
        for panel in panels
        for target in panel["targets"]
    ]


def test_each_query_of_the_dashboard_has_values(watched: Watched) -> None:
    prometheus = watched.prometheus
    wait_until(lambda: prometheus.query("wsadapter_endpoint_up == 1"), PATIENCE, "no scrape of an endpoint that is up")
    assert [target["health"] for target in prometheus.ask("targets")["activeTargets"]] == ["up"]
    owner = watched.pid_of("a")
    assert owner is not None
    os.kill(owner, signal.SIGKILL)
    wait_until(lambda: prometheus.query("wsadapter_endpoint_handoff_seconds"), PATIENCE, "no handoff")
    watched.exchange.reset()
    wait_until(lambda: prometheus.query("increase(wsadapter_endpoint_gaps_total[5m]) > 0"), PATIENCE, "no gap")

    def empty() -> set[str]:
        return {panel for panel, expression in queries() if not prometheus.query(expression)}

    wait_until(lambda: empty() <= NOT_SEEN, PATIENCE, lambda: f"no values: {empty()}")


def test_alerts_fire_for_an_endpoint_that_is_down_and_for_a_supervisor_that_is_stopped(watched: Watched) -> None:
    prometheus, exchange = watched.prometheus, watched.exchange
    wait_until(lambda: prometheus.query("wsadapter_endpoint_up == 1"), PATIENCE, "no scrape of an endpoint that is up")
    assert {rule["health"] for group in prometheus.ask("rules")["groups"] for rule in group["rules"]} == {"ok"}
    wait_until(lambda: not prometheus.alerts(), PATIENCE, lambda: str(prometheus.alerts()))  # none, once there was a scrape
    exchange.refuse(503)
    exchange.drop()
    wait_until(lambda: ("WsadapterEndpointDown", "firing") in prometheus.alerts(), PATIENCE, lambda: str(prometheus.alerts()))
    exchange.refuse(0)
    assert wsadapter(watched.running.folder, "restart", "a").returncode == 0
    wait_until(lambda: ("WsadapterGap", "firing") in prometheus.alerts(), PATIENCE, lambda: str(prometheus.alerts()))
    supervisor = psutil.Process(watched.running.process.pid)
    supervisor.suspend()
    try:
        wait_until(lambda: ("WsadapterDown", "firing") in prometheus.alerts(), PATIENCE, lambda: str(prometheus.alerts()))
    finally:
        supervisor.resume()
    wait_until(lambda: "WsadapterDown" not in dict(prometheus.alerts()), PATIENCE, lambda: str(prometheus.alerts()))
