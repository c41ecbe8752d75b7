"""A feed without processes or sockets, for tests of the code that consumes one."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

from wsadapter.arguments import Data, as_list, as_name, as_outgoing
from wsadapter.contract.errors import SupervisorStopped, UnknownEndpoint
from wsadapter.contract.items import AnyEvent, Batch, Event, Item, Message


class Sent(NamedTuple):
    """What the code under test sent."""

    endpoint: str
    data: Data


class FakeStream:
    """One iteration over given items; ends when they are used up. Iterating again goes on where it was left."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = deque(items)

    def __iter__(self) -> Iterator[Item]:
        while self._items:
            yield self._items.popleft()

    async def __aiter__(self) -> AsyncIterator[Item]:
        while self._items:
            yield self._items.popleft()

    def get(self, timeout: float | None = None) -> Item:
        """The next item. Raises `TimeoutError`, without waiting, where there is none: none will ever come."""
        if not self._items:
            raise TimeoutError(f"no item within {timeout} s: the fake feed's items are used up")
        return self._items.popleft()

    def batches(self) -> Iterator[Batch | AnyEvent]:
        """Messages that follow one another as batches, and the events between them."""
        while self._items:
            item = self._items.popleft()
            yield self._batch(item) if isinstance(item, Message) else item

    def _batch(self, first: Message) -> Batch:
        members = [first]
        while self._items and _continues(members[-1], self._items[0]):
            item = self._items.popleft()
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


class FakeFeed(FakeStream):
    """Stands in for a `Supervisor` where given items are to be consumed.

        feed = FakeFeed([Message("binance", b"{}", 1, 1, 0), Gap("binance", 2, 0, "reconnected", None, None)])
        run_my_strategy(feed)
        assert feed.sent == [("binance", '{"op":"subscribe"}')]

    As with the real one: iteration, blocking or `async`, `get`, `batches`, `stream`, `send`, `stop`, `with` and `async with`.
    Unlike it: iteration ends when the items are used up, nothing ever waits, and it is for one thread. `endpoints` adds
    names that may be sent to besides those in the items.
    """

    def __init__(self, items: Iterable[Item] = (), *, endpoints: Iterable[str] = ()) -> None:
        super().__init__(as_list("FakeFeed", items, Message, Event))
        self._known = {item.endpoint for item in self._items if item.endpoint} | set(as_list("FakeFeed", endpoints, str))
        self.sent: list[Sent] = []
        """What was sent, in order."""
        self.stopped = False

    def stream(self, *names: str) -> FakeStream:
        """Takes the items of these endpoints out, into an iteration of their own. Raises `UnknownEndpoint`."""
        for name in names:
            self._check_known(name)
        taken = FakeStream(item for item in self._items if item.endpoint in names)
        self._items = deque(item for item in self._items if item.endpoint not in names)
        return taken

    def send(self, name: str, data: Data) -> None:
        """Goes to `sent`. Raises `UnknownEndpoint`, `WrongType`, and `SupervisorStopped` after `stop()`."""
        as_outgoing("send", data)
        if self.stopped:
            raise SupervisorStopped(f"the fake feed was stopped; nothing was sent to {name!r}")
        self._check_known(name)
        self.sent.append(Sent(name, data))

    def start(self) -> Self:
        """Does nothing: there is nothing to start."""
        return self

    def stop(self, timeout: float | None = None) -> None:  # noqa: ARG002 - as the real one
        """No more sending. The items that are left count as received and can still be consumed."""
        self.stopped = True

    def _check_known(self, name: str) -> None:
        if as_name(name) not in self._known:
            raise UnknownEndpoint(name, sorted(self._known))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
