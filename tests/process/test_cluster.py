"""Hosts of a cluster on one NATS server: a host dies, or is frozen, and its endpoints go on elsewhere in one stream."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from time import monotonic
from typing import Any

from tests.support.brokers import NatsServer
from tests.support.feeds import steady
from tests.support.hosts import PATIENCE, Hosts
from tests.support.waiting import wait_until
from wsadapter.cluster.placement import order

LEASE = 3.0
SLOW = 4.0
"""For a machine with other work: the bench has the figure of a quiet one."""


def assert_one_stream(lines: list[dict[str, Any]]) -> None:
    """Numbers without a hole, epochs in order; each `Up` behind the first has its `Gap` at once."""
    numbers = [line["number"] for line in lines if "number" in line]
    assert numbers == list(range(1, len(numbers) + 1))
    epochs = [line["epoch"] for line in lines]
    assert epochs == sorted(epochs)
    ups = [place for place, line in enumerate(lines) if line.get("event") == "up"]
    for place in ups[1:]:
        assert lines[place + 1]["event"] == "gap", lines[place : place + 3]


def events(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line.get("event") == kind]


def owners(hosts: Hosts, endpoint: str) -> list[str]:
    """Of each message of the subject, the host that wrote it."""
    return [
        message.headers["Wsadapter-Host"]
        for message in hosts.server.messages("WSA_prices")
        if message.subject == f"WSA_prices.{endpoint}"
    ]


def test_a_host_is_killed_and_its_endpoints_are_up_elsewhere_in_one_stream(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server, steady(50.0) as exchange:
        with Hosts(tmp_path, server, "xyz", dict.fromkeys("abcdef", exchange.url)) as hosts:
            before = hosts.wait_until_up()
            victim = hosts.all[before["a"]]
            lost = {name for name, host in before.items() if host == victim.name}
            victim.signal_all(signal.SIGKILL)

            def over() -> bool:
                return all(events(hosts.lines(name), "gap") for name in lost)

            wait_until(over, PATIENCE, hosts.said)
            after = hosts.wait_until_up()
            assert victim.name not in after.values()
            shown = hosts.all[after["a"]].table()
            assert re.search(rf"^{victim.name} +gone +0 ", shown, re.MULTILINE), shown
            assert re.search(rf"^a +{after['a']} +2$", shown, re.MULTILINE), shown
            agent = hosts.all[after["a"]].status()["sinks"]["cluster"]
            assert (agent["state"], agent["restarts"], agent["last_exit"]) == ("running", 0, None)
            assert "sink:cluster" in hosts.all[after["a"]].status()["journal"]["consumers"]
            assert {name: after[name] for name in before.keys() - lost} == {name: before[name] for name in before.keys() - lost}
        for name in before:
            lines = hosts.lines(name)
            assert_one_stream(lines)
            gaps, downs = events(lines, "gap"), events(lines, "down")
            assert [gap["cause"] for gap in gaps] == ["host_lost"] * (name in lost)
            assert [down["reason"]["kind"] for down in downs] == ["host_lost"] * (name in lost)
            if name in lost:
                # A lease from the last renewal, which may be a beat old when the host dies, and the time for a connection.
                assert (gaps[0]["resumed_at"] - gaps[0]["last_received_at"]) / 1e9 < LEASE + 1.0 + SLOW
                last = [line for line in lines[: lines.index(gaps[0])] if "number" in line][-1]
                assert gaps[0]["last_received_at"] == last["received_at"]


def test_a_rebalance_gives_a_host_that_has_returned_its_endpoints_back(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server, steady(50.0) as exchange:
        more = 'exclusive = ["a"]'
        with Hosts(tmp_path, server, "xy", dict.fromkeys("abd", exchange.url), more=more) as hosts:
            before = hosts.wait_until_up()
            belongs = {endpoint: order(endpoint, {"x": 1.0, "y": 1.0})[0] for endpoint in before}
            name = belongs["a"]
            other = hosts.all["xy".replace(name, "")]
            moved = {endpoint for endpoint, host in belongs.items() if host == name}
            hosts.all[name].signal_all(signal.SIGKILL)
            wait_until(lambda: hosts.holders() == dict.fromkeys(before, other.name), PATIENCE, hosts.said)
            hosts.start_again(name)
            assert hosts.holders() == dict.fromkeys(before, other.name)
            ordered = other.command("rebalance", "--json")
            assert json.loads(ordered.stdout)["moves"] == {each: {"from": other.name, "to": name} for each in moved}
            wait_until(lambda: hosts.holders() == belongs, PATIENCE, hosts.said)
            again = hosts.all[name].command("rebalance").stdout
            assert again == "every endpoint is on the host of its first choice: nothing moves\n"
            for endpoint in moved:
                seen = len(hosts.lines(endpoint))
                wait_until(lambda: len(hosts.lines(endpoint)) > seen, PATIENCE, hosts.said)  # noqa: B023
        for endpoint in before:
            lines = hosts.lines(endpoint)
            assert_one_stream(lines)
            killed, moves = before[endpoint] == name, endpoint in moved
            assert [gap["cause"] for gap in events(lines, "gap")] == ["host_lost"] * (killed + moves)
            kinds = [down["reason"]["kind"] for down in events(lines, "down")]
            assert len(kinds) == killed + moves
            if endpoint == "a":  # exclusive: its connection was closed, and that appended, before the other host had the lease
                assert kinds[-1] == "stopped"


def test_a_host_that_was_frozen_is_refused_by_the_server_and_joins_again(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server, steady(200.0) as exchange:
        with Hosts(tmp_path, server, "xy", dict.fromkeys("abcd", exchange.url)) as hosts:
            before = hosts.wait_until_up()
            victim = hosts.all[before["a"]]
            lost = [name for name, host in before.items() if host == victim.name]
            frozen_at = monotonic()
            victim.signal_all(signal.SIGSTOP)
            try:
                wait_until(lambda: all(events(hosts.lines(name), "gap") for name in lost), PATIENCE, hosts.said)
                wait_until(lambda: monotonic() - frozen_at > 2 * LEASE, PATIENCE)
                written = {name: len(owners(hosts, name)) for name in lost}
            finally:
                victim.signal_all(signal.SIGCONT)
            wait_until(lambda: victim.cluster().get("state") == "member", PATIENCE, hosts.said)
            wait_until(lambda: not victim.endpoints(), PATIENCE, hosts.said)
            wait_until(lambda: victim.cluster().get("refused"), PATIENCE, hosts.said)  # else the fence was not tested
            for name in lost:
                assert victim.name not in owners(hosts, name)[written[name] :]
        for name in before:
            assert_one_stream(hosts.lines(name))
            assert len(events(hosts.lines(name), "gap")) == (name in lost)


def test_an_exclusive_endpoint_ends_by_itself_when_its_host_is_cut_off(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server, steady(50.0) as exchange:
        more = 'exclusive = ["a"]'
        with Hosts(tmp_path, server, "x", dict.fromkeys("ab", exchange.url), more=more) as hosts:
            hosts.wait_until_up()
            host = hosts.all["x"]
            server.kill()
            wait_until(lambda: host.endpoints().keys() == {"b"}, PATIENCE, hosts.said)
            assert host.endpoints()["b"] == "up"
            assert host.cluster()["state"] == "degraded"
            server.start()
            wait_until(lambda: host.endpoints() == {"a": "up", "b": "up"}, PATIENCE, hosts.said)
            received = host.status()["endpoints"]["b"]["messages"]  # also while NATS was away
            wait_until(lambda: len(events_of(hosts, "b")) >= received, PATIENCE, hosts.said)
        assert_one_stream(hosts.lines("a"))
        assert_one_stream(hosts.lines("b"))
        assert len(events(hosts.lines("b"), "up")) == 1


def events_of(hosts: Hosts, endpoint: str) -> list[dict[str, Any]]:
    return [line for line in hosts.lines(endpoint) if "number" in line]


def test_an_agent_that_dies_is_replaced_and_nothing_is_missing(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server, steady(200.0) as exchange:
        with Hosts(tmp_path, server, "x", {"a": exchange.url}) as hosts:
            hosts.wait_until_up()
            host = hosts.all["x"]
            for _ in range(2):
                seen = len(events_of(hosts, "a"))
                host.agent().kill()
                wait_until(lambda: len(events_of(hosts, "a")) > seen + 50, PATIENCE, hosts.said)  # noqa: B023
            host.stop()
        lines = hosts.lines("a")
        assert_one_stream(lines)
        assert not events(lines, "gap")
        assert [line["data"]["n"] for line in events_of(hosts, "a")] == list(range(len(events_of(hosts, "a"))))
        assert lines[-1]["event"] == "down"
