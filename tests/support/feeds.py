"""Supervisors under test: short waits, numbered streams, and what must hold for everything that is delivered."""

from __future__ import annotations

import fcntl
import itertools
import struct
import termios
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from tests.support.waiting import wait_until
from wsadapter import Supervisor
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.items import Down, Dropped, Event, Gap, Item, Message, Up
from wsadapter.process.owner_process import OwnerProcess
from wsadapter.testing import Exchange

DEADLINE = 20.0
"""Seconds for anything that must happen at all; what must happen soon is measured."""
SOON = {"backoff_initial": 0.02, "backoff_max": 0.1, "intensity": 1000}
"""Restart settings for tests that restart often and want to see nothing of the policy."""
HOOK = "tests.support.hooks:obey"
BIG = "x" * 3 * 1024 * 1024
"""A message that is larger than any pipe."""
BLOCKED = {"max_bytes": 1024, "overflow": "block"}


def numbered() -> Iterator[str]:
    """Messages that contain the number of earlier messages of their connection."""
    return (f'{{"n":{n}}}' for n in itertools.count())


def supervise(*endpoints: Endpoint, start_method: str, **settings: Any) -> Supervisor:
    """A supervisor for a test; not started."""
    return Supervisor(endpoints, start_method=start_method, **settings)  # type: ignore[arg-type]


@contextmanager
def to_the_end(items: list[Item], *endpoints: Endpoint, start_method: str, **settings: Any) -> Iterator[Supervisor]:
    """A running supervisor. Behind the block it is stopped, `items` gets what is left, and must be sound as a whole."""
    with supervise(*endpoints, start_method=start_method, **settings) as feed:
        yield feed
    items += feed
    assert_sound(items)


@contextmanager
def beside_a_busy_one(items: list[Item], *endpoints: Endpoint, start_method: str, **settings: Any) -> Iterator[Supervisor]:
    """The same with one more endpoint, "busy", which must not be harmed by what happens to the others."""
    with steady() as ex, to_the_end(items, *endpoints, ex.endpoint("busy"), start_method=start_method, **settings) as feed:
        yield feed
    assert_unharmed(items, "busy")


@contextmanager
def half_written(items: list[Item], *, start_method: str, **settings: Any) -> Iterator[Supervisor]:
    """The owner of "victim" is in the middle of a record that its pipe does not take, beside one that is not concerned."""
    with Exchange(messages=["first " * 1000, BIG, "last"], tls=True) as ex:
        victim = ex.endpoint("victim", buffer=BLOCKED, restart=SOON, **settings)
        with beside_a_busy_one(items, victim, start_method=start_method) as feed:
            wait_streaming(feed, "busy")
            half_a_record_in_the_pipe(feed, "victim")
            yield feed


def collect(feed: Supervisor, until: Callable[[Item], object], timeout: float = DEADLINE) -> list[Item]:
    """The items up to the first for which `until` is true. Fails after `timeout` seconds, with the last that came."""
    items: list[Item] = []
    deadline = time.monotonic() + timeout
    while True:
        try:
            items.append(feed.get(deadline - time.monotonic()))
        except TimeoutError:
            events = [item for item in items if isinstance(item, Event)]
            text = f"not within {timeout} s; {len(items)} items came, the last events: {events[-6:]}"
            raise AssertionError(text) from None
        if until(items[-1]):
            return items


def collect_for(feed: Supervisor, seconds: float) -> list[Item]:
    """The items that come within `seconds`."""
    items: list[Item] = []
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            items.append(feed.get(left))
        except TimeoutError:
            break
    return items


def rest(feed: Supervisor) -> list[Item]:
    """The items that are left after `stop()`."""
    return list(feed)


# -- what to wait for ----------------------------------------------------------------------------------------------------


def is_event(kind: type[Event], name: str, epoch: int = 0) -> Callable[[Item], bool]:
    """An event of an endpoint, of this epoch or a later one."""
    return lambda item: isinstance(item, kind) and item.endpoint == name and item.epoch >= epoch


def is_message(name: str, epoch: int = 0) -> Callable[[Item], bool]:
    """A message of an endpoint, of this epoch or a later one."""
    return lambda item: isinstance(item, Message) and item.endpoint == name and item.epoch >= epoch


def all_of(*conditions: Callable[[Item], object]) -> Callable[[Item], bool]:
    """A predicate for `collect`: true once each condition was true for some item."""
    missing = set(conditions)

    def seen(item: Item) -> bool:
        missing.difference_update([condition for condition in missing if condition(item)])
        return not missing

    return seen


def pid_of(feed: Supervisor, name: str) -> int:
    """The owner's pid, which must be there."""
    pid = feed.status()["endpoints"][name]["pid"]
    assert isinstance(pid, int), feed.status()["endpoints"][name]
    return pid


def wait_streaming(feed: Supervisor, name: str) -> None:
    """Until something was received from an endpoint, without consuming anything."""
    wait_until(lambda: feed.status()["endpoints"][name]["messages"], DEADLINE, f"nothing from {name}")


def process_of(feed: Supervisor, name: str) -> OwnerProcess:
    """The process of the current owner of an endpoint."""
    owner = feed.runtime.registry.endpoints[name].link.owner
    assert owner is not None
    return owner.process


