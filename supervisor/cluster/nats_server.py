"""The connection to NATS, its errors, and the cluster's stream."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.js.api import StreamConfig

from wsadapter.cluster.store import StoreRefused, StoreUnavailable
from wsadapter.config.settings import ClusterSettings
from wsadapter.contract.errors import WsAdapterError
from wsadapter.sinks.jetstream import (
    EXPECTED_SEQUENCE,
    IN_PROGRESS,
    NO_MESSAGE,
    WRONG_SEQUENCE,
    body_limit,
    server_list,
    version_problem,
    without_passwords,
)
from wsadapter.sinks.lines import token

NO_STREAM: Final = 10059
_CLOSE: Final = 1.0

T = TypeVar("T")


async def connect(settings: ClusterSettings, host: str, patience: float) -> Any:
    """A connection without reconnects: the process ends with it. Raises `StoreUnavailable`, `StoreRefused`."""
    servers = server_list(settings.servers)
    shown = without_passwords(servers)
    more: dict[str, Any] = {}
    errors: list[Exception] = []

    async def note(error: Exception) -> None:
        errors.append(error)

    connection = nats.NATS()
    try:
        if settings.credentials:
            more["user_credentials"] = settings.credentials
        if settings.ca_file:
            more["tls"] = ssl.create_default_context(cafile=settings.ca_file)
        connecting = connection.connect(
            servers=servers, name=f"wsadapter host {host}", allow_reconnect=False, max_reconnect_attempts=1,
            reconnect_time_wait=0.1, connect_timeout=patience, ping_interval=5, max_outstanding_pings=2, error_cb=note, **more,
        )  # fmt: skip
        await asyncio.wait_for(connecting, patience * (1 + len(servers)))
    except (OSError, TimeoutError, nats.errors.Error, ValueError) as error:
        with suppress(TimeoutError):  # after a failed TLS handshake `close` waits for an end of the stream that does not come
            await asyncio.wait_for(connection.close(), _CLOSE)
        raise _why(shown, settings, [*errors, error]) from error
    return connection


def _why(shown: str, settings: ClusterSettings, errors: list[Exception]) -> WsAdapterError:
    text = "; ".join(dict.fromkeys(str(error) or type(error).__name__ for error in errors))
    if any(isinstance(error, ssl.SSLError) for error in errors):
        hint = "cluster.ca_file names the authority that signed the server's certificate"
        return StoreRefused(f"NATS {shown}: TLS failed: {text}; {hint}")
    if "authorization" in text.lower() or "authentication" in text.lower():
        return StoreRefused(f"NATS {shown}: the credentials are refused: {text}; see cluster.credentials and cluster.servers")
    if settings.credentials and any(isinstance(error, FileNotFoundError | PermissionError) for error in errors):
        return StoreRefused(f"NATS {shown}: {settings.credentials} cannot be read: {text}")
    return StoreUnavailable(f"NATS {shown}: {text}")


async def check_version(connection: Any, patience: float) -> None:
    """Raises `StoreRefused`, `StoreUnavailable`."""
    try:
        answer = await ask(patience, connection.request("$JS.API.INFO", b"", timeout=patience))
    except nats.errors.NoRespondersError:
        raise StoreUnavailable("JetStream is not ready, or not enabled for this account") from None
    problem = version_problem(answer.data, connection.connected_server_version)
    if problem is not None:
        raise StoreRefused(f"NATS {problem}")


async def ask(patience: float, answer: Awaitable[T]) -> T:
    """Wait for an answer. Raises errors of JetStream, and `StoreUnavailable` if no answer comes."""
    try:
        return await asyncio.wait_for(answer, patience)
    except (TimeoutError, nats.errors.TimeoutError):
        raise StoreUnavailable(f"NATS: no answer within {patience:g} s: no quorum, or no connection") from None
    except nats.errors.NoRespondersError:
        raise
    except (OSError, nats.errors.Error) as error:
        if isinstance(error, nats.js.errors.APIError | nats.js.errors.NoStreamResponseError):
            raise
        raise StoreUnavailable(f"NATS: {error or type(error).__name__}") from error


def refusal(error: Any) -> WsAdapterError:
    """The error to raise for an error of JetStream."""
    text = f"NATS: {error.description} ({error.err_code})"
    if error.err_code == NO_STREAM:
        text += ": the cluster's bucket or stream was removed; it is created again"
    if (error.code or 0) >= 500 or error.err_code in {IN_PROGRESS, NO_STREAM}:
        return StoreUnavailable(text)
    return StoreRefused(text)


class NatsLog:
    """See `Log`; in the loop of the connection."""

    def __init__(self, connection: Any, stream: str, *, replicas: int, max_age: float, patience: float) -> None:
        """`replicas`, `max_age`: of the stream, if it has to be created."""
        self.stream = stream
        self.limit = body_limit(connection.max_payload) or 0
        """The most bytes of a message's body; 0: `open` refuses the server."""
        self._connection = connection
        self._jetstream = connection.jetstream(timeout=patience)
        self._replicas = replicas
        self._max_age = max_age
        self._patience = patience

    async def open(self) -> float:
        """Create the stream if it doesn't exist. Returns its `max_age` in seconds (0: none). Raises `StoreUnavailable`,
        `StoreRefused`."""
        if not self.limit:
            raise StoreRefused(f"NATS: max_payload of the server is {self._connection.max_payload}, too little")
        config = StreamConfig(
            name=self.stream, subjects=[f"{self.stream}.>"], num_replicas=self._replicas, max_age=self._max_age,
            allow_direct=False,
        )  # fmt: skip
        try:
            found = await ask(self._patience, self._jetstream.add_stream(config))
        except nats.js.errors.APIError as error:
            try:
                found = await ask(self._patience, self._jetstream.stream_info(self.stream))
            except nats.js.errors.APIError:
                raise refusal(error) from error
        return float(found.config.max_age or 0.0)

    def _subject(self, endpoint: str) -> str:
        return f"{self.stream}.{token(endpoint, '%')}"

    async def last(self, endpoint: str) -> tuple[int, Mapping[str, str]] | None:
        """See `Log`; read from the leader of the stream, so that the newest append is included."""
        try:
            found = await ask(self._patience, self._jetstream.get_last_msg(self.stream, self._subject(endpoint)))
        except nats.errors.NoRespondersError:
            raise StoreUnavailable("JetStream is not ready") from None
        except nats.js.errors.APIError as error:
            if error.err_code == NO_MESSAGE:
                return None
            raise refusal(error) from error
        return found.seq, found.headers or {}

    async def append(self, endpoint: str, body: bytes, headers: Mapping[str, str], expected: int) -> int | None:
        """See `Log`."""
        named = {**headers, EXPECTED_SEQUENCE: str(expected)}
        publishing = self._jetstream.publish(self._subject(endpoint), body, timeout=self._patience, headers=named)
        try:
            said = await ask(self._patience, publishing)
        except (nats.js.errors.NoStreamResponseError, nats.errors.NoRespondersError):
            text = f"NATS: no stream has the subject {self._subject(endpoint)}: was {self.stream} removed?"
            raise StoreUnavailable(text) from None
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_SEQUENCE:
                return None
            raise refusal(error) from error
        if said.stream != self.stream:
            raise StoreRefused(f"NATS: {self._subject(endpoint)} belongs to stream {said.stream}, not {self.stream}")
        return int(said.seq)
