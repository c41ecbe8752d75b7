"""Reads the cluster's stream from a sequence on: every message once, in order, until the connection fails.

The server keeps an ephemeral pull consumer, which hands out so many messages as were asked for: so a slow reader holds no more
than `_AT_ONCE` of them. Each message names its place among those of this consumer. If one is missing, or nothing is heard for
`_SILENT`, the consumer is made anew behind the last message.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from wsadapter.cluster.nats_server import ask, refusal
from wsadapter.cluster.reading import StreamMessage
from wsadapter.cluster.store import StoreUnavailable
from wsadapter.sinks.jetstream import NO_MESSAGE, integer_field
from wsadapter.sinks.lines import endpoint_of, token

_AT_ONCE: Final = 32
"""Messages of one request. Each has up to 1,000 lines, and `max_payload` bytes."""
_BEAT: Final = 1.0
_SILENT: Final = 3.0
_EXPIRES: Final = 30.0
_FORGOTTEN: Final = 60.0
"""Seconds without a request after which the server removes the consumer."""
_AGAIN: Final = frozenset({"404", "408"})
"""Status of a request that is over: nothing more comes for it."""
_HEARTBEAT: Final = "100"


class NatsStream:
    """One stream, by one connection; in its loop."""

    def __init__(self, connection: Any, stream: str, patience: float) -> None:
        self.stream = stream
        self.replicas = 1
        """Of the stream."""
        self.first = 1
        """Sequence of its oldest message."""
        self.next = 1
        """Sequence that the next message will have."""
        self._connection = connection
        self._patience = patience
        self._jetstream = connection.jetstream(timeout=patience)

    async def look(self) -> list[str]:
        """Learn where the stream begins and ends; its endpoints. Raises `StoreUnavailable`, `StoreRefused`."""
        try:
            info = await ask(self._patience, self._jetstream.stream_info(self.stream, subjects_filter=f"{self.stream}.>"))
        except nats.errors.NoRespondersError:
            raise StoreUnavailable("JetStream is not ready, or not enabled for this account") from None
        except nats.js.errors.APIError as error:
            raise refusal(error) from error
        self.replicas = int(info.config.num_replicas or 1)
        self.first, self.next = max(1, info.state.first_seq), info.state.last_seq + 1
        return [self._endpoint(subject) for subject in info.state.subjects or ()]

    def _endpoint(self, subject: str) -> str:
        return endpoint_of(subject.removeprefix(f"{self.stream}."), "%")

    async def last(self, endpoint: str) -> tuple[int, Mapping[str, str]] | None:
        """Sequence and headers of the last message of an endpoint; None: there is none. Raises as `look`."""
        subject = f"{self.stream}.{token(endpoint, '%')}"
        try:
            found = await ask(self._patience, self._jetstream.get_last_msg(self.stream, subject))
        except nats.js.errors.APIError as error:
            if error.err_code == NO_MESSAGE:
                return None
            raise refusal(error) from error
        return found.seq, found.headers or {}

    async def behind(self, endpoint: str, number: int) -> int:
        """Sequence from which on the endpoint has messages with a higher number. Raises as `look`."""
        subject = f"{self.stream}.{token(endpoint, '%')}"
        low, high = self.first, self.next
        while low < high:
            middle = (low + high) // 2
            try:
                reading = self._jetstream.get_msg(self.stream, middle, subject=subject, next=True)
                found = await ask(self._patience, reading)
            except nats.js.errors.APIError as error:
                if error.err_code != NO_MESSAGE:
                    raise refusal(error) from error
                high = middle
                continue
            if integer_field(found.headers or {}, "Number") > number:
                high = middle
            else:
                low = found.seq + 1
        return low

    async def at_time(self, at: float) -> int:
        """Sequence of the first message that the server has stored at this Unix time or later. Raises as `look`."""
        when = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
        info = await self._add(ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME), {"opt_start_time": when})
        return int(info.delivered.stream_seq) + 1

    async def _add(self, config: ConsumerConfig, more: Mapping[str, Any]) -> Any:
        config = config.evolve(
            ack_policy=AckPolicy.NONE, inactive_threshold=_FORGOTTEN, mem_storage=True, num_replicas=1, **more
        )  # fmt: skip
        try:
            return await ask(self._patience, self._jetstream.add_consumer(self.stream, config))
        except nats.js.errors.APIError as error:
            raise refusal(error) from error

    async def messages(self, begin: int, wants_more: Any) -> AsyncIterator[StreamMessage | None]:
        """From `begin` on; None: the end of what is there is reached. `wants_more`: is awaited before each request. Raises
        `StoreUnavailable`, `StoreRefused`."""
        inbox = self._connection.new_inbox()
        subscription = await self._connection.subscribe(inbox, pending_msgs_limit=-1, pending_bytes_limit=-1)
        try:
            info = await self._add(ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE), {"opt_start_seq": begin})
            if not info.num_pending:
                yield None
            request = json.dumps({"batch": _AT_ONCE, "expires": int(_EXPIRES * 1e9), "idle_heartbeat": int(_BEAT * 1e9)})
            taken = 0
            while True:
                await wants_more()
                await self._connection.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{info.name}", request.encode(), reply=inbox
                )
                left = _AT_ONCE
                while left:
                    message = await _next(subscription)
                    if message is None:  # the request is over
                        break
                    place = message.metadata.sequence
                    if place.consumer != taken + 1:
                        raise StoreUnavailable(f"NATS: message {taken + 1} of the consumer did not come")
                    taken, left = place.consumer, left - 1
                    endpoint = self._endpoint(message.subject)
                    yield StreamMessage(place.stream, endpoint, message.headers or {}, message.data or b"")
                    if not message.metadata.num_pending:
                        yield None
        except nats.errors.Error as error:
            raise StoreUnavailable(f"NATS: {error or type(error).__name__}") from error
        finally:
            if not self._connection.is_closed:
                await subscription.unsubscribe()


async def _next(subscription: Any) -> Any:
    """A message of the stream; None: the request is over. Raises `StoreUnavailable`."""
    while True:
        try:
            message = await subscription.next_msg(timeout=_SILENT)
        except nats.errors.TimeoutError:
            raise StoreUnavailable(f"NATS: nothing was heard for {_SILENT:g} s") from None
        status = (message.headers or {}).get("Status")
        if status is None:
            return message
        if status in _AGAIN:
            return None
        if status != _HEARTBEAT:
            raise StoreUnavailable(f"NATS: {status} {(message.headers or {}).get('Description', '')}")
