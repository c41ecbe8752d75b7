"""A feed without processes or sockets, for tests of the code that consumes one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from time import time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson

from wsadapter.arguments import Data, as_list, as_name, as_outgoing, as_streams, check_kind
from wsadapter.config import checked
from wsadapter.contract.endpoint import Endpoint, Request, Subscription
from wsadapter.contract.errors import (
    DuplicateEndpoint,
    NotConnected,
    NotSent,
    OutcomeUnknown,
    SupervisorStopped,
    UnknownEndpoint,
    UsageError,
)
from wsadapter.contract.items import Answer, AnyEvent, Batch, Down, Event, Item, Message, Up
from wsadapter.endpoint.monitor import Monitor
from wsadapter.endpoint.request_id import Payload, with_id
from wsadapter.endpoint.subscriptions import key_of
from wsadapter.status import EndpointStatus, Status, SupervisorState
from wsadapter.testing.fake_status import fake_endpoint_status, fake_status

if TYPE_CHECKING:
    from wsadapter.delivery.stream import Stream
    from wsadapter.feed import AsyncFeed, Feed, FeedStream
    from wsadapter.supervisor import Supervisor

    def _both_are_feeds(real: Supervisor, fake: FakeFeed) -> tuple[Feed, Feed, AsyncFeed, AsyncFeed]:
        """Fails to type-check if one of them lacks a method, or has it with other parameters."""
        return real, fake, real.aio, fake.aio

    def _both_are_streams(real: Stream, fake: FakeStream) -> tuple[FeedStream, FeedStream]:
        return real, fake


class Sent(NamedTuple):
    """What the code under test sent."""

    endpoint: str
    data: Data


class Requested(NamedTuple):
    """What the code under test requested."""

    endpoint: str
    id: str
    """As text."""
    data: bytes
    """As it would be sent, with its id."""

    def json(self) -> Any:
        """The request parsed."""
        return orjson.loads(self.data)


Answerer = Callable[[Requested], object]
"""Returns the answer to a request: bytes or text as they are, anything else as JSON. What it raises, `request` raises."""


class FakeStream:
    """One iteration over given items; it ends after the last one. A new iteration continues after the last item taken."""

    def __init__(self, items: Iterable[Item], consumed: Callable[[Item], None] | None = None) -> None:
        """`consumed` is called with each item that is taken."""
        self._items = deque(items)
        self._consumed = consumed

    def _take(self) -> Item:
        item = self._items.popleft()
        if self._consumed is not None:
            self._consumed(item)
        return item

    def __iter__(self) -> Iterator[Item]:
        while self._items:
            yield self._take()

    async def __aiter__(self) -> AsyncIterator[Item]:
        while self._items:
            yield self._take()

    @property
    def pending(self) -> bool:
        """Whether items are left."""
        return bool(self._items)

    def get(self, timeout: float | None = None) -> Item:
        """The next item. Raises `TimeoutError`, without waiting, if there is none, because none will ever come."""
        if not self._items:
            raise TimeoutError(f"no item within {timeout} s: the fake feed's items are used up")
        return self._take()

    async def aget(self) -> Item:
        """As `get`."""
        return self.get()

    def batches(self) -> Iterator[Batch | AnyEvent]:
        """Messages that follow one another as batches, and the events between them."""
        while self._items:
            item = self._take()
            yield self._batch(item) if isinstance(item, Message) else item

    async def abatches(self) -> AsyncIterator[Batch | AnyEvent]:
        """As `batches`."""
        for entry in self.batches():
            yield entry

    def _batch(self, first: Message) -> Batch:
        members = [first]
        while self._items and _continues(members[-1], self._items[0]):
            item = self._take()
            assert isinstance(item, Message)
            members.append(item)
        return Batch(
            first.endpoint,
            [message.data for message in members],
            epoch=first.epoch,
            first_number=first.number,
            received_at=first.received_at,
            binary=[message.binary for message in members],
            streams=[message.stream for message in members],
        )


def _continues(last: Message, item: Item) -> bool:
    return isinstance(item, Message) and (item.endpoint, item.epoch, item.received_at, item.number) == (
        last.endpoint,
        last.epoch,
        last.received_at,
        last.number + 1,
    )


@dataclass(slots=True)
class _Endpoint:
    """The state of one endpoint after the items and the calls so far."""

    wanted: list[Subscription] = field(default_factory=list)
    number: int = 0
    """The last one that is known."""
    epoch: int = 1
    delivered: Counter[str] = field(default_factory=Counter)
    """Items that were consumed, by kind; and the bytes of messages."""
    last: Up | Down | None = None
    """The last of these that was consumed."""
    removed: bool = False

    def consumed(self, item: Item) -> None:
        """The code under test has got it."""
        self.epoch = item.epoch
        if isinstance(item, Message):
            self.delivered.update(messages=1, bytes=len(item.data))
        else:
            self.delivered[item.kind] += 1
        if isinstance(item, Up | Down):
            self.last = item


class _Endpoints:
    """All endpoints of a fake feed, including removed ones: their numbers continue if they are added again."""

    def __init__(self, names: Iterable[str], items: Iterable[Item]) -> None:
        self._all = {name: _Endpoint() for name in names}
        for item in items:
            if item.endpoint:
                known = self._all.setdefault(item.endpoint, _Endpoint(epoch=item.epoch))
                known.number = max(known.number, item.number if isinstance(item, Message) else 0)

    def consumed(self, item: Item) -> None:
        """The code under test has got it."""
        if item.endpoint:
            self._all[item.endpoint].consumed(item)

    def known(self) -> dict[str, _Endpoint]:
        """But those that were removed."""
        return {name: known for name, known in self._all.items() if not known.removed}

    def find(self, name: str) -> _Endpoint:
        """The one of that name. Raises `UnknownEndpoint`, `WrongType`."""
        known = self.known()
        if as_name(name) not in known:
            raise UnknownEndpoint(name, sorted(known))
        return known[name]

    def add(self, endpoint: Endpoint) -> None:
        """Add one. Raises `DuplicateEndpoint`."""
        if endpoint.name in self.known():
            raise DuplicateEndpoint(endpoint.name)
        known = self._all.setdefault(endpoint.name, _Endpoint())
        known.wanted, known.removed = list(endpoint.subscribe), False


class FakeFeed(FakeStream):
    """Replaces a `Supervisor` in a test whose items are given: both are a `wsadapter.Feed`.

        feed = FakeFeed([Message("binance", b"{}", 1, 1, 0), Gap("binance", 2, 0, "reconnected", None, None)])
        run_my_strategy(feed)
        assert feed.sent == [("binance", '{"op":"subscribe"}')]

    Every method has the parameters and the errors of the real one. Unlike it: iteration ends when the items are used up,
    nothing ever waits, and it is for one thread. An endpoint is up, but from a `Down` that was consumed to its next `Up`: then
    `send` raises `NotConnected`, and `request` raises `NotSent`.

    What the code under test does is kept in `sent`, `requests`, `subscriptions`, `resubscribed` and `restarted`: a list of
    (endpoint, data), of (endpoint, id, data), a table endpoint = streams, a list of (endpoint, stream), one for each stream,
    and a list of endpoints.
    """

    def __init__(self, items: Iterable[Item] = (), *, endpoints: Iterable[str] = (), answer: Answerer | None = None) -> None:
        """`endpoints`: names besides those in the items. `answer`: returns, or raises, what `request` does; without it a
        request times out at once (`OutcomeUnknown`)."""
        given = as_list("FakeFeed", items, Message, Event)
        self._endpoints = _Endpoints(as_list("FakeFeed", endpoints, str), given)
        super().__init__(given, self._endpoints.consumed)
        self.sent: list[Sent] = []
        """The sent messages, in order."""
        self.requests: list[Requested] = []
        """The requests, in order."""
        self.resubscribed: list[tuple[str, Subscription]] = []
        """The streams that were subscribed anew, in order, with their endpoints."""
        self.restarted: list[str] = []
        """The endpoints that were restarted, in order."""
        self.state: SupervisorState = "new"
        """"new", "running" or "stopped"."""
        self.aio = FakeAio(self)
        """The same for coroutines."""
        self._answer = answer
        self._ids = count(1)

    @property
    def stopped(self) -> bool:
        """Whether `stop()` was called."""
        return self.state == "stopped"

    @property
    def subscriptions(self) -> dict[str, list[Subscription]]:
        """The streams that are wanted, by endpoint."""
        return {name: list(endpoint.wanted) for name, endpoint in self._endpoints.known().items()}

    # -- life ------------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """There is nothing to start. Raises `SupervisorStopped` after `stop()`."""
        self._check_not_stopped()
        self.state = "running"
        return self

    def stop(self, timeout: float | None = None) -> None:  # noqa: ARG002 - as the real one
        """No more sending. The items that are left count as received and can still be consumed."""
        self.state = "stopped"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- the stream ------------------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> Item:
        """The next item. Raises `TimeoutError`, without waiting, if there is none; `SupervisorStopped` after `stop()`."""
        if not self._items:
            self._check_not_stopped()
        return super().get(timeout)

    def stream(self, *names: str) -> FakeStream:
        """Move the items of these endpoints into a separate iteration. Raises `UnknownEndpoint`."""
        if not names:
            raise UsageError("stream: name at least one endpoint; the main iteration has all the others")
        for name in names:
            self._endpoints.find(name)
        taken = FakeStream([item for item in self._items if item.endpoint in names], self._endpoints.consumed)
        self._items = deque(item for item in self._items if item.endpoint not in names)
        return taken

    # -- commands --------------------------------------------------------------------------------------------------------

    def send(self, name: str, data: Data, timeout: float | None = None) -> None:  # noqa: ARG002 - as the real one
        """Append to `sent`. Raises `UnknownEndpoint`, `WrongType`, `SupervisorStopped`, and `NotConnected` if the endpoint is
        down."""
        as_outgoing("send", data)
        self._check_not_stopped()
        if isinstance(self._endpoints.find(name).last, Down):
            raise NotConnected(f"{name} is down: nothing was sent")
        self.sent.append(Sent(name, data))

    def request(self, name: str, payload: Payload, timeout: float | None = None) -> Answer:
        """Goes to `requests`, and what `answer` returns is the answer. Raises what `answer` raises, `NotSent` where it is down,
        `UnknownEndpoint`, `UsageError`, `SupervisorStopped`."""
        self._check_not_stopped()
        endpoint = self._endpoints.find(name)
        known, data = with_id(payload, Request().id, lambda: next(self._ids))
        if isinstance(endpoint.last, Down):
            raise NotSent(f"{name} is down: nothing was sent, and it may be sent again")
        asked = Requested(name, known, data)
        self.requests.append(asked)
        if self._answer is None:
            raise OutcomeUnknown(name, known, f"no answer within {timeout} s: the fake feed has no `answer`", timed_out=True)
        found = self._answer(asked)
        answer = found if isinstance(found, bytes) else found.encode() if isinstance(found, str) else orjson.dumps(found)
        return Answer(name, known, answer, endpoint.epoch, time_ns(), 0.0)

    def insert(self, name: str, data: Data) -> int:
        """Puts a message behind the items that are left, which count as received; its number. Raises as the real one."""
        payload, binary = as_outgoing("insert", data)
        endpoint = self._endpoints.find(name)
        endpoint.number += 1
        self._items.append(Message(name, payload, endpoint.epoch, endpoint.number, time_ns(), None, binary))
        return endpoint.number

    def subscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """Adds to `subscriptions`. Raises `UnknownEndpoint`, `WrongType`."""
        new = {key_of(stream): stream for stream in as_streams("subscribe", streams)}
        wanted = self._endpoints.find(name).wanted
        wanted += [stream for key, stream in new.items() if key not in map(key_of, wanted)]

    def unsubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """Remove from `subscriptions`. Raises `UnknownEndpoint`, `WrongType`."""
        gone = set(map(key_of, as_streams("unsubscribe", streams)))
        endpoint = self._endpoints.find(name)
        endpoint.wanted = [stream for stream in endpoint.wanted if key_of(stream) not in gone]

    def resubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """Goes to `resubscribed`. Raises `UnknownEndpoint`, `WrongType`."""
        anew = as_streams("resubscribe", streams)
        self._endpoints.find(name)
        self.resubscribed += [(name, stream) for stream in anew]

    def add(self, endpoint: Endpoint) -> None:
        """Its name can be sent to. Raises `ConfigError`, `DuplicateEndpoint`, `SupervisorStopped`, `WrongType`."""
        check_kind("add", endpoint, Endpoint)
        self._check_not_stopped()
        self._endpoints.add(checked(endpoint))

    def remove(self, name: str, timeout: float | None = None) -> None:  # noqa: ARG002 - as the real one
        """Its name is unknown from now on; its items stay. Raises `UnknownEndpoint`."""
        self._endpoints.find(name).removed = True

    def restart(self, name: str, timeout: float | None = None) -> None:  # noqa: ARG002 - as the real one
        """Goes to `restarted`, and it is up. Raises `UnknownEndpoint`, `SupervisorStopped`."""
        self._check_not_stopped()
        self._endpoints.find(name).last = None
        self.restarted.append(name)

    def monitor(self, name: str) -> Monitor:
        """Tells how the endpoint is, and then each `Up` and `Down` that is left to be consumed; after that, its waits raise
        `TimeoutError` at once. Raises `UnknownEndpoint`."""
        last = self._endpoints.find(name).last
        monitor = Monitor(_Now(), name, lambda _: None)
        seen = [item for item in self._items if isinstance(item, Up | Down) and item.endpoint == name]
        if last is not None:
            seen.insert(0, last)
        elif not seen or isinstance(seen[0], Down):
            seen.insert(0, Up(name, 1, time_ns()))
        for event in seen:
            monitor.notify(event)
        return monitor

    def status(self) -> Status:
        """As the real one's, from the items and the calls so far."""
        return fake_status(self.state, {name: self._status_of(name, known) for name, known in self._endpoints.known().items()})

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _status_of(self, name: str, known: _Endpoint) -> EndpointStatus:
        left = [item for item in self._items if isinstance(item, Message) and item.endpoint == name]
        return fake_endpoint_status(
            "stopped" if self.stopped else "backoff" if isinstance(known.last, Down) else "up",
            epoch=known.epoch,
            counts=known.delivered,
            buffered=sum(len(message.data) for message in left),
            last_exit=known.last.reason if isinstance(known.last, Down) else None,
            wanted=len(known.wanted),
        )

    def _check_not_stopped(self) -> None:
        if self.stopped:
            raise SupervisorStopped("this fake feed was stopped; make a new one")


