"""What happens to an endpoint's connections when more waits for the consumer than may (`buffer.overflow`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from wsadapter.contract.reasons import Reason
from wsadapter.delivery.queued import Backlog
from wsadapter.delivery.tap import Intake
from wsadapter.endpoint.numbered_stream import NumberedStream
from wsadapter.loop.reactor import Reactor

Waiting = tuple[Backlog, Intake]
"""The backlog of an endpoint."""


class Readable(Protocol):
    """An owner."""

    def pause(self) -> None:
        """Stop reading the data pipe."""
        ...

    def read_on(self) -> None: ...


class Connected(Protocol):
    """A link."""

    @property
    def owner(self) -> Readable | None: ...
    def kill(self, reason: Reason, *, with_connection: bool) -> None:
        """End the owner at once; `with_connection`: its connection too."""
        ...


class Backpressure:
    """The backpressure of one endpoint. All methods under the reactor's lock."""

    def __init__(
        self, stream: NumberedStream, reactor: Reactor, links: Callable[[], Iterable[Connected]], on_room: Callable[[], None]
    ) -> None:
        """`links` returns all links, `on_room` is called before they are read again."""
        self._stream = stream
        self._reactor = reactor
        self._links = links
        self._on_room = on_room
        self._waits: dict[Backlog, object] = {}
        """The present wait for a relief of the backlog; a relief for an earlier wait is ignored."""

    def overflowed(self, queue: Waiting | None = None) -> None:
        """More waits than may: for the consumer, or in another `queue`."""
        backlog, inbox = queue or (self._stream.backlog, self._stream.inbox)
        match backlog.buffer.overflow:
            case "disconnect" if backlog.has_overflowed:
                inbox.discard(backlog, "overflow")
                text = f"more than {backlog.buffer.max_bytes} bytes waited for the {'consumer' if queue is None else 'journal'}"
                for link in self._links():
                    link.kill(Reason(kind="overflow", text=text), with_connection=True)
            case "block" if backlog in self._waits or self._await_relief(backlog, inbox):
                for owner in self._owners():
                    owner.pause()

    def _await_relief(self, backlog: Backlog, inbox: Intake) -> bool:
        self._waits[backlog] = wait = object()
        post = self._reactor.post
        if inbox.await_room(backlog, lambda: post(lambda: self._relieve(backlog, wait))):
            return True
        del self._waits[backlog]
        return False

    def _relieve(self, backlog: Backlog, wait: object) -> None:
        if self._waits.get(backlog) is not wait:
            return
        del self._waits[backlog]
        if not self._waits:
            self._on_room()
            for owner in self._owners():
                owner.read_on()

    def _owners(self) -> list[Readable]:
        return [link.owner for link in self._links() if link.owner is not None]

    def forget(self) -> None:
        """The only connection has ended: no owner waits for a relief."""
        for backlog in self._waits:
            backlog.on_room = None
        self._waits.clear()
