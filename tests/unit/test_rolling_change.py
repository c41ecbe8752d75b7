"""Planned changes of replicas: one link at a time, the next when the one before has caught up."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, cast

import pytest

from wsadapter.contract.errors import NotConnected
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.rolling_change import RollingChange


class FakeLink:
    def __init__(self, name: str) -> None:
        self.name, self.state, self.epoch, self.has_ended = name, "up", 1, False

    def come_up(self) -> None:
        self.state, self.epoch = "up", self.epoch + 1


class Replicas:
    """Two links, which are aligned unless they are in `behind`."""

    name = "a"

    def __init__(self) -> None:
        self.links = [FakeLink("one"), FakeLink("other")]
        self.behind: set[str] = set()
        self.last_exit: Reason | None = None
        self.changed: list[str] = []
        self.rolling = RollingChange(cast("Any", self), cast("Any", self.links))

    @property
    def live(self) -> int:
        return sum(link.state == "up" for link in self.links)

    @property
    def primary(self) -> FakeLink:
        return self.links[0]

    def is_redundant(self, link: FakeLink) -> bool:
        return any(other.state == "up" and self.is_aligned(other) for other in self.links if other is not link)

    def is_aligned(self, link: FakeLink) -> bool:
        return link.state == "up" and link.name not in self.behind

    def change(self, *, together: bool = False) -> Future[None]:
        future = self.rolling.wait()
        self.rolling.begin(cast("Any", self.links), cast("Any", self._change), together=together)
        self.rolling.go_on()
        return future

    def _change(self, link: FakeLink) -> None:
        self.changed.append(link.name)
        link.state = "starting"


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


def test_the_next_link_waits_until_the_previous_one_is_up_and_has_caught_up(replicas: Replicas) -> None:
    future = replicas.change()
    replicas.rolling.go_on()
    assert replicas.changed == ["one"]
    replicas.behind = {"one"}
    replicas.links[0].come_up()
    replicas.rolling.go_on()
    assert replicas.changed == ["one"]
    replicas.behind = set()
    replicas.rolling.go_on()
    assert replicas.changed == ["one", "other"]
    assert not future.done()
    replicas.links[1].come_up()
    replicas.rolling.go_on()
    assert future.result(0) is None
    assert not replicas.rolling.is_under_way


def test_the_old_connection_of_a_link_does_not_count_as_its_new_one(replicas: Replicas) -> None:
    replicas.change()
    replicas.links[0].state = "up"  # its epoch is the old one: the owner has not ended yet
    replicas.rolling.go_on()
    assert replicas.changed == ["one"]


def test_no_link_is_changed_while_no_other_link_delivers_all_messages(replicas: Replicas) -> None:
    replicas.behind = {"other"}
    replicas.change()
    assert replicas.changed == []
    replicas.behind = set()
    replicas.rolling.go_on()
    assert replicas.changed == ["one"]


def test_with_together_all_links_are_changed_at_once(replicas: Replicas) -> None:
    future = replicas.change(together=True)
    assert replicas.changed == ["one", "other"]
    for link in replicas.links:
        link.come_up()
    replicas.rolling.go_on()
    assert future.result(0) is None


def test_another_change_replaces_the_one_that_is_under_way(replicas: Replicas) -> None:
    first = replicas.change()
    second = replicas.change(together=True)
    for link in replicas.links:
        link.come_up()
    replicas.rolling.go_on()
    assert (first.done(), second.done()) == (True, True)


def test_a_wait_for_an_endpoint_that_is_stopped_fails_with_the_reason(replicas: Replicas) -> None:
    future = replicas.change(together=True)
    replicas.last_exit = Reason(kind="stopped")
    replicas.rolling.end()
    with pytest.raises(NotConnected, match="a is starting: stopped"):
        future.result(0)
    assert not replicas.rolling.is_under_way
