"""What a program uses of a `Supervisor`, as protocols, so that its tests can pass another object.

    def run(feed: Feed) -> None: ...        # a Supervisor, or a wsadapter.testing.FakeFeed

Both have every method here, with the same parameters; the type checker compares them, and a test does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from wsadapter.arguments import Data
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.items import Answer, AnyEvent, Batch, Down, Item, Up
from wsadapter.endpoint.monitor import Monitor
from wsadapter.endpoint.request_id import Payload
from wsadapter.status import Status, SupervisorState


class FeedStream(Protocol):
    """The items of some endpoints, in order: what `Feed.stream` returns. See `Stream`."""

    def __iter__(self) -> Iterator[Item]:
        """Messages and events."""
        ...

    def __aiter__(self) -> AsyncIterator[Item]:
        """The same for coroutines."""
        ...

    @property
    def pending(self) -> bool:
        """Whether an item is at hand."""
        ...

    def batches(self) -> Iterator[Batch | AnyEvent]:
        """The messages of each read as one `Batch`, and the events between them."""
        ...

    def abatches(self) -> AsyncIterator[Batch | AnyEvent]:
        """The same for coroutines."""
        ...

    def get(self, timeout: float | None = None) -> Item:
        """One item. Raises `TimeoutError`, `SupervisorStopped`."""
        ...

    async def aget(self) -> Item:
        """The same for coroutines."""
        ...


class AsyncFeed(Protocol):
    """`Feed.aio`: the blocking methods for coroutines. See `Supervisor.aio`."""

    def __aiter__(self) -> AsyncIterator[Item]:
        """As `Feed`."""
        ...

    def batches(self) -> AsyncIterator[Batch | AnyEvent]:
        """As `Feed.batches`."""
        ...

    async def get(self) -> Item:
        """As `Feed.get`."""
        ...

    async def send(self, name: str, data: Data) -> None:
        """As `Feed.send`."""
        ...

    async def request(self, name: str, payload: Payload, timeout: float | None = None) -> Answer:  # noqa: ASYNC109
        """As `Feed.request`."""
        ...

    async def insert(self, name: str, data: Data) -> int:
        """As `Feed.insert`."""
        ...

    async def subscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `Feed.subscribe`."""
        ...

    async def unsubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `Feed.unsubscribe`."""
        ...

    async def resubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `Feed.resubscribe`."""
        ...

    async def add(self, endpoint: Endpoint) -> None:
        """As `Feed.add`."""
        ...

    async def remove(self, name: str) -> None:
        """As `Feed.remove`."""
        ...

    async def restart(self, name: str) -> None:
        """As `Feed.restart`."""
        ...

    async def wait_up(self, monitor: Monitor) -> Up:
        """As `Monitor.wait_up`."""
        ...

    async def wait_down(self, monitor: Monitor) -> Down:
        """As `Monitor.wait_down`."""
        ...

    async def status(self) -> Status:
        """As `Feed.status`."""
        ...

    async def stop(self) -> None:
        """As `Feed.stop`."""
        ...


@runtime_checkable
class Feed(Protocol):
    """A `Supervisor`, or its replacement in tests: `wsadapter.testing.FakeFeed`. What each method does, and what it raises, is
    documented at `Supervisor`."""

    @property
    def aio(self) -> AsyncFeed:
        """The same for coroutines."""
        ...

    @property
    def state(self) -> SupervisorState:
        """ "new", "running", "stopping" or "stopped"."""
        ...

    @property
    def pending(self) -> bool:
        """Whether an item is at hand."""
        ...

    def start(self) -> Self:
        """Start; returns at once. Idempotent."""
        ...

    def stop(self, timeout: float | None = None) -> None:
        """Stop. Idempotent; the stream ends once all received items are consumed."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[Item]:
        """Every message and event, in order."""
        ...

    def __aiter__(self) -> AsyncIterator[Item]:
        """The same for coroutines."""
        ...

    def batches(self) -> Iterator[Batch | AnyEvent]:
        """The messages of each read as one `Batch`, and the events between them."""
        ...

    def get(self, timeout: float | None = None) -> Item:
        """One item. Raises `TimeoutError`, `SupervisorStopped`."""
        ...

    def stream(self, *names: str) -> FeedStream:
        """Take these endpoints out of the main iteration into one of their own."""
        ...

    def send(self, name: str, data: Data, timeout: float | None = None) -> None:
        """Send text or a binary message."""
        ...

    def request(self, name: str, payload: Payload, timeout: float | None = None) -> Answer:
        """Send a request and return its answer."""
        ...

    def insert(self, name: str, data: Data) -> int:
        """Put a record of your own into the stream of an endpoint. Returns its number."""
        ...

    def subscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """Subscribe these streams too."""
        ...

    def unsubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """Unsubscribe these streams."""
        ...

    def resubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """Ask for a fresh snapshot of these streams."""
        ...

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint and start it."""
        ...

    def remove(self, name: str, timeout: float | None = None) -> None:
        """Close an endpoint's connection and remove the endpoint."""
        ...

    def restart(self, name: str, timeout: float | None = None) -> None:
        """A new owner; returns when it is up."""
        ...

    def monitor(self, name: str) -> Monitor:
        """A reference that reports when the endpoint goes up and down."""
        ...

    def status(self) -> Status:
        """The state as plain JSON values."""
        ...
