"""NATS JetStream: compare and append.

    endpoint "binance" ──> subject PREFIX.binance, one append in flight, each with the sequence of the one before it:
        Nats-Expected-Last-Subject-Sequence: 41  ──> server compares: 41 is the last of this subject ──> appends as 57
                                                      └── it is not: refused (10071, 10164), somebody else has written

So a batch is in the stream once, without a window for duplicates; and a writer that was frozen, and replaced meanwhile, is
refused by the server. No answer: the last message of the subject says whether the batch is there. The position of each endpoint
is in the headers of that message. Endpoints are written at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import uuid4

from wsadapter.sinks.base import (
    EndpointPosition,
    OtherWriter,
    Position,
    SinkBatch,
    SinkMisconfigured,
    SinkRecord,
    TargetFull,
    TargetRefused,
    TargetUnavailable,
)
from wsadapter.sinks.lines import Piece, endpoint_of, pieces, token

try:
    import nats
    import nats.errors
    import nats.js.api
    import nats.js.errors
except ImportError:  # said by `NatsSink`
    nats = None

_API_LEVEL: Final = 1
"""Of server 2.11. Servers before it do not serialise the comparison in a cluster."""
_WRONG_SEQUENCE: Final = frozenset({10071, 10164})
_IN_PROGRESS: Final = 10163
_TOO_LARGE: Final = 10054
_NO_SPACE: Final = frozenset({10023, 10047, 10077, 10122})
_NO_MESSAGE: Final = 10037
_PATIENCE: Final = 5.0
"""Seconds for an answer of the server."""
_ATTEMPTS: Final = 3
_HEADROOM: Final = 4096
"""Of `max_payload`, for headers."""
_AT_ONCE: Final = 64
_PREFIX: Final = "Wsadapter-"

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Subject:
    """One endpoint in the stream."""

    name: str
    sequence: int = 0
    """In the stream: of its last message; 0: there is none."""
    part: tuple[int, int, int] = (0, 0, 0)
    """Of a line that is there in parts, and not to its end: its place, how many parts are there, and of how many."""


@dataclass(frozen=True, slots=True)
class Last:
    """The last message of a subject."""

    sequence: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        return self.headers.get(_PREFIX + name, "")

    def integer(self, name: str) -> int:
        text = self.get(name)
        return int(text) if text.isdecimal() else 0

    @property
    def position(self) -> EndpointPosition:
        """Behind it."""
        at = self.integer("At")
        return EndpointPosition(self.integer("End"), self.integer("Number"), self.integer("Epoch"), at or None, self.get("Run"))


def api_level(answer: bytes) -> int:
    """Of JetStream, as the account's information says; 0: a server before 2.11, which does not name it."""
    level = (json.loads(answer).get("api") or {}).get("level")
    return level if isinstance(level, int) else 0


def headers_of(piece: Piece, position: Position, writer: str) -> dict[str, str]:
    """What stands above a batch in the stream."""
    at = piece.position
    found = {
        "Journal": position.journal, "Run": at.run, "Endpoint": piece.endpoint, "Epoch": at.epoch,
        "Count": piece.messages, "Number": at.number, "Begin": piece.begin, "End": piece.end, "Writer": writer,
    }  # fmt: skip
    if piece.first_number is not None:
        found["First-Number"] = piece.first_number
    if at.at is not None:
        found["At"] = at.at
    if piece.parts > 1:
        found |= {"Part": piece.part, "Parts": piece.parts}
    return {_PREFIX + name: _printable(str(value)) for name, value in found.items()}


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode().replace("\r", " ").replace("\n", " ")


def is_mine(last: Last, piece: Piece, writer: str) -> bool:
    """Whether the last message of a subject is this piece, written by this process."""
    same = last.get("Writer") == writer and last.integer("Begin") == piece.begin and last.integer("End") == piece.end
    return same and (piece.parts == 1 or last.integer("Part") == piece.part)