class _Now:
    """In place of a reactor: no more items come, so a wait ends at once."""

    def run_until(self, done: Callable[[], bool], timeout: float | None = None) -> bool:  # noqa: ARG002 - as the real one
        return done()


class FakeAio:
    """`FakeFeed.aio`."""

    def __init__(self, feed: FakeFeed) -> None:
        self._feed = feed

    def __aiter__(self) -> AsyncIterator[Item]:
        return self._feed.__aiter__()

    def batches(self) -> AsyncIterator[Batch | AnyEvent]:
        """As `FakeFeed.batches`."""
        return self._feed.abatches()

    async def get(self) -> Item:
        """As `FakeFeed.get`."""
        return self._feed.get()

    async def send(self, name: str, data: Data) -> None:
        """As `FakeFeed.send`."""
        self._feed.send(name, data)

    async def request(self, name: str, payload: Payload, timeout: float | None = None) -> Answer:  # noqa: ASYNC109
        """As `FakeFeed.request`."""
        return self._feed.request(name, payload, timeout)

    async def insert(self, name: str, data: Data) -> int:
        """As `FakeFeed.insert`."""
        return self._feed.insert(name, data)

    async def subscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `FakeFeed.subscribe`."""
        self._feed.subscribe(name, streams)

    async def unsubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `FakeFeed.unsubscribe`."""
        self._feed.unsubscribe(name, streams)

    async def resubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `FakeFeed.resubscribe`."""
        self._feed.resubscribe(name, streams)

    async def add(self, endpoint: Endpoint) -> None:
        """As `FakeFeed.add`."""
        self._feed.add(endpoint)

    async def remove(self, name: str) -> None:
        """As `FakeFeed.remove`."""
        self._feed.remove(name)

    async def restart(self, name: str) -> None:
        """As `FakeFeed.restart`."""
        self._feed.restart(name)

    async def wait_up(self, monitor: Monitor) -> Up:
        """As `Monitor.wait_up`."""
        return monitor.wait_up()

    async def wait_down(self, monitor: Monitor) -> Down:
        """As `Monitor.wait_down`."""
        return monitor.wait_down()

    async def status(self) -> Status:
        """As `FakeFeed.status`."""
        return self._feed.status()

    async def stop(self) -> None:
        """As `FakeFeed.stop`."""
        self._feed.stop()
