"""What outlives the owners of a link: the connection itself, and what is known of it (endpoint/link_connection.py)."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from tests.support.fakes import FakeHoldingSupervisor, FakeProcess, FakeSupervisor, Holding, connected, die, say, up
from tests.support.records import consume
from wsadapter.contract import items
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.commands import SUBSCRIBE, UNSUBSCRIBE
from wsadapter.contract.ipc.reports import ConnectionUp
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.link import Link
from wsadapter.endpoint.requests import RequestsSnapshot
from wsadapter.handoff.held_connection import NotResumable

CRASH = Reason(kind="crashed", signal="SIGKILL")


class Unpassable(Holding):
    """An owner to which the kernel does not pass the connection (too many descriptors are in flight)."""

    def assign(self, assignment: Any, resumption: Any = None, holder: None = None) -> None:
        super().assign(assignment, resumption, holder)
        if resumption is not None:
            resumption.held.close()
            self.connection.in_custody = False


def end_of(supervisor: FakeHoldingSupervisor) -> None:
    """Close what the last owner was given."""
    supervisor.handed.held.sock.close()


def killed(supervisor: FakeHoldingSupervisor, **settings: Any) -> Link:
    """A link whose first owner was up, with the stream "s" confirmed, and was killed; the next owner has the connection."""
    link = connected(supervisor, **settings)
    up(supervisor.process)
    link.connection.subscriptions.connection.confirmed.add("s")
    supervisor.kill_owner()
    return link


def test_a_connection_that_outlives_its_owner_keeps_its_subscriptions(holding_supervisor: FakeHoldingSupervisor) -> None:
    link = killed(holding_supervisor)
    assert holding_supervisor.handed.resume.position == 7
    assert link.connection.subscriptions.connection.confirmed == {"s"}
    assert link.connection.dialer.attempt == 0
    end_of(holding_supervisor)
    link.stop()


def test_a_connection_that_ends_with_its_owner_forgets_its_subscriptions(supervisor: FakeSupervisor) -> None:
    link = connected(supervisor)
    up(supervisor.process)
    link.connection.subscriptions.connection.confirmed.add("s")
    die(supervisor.process, CRASH)
    assert link.connection.subscriptions.connection.confirmed == set()
    link.stop()


def test_only_an_owner_that_was_never_up_makes_the_next_one_try_another_address(supervisor: FakeSupervisor) -> None:
    link = connected(supervisor)
    die(supervisor.process, Reason(kind="connect_failed"))
    assert link.connection.dialer.attempt == 1
    link.restart()
    up(supervisor.process)
    die(supervisor.process, CRASH)
    assert link.connection.dialer.attempt == 1
    link.stop()


def test_an_owner_that_does_not_get_the_connection_loses_it_and_opens_one(
    holding_supervisor: FakeHoldingSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = holding_supervisor
    link = connected(supervisor)
    up(supervisor.process)
    link.connection.subscriptions.connection.confirmed.add("s")
    monkeypatch.setattr(supervisor, "new_process", lambda: Unpassable(supervisor.ours))
    die(supervisor.process, CRASH)
    assert link.owner is not None
    assert (link.owner.epoch.resuming, link.is_between_owners) == (False, False)
    assert link.connection.subscriptions.connection.confirmed == set()
    assert link.connection.custody.resumption is None
    link.stop()


def test_a_connection_that_can_not_be_resumed_is_not_kept_and_the_log_says_why(
    holding_supervisor: FakeHoldingSupervisor, caplog: pytest.LogCaptureFixture
) -> None:
    link = connected(holding_supervisor)
    process = holding_supervisor.process
    up(process)

    def refuse(_up: object) -> None:
        raise NotResumable("a frame was sent in part")

    process.connection.resumption = refuse
    with caplog.at_level(logging.DEBUG, "wsadapter"):
        die(process, CRASH)
    assert link.connection.custody.resumption is None
    assert "a frame was sent in part" in caplog.text
    link.stop()


def test_the_next_owner_reports_a_message_that_was_cut_out_and_gets_the_deferred_changes(
    holding_supervisor: FakeHoldingSupervisor,
) -> None:
    link = killed(holding_supervisor)
    connection, process = link.connection, holding_supervisor.process
    connection.sender.unsubscribe(["s"])
    assert not [kind for kind, _, _ in process.sent if kind == UNSUBSCRIBE]  # the owner is not up: it would not send a frame
    connection.custody.cut_out.append(17)
    consume(holding_supervisor.inbox)
    up_resumed(process)
    cut_out = [item for item in consume(holding_supervisor.inbox) if isinstance(item, items.Dropped)]
    assert [(item.cause, item.count, item.bytes) for item in cut_out] == [("poison", 1, 17)]
    assert [body["streams"] for kind, _, body in process.sent if kind == UNSUBSCRIBE and isinstance(body, dict)] == [["s"]]
    assert (link.output.counters.handoffs, connection.custody.cut_out) == (1, [])
    end_of(holding_supervisor)
    link.stop()


def up_resumed(process: FakeProcess) -> None:
    """The owner reports the connection that it continues on."""
    say(process, ConnectionUp({}, None, resumed=True).encode())


def test_a_connection_without_an_owner_that_is_given_up_is_closed(holding_supervisor: FakeHoldingSupervisor) -> None:
    link = connected(holding_supervisor)
    up(holding_supervisor.process)
    custody = link.connection.custody
    resumption = holding_supervisor.process.connection.resumption({})
    custody.resumption = resumption
    link.connection.give_up()
    assert (custody.resumption, resumption.held.sock.fileno()) == (None, -1)
    link.connection.give_up()  # there is none any more
    link.stop()


def test_requests_and_subscriptions_of_a_connection_go_only_to_an_owner_that_continues_on_it(
    supervisor: FakeSupervisor,
) -> None:
    link = connected(supervisor)
    up(supervisor.process)
    connection = link.connection
    connection.subscriptions.connection.confirmed.add("s")
    assert connection.assignment(2).confirmed == ()
    connection.custody.resumption = cast("Any", object())
    assert connection.assignment(2).confirmed == ("s",)
    connection.custody.resumption = None
    link.stop()


def test_messages_carry_identities_for_a_rollover_and_with_replicas(supervisor: FakeSupervisor) -> None:
    alone = connected(supervisor).connection
    assert (alone.assignment(2).identify, alone.assignment(2, identify=True).identify) == (False, True)
    replicas = EndpointRuntime(supervisor, Endpoint("a", url="ws://127.0.0.1/", replicas=2, identity="n"), None)
    assert replicas.links[0].connection.assignment(1).identify


@pytest.mark.parametrize(
    ("dialect", "wanted", "awaits"),
    [
        (None, ["s"], False),
        ({"subscribe": {"frame": "$stream"}}, ["s"], False),
        ({"subscribe": {"frame": "$stream"}, "ack": [{}]}, ["s"], True),
        ({"subscribe": {"frame": "$stream"}, "ack": [{}]}, [], False),
    ],
)
def test_answers_are_awaited_if_the_peer_confirms_a_wanted_stream(
    supervisor: FakeSupervisor, dialect: dict[str, Any] | None, wanted: list[str], awaits: bool
) -> None:
    endpoint = Endpoint("a", url="ws://127.0.0.1/", subscribe=wanted)
    link = EndpointRuntime(supervisor, endpoint, dialect).link
    assert link.connection.awaits_answers is awaits


def test_another_supervisor_continues_with_the_address_the_refs_the_subscriptions_and_the_requests(
    supervisor: FakeSupervisor,
) -> None:
    one, other = connected(supervisor), EndpointRuntime(supervisor, Endpoint("a", url="ws://127.0.0.1/"), None).link
    up(supervisor.process)
    one.connection.dialer.attempt = 3
    one.connection.sender.subscribe(["more"])
    one.connection.requests.restore(RequestsSnapshot(7, ["5"], None))
    other.connection.restore(one.connection.snapshot())
    assert other.connection.dialer.attempt == 3
    assert other.connection.commands.last_ref == one.connection.commands.last_ref
    assert list(one.connection.snapshot().sender.sent.values()) == [(SUBSCRIBE, ["more"])]
    assert other.connection.snapshot() == one.connection.snapshot()
    one.stop()
