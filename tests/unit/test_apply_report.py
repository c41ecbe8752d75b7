"""What a report of an owner does to its endpoint (endpoint/reports.py)."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.support.fakes import FakeSupervisor, up
from tests.support.records import consume
from wsadapter.contract import items
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc import commands, reports
from wsadapter.contract.ipc.commands import Command
from wsadapter.contract.ipc.reports import OwnerReport
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.link import Link
from wsadapter.endpoint.link_owner import LinkOwner
from wsadapter.endpoint.reports import APPLIED_BY, apply_report


@pytest.fixture
def link(supervisor: FakeSupervisor) -> Link:
    link = EndpointRuntime(supervisor, Endpoint("a", url="ws://127.0.0.1/", subscribe=["b", "c"]), None).link
    link.start()
    up(supervisor.processes[0])
    return link


@pytest.fixture
def owner(link: Link) -> LinkOwner:
    assert link.owner is not None
    return link.owner


def test_each_class_of_reports_is_applied_by_one_function() -> None:
    assert set(APPLIED_BY) == set(get_args(OwnerReport))
    assert len(set(APPLIED_BY.values())) == len(APPLIED_BY)


def test_a_confirmed_stream_is_neither_rejected_nor_blamed(link: Link, owner: LinkOwner) -> None:
    apply_report(owner, reports.SubscriptionRejected("b", "no such stream"))
    assert link.connection.subscriptions.connection.rejected == {"b": "no such stream"}
    apply_report(owner, reports.SubscriptionConfirmed("b"))
    connection = link.connection.subscriptions.connection
    assert (connection.confirmed, connection.rejected) == ({"b"}, {})
    apply_report(owner, reports.SubscriptionRequested("b"))
    assert connection.confirmed == set()


def test_a_rejected_part_does_not_reject_its_subscription(link: Link, owner: LinkOwner) -> None:
    apply_report(owner, reports.SubscriptionConfirmed("b"))
    apply_report(owner, reports.SubscriptionRejected("b-1", "no such part", "b"))
    connection = link.connection.subscriptions.connection
    assert (connection.confirmed, connection.parts) == ({"b"}, {"b-1": "b"})
    apply_report(owner, reports.SubscriptionConfirmed("b-1", "b"))
    assert (connection.confirmed, connection.parts, connection.rejected) == ({"b"}, {}, {})


def test_streams_whose_frames_were_sent_count_only_while_they_are_wanted(link: Link, owner: LinkOwner) -> None:
    apply_report(owner, reports.SubscriptionsSent(("b", "c", "unknown"), gone=False))
    assert link.connection.subscriptions.connection.asked == {"b", "c"}
    apply_report(owner, reports.SubscriptionsSent(("c",), gone=True))
    assert link.connection.subscriptions.connection.asked == {"b"}


def test_an_index_of_a_stream_that_is_skipped_is_a_contradiction(owner: LinkOwner) -> None:
    with pytest.raises(ValueError, match="stream 7 announced"):
        apply_report(owner, reports.StreamNamed(7, "b"))


def test_a_text_of_the_peer_is_shown_up_to_a_bound(owner: LinkOwner, supervisor: FakeSupervisor) -> None:
    apply_report(owner, reports.PeerError("x" * 5000))
    notices = [item for item in consume(supervisor.inbox) if isinstance(item, items.Notice)]
    assert [len(notice.text) for notice in notices] == [1000]


def test_the_next_supervisor_knows_what_the_one_before_had_demanded(
    link: Link, owner: LinkOwner, supervisor: FakeSupervisor
) -> None:
    process = supervisor.processes[0]
    process.control.called = 7
    link.connection.sender.resubscribe(["b"])  # before its mark the dead supervisor had sent this, and the owner has it
    (sent_before,) = link.connection.sender.snapshot().sent
    apply_report(owner, reports.SubscriptionConfirmed("b"))
    apply_report(owner, reports.SubscriptionConfirmed("c"))
    change = (40, commands.SUBSCRIBE, ("new",))
    apply_report(owner, reports.Rejoined(7, "up", 41, ("c", "new"), (change,), ("99",)))
    assert list(link.connection.subscriptions.wanted) == ["c", "new"]
    assert link.connection.subscriptions.connection.confirmed == {"c"}
    assert link.connection.sender.snapshot().sent == {40: (commands.SUBSCRIBE, ["new"])}
    assert process.sent[-1] == (commands.IDENTIFY, 0, {"on": False})
    assert link.connection.requests.ids == ("99",)
    assert link.connection.commands.next_ref() == 42
    for ref in (sent_before, 40):
        owner.on_command(owner.process, Command(commands.TAKEN, ref, b""))
    assert link.connection.sender.snapshot().sent == {}


def test_the_answer_to_a_supervisor_that_died_changes_nothing(link: Link, owner: LinkOwner, supervisor: FakeSupervisor) -> None:
    supervisor.processes[0].control.called = 8
    apply_report(owner, reports.Rejoined(7, "up", 41, (), (), ()))
    assert list(link.connection.subscriptions.wanted) == ["b", "c"]
    assert link.connection.commands.next_ref() < 41


def test_an_owner_that_nobody_has_called_cannot_have_another_supervisor(owner: LinkOwner) -> None:
    with pytest.raises(ValueError, match="nobody has called"):
        apply_report(owner, reports.Rejoined(1, "up", 1, (), (), ()))
