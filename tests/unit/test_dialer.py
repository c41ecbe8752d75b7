"""How a link comes to a connection."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.fakes import FakeProcess, FakeSupervisor
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import ConfigError
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.dialer import Dialer
from wsadapter.process.owner_process import OwnerProcess


class Child(FakeProcess):
    """A warm owner."""

    def __init__(self) -> None:
        super().__init__()
        self.assigned: list[Assignment] = []
        self.holding: list[str] = []

    def assign(self, assignment: Assignment, resumption: Any = None, holder: Any = None) -> None:
        super().assign(assignment, resumption, None)
        self.assigned.append(assignment)
        self.holder = holder

    def hold(self, assignment: Assignment, sock: socket.socket) -> None:
        self.holding.append(assignment.url)


def dialer(supervisor: FakeSupervisor, **settings: Any) -> Dialer:
    endpoint = Endpoint("a", **{"url": "wss://h.test/", **settings})
    host = SimpleNamespace(endpoint=endpoint, dialect={"name": "d"}, quarantine="/q", sys_path=("/s",))
    return Dialer(supervisor, cast("Any", host), lambda: None, lambda line: None)


def test_the_next_address_is_tried_after_each_failed_attempt(supervisor: FakeSupervisor) -> None:
    two = dialer(supervisor, url=["ws://one.test/", "ws://other.test/"])
    urls = []
    for _ in range(3):
        urls.append((two.url, two.assignment(1).url, two.reserve_connect().target.host))
        two.attempt += 1
    assert urls == [
        ("ws://one.test/", "ws://one.test/", "one.test"),
        ("ws://other.test/", "ws://other.test/", "other.test"),
        ("ws://one.test/", "ws://one.test/", "one.test"),
    ]


def test_an_assignment_has_the_settings_and_the_fields_of_the_link(supervisor: FakeSupervisor) -> None:
    made = dialer(supervisor).assignment(4, identify=True, last_number=7)
    assert (made.epoch, made.identify, made.last_number) == (4, True, 7)
    assert (made.dialect, made.quarantine, made.sys_path) == ({"name": "d"}, "/q", ("/s",))


def test_a_reference_without_a_value_is_an_error_before_any_connect(supervisor: FakeSupervisor) -> None:
    with pytest.raises(ConfigError, match="WSADAPTER_NOT_SET"):
        dialer(supervisor, headers={"X-Key": "${WSADAPTER_NOT_SET}"}).assignment(1)


def test_a_host_that_asks_for_a_pause_gets_it_from_all_its_endpoints(supervisor: FakeSupervisor) -> None:
    one, same, another = (
        dialer(supervisor),
        dialer(supervisor, url="wss://h.test/other"),
        dialer(supervisor, url="wss://g.test/"),
    )
    one.leave_host_alone(Reason(kind="handshake_rejected", status=429, retry_after=30.0))
    assert 29 < same.reserve_connect().wait <= 30
    assert another.reserve_connect().wait == 0
    one.leave_host_alone(Reason(kind="crashed"))
    assert 29 < one.reserve_connect().wait <= 30


def test_secrets_that_a_peer_repeats_are_masked_even_if_another_supervisor_sent_them(
    supervisor: FakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "secret-7f3a")
    masking = dialer(supervisor, headers={"X-Key": "${API_KEY}"})
    assert masking.mask("bad key secret-7f3a") == "bad key ***"
    assert dialer(supervisor).mask("bad key secret-7f3a") == "bad key secret-7f3a"


def test_a_connect_counts_for_the_host_from_the_moment_of_the_assignment(supervisor: FakeSupervisor) -> None:
    limited = dialer(supervisor, limits={"connects": 1, "connects_period": 60.0})
    slot, process = limited.reserve_connect(), Child()
    limited.connect(cast("OwnerProcess", process), limited.assignment(1), slot)
    assert [assignment.url for assignment in process.assigned] == ["wss://h.test/"]
    assert 59 < limited.reserve_connect().wait <= 60


def test_the_tls_holder_gets_the_tls_settings_and_the_owner_gets_none(
    supervisor: FakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Child()
    monkeypatch.setattr(supervisor, "acquire_owner", lambda listener, endpoint: process)
    holding, process = dialer(supervisor, tls={"holder": True, "verify": False}), Child()
    holding.connect(cast("OwnerProcess", process), holding.assignment(1), holding.reserve_connect())
    (assignment,) = process.assigned
    assert process.holding == ["wss://h.test/"]
    assert (assignment.held, assignment.endpoint.tls.verify, holding.has_holders) == (True, True, True)
    process.holder.let_go()
    holding.forget_holders()
    assert not holding.has_holders


def test_without_a_loopback_connection_to_a_holder_the_owner_is_ended(
    supervisor: FakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("no port")

    monkeypatch.setattr("wsadapter.process.tls_holder.loopback_pair", fail)
    holding, process = dialer(supervisor, tls={"holder": True}), Child()
    holding.connect(cast("OwnerProcess", process), holding.assignment(1), holding.reserve_connect())
    assert [reason.text for reason in process.aborted] == ["no loopback connection to a TLS holder: no port"]
    assert process.assigned == []
