"""What happens to an endpoint's connections when more waits for the consumer than may (`buffer.overflow`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.numbered_stream import NumberedStream
from wsadapter.loop.reactor import Reactor


class Readable(Protocol):
    """An owner."""

    def pause(self) -> None:
        """Stop reading what it receives."""
        ...

    def read_on(self) -> None: ...


class Connected(Protocol):
    """A link."""

    @property
    def owner(self) -> Readable | None: ...
    def kill(self, reason: Reason, *, with_connection: bool) -> None:
        """End the owner at once; `with_connection`: and its connection."""
        ...


class Backpressure:
    """That of one endpoint. All methods under the reactor's lock."""

    def __init__(
        self, stream: NumberedStream, reactor: Reactor, links: Callable[[], Iterable[Connected]], on_room: Callable[[], None]
    ) -> None:
        """`links` returns all links, `on_room` is called before they are read again."""
        self._stream = stream
        self._reactor = reactor
        self._links = links
        self._on_room = on_room
        self._wait: object = None
        """What is waited for; a relief that comes for an earlier wait changes nothing."""

    def overflowed(self) -> None:
        """More waits for the consumer than may."""
        backlog = self._stream.backlog
        match backlog.buffer.overflow:
            case "disconnect" if backlog.has_overflowed:
                self._stream.inbox.discard(backlog, "overflow")
                text = f"more than {backlog.buffer.max_bytes} bytes waited for the consumer"
                for link in self._links():
                    link.kill(Reason(kind="overflow", text=text), with_connection=True)
            case "block" if backlog.on_room is not None or self._await_relief():
                for owner in self._owners():
                    owner.pause()

    def _await_relief(self) -> bool:
        self._wait = wait = object()
        post = self._reactor.post
        return self._stream.inbox.await_room(self._stream.backlog, lambda: post(lambda: self._relieve(wait)))

    def _relieve(self, wait: object) -> None:
        if wait is self._wait:
            self._on_room()
            for owner in self._owners():
                owner.read_on()

    def _owners(self) -> list[Readable]:
        return [link.owner for link in self._links() if link.owner is not None]

    def forget(self) -> None:
        """The only connection is gone: nobody waits for a relief."""
        self._stream.backlog.on_room = self._wait = None