def half_a_record_in_the_pipe(feed: Supervisor, name: str, least: int = 64 * 1024) -> None:
    """Waits until the owner of a blocked endpoint has written as much of a record as its pipe takes."""
    feed.monitor(name).wait_up(DEADLINE)
    fd = process_of(feed, name).data.fileno()
    wait_until(lambda: _unread(fd) >= least, DEADLINE, lambda: f"{_unread(fd)} bytes in the pipe")


def _unread(fd: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
    return count


# -- what must hold ------------------------------------------------------------------------------------------------------


def events_of(items: Iterable[Item], name: str, *kinds: type[Event]) -> list[Any]:
    """The events of an endpoint, of these kinds or all, in order."""
    return [item for item in items if isinstance(item, kinds or Event) and item.endpoint == name]


def messages_of(items: Iterable[Item], name: str) -> list[Message]:
    return [item for item in items if isinstance(item, Message) and item.endpoint == name]


def assert_sound(items: list[Item]) -> None:
    """What holds for every complete stream, whatever happened to it."""
    for name in {item.endpoint for item in items if item.endpoint}:
        mine = [item for item in items if item.endpoint == name]
        assert_contiguous(mine)
        if any(isinstance(item, Up | Down) and item.member is not None for item in mine):
            assert_members(mine)
        else:
            assert_epochs(mine)


def assert_contiguous(items: list[Item]) -> None:
    """Every number of an endpoint once and in order, as a message or covered by a `Dropped`."""
    expected = 1
    for item in items:
        if isinstance(item, Message):
            assert item.number == expected, f"{item} instead of #{expected}"
            expected += 1
        elif isinstance(item, Dropped) and item.first is not None and item.last is not None:
            assert item.first == expected, f"{item} instead of #{expected}"
            assert item.last - item.first + 1 == item.count
            expected = item.last + 1


def assert_epochs(items: list[Item]) -> None:
    """Down, Up, Gap in this order; one Down per epoch, no item of an epoch behind its Down; epochs never decrease."""
    ended, was_up, reached = 0, False, 0
    for item, following in zip(items, [*items[1:], None], strict=True):
        assert item.epoch >= reached, f"{item} after epoch {reached}"
        reached = item.epoch
        if isinstance(item, Down):
            assert item.epoch == ended + 1, f"{item} after the Down of epoch {ended}"
            ended = item.epoch
        elif isinstance(item, Up):
            assert item.epoch == ended + 1, f"{item} after the Down of epoch {ended}"
            if was_up and item.resumed:
                assert not isinstance(following, Gap), f"{item} is followed by {following}"
            elif was_up:
                assert isinstance(following, Gap), f"{item} is followed by {following}"
                assert following.cause in ("reconnected", "replaced")
            was_up = True
        elif isinstance(item, Message):
            assert item.epoch == ended + 1, f"{item} after the Down of epoch {ended}"


def assert_members(items: list[Item]) -> None:
    """Of replicas: each epoch has at most one Up and one Down, and nothing outside them; a Gap behind an Up that takes up
    nothing; `live` counts the connections."""
    up: dict[int, int | None] = {}
    ended: set[int] = set()
    for item, following in zip(items, [*items[1:], None], strict=True):
        assert item.epoch not in ended, f"{item} after its Down"
        if isinstance(item, Up):
            assert item.member not in up.values(), f"{item}: the one before is up"
            if not item.resumed and up.keys() | ended:
                assert isinstance(following, Gap) or not any(isinstance(before, Up) for before in items[: items.index(item)])
            up[item.epoch] = item.member
            assert item.live is not None
            assert item.live >= len(up)
        elif isinstance(item, Down):
            up.pop(item.epoch, None)
            ended.add(item.epoch)
            assert item.live is not None
            assert item.live >= len(up)  # more, where one's connection is on its way to its next owner
        elif isinstance(item, Message):
            assert item.epoch in up, f"{item} without an Up"


def assert_unharmed(items: list[Item], name: str) -> None:
    """An endpoint with `numbered` messages had one owner until it was stopped; none was lost, repeated or reordered."""
    assert [down for down in events_of(items, name, Down) if down.reason.kind != "stopped"] == []
    assert events_of(items, name, Gap, Dropped) == []
    counted = [(message.number, message.data) for message in messages_of(items, name)]
    assert counted
    assert counted == [(n + 1, f'{{"n":{n}}}'.encode()) for n in range(len(counted))]


def assert_whole(items: list[Item], name: str = "a") -> None:
    """Of a feed of `numbered` messages that all listen to, every message came, once, in order."""
    found = [message.json()["n"] for message in messages_of(items, name)]
    holes = [(one, other) for one, other in pairwise(found) if other != one + 1]
    assert holes == []
    assert events_of(items, name, Gap) == []


def assert_resumes_from_the_start(items: list[Item], name: str) -> None:
    """Each epoch of an endpoint with `numbered` messages holds the first of them, whole and in order."""
    for epoch, group in itertools.groupby(messages_of(items, name), lambda message: message.epoch):
        found = [message.data for message in group]
        assert found == [f'{{"n":{n}}}'.encode() for n in range(len(found))], f"epoch {epoch}"


def steady(rate: float = 200.0, *, tls: bool = False) -> Exchange:
    """An exchange with numbered messages at a rate, for those that must not be harmed."""
    return Exchange(messages=numbered, rate=rate, tls=tls)
