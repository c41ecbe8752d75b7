"""The store of leases on a JetStream key-value bucket.

The bucket is a stream, a key is a subject, a revision is a sequence in the stream. `create` and `swap` are publications that
name the sequence of the key's last message, so the server compares. `read` asks the leader of the stream, never a replica:
direct gets are switched off in the bucket, because a replica may answer with what was there before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.js.api import DeliverPolicy, StreamConfig

from wsadapter.cluster.store import ABSENT, Entry
from wsadapter.contract.errors import WsAdapterError

API_LEVEL: Final = 1
"""Of server 2.11. Servers before it do not serialise the comparison in a cluster."""
_WRONG_SEQUENCE: Final = frozenset({10071, 10164})
_IN_PROGRESS: Final = 10163
_NO_MESSAGE: Final = 10037
_NO_STREAM: Final = 10059
_OPERATION: Final = "KV-Operation"
_GONE: Final = frozenset({"DEL", "PURGE"})
_HEARTBEAT: Final = 1.0


class StoreUnavailable(WsAdapterError):
    """The store did not answer, or has no quorum. What was written may be there."""


class StoreRefused(WsAdapterError):
    """The store will not serve this host, and no repetition mends it."""


def api_level(answer: bytes) -> int:
    """Of JetStream, as the account's information says; 0: a server before 2.11, which does not name it."""
    level = (json.loads(answer).get("api") or {}).get("level")
    return level if isinstance(level, int) else 0


class NatsStore:
    """See `Store`; in the loop of the connection."""

    def __init__(self, connection: Any, bucket: str, *, replicas: int, patience: float) -> None:
        """`replicas`: of the bucket, where it is not there yet. `patience`: seconds for an answer."""
        self.bucket = bucket
        self._connection = connection
        self._patience = patience
        self._replicas = replicas
        self._jetstream = connection.jetstream(timeout=patience)
        self._prefix = f"$KV.{bucket}."
        self._stream = f"KV_{bucket}"
        self._watch: Any = None

    async def open(self) -> None:
        """Check the server, and make the bucket if it is not there. Raises `StoreUnavailable`, `StoreRefused`."""
        await self._check_version()
        config = StreamConfig(
            name=self._stream, subjects=[f"{self._prefix}>"], max_msgs_per_subject=1, num_replicas=self._replicas,
            allow_rollup_hdrs=True, deny_delete=True, allow_direct=False, discard="new",
        )  # fmt: skip
        try:
            await self._ask(self._jetstream.add_stream(config))
        except nats.js.errors.APIError as error:
            try:
                found = await self._ask(self._jetstream.stream_info(self._stream))
            except nats.js.errors.APIError:
                raise self._refusal(error) from error
            if found.config.allow_direct or found.config.max_msgs_per_subject != 1:
                text = f"the bucket {self.bucket} was made by something else: it needs history 1 and no direct gets; remove it"
                raise StoreRefused(text) from None

    async def _check_version(self) -> None:
        try:
            answer = await self._ask(self._connection.request("$JS.API.INFO", b"", timeout=self._patience))
        except nats.errors.NoRespondersError:
            raise StoreUnavailable("JetStream is not ready, or not enabled for this account") from None
        level = api_level(answer.data)
        if level < API_LEVEL:
            version = self._connection.connected_server_version
            raise StoreRefused(f"NATS server {version} has API level {level}; 2.11 (level {API_LEVEL}) or later is needed")

    # -- the four verbs --------------------------------------------------------------------------------------------------

    async def read(self, key: str) -> Entry:
        """The key as it is now. Raises `StoreUnavailable`, `StoreRefused`."""
        try:
            found = await self._ask(self._jetstream.get_last_msg(self._stream, self._prefix + key))
        except nats.js.errors.APIError as error:
            if error.err_code == _NO_MESSAGE:
                return Entry(key, b"", ABSENT)
            raise self._refusal(error) from error
        return Entry(key, _value(found), found.seq)

    async def create(self, key: str, value: bytes) -> int | None:
        """Write a key that is not there; its revision, or None if it is there. Raises as `read`."""
        return await self.swap(key, value, ABSENT)

    async def swap(self, key: str, value: bytes, expected: int) -> int | None:
        """Write a key that has the revision `expected`; its new revision, or None if it has another one. Raises as `read`."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        publishing = self._jetstream.publish(self._prefix + key, value, timeout=self._patience, headers=headers)
        try:
            said = await self._ask(publishing)
        except nats.js.errors.NoStreamResponseError:
            raise StoreUnavailable(f"the bucket {self.bucket} does not answer") from None
        except nats.js.errors.APIError as error:
            if error.err_code in _WRONG_SEQUENCE:
                return None
            raise self._refusal(error) from error
        return int(said.seq)

    async def watch(self, notify: Callable[[Entry], None]) -> None:
        """Pass every key as it is, and return; then pass every change. Another call replaces the first. Raises as `read`."""
        await self._unwatch()
        known = asyncio.Event()

        async def take(message: Any) -> None:
            entry = Entry(message.subject.removeprefix(self._prefix), _value(message), message.metadata.sequence.stream)
            notify(entry)
            if message.metadata.num_pending == 0:
                known.set()

        try:
            self._watch = await self._ask(
                self._jetstream.subscribe(
                    f"{self._prefix}>", stream=self._stream, cb=take, ordered_consumer=True, idle_heartbeat=_HEARTBEAT,
                    deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                )
            )  # fmt: skip
            info = await self._ask(self._watch.consumer_info())
            if info.num_pending or info.delivered.consumer_seq:
                await self._ask(known.wait())
        except nats.js.errors.APIError as error:
            raise self._refusal(error) from error

    async def _unwatch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            with contextlib.suppress(nats.errors.Error):
                await watch.unsubscribe()

    async def close(self) -> None:
        """End the watch."""
        await self._unwatch()

    # -- errors ----------------------------------------------------------------------------------------------------------

    async def _ask(self, answer: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(answer, self._patience)
        except (TimeoutError, nats.errors.TimeoutError):
            raise StoreUnavailable(f"no answer within {self._patience:g} s") from None
        except nats.errors.NoRespondersError:
            raise
        except (OSError, nats.errors.Error) as error:
            if isinstance(error, nats.js.errors.APIError | nats.js.errors.NoStreamResponseError):
                raise
            raise StoreUnavailable(str(error) or type(error).__name__) from error

    def _refusal(self, error: Any) -> WsAdapterError:
        text = f"{error.description} ({error.err_code})"
        if (error.code or 0) >= 500 or error.err_code in {_IN_PROGRESS, _NO_STREAM}:
            return StoreUnavailable(text)
        return StoreRefused(text)


def _value(message: Any) -> bytes:
    gone = (message.headers or {}).get(_OPERATION) in _GONE
    return b"" if gone or message.data is None else bytes(message.data)
