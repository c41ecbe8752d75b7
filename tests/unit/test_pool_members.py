"""How a pool's request goes through its members, without processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wsadapter import Answer, Down, DuplicateEndpoint, Endpoint, NotSent, OutcomeUnknown, RequestRejected, Up
from wsadapter.config import Dialects
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.requests import Pending
from wsadapter.loop.reactor import Reactor
from wsadapter.pool_members import PoolMembers, PoolRequest
from wsadapter.runtime import Runtime

SETTINGS = Endpoint("p", url="ws://127.0.0.1:1")


class FakeEndpoint:
    """A member's endpoint: it keeps each attempt, or refuses it."""

    def __init__(self, name: str) -> None:
        self.name, self.epoch, self.state, self.has_ended = name, 1, "up", False
        self.link = SimpleNamespace(owner=None, pid=7)
        self.endpoint = SETTINGS
        self.attempts: list[Pending] = []
        self.is_refusing = False
        self.watcher: Any = None

    def enter(self, watcher: Any) -> None:
        self.watcher = watcher

    def request(self, attempt: Pending, payload: object, timeout: float) -> None:
        del payload, timeout
        if self.is_refusing:
            raise NotSent(f"{self.name} is not up")
        self.attempts.append(attempt)

    def up(self) -> None:
        self.watcher.notify(Up(self.name, self.epoch, 0))

    def down(self) -> None:
        self.watcher.notify(Down(self.name, self.epoch, 0, Reason(kind="silence")))


class FakeRegistry:
    """The part of a registry that a pool uses."""

    def __init__(self) -> None:
        self.endpoints: dict[str, FakeEndpoint] = {}
        self.removed: list[str] = []

    def add_member(self, endpoint: Endpoint, number: int, inbox: object, dialects: object) -> FakeEndpoint:
        del inbox, dialects
        member = FakeEndpoint(f"{endpoint.name}#{number}")
        self.endpoints[member.name] = member
        return member

    def remove(self, name: str) -> None:
        self.removed.append(name)
        self.endpoints.pop(name).has_ended = True


class Setup:
    """Members that are up, of a supervisor that is not there."""

    def __init__(self, size: int, min_up: int) -> None:
        self.reactor = Reactor()
        self.registry = FakeRegistry()
        runtime = SimpleNamespace(
            journaling=None,
            reactor=self.reactor, registry=self.registry, state="running", check_running=lambda: None
        )  # fmt: skip
        self.members = PoolMembers(cast("Runtime", runtime), "p", size, min_up)

    def begin(self) -> list[FakeEndpoint]:
        self.members.begin(SETTINGS, Dialects())
        endpoints = list(self.registry.endpoints.values())
        for endpoint in endpoints:
            endpoint.up()
        return endpoints

    def request(self, **options: Any) -> PoolRequest:
        request = PoolRequest(self.members, b"{}", 30.0, **{"idempotent": False, **options})
        request.begin()
        return request


@pytest.fixture
def make() -> Iterator[Callable[..., Setup]]:
    made: list[Setup] = []

    def make(size: int = 2, min_up: int = 2) -> Setup:
        made.append(Setup(size, min_up))
        return made[-1]

    yield make
    for setup in made:
        setup.reactor.close()


def answer(endpoint: FakeEndpoint) -> Answer:
    return Answer(endpoint.name, "1", b"yes", 1, 1, 0.01)


def unknown(*, timed_out: bool = False) -> OutcomeUnknown:
    return OutcomeUnknown("p#1", "1", "its owner died", timed_out=timed_out)


def test_a_request_ends_with_the_answer_of_its_member(make: Callable[..., Setup]) -> None:
    setup = make()
    first, second = setup.begin()
    request = setup.request()
    first.attempts[0].set_result(answer(first))
    assert request.result(0) == answer(first)
    assert second.attempts == []
    status = setup.members.status()["members"]["p#1"]
    assert (status["pending"], status["requests"], status["rtt"]) == (0, 1, 0.01)


