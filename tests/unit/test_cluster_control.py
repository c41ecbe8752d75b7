"""The supervisor's side: it has what its agent holds, and ends exclusive endpoints by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import CLOCK_BOOTTIME, clock_gettime
from typing import Any

import pytest

from wsadapter.cli import table
from wsadapter.cluster.control import ClusterControl
from wsadapter.config import Dialects
from wsadapter.config.settings import ClusterSettings
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import NotConnected, UnknownEndpoint
from wsadapter.sinks.task import Report

ENDPOINTS = {name: Endpoint(name, url="ws://localhost") for name in ("a", "b", "key")}


class Ending:
    """A removed endpoint."""

    has_ended = False


class Registry:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.names: set[str] = set()
        self.ending = Ending()

    def add(self, endpoint: Endpoint, _dialects: Dialects) -> None:
        self.log.append(f"+{endpoint.name}")
        self.names.add(endpoint.name)

    def remove(self, name: str) -> list[Ending]:
        if name not in self.names:
            raise UnknownEndpoint(name, [])
        self.log.append(f"-{name}")
        self.names.remove(name)
        return [self.ending]


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


@pytest.fixture
def said(control: ClusterControl, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that the agent gets."""
    lines: list[str] = []
    monkeypatch.setattr(control.agent, "say", lambda line: lines.append(line.decode()))
    return lines


def report(
    control: ClusterControl,
    *,
    left: float = 5.0,
    boot: str = "boot",
    leaving: Sequence[str] = (),
    order: Mapping[str, Any] | None = None,
    **held: str,
) -> None:
    """`held`: by endpoint the id of the lease; its term is the length of the id."""
    said: dict[str, Any] = {
        "boot": boot, "until": clock_gettime(CLOCK_BOOTTIME) + left, "trouble": "", "refused": 0,
        "hosts": {"x": {"alive": True, "version": "1", "weight": 1.0, "same_configuration": True}},
        "leases": {name: {"host": "x", "term": len(lease)} for name, lease in held.items()},
        "leaving": leaving, "order": order,
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


def test_an_order_to_rebalance_is_answered_with_the_moves(control: ClusterControl, reactor: Reactor, said: list[str]) -> None:
    report(control, a="1")
    future = control.rebalance()
    (line,) = said
    assert line.startswith("rebalance ")
    assert line.endswith("\n")
    moves = {"a": {"from": "x", "to": "y"}}
    report(control, a="1", order={"id": "of another supervisor", "moves": {}})
    assert not future.done()
    report(control, a="1", order={"id": line.split()[1], "moves": moves})
    assert future.result(0) == {"moves": moves}
    reactor.timers.pop()()  # the end of the patience: nothing waits any more
    assert future.result(0) == {"moves": moves}


@pytest.mark.parametrize("outcome", [{"error": "NATS: no quorum"}, None])
def test_an_order_that_may_not_be_written_is_an_error(
    outcome: dict[str, str] | None, control: ClusterControl, reactor: Reactor, said: list[str]
) -> None:
    report(control, a="1")
    future = control.rebalance()
    if outcome is None:
        reactor.timers.pop()()
    else:
        report(control, a="1", order={"id": said[0].split()[1], **outcome})
    with pytest.raises(NotConnected, match="no quorum" if outcome else "its agent did not answer"):
        future.result(0)


def test_a_host_that_is_no_member_orders_nothing(control: ClusterControl, said: list[str]) -> None:
    with pytest.raises(NotConnected, match=r"no member of the cluster now \(joining\)"):
        control.rebalance()
    report(control, left=-0.1, a="1")
    with pytest.raises(NotConnected, match=r"\(degraded\)"):
        control.rebalance()
    assert said == []


def test_the_agent_is_notified_when_an_endpoint_that_leaves_is_closed(
    control: ClusterControl, registry: Registry, reactor: Reactor, said: list[str]
) -> None:
    report(control, a="1", key="1")
    report(control, a="1", leaving=["key"])
    assert registry.log == ["+a", "+key", "-key"]
    reactor.timers.pop()()
    assert said == []  # its owner still closes
    registry.ending.has_ended = True
    reactor.timers.pop()()
    reactor.timers.pop()()
    assert said == ["closed key\n"] * 2  # again: another agent process may not have read the first one
    report(control, a="1")
    reactor.timers.pop()()
    assert len(said) == 2