class NatsSink:
    """The sink `kind = "nats"`."""

    def __init__(self, name: str, servers: str, *, stream: str, subject: str = "", credentials: str = "") -> None:
        """`servers`: URLs, separated by commas. `subject`: the prefix of the endpoints' subjects; "": the stream's name.
        `credentials`: path of a file with a JWT and its key."""
        if nats is None:
            raise SinkMisconfigured('kind = "nats" needs nats-py: pip install "wsadapter[nats]"')
        self.name = name
        self._servers = [server.strip() for server in servers.split(",") if server.strip()]
        self._stream = stream
        self._prefix = subject or stream
        self._credentials = credentials
        self._writer = uuid4().hex
        self._subjects: dict[str, Subject] = {}
        """By endpoint."""
        self._position: Position | None = None
        self._limit = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wsadapter-nats", daemon=True)
        self._connection: Any = None
        self._jetstream: Any = None

    # -- the interface, in the thread of the sink ------------------------------------------------------------------------

    def open(self, position: Position) -> Position:
        """Connect, make the stream if it is not there, and read the position of each endpoint. Raises `SinkError`."""
        self._thread.start()
        self._position = self._wait(self._open(position))
        return self._position

    def write(self, batch: SinkBatch) -> None:
        """Append; the server has acknowledged everything afterwards. Raises `SinkError`."""
        self._wait(self._write(batch.by_endpoint()))
        self._position = batch.after

    def flush(self) -> None:
        """Nothing waits. An error of the connection is raised."""
        if self._connection is None or not self._connection.is_connected:
            raise TargetUnavailable(f"NATS {self._shown}: the connection is lost")

    @property
    def position(self) -> Position:
        """What the server has acknowledged."""
        assert self._position is not None
        return self._position

    def close(self) -> None:
        """Close the connection."""
        if self._thread.is_alive():
            with contextlib.suppress(TargetUnavailable):
                self._wait(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_PATIENCE)
        if not self._thread.is_alive():
            self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the loop, which also answers the server's pings while nothing is written."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except nats.js.errors.APIError as error:
            raise self._refusal(error) from error
        except (OSError, TimeoutError, nats.errors.Error) as error:
            raise TargetUnavailable(f"NATS {self._shown}: {error or type(error).__name__}") from error

    @property
    def _shown(self) -> str:
        """Without passwords."""
        return ", ".join(server.rpartition("@")[2].rpartition("//")[2] for server in self._servers)

    def _refusal(self, error: Any) -> Exception:
        text = f"NATS {self._shown}: {error.description} ({error.err_code})"
        if error.err_code in _NO_SPACE:
            return TargetFull(text)
        return TargetUnavailable(text) if (error.code or 0) >= 500 else TargetRefused(text)

    # -- in the loop -----------------------------------------------------------------------------------------------------

    async def _open(self, position: Position) -> Position:
        more = {"user_credentials": self._credentials} if self._credentials else {}
        connecting = nats.connect(
            servers=self._servers, name=f"wsadapter sink {self.name}", allow_reconnect=False, max_reconnect_attempts=1,
            reconnect_time_wait=0.1, connect_timeout=_PATIENCE, error_cb=_ignore, **more,
        )  # fmt: skip
        self._connection = await asyncio.wait_for(connecting, _PATIENCE * (1 + len(self._servers)))
        self._jetstream = self._connection.jetstream(timeout=_PATIENCE)
        await self._check_version()
        self._limit = self._connection.max_payload - _HEADROOM
        if self._limit < _HEADROOM:
            raise SinkMisconfigured(
                f"NATS {self._shown}: max_payload of the server is {self._connection.max_payload}, too little"
            )
        found: dict[str, EndpointPosition] = {}
        for subject in await self._subjects_there():
            last = await self._last(subject)
            if last is None:
                continue
            endpoint = endpoint_of(subject.removeprefix(f"{self._prefix}."), "%")
            known = self._subjects[endpoint] = Subject(subject, last.sequence)
            if last.get("Journal") == position.journal:
                found[endpoint] = last.position
                part, parts = last.integer("Part"), last.integer("Parts")
                if part < parts:  # the process before this one was killed within a line: go on with its next part
                    known.part = (last.integer("Begin"), part, parts)
                    found[endpoint] = found[endpoint]._replace(seq=last.integer("Begin"), number=last.integer("Number") - 1)
        return position.with_endpoints(found)

    async def _check_version(self) -> None:
        try:
            answer = await self._connection.request("$JS.API.INFO", b"", timeout=_PATIENCE)
        except nats.errors.NoRespondersError:
            raise TargetUnavailable(f"NATS {self._shown}: JetStream is not ready, or not enabled") from None
        level = api_level(answer.data)
        if level < _API_LEVEL:
            version = self._connection.connected_server_version
            raise TargetRefused(
                f"NATS {self._shown}: server {version} has API level {level}; 2.11 (level {_API_LEVEL}) or later is needed"
            )

    async def _subjects_there(self) -> list[str]:
        covered = f"{self._prefix}.>"
        try:
            said = await self._jetstream.stream_info(self._stream, subjects_filter=covered)
        except nats.js.errors.NotFoundError:
            await self._jetstream.add_stream(name=self._stream, subjects=[covered])
            return []
        return list(said.state.subjects or ())

    def _subject_of(self, endpoint: str) -> str:
        return f"{self._prefix}.{token(endpoint, '%')}"

    async def _last(self, subject: str) -> Last | None:
        """By the leader of the stream, so also what was appended a moment ago."""
        try:
            found = await self._jetstream.get_last_msg(self._stream, subject)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == _NO_MESSAGE:
                return None
            raise
        return Last(found.seq, found.headers or {})

    async def _write(self, endpoints: Mapping[str, list[SinkRecord]]) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def append(endpoint: str, records: list[SinkRecord]) -> None:
            async with slots:
                await self._append_all(endpoint, records)

        done = await asyncio.gather(*(append(*each) for each in endpoints.items()), return_exceptions=True)
        for error in done:
            if error is not None:
                raise error

    async def _append_all(self, endpoint: str, records: list[SinkRecord]) -> None:
        subject = self._subjects.get(endpoint)
        if subject is None:  # the stream had nothing of it in `open`: what is there by now is another writer's
            subject = self._subjects[endpoint] = Subject(self._subject_of(endpoint))
        for piece in pieces(records, self._limit):
            place, part, parts = subject.part
            if piece.parts > 1 and (place, parts) == (piece.begin, piece.parts) and piece.part <= part:
                continue  # the process before this one has written it
            await self._append(subject, piece)

    async def _append(self, subject: Subject, piece: Piece) -> None:
        """One append. It is repeated only if the server has nothing of it."""
        assert self._position is not None
        headers = headers_of(piece, self._position, self._writer)
        for _ in range(_ATTEMPTS):
            headers["Nats-Expected-Last-Subject-Sequence"] = str(subject.sequence)
            try:
                said = await self._jetstream.publish(subject.name, piece.body, timeout=_PATIENCE, headers=headers)
            except nats.js.errors.NoStreamResponseError:
                raise TargetUnavailable(f"NATS {self._shown}: no stream takes {subject.name}") from None
            except nats.js.errors.APIError as error:
                if error.err_code == _IN_PROGRESS:  # the server works on what was sent before: ask again
                    await asyncio.sleep(0.1)
                    continue
                if error.err_code not in _WRONG_SEQUENCE:
                    raise
                if not await self._is_there(subject, piece, error.err_code):
                    raise self._other_writer(subject, error.err_code) from None
                return
            except (TimeoutError, nats.errors.TimeoutError):
                if await self._is_there(subject, piece):
                    return
                continue
            if said.stream != self._stream:
                raise SinkMisconfigured(
                    f"NATS {self._shown}: {subject.name} belongs to stream {said.stream}, not {self._stream}"
                )
            subject.sequence = said.seq
            return
        raise TargetUnavailable(f"NATS {self._shown}: no answer to {_ATTEMPTS} appends to {subject.name}")

    async def _is_there(self, subject: Subject, piece: Piece, code: int = 0) -> bool:
        """Whether the append that was not confirmed, or was refused with `code`, is in the stream. Raises `OtherWriter` if
        something else is."""
        last = await self._last(subject.name)
        if last is None or last.sequence == subject.sequence:
            return False
        if not is_mine(last, piece, self._writer):
            raise self._other_writer(subject, code)
        subject.sequence = last.sequence
        return True

    def _other_writer(self, subject: Subject, code: int) -> OtherWriter:
        text = f"NATS {self._shown}: another writer has appended to {subject.name}: this one is refused"
        return OtherWriter(f"{text} ({code})" if code else text)

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


async def _ignore(error: Exception) -> None:
    """Errors of the connection end what waits for it."""
