"""An endpoint at run time: what users ask for, and how its links share one stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.fakes import FakeSupervisor, die, up
from tests.support.records import FIRST, consume, message
from tests.unit.test_subscription_sender import endpoint
from wsadapter.contract.errors import NotConnected
from wsadapter.contract.items import Down, Message, Up
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.endpoint import EndpointRuntime


def running(supervisor: FakeSupervisor, **settings: Any) -> EndpointRuntime:
    """All of its links are up."""
    running = EndpointRuntime(supervisor, endpoint(**settings), None)
    running.start()
    assert len(running.links) == len(supervisor.processes)
    for process in supervisor.processes:
        up(process)
        process.listener.streams.append("b")
    return running


def receive(supervisor: FakeSupervisor, number: int, identity: int) -> None:
    process = supervisor.processes[number - 1]
    process.listener.on_record(process, message(identity, 1, 1))


def end(running: EndpointRuntime) -> None:
    running.stop()
    if running.replicas is not None:
        running.replicas.end_turns()


def items_of(supervisor: FakeSupervisor, *kinds: type) -> list[Any]:
    return [item for item in consume(supervisor.inbox) if isinstance(item, kinds)]


def test_an_endpoint_without_replicas_has_one_link_and_names_no_member(supervisor: FakeSupervisor) -> None:
    alone = running(supervisor)
    assert (len(alone.links), alone.replicas, alone.state) == (1, None, "up")
    receive(supervisor, 1, FIRST)
    up, message = items_of(supervisor, Up, Message)
    assert (up.member, up.live, message.number, message.epoch) == (None, None, 1, 1)
    assert "members" not in alone.status()
    end(alone)


def test_a_message_of_several_links_is_delivered_once_with_one_number(supervisor: FakeSupervisor) -> None:
    several = running(supervisor, replicas=2)
    for identity in (FIRST, FIRST + 1):
        receive(supervisor, 1, identity)
        receive(supervisor, 2, identity)
    messages = items_of(supervisor, Message)
    assert [message.number for message in messages] == [1, 2]
    status = several.status()
    assert (status["live"], status["messages"], [member["member"] for member in status["members"]]) == (2, 2, [1, 2])
    end(several)


def test_a_monitor_sees_the_end_of_the_last_connection_only(supervisor: FakeSupervisor) -> None:
    several = running(supervisor, replicas=2)
    seen: list[Any] = []
    monitor = type("Monitor", (), {"notify": lambda self, event: seen.append(event)})()
    several.enter(monitor)
    for process in list(supervisor.processes):
        die(process)
    assert [(type(event), event.live) for event in seen] == [(Up, 2), (Down, 0)]
    assert several.last_exit == Reason(kind="crashed")
    end(several)


def test_a_link_that_new_settings_remove_takes_no_part_until_it_has_ended(supervisor: FakeSupervisor) -> None:
    three = running(supervisor, replicas=3)
    for number in (1, 2, 3):
        receive(supervisor, number, FIRST)
    third = supervisor.processes[2]
    three.replace_settings(replace(three.endpoint, replicas=2), None)
    assert (len(three.links), three.status()["live"]) == (2, 2)
    third.listener.on_record(third, message(FIRST + 1, 1, 1))  # its connection is not closed yet
    die(third, Reason(kind="stopped"))
    receive(supervisor, 1, FIRST + 1)
    assert [message.number for message in items_of(supervisor, Message)] == [1, 2]
    assert three.status()["live"] == 2
    end(three)


def test_a_link_that_joins_continues_the_stream_of_the_others(supervisor: FakeSupervisor) -> None:
    two = running(supervisor, replicas=2)
    two.replace_settings(replace(two.endpoint, replicas=3), None)
    assert len(two.links) == 3
    up(supervisor.processes[2])
    assert [up.resumed for up in items_of(supervisor, Up)] == [False, True, True]
    end(two)


def test_a_wait_for_the_next_owner_fails_if_the_endpoint_is_stopped(supervisor: FakeSupervisor) -> None:
    alone = running(supervisor)
    future = alone.restart(at_once=True)
    alone.stop()
    die(supervisor.processes[0], Reason(kind="stopped"))
    with pytest.raises(NotConnected, match="a is stopped: stopped"):
        future.result(0)
    assert alone.has_ended
