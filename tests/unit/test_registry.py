"""Who has a name, who waits for it, and how far its numbers came."""

from __future__ import annotations

from typing import Any

from tests.support.fakes import FakeSupervisor, die
from wsadapter.config import Dialects
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.reasons import Reason
from wsadapter.delivery.inbox import Inbox
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.subscriptions import Numbers
from wsadapter.registry.registry import EndpointRegistry


def registry(supervisor: FakeSupervisor) -> EndpointRegistry:
    """As a supervisor's: whoever enters and need not wait is started."""

    def entered(runtime: EndpointRuntime, *, waits: bool) -> None:
        if not waits:
            runtime.start()

    return EndpointRegistry(supervisor, {}, on_registered=entered)


def add(registry: EndpointRegistry, **settings: Any) -> EndpointRuntime:
    registry.add(Endpoint("y", url="ws://127.0.0.1/", identity="n", **settings), Dialects())
    return registry.endpoints["y"]


def test_who_waits_for_a_name_and_is_removed_meanwhile_is_not_started(supervisor: FakeSupervisor) -> None:
    names = registry(supervisor)
    first = add(names)
    names.remove("y")
    add(names, replicas=2)
    names.remove("y")
    (process,) = supervisor.processes
    die(process, Reason(kind="stopped"))
    assert first.has_ended
    assert names.successor_of(first) is None
    assert len(supervisor.processes) == 1


def test_who_comes_after_one_that_waited_in_vain_waits_for_the_first_too(supervisor: FakeSupervisor) -> None:
    names = registry(supervisor)
    first = add(names)
    names.remove("y")
    add(names, replicas=2)
    names.remove("y")
    third = add(names)
    assert len(supervisor.processes) == 1
    die(supervisor.processes[0], Reason(kind="stopped"))
    assert names.successor_of(first) is third
    third.stop()


def test_after_new_settings_the_endpoints_are_in_the_order_of_the_configuration(supervisor: FakeSupervisor) -> None:
    names = registry(supervisor)
    wanted = {name: Endpoint(name, url="ws://127.0.0.1/") for name in "abc"}
    for name in "ca":  # as another supervisor left them
        names.add(wanted[name], Dialects())
    before = names.endpoints
    assert names.apply(wanted, {})["added"] == ["b"]
    assert list(names.endpoints) == ["a", "b", "c"]
    assert list(before) == ["c", "a"]  # it may be iterated by a consumer's thread
    names.apply({name: wanted[name] for name in "bac"}, {})
    assert list(names.endpoints) == ["b", "a", "c"]


def test_the_numbers_of_what_was_removed_here_or_in_another_supervisor_go_on(supervisor: FakeSupervisor) -> None:
    names = registry(supervisor)
    names.removed.add_numbers({"y": Numbers(epoch=3, last_number=7), "z": Numbers(epoch=1)})
    runtime = add(names)
    assert (runtime.epoch, runtime.stream.numbers.last_number) == (4, 7)
    names.remove("y")
    assert names.removed.numbers == {"y": runtime.stream.numbers, "z": Numbers(epoch=1)}


def test_who_is_iterating_the_endpoints_of_an_inbox_is_not_disturbed_by_one_that_comes_or_goes(
    supervisor: FakeSupervisor,
) -> None:
    names = registry(supervisor)
    first = add(names)
    found = names.with_inbox(names.inbox_of("y"))  # a consumer's thread, without the loop's lock
    assert next(found) is first
    names.add(Endpoint("z", url="ws://127.0.0.1/"), Dialects())
    names.remove("y")
    assert list(found) == []
    assert list(names.endpoints) == ["z"]


def test_an_endpoint_s_items_go_where_it_was_redirected_and_one_that_left_a_pool_goes_back_to_the_main_stream(
    supervisor: FakeSupervisor,
) -> None:
    names, apart, pool = registry(supervisor), Inbox(), Inbox()
    runtime = add(names)
    assert runtime.stream.inbox is names.main
    names.redirect(["y"], apart)
    assert runtime.stream.inbox is apart
    member = names.add_member(Endpoint("p", url="ws://127.0.0.1/"), 1, pool, Dialects())
    assert member.stream.inbox is pool
    names.remove("p#1")  # its owner is still closing
    names.add(Endpoint("p#1", url="ws://127.0.0.1/"), Dialects())
    assert names.endpoints["p#1"] is member
    assert member.stream.inbox is names.main
