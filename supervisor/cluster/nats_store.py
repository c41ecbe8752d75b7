"""The store of leases on a JetStream key-value bucket.

The bucket is a stream, a key is a subject, a revision is a sequence in the stream. `create` and `swap` are publications that
name the sequence of the key's last message, so the server compares. `read` asks the leader of the stream, never a replica:
direct gets are switched off in the bucket, because a replica may answer with an older value.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.js.api import DeliverPolicy, StreamConfig

from wsadapter.cluster.nats_server import ask, check_version, refusal
from wsadapter.cluster.store import ABSENT, Entry, StoreRefused, StoreUnavailable
from wsadapter.sinks.jetstream import EXPECTED_SEQUENCE, NO_MESSAGE, WRONG_SEQUENCE
from wsadapter.sinks.lines import endpoint_of, token

_OPERATION: Final = "KV-Operation"
_GONE: Final = frozenset({"DEL", "PURGE"})
_HEARTBEAT: Final = 1.0


class NatsStore:
    """See `Store`; in the loop of the connection."""

    def __init__(self, connection: Any, bucket: str, *, replicas: int, patience: float) -> None:
        """`replicas`: of the bucket, if it has to be created. `patience`: seconds for an answer."""
        self.bucket = bucket
        self._connection = connection
        self._patience = patience
        self._replicas = replicas
        self._jetstream = connection.jetstream(timeout=patience)
        self._prefix = f"$KV.{bucket}."
        self._stream = f"KV_{bucket}"
        self._watch: Any = None

    async def open(self) -> None:
        """Check the server, and create the bucket if it doesn't exist. Raises `StoreUnavailable`, `StoreRefused`."""
        await check_version(self._connection, self._patience)
        config = StreamConfig(
            name=self._stream, subjects=[f"{self._prefix}>"], max_msgs_per_subject=1, num_replicas=self._replicas,
            allow_rollup_hdrs=True, deny_delete=True, allow_direct=False, discard="new",
        )  # fmt: skip
        try:
            await ask(self._patience, self._jetstream.add_stream(config))
        except nats.js.errors.APIError as error:
            try:
                found = await ask(self._patience, self._jetstream.stream_info(self._stream))
            except nats.js.errors.APIError:
                raise refusal(error) from error
            if found.config.allow_direct or found.config.max_msgs_per_subject != 1:
                text = f"the bucket {self.bucket} was made by something else: it needs history 1 and no direct gets; remove it"
                raise StoreRefused(text) from None

    def _subject(self, key: str) -> str:
        """The subject of a key. Names of endpoints and hosts are escaped: they may have characters that a subject may not."""
        kind, dot, name = key.partition(".")
        return f"{self._prefix}{kind}{dot}{token(name, '=') if name else ''}"

    def _key(self, subject: str) -> str:
        kind, dot, name = subject.removeprefix(self._prefix).partition(".")
        return f"{kind}{dot}{endpoint_of(name, '=') if name else ''}"

    # -- the four methods of a store -------------------------------------------------------------------------------------

    async def read(self, key: str) -> Entry:
        """The key as it is now. Raises `StoreUnavailable`, `StoreRefused`."""
        try:
            found = await ask(self._patience, self._jetstream.get_last_msg(self._stream, self._subject(key)))
        except nats.js.errors.APIError as error:
            if error.err_code == NO_MESSAGE:
                return Entry(key, b"", ABSENT)
            raise refusal(error) from error
        return Entry(key, _value(found), found.seq)

    async def create(self, key: str, value: bytes) -> int | None:
        """Write a key that is not there; its revision, or None if it is there. Raises as `read`."""
        return await self.swap(key, value, ABSENT)

    async def swap(self, key: str, value: bytes, expected: int) -> int | None:
        """Write a key that has the revision `expected`; its new revision, or None if it has another one. Raises as `read`."""
        headers = {EXPECTED_SEQUENCE: str(expected)}
        publishing = self._jetstream.publish(self._subject(key), value, timeout=self._patience, headers=headers)
        try:
            said = await ask(self._patience, publishing)
        except nats.js.errors.NoStreamResponseError:
            raise StoreUnavailable(
                f"NATS: the bucket {self.bucket} does not answer: it was removed, or its servers have no quorum"
            ) from None
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_SEQUENCE:
                return None
            raise refusal(error) from error
        return int(said.seq)

    async def watch(self, notify: Callable[[Entry], None]) -> None:
        """Pass every key once, and return; pass every later change. Another call replaces the first. Raises as `read`."""
        await self._unwatch()
        known = asyncio.Event()

        async def take(message: Any) -> None:
            entry = Entry(self._key(message.subject), _value(message), message.metadata.sequence.stream)
            notify(entry)
            if message.metadata.num_pending == 0:
                known.set()

        try:
            self._watch = await ask(self._patience,
                self._jetstream.subscribe(
                    f"{self._prefix}>", stream=self._stream, cb=take, ordered_consumer=True, idle_heartbeat=_HEARTBEAT,
                    deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                )
            )  # fmt: skip
            info = await ask(self._patience, self._watch.consumer_info())
            if info.num_pending or info.delivered.consumer_seq:
                await ask(self._patience, known.wait())
        except nats.js.errors.APIError as error:
            raise refusal(error) from error

    async def _unwatch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            with contextlib.suppress(nats.errors.Error):
                await watch.unsubscribe()

    async def close(self) -> None:
        """End the watch."""
        await self._unwatch()


def _value(message: Any) -> bytes:
    gone = (message.headers or {}).get(_OPERATION) in _GONE
    return b"" if gone or message.data is None else bytes(message.data)
