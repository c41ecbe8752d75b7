"""The supervisor's side: it has what its agent holds, and ends exclusive endpoints by itself."""

from __future__ import annotations

from collections.abc import Callable
from time import CLOCK_BOOTTIME, clock_gettime
from typing import Any

import pytest

from wsadapter.cli import table
from wsadapter.cluster.control import ClusterControl
from wsadapter.config import Dialects
from wsadapter.config.settings import ClusterSettings
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import UnknownEndpoint
from wsadapter.sinks.task import Report

ENDPOINTS = {name: Endpoint(name, url="ws://localhost") for name in ("a", "b", "key")}


class Registry:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.names: set[str] = set()

    def add(self, endpoint: Endpoint, _dialects: Dialects) -> None:
        self.log.append(f"+{endpoint.name}")
        self.names.add(endpoint.name)

    def remove(self, name: str) -> None:
        if name not in self.names:
            raise UnknownEndpoint(name, [])
        self.log.append(f"-{name}")
        self.names.remove(name)


class Reactor:
    def __init__(self) -> None:
        self.timers: list[Callable[[], object]] = []

    def post(self, call: Callable[[], object]) -> None:
        call()

    def call_later(self, _delay: float, call: Callable[[], object]) -> None:
        self.timers.append(call)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def control(registry: Registry, reactor: Reactor) -> ClusterControl:
    settings = ClusterSettings(name="prices", host="x", servers="nats://h", exclusive=("key",))
    made = ClusterControl(settings, "/j", reactor, lambda: registry)  # type: ignore[arg-type, return-value]
    made.configure(ENDPOINTS, Dialects())
    made.start()
    return made


def report(control: ClusterControl, *, left: float = 5.0, boot: str = "boot", **held: str) -> None:
    """`held`: by endpoint the id of the lease; its term is the length of the id."""
    said: dict[str, Any] = {
        "boot": boot, "until": clock_gettime(CLOCK_BOOTTIME) + left, "trouble": "", "refused": 0,
        "hosts": {"x": {"alive": True, "version": "1", "weight": 1.0, "same_configuration": True}},
        "leases": {name: {"host": "x", "term": len(lease)} for name, lease in held.items()},
    }  # fmt: skip
    if left > 0:
        said["held"] = {name: {"term": len(lease), "id": lease} for name, lease in held.items()}
    control.agent.take(Report(cluster=said))


def test_endpoints_come_and_go_with_the_leases(control: ClusterControl, registry: Registry) -> None:
    assert registry.log == []
    report(control, a="1", b="1")
    report(control, a="1", b="1")
    report(control, b="1")
    assert registry.log == ["+a", "+b", "-a"]


def test_a_new_lease_is_a_new_connection(control: ClusterControl, registry: Registry) -> None:
    report(control, a="one")
    report(control, a="two")  # of the same term, as after the loss of the bucket
    assert registry.log == ["+a", "-a", "+a"]


def test_without_a_current_lease_only_exclusive_endpoints_end(
    control: ClusterControl, registry: Registry, reactor: Reactor
) -> None:
    report(control, a="1", key="1")
    assert registry.log == ["+a", "+key"]
    report(control, left=-0.1, a="1", key="1")
    reactor.timers.pop()()
    assert registry.log == ["+a", "+key", "-key"]
    assert control.status()["state"] == "degraded"
    report(control, a="1", key="1")
    assert registry.log == ["+a", "+key", "-key", "+key"]


def test_a_lease_that_has_run_out_on_the_way_adds_no_exclusive_endpoint(control: ClusterControl, registry: Registry) -> None:
    said = {"boot": "b", "until": clock_gettime(CLOCK_BOOTTIME) - 1, "held": {"key": {"term": 1, "id": "1"}}}
    control.agent.take(Report(cluster=said))
    assert registry.log == []


def test_the_next_agent_process_knows_the_boot_and_the_leases(control: ClusterControl) -> None:
    report(control, boot="second", a="one")
    said = control.agent.task.cluster
    assert said is not None
    assert (said["boot"], said["known"]) == ("second", {"a": "one"})


def test_nothing_is_added_once_the_supervisor_stops(control: ClusterControl, registry: Registry) -> None:
    control.end()
    report(control, a="1")
    assert registry.log == []


def test_an_endpoint_that_a_command_removed_is_no_error(control: ClusterControl, registry: Registry) -> None:
    report(control, a="1")
    registry.remove("a")
    report(control)
    assert registry.log == ["+a", "-a"]


def test_new_settings_are_those_of_what_it_has(control: ClusterControl) -> None:
    report(control, a="1")
    new = {"a": Endpoint("a", url="ws://elsewhere"), "c": Endpoint("c", url="ws://localhost")}
    assert control.reconfigure(new, Dialects()) == {"a": new["a"]}


def test_the_table_shows_hosts_and_leases(control: ClusterControl) -> None:
    report(control, a="1")
    assert table.cluster(control.status()) == [
        "cluster prices, host x: member",
        "",
        "HOST  STATE  ENDPOINTS  WEIGHT  VERSION  CONFIG",
        "x     alive          1       1  1        same",
        "",
        "ENDPOINT  HOST  TERM",
        "a         x        1",
        "b         -        -",
        "key       -        -",
    ]