def test_a_request_that_was_not_sent_goes_to_the_next_member_and_fails_after_the_last(make: Callable[..., Setup]) -> None:
    setup = make()
    first, second = setup.begin()
    first.is_refusing = True
    request = setup.request()
    assert not request.done()
    second.attempts[0].set_exception(NotSent("p#2 has ended"))
    with pytest.raises(NotSent, match="p#2 has ended"):
        request.result(0)


@pytest.mark.parametrize(
    ("idempotent", "timed_out", "repeated"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_request_whose_outcome_is_unknown_is_repeated_only_if_it_is_idempotent_and_in_time(
    make: Callable[..., Setup], idempotent: bool, timed_out: bool, repeated: bool
) -> None:
    setup = make()
    first, second = setup.begin()
    request = setup.request(idempotent=idempotent)
    first.attempts[0].set_exception(unknown(timed_out=timed_out))
    assert len(second.attempts) == repeated
    if repeated:
        second.attempts[0].set_exception(NotSent("p#2 has ended"))
    with pytest.raises(OutcomeUnknown):  # also if the last attempt was not sent: the first one may have been
        request.result(0)
    assert setup.members.status()["members"]["p#1"]["failures"] == 1


def test_a_rejected_request_is_not_repeated(make: Callable[..., Setup]) -> None:
    setup = make()
    first, second = setup.begin()
    request = setup.request(idempotent=True)
    first.attempts[0].set_exception(RequestRejected("p#1", "1", b"no"))
    with pytest.raises(RequestRejected):
        request.result(0)
    assert second.attempts == []


def test_a_connection_is_tried_once_and_a_new_owner_of_the_same_member_again(make: Callable[..., Setup]) -> None:
    setup = make(1, 1)
    (only,) = setup.begin()
    request = setup.request(idempotent=True)
    only.epoch = 2
    only.attempts[0].set_exception(unknown())
    assert len(only.attempts) == 2
    only.attempts[1].set_exception(unknown())
    assert request.done()


def test_a_request_that_is_given_up_is_withdrawn_and_goes_to_no_other_member(make: Callable[..., Setup]) -> None:
    setup = make()
    first, second = setup.begin()
    first.is_refusing = second.is_refusing = False
    request = setup.request()
    request.give_up()
    assert setup.reactor.try_turn()
    first.attempts[0].set_exception(NotSent("withdrawn"))
    assert request.done()
    assert second.attempts == []


def test_without_a_member_that_is_up_nothing_is_sent(make: Callable[..., Setup]) -> None:
    setup = make()
    for endpoint in setup.begin():
        endpoint.down()
    with pytest.raises(NotSent, match="none of its 2 members is up"):
        setup.request().result(0)


def test_the_state_of_a_pool_is_logged_once_for_each_change(
    make: Callable[..., Setup], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "wsadapter.pool")
    setup = make(3, 2)
    endpoints = setup.begin()
    assert setup.members.state == "operational"
    endpoints[0].down()  # two are enough
    endpoints[1].down()
    endpoints[2].down()
    assert setup.members.state == "down"
    assert [record.args[1] for record in caplog.records if isinstance(record.args, tuple)] == [
        "degraded", "operational", "degraded", "down",
    ]  # fmt: skip


def test_a_pool_takes_no_name_that_is_taken_and_removes_only_what_is_its_own(make: Callable[..., Setup]) -> None:
    taken = make()
    taken.registry.endpoints["p#2"] = FakeEndpoint("p#2")
    with pytest.raises(DuplicateEndpoint):
        taken.members.begin(SETTINGS, Dialects())
    setup = make()
    setup.begin()
    setup.registry.endpoints["p#1"] = FakeEndpoint("p#1")  # the user has removed the member, and added another endpoint
    setup.members.leave()
    assert setup.registry.removed == ["p#2"]
    assert setup.members.phase == "stopped"
