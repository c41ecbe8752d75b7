"""The commands of an attached consumer: the calls of `Supervisor`, through the control socket, with the same outcomes."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, cast

from wsadapter.arguments import Data, as_outgoing, as_streams
from wsadapter.attachment.supervisor_link import outgoing
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.items import Answer
from wsadapter.endpoint.request_id import Payload
from wsadapter.status import Status

_GRACE: Final = 5.0
"""Seconds that the answer to a command may take longer than the command itself."""


class Link(Protocol):
    """The way to the supervisor."""

    def command(self, command: str, more: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """See `SupervisorLink.command`."""
        ...


class AttachedCommands:
    """May be called from any thread; in a coroutine by `asyncio.to_thread`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, name: str, data: Data, timeout: float | None = None) -> None:
        """As `Supervisor.send`, by the supervisor that writes the journal. Raises `NotConnected` too if none is there."""
        payload, binary = as_outgoing("send", data)
        self._link.command("send", {"endpoint": name, **outgoing(payload, binary=binary)}, timeout)

    def request(self, name: str, payload: Payload, timeout: float | None = None) -> Answer:
        """As `Supervisor.request`. Raises `NotSent` too if no supervisor is there, `OutcomeUnknown` if it ended meanwhile."""
        patience = None if timeout is None else timeout + _GRACE
        said = bytes(payload).decode() if isinstance(payload, bytes | bytearray | memoryview) else payload
        more = {} if timeout is None else {"timeout": timeout}
        answer = self._link.command("request", {"endpoint": name, "payload": said, **more}, patience)
        return Answer(**{**answer["answer"], "data": b64decode(answer["answer"]["data"])})

    def insert(self, name: str, data: Data) -> int:
        """As `Supervisor.insert`."""
        payload, binary = as_outgoing("insert", data)
        return int(self._link.command("insert", {"endpoint": name, **outgoing(payload, binary=binary)})["number"])

    def subscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `Supervisor.subscribe`: for all consumers."""
        self._link.command("subscribe", {"endpoint": name, "streams": as_streams("subscribe", streams)})

    def unsubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `Supervisor.unsubscribe`: for all consumers."""
        self._link.command("unsubscribe", {"endpoint": name, "streams": as_streams("unsubscribe", streams)})

    def resubscribe(self, name: str, streams: Iterable[Subscription]) -> None:
        """As `Supervisor.resubscribe`."""
        self._link.command("resubscribe", {"endpoint": name, "streams": as_streams("resubscribe", streams)})

    def restart(self, name: str, timeout: float | None = None) -> None:
        """As `Supervisor.restart`."""
        self._link.command("restart", {"endpoint": name}, timeout)

    def status(self) -> Status:
        """As `Supervisor.status`; under `journal`, how far each consumer is behind."""
        return cast("Status", self._link.command("status", {})["status"])
