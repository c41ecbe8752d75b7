"""What an operator may get wrong, or take away, under a cluster: one clear message each, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.process.test_cluster import assert_one_stream, events, events_of
from tests.support.brokers import NatsServer
from tests.support.feeds import steady
from tests.support.hosts import PATIENCE, Hosts
from tests.support.journals import writing
from tests.support.waiting import wait_until
from wsadapter.cluster.agent import Agent, AgentTask
from wsadapter.cluster.nats_server import check_version
from wsadapter.cluster.store import StoreRefused
from wsadapter.config.settings import ClusterSettings
from wsadapter.sinks.base import SinkError, TargetRefused, TargetUnavailable
from wsadapter.sinks.feed import first_position
from wsadapter.sinks.task import LEAVE
from wsadapter.testing.certificates import Authority


@contextmanager
def agent(folder: Path, servers: str, boot: str = "boot", **settings: Any) -> Iterator[Agent]:
    """The agent of a host without endpoints, open."""
    folder.mkdir(exist_ok=True)
    with writing(folder / "journal"):
        pass
    said = asdict(ClusterSettings(name="prices", host="x", servers=servers, replicas=1, **settings))
    task = AgentTask.of({"settings": said, "boot": boot, "version": "1", "digest": "", "endpoints": [], "known": {}})
    one = Agent(task, folder / "journal", lambda _report: None, lambda: LEAVE)
    try:
        one.open(first_position(folder / "journal", "latest"))
        yield one
    finally:
        one.close()


def test_credentials_that_are_wrong(tmp_path: Path) -> None:
    with (
        NatsServer(tmp_path / "nats", authorization={"user": "a", "password": "b"}) as server,
        pytest.raises(TargetRefused, match="the credentials are refused"),
        agent(tmp_path / "x", server.url.replace("//", "//a:secret@")),
    ):
        pass


def test_a_certificate_that_nobody_known_has_signed(tmp_path: Path) -> None:
    files = {"cert_file": tmp_path / "cert.pem", "key_file": tmp_path / "key.pem"}
    for path, pem in zip(files.values(), Authority().issue(), strict=True):
        path.write_text(pem)
    with (
        NatsServer(tmp_path / "nats", tls={name: str(path) for name, path in files.items()}) as server,
        pytest.raises(TargetRefused, match=r"TLS failed: .*certificate.*cluster\.ca_file"),
        agent(tmp_path / "x", server.url),
    ):
        pass


def test_a_server_that_is_too_old() -> None:
    async def request(*_args: Any, **_named: Any) -> Any:
        return SimpleNamespace(data=json.dumps({"type": "io.nats.jetstream.api.v1.account_info_response"}).encode())

    connection = SimpleNamespace(request=request, connected_server_version="2.9.10")
    with pytest.raises(StoreRefused, match=r"2\.9\.10 has API level 0; 2\.11 \(level 1\) or later is needed"):
        asyncio.run(check_version(connection, 1.0))


def test_no_server_and_no_jetstream(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", jetstream="disabled")
    with pytest.raises(TargetUnavailable, match=r"NATS 127\.0\.0\.1:"), agent(tmp_path / "x", server.url):
        pass
    with server, pytest.raises(TargetUnavailable, match="JetStream is not"), agent(tmp_path / "x", server.url):
        pass


def test_two_hosts_of_one_name(tmp_path: Path) -> None:
    with (
        NatsServer(tmp_path / "nats") as server,
        agent(tmp_path / "x", server.url, "first"),
        agent(tmp_path / "y", server.url, "second") as second,
    ):

        def refusal() -> str:
            try:
                second.flush()
            except SinkError as error:
                return str(error)
            return ""

        wait_until(refusal, PATIENCE)
        assert "another host of this cluster is named 'x' too" in refusal()


def test_the_bucket_or_the_messages_are_removed_under_a_host(tmp_path: Path) -> None:
    with (
        NatsServer(tmp_path / "nats") as server,
        steady(100.0) as exchange,
        Hosts(tmp_path, server, "x", {"a": exchange.url}) as hosts,
    ):
        hosts.wait_until_up()
        host = hosts.all["x"]
        before = events_of(hosts, "a")[-1]["number"]

        async def delete(jetstream: Any) -> None:
            await jetstream.delete_stream("KV_WSA_prices")

        server.ask(delete)
        removed = re.compile("ended: unavailable, NATS: .*(it|stream) was removed")
        wait_until(lambda: removed.search("\n".join(host.log)), PATIENCE, hosts.said)
        wait_until(lambda: events(hosts.lines("a"), "gap"), PATIENCE, hosts.said)  # a term above that of the log
        wait_until(lambda: events_of(hosts, "a")[-1]["number"] > before + 200, PATIENCE, hosts.said)
        assert_one_stream(hosts.lines("a"))
        assert host.cluster()["terms"] == {"a": 2}

        async def purge(jetstream: Any) -> None:
            await jetstream.purge_stream("WSA_prices")

        server.ask(purge)
        wait_until(lambda: host.cluster().get("terms") == {"a": 3}, PATIENCE, hosts.said)
        wait_until(lambda: len(events_of(hosts, "a")) > 50, PATIENCE, hosts.said)
        assert "a claim of term 2 or above is missing" in "\n".join(host.log)


def test_hosts_with_other_configurations_are_shown_and_take_nothing_from_each_other(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server, steady(50.0) as exchange:
        with Hosts(tmp_path, server, "x", {"a": exchange.url}) as hosts:
            hosts.wait_until_up()
            with Hosts(tmp_path, server, "y", {"a": exchange.url, "b": exchange.url}) as others:
                y = others.all["y"]
                wait_until(lambda: y.endpoints() == {"b": "up"}, PATIENCE, others.said)
                assert not y.cluster()["hosts"]["x"]["same_configuration"]
                wait_until(lambda: "y" in hosts.all["x"].cluster()["hosts"], PATIENCE, hosts.said)
                assert hosts.all["x"].endpoints() == {"a": "up"}
                hosts.all["x"].stop()
                wait_until(
                    lambda: y.endpoints() == {"a": "up", "b": "up"}, PATIENCE, others.said
                )  # it left: nobody else has it
        lines = hosts.lines("a")
        assert_one_stream(lines)
        assert events(lines, "down")[0]["reason"]["kind"] == "stopped"
        assert len(events(lines, "gap")) == 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_without_a_quorum_connections_stay_and_nothing_is_lost(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    routes = [f"nats://127.0.0.1:{port}" for port in ports]
    servers = [
        NatsServer(
            tmp_path / f"nats-{port}",
            server_name=f"n{port}",
            cluster={"name": "c", "listen": f"127.0.0.1:{port}", "routes": routes},
        )
        for port in ports
    ]
    with ExitStack() as running, steady(100.0) as exchange:
        for server in servers:
            running.enter_context(server)
        urls = ",".join(server.url for server in servers)
        hosts = running.enter_context(Hosts(tmp_path, servers[0], "x", {"a": exchange.url}, servers=urls, replicas=3))
        hosts.wait_until_up()
        host = hosts.all["x"]
        for server in servers[1:]:
            server.kill()
        wait_until(lambda: host.cluster().get("state") == "degraded", PATIENCE, hosts.said)
        assert host.endpoints() == {"a": "up"}
        for server in servers[1:]:
            server.start()
        wait_until(lambda: host.cluster().get("state") == "member", PATIENCE, hosts.said)
        received = host.status()["endpoints"]["a"]["messages"]
        wait_until(lambda: len(events_of(hosts, "a")) >= received, PATIENCE, hosts.said)
        lines = hosts.lines("a")
        assert_one_stream(lines)
        assert len(events(lines, "up")) == 1
        seen = [line["data"]["n"] for line in lines if "number" in line]
        assert seen == list(range(len(seen)))
        log = "\n".join(host.log)
        assert "no quorum" in log or "connection is lost" in log, log
