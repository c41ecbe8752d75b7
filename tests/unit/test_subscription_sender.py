"""The subscriptions of a link: who is sent a change, who has to be sent it again, and who is asked for a fresh snapshot."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import Any, cast

from tests.support.fakes import FakeSupervisor, die, up
from tests.support.records import message
from tests.support.snapshots import transferred
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.record import SNAPSHOT
from wsadapter.contract.ipc.reports import REPORTS
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.link import Link
from wsadapter.endpoint.reports import apply_report
from wsadapter.endpoint.subscriptions import key_of
from wsadapter.takeover.endpoint_state import receive, snapshot_of

BOOK = {"channel": "books", "instId": "BTC-USDT"}


def endpoint(**settings: Any) -> Endpoint:
    return Endpoint("a", url="ws://127.0.0.1/", subscribe=[BOOK, "b"], identity="n", **settings)


def test_the_owner_is_notified_of_wanted_streams_also_by_their_names(supervisor: FakeSupervisor) -> None:
    link = EndpointRuntime(supervisor, endpoint(), None).link
    link.connection.sender.resubscribe(["b"])  # there is no connection: the next one begins with a snapshot
    link.start()
    up(supervisor.processes[0])
    link.connection.sender.resubscribe([BOOK, "unknown"])
    link.connection.sender.resubscribe(['{"channel":"books","instId":"BTC-USDT"}'])
    assert supervisor.processes[0].resubscribed == [BOOK, BOOK]
    assert list(link.connection.subscriptions.wanted.values()) == [BOOK, "b"]
    link.connection.sender.unsubscribe(["b"])
    link.connection.sender.resubscribe(["b"])
    assert supervisor.processes[0].resubscribed == [BOOK, BOOK]
    link.stop()


def test_a_subscription_without_an_owner_is_deferred(supervisor: FakeSupervisor) -> None:
    link = EndpointRuntime(supervisor, endpoint(), None).link
    link.start()
    up(supervisor.processes[0])
    link.connection.custody.resumption = cast("Any", object())
    link.connection.sender.resubscribe(["b"])
    assert supervisor.processes[0].resubscribed == []
    link.connection.sender.unsubscribe([BOOK])
    link.connection.sender.catch_up()
    assert supervisor.processes[0].resubscribed == ["b"]
    link.connection.custody.resumption = None
    link.stop()


def test_without_an_owner_only_refused_streams_are_sent_to_the_next_one(
    supervisor: FakeSupervisor,
) -> None:
    link = EndpointRuntime(supervisor, endpoint(), None).link
    link.start()
    up(supervisor.processes[0])
    link.connection.subscriptions.connection.asked = {key_of(BOOK), "b"}
    link.connection.subscriptions.connection.rejected["b"] = "unknown"
    link.connection.custody.resumption = cast("Any", object())
    link.connection.sender.subscribe(["b", "new"])
    assert [*link.connection.sender.still_subscribed()] == [BOOK, "b"], "the next owner asks for what is new by itself"
    link.connection.sender.catch_up()
    assert supervisor.processes[0].subscribed == ["b"]
    link.connection.custody.resumption = None
    link.stop()


def say(link: Link, event: str, **fields: Any) -> None:
    assert link.owner is not None
    apply_report(link.owner, REPORTS[event](**fields))


def test_without_confirmations_a_sent_stream_counts_as_subscribed(supervisor: FakeSupervisor) -> None:
    link = EndpointRuntime(supervisor, endpoint(), None).link
    link.start()
    up(supervisor.processes[0])
    assert link.connection.sender.still_subscribed() == []
    say(link, "asked", streams=["b", "not wanted any more"], gone=False)
    assert link.connection.sender.still_subscribed() == ["b"]
    assert link.connection.subscriptions.connection.asked == {"b"}
    say(link, "asked", streams=["b"], gone=True)
    assert link.connection.sender.still_subscribed() == []
    link.stop()


def test_known_paces_and_suspects_outlive_a_change_of_settings_and_a_takeover(supervisor: FakeSupervisor) -> None:
    running = EndpointRuntime(supervisor, endpoint(), None)
    running.subscriptions.paces = {"b": 2.5, key_of(BOOK): 1.5}
    running.subscriptions.blame.reported("b", "unknown", monotonic())
    snapshot, fds = snapshot_of(running)
    assert fds == []
    taken = receive(supervisor, transferred(snapshot), iter([]))
    assert taken.subscriptions.paces == {"b": 2.5, key_of(BOOK): 1.5}
    assert taken.subscriptions.blame.for_owner(monotonic()) == {"b": "unknown"}
    taken.replace_settings(replace(endpoint(), subscribe=["b", "new"], send_on_up=["x"]), None)
    assert taken.subscriptions.paces == {"b": 2.5}
    taken.replace_settings(replace(taken.endpoint, url="ws://127.0.0.2/"), None)
    assert taken.subscriptions.paces == {}, "another peer"
    taken.stop()


def test_the_next_lead_is_asked_for_snapshots_unless_it_is_known_to_have_all_messages(supervisor: FakeSupervisor) -> None:
    replicas = EndpointRuntime(supervisor, endpoint(replicas=2), None)
    replicas.start()
    one, other = supervisor.processes
    for process in supervisor.processes:
        up(process)
        process.listener.streams.append("b")
    one.listener.on_record(one, message(SNAPSHOT, 1, 1))
    die(one)
    assert other.resubscribed == ["b"]
    replicas.stop()
    assert replicas.replicas is not None
    replicas.replicas.end_turns()


def test_the_lead_of_replicas_is_notified_and_the_next_lead_too(supervisor: FakeSupervisor) -> None:
    replicas = EndpointRuntime(supervisor, endpoint(replicas=2), None)
    replicas.start()
    one, other = supervisor.processes
    for process in supervisor.processes:
        up(process)
    replicas.resubscribe([BOOK])
    assert (one.resubscribed, other.resubscribed) == ([BOOK], [])
    die(one)
    assert other.resubscribed == [BOOK]
    replicas.stop()
    assert replicas.replicas is not None
    replicas.replicas.end_turns()
