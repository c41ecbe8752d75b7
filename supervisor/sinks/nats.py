"""NATS JetStream: compare and append.

    endpoint "binance" ──> subject PREFIX.binance, one append in flight, each with the sequence of the one before it:
        Nats-Expected-Last-Subject-Sequence: 41  ──> server compares: 41 is the last of this subject ──> appends as 57
                                                      └── it is not: refused (10071, 10164), somebody else has written

So a batch is in the stream once, without a window for duplicates; and a writer that was frozen, and replaced meanwhile, is
refused by the server. If no answer comes, the headers of the subject's last message show whether the batch is there. The
position of each endpoint is in the headers of that message. Endpoints are written at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
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
from wsadapter.sinks.jetstream import (
    EXPECTED_SEQUENCE,
    IN_PROGRESS,
    NO_MESSAGE,
    WRONG_SEQUENCE,
    body_limit,
    encode_headers,
    integer_field,
    piece_fields,
    server_list,
    text_field,
    version_problem,
    without_passwords,
)
from wsadapter.sinks.lines import Piece, endpoint_of, pieces, token
from wsadapter.sinks.loop_thread import LoopThread

try:
    import nats
    import nats.errors
    import nats.js.api
    import nats.js.errors
except ImportError:  # `NatsSink` raises an error that names the extra
    nats = None

_NO_SPACE: Final = frozenset({10023, 10047, 10077, 10122})
"""Error codes: the stream or the server is full."""
_PATIENCE: Final = 5.0
"""Seconds for an answer of the server."""
_ATTEMPTS: Final = 3
_AT_ONCE: Final = 64
"""Endpoints that are written at the same time."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Subject:
    """One endpoint in the stream."""

    name: str
    sequence: int = 0
    """Sequence in the stream of its last message; 0: the subject is empty."""
    part: tuple[int, int, int] = (0, 0, 0)
    """A line of which only some parts are in the stream: its place, the number of these parts, and the number of all parts."""


@dataclass(frozen=True, slots=True)
class Last:
    """The last message of a subject."""

    sequence: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        return text_field(self.headers, name)

    def integer(self, name: str) -> int:
        return integer_field(self.headers, name)

    @property
    def position(self) -> EndpointPosition:
        """The position behind this message."""
        at = self.integer("At")
        return EndpointPosition(self.integer("End"), self.integer("Number"), self.integer("Epoch"), at or None, self.get("Run"))


def headers_of(piece: Piece, position: Position, writer: str) -> dict[str, str]:
    """The headers of a message that has the lines of `piece`. `writer`: unique for the process."""
    at = piece.position
    found = piece_fields(piece) | {
        "Journal": position.journal, "Endpoint": piece.endpoint, "Epoch": at.epoch, "Number": at.number, "Writer": writer,
    }  # fmt: skip
    if at.at is not None:
        found["At"] = at.at
    return encode_headers(found)


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
        self._servers = server_list(servers)
        self._stream = stream
        self._prefix = subject or stream
        self._credentials = credentials
        self._writer = uuid4().hex
        self._subjects: dict[str, Subject] = {}
        """By endpoint."""
        self._position: Position | None = None
        self._limit = 0
        self._loop = LoopThread("wsadapter-nats")
        self._connection: Any = None
        self._jetstream: Any = None
        self._closed = asyncio.Event()
        """The connection is closed. In the loop."""

    # -- the interface, in the thread of the sink ------------------------------------------------------------------------

    def open(self, position: Position) -> Position:
        """Connect, create the stream if it doesn't exist, and read the position of each endpoint. Raises `SinkError`."""
        self._loop.start()
        self._position = self._wait(self._open(position))
        return self._position

    def write(self, batch: SinkBatch) -> None:
        """Append; the server has acknowledged everything afterwards. Raises `SinkError`."""
        self._wait(self._write(batch.by_endpoint()))
        self._position = batch.after

    def flush(self) -> None:
        """Raise an error of the connection; there is nothing to write."""
        if self._connection is None or not self._connection.is_connected:
            raise TargetUnavailable(f"NATS {self._shown}: the connection is lost")

    @property
    def position(self) -> Position:
        """The position that the server has acknowledged."""
        assert self._position is not None
        return self._position

    def close(self) -> None:
        """Close the connection."""
        if self._loop.is_running:
            with contextlib.suppress(TargetUnavailable):
                self._wait(self._close())
        self._loop.close(_PATIENCE)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.wait(work)
        except nats.js.errors.APIError as error:
            raise self._refusal(error) from error
        except (OSError, TimeoutError, nats.errors.Error) as error:
            raise TargetUnavailable(f"NATS {self._shown}: {error or type(error).__name__}") from error

    @property
    def _shown(self) -> str:
        return without_passwords(self._servers)

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
            reconnect_time_wait=0.1, connect_timeout=_PATIENCE, error_cb=_ignore, closed_cb=self._on_closed, **more,
        )  # fmt: skip
        self._connection = await asyncio.wait_for(connecting, _PATIENCE * (1 + len(self._servers)))
        self._jetstream = self._connection.jetstream(timeout=_PATIENCE)
        await self._check_version()
        limit = body_limit(self._connection.max_payload)
        if limit is None:
            raise SinkMisconfigured(
                f"NATS {self._shown}: max_payload of the server is {self._connection.max_payload}, too little"
            )
        self._limit = limit
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
                if part < parts:  # the previous process was killed within a line: continue with the next part of the line
                    known.part = (last.integer("Begin"), part, parts)
                    found[endpoint] = found[endpoint]._replace(seq=last.integer("Begin"), number=last.integer("Number") - 1)
        return position.with_endpoints(found)

    async def _check_version(self) -> None:
        try:
            answer = await self._connection.request("$JS.API.INFO", b"", timeout=_PATIENCE)
        except nats.errors.NoRespondersError:
            raise TargetUnavailable(f"NATS {self._shown}: JetStream is not ready, or not enabled") from None
        problem = version_problem(answer.data, self._connection.connected_server_version)
        if problem is not None:
            raise TargetRefused(f"NATS {self._shown}: {problem}")

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
        """The last message of a subject, read from the leader of the stream, so that the newest append is included."""
        try:
            found = await self._jetstream.get_last_msg(self._stream, subject)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == NO_MESSAGE:
                return None
            raise
        return Last(found.seq, found.headers or {})

    async def _on_closed(self) -> None:
        self._closed.set()

    async def _write(self, endpoints: Mapping[str, list[SinkRecord]]) -> None:
        """Until all is appended, or the connection is closed: then no answer comes, and the next process reads what was
        appended from the stream."""
        appends, closed = asyncio.ensure_future(self._append_each(endpoints)), asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({appends, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not appends.done():
                raise TargetUnavailable(f"NATS {self._shown}: the connection is lost")
            appends.result()
        finally:
            appends.cancel()
            closed.cancel()

    async def _append_each(self, endpoints: Mapping[str, list[SinkRecord]]) -> None:
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
        if subject is None:  # the subject was empty in `open`: a message that is there now is another writer's
            subject = self._subjects[endpoint] = Subject(self._subject_of(endpoint))
        for piece in pieces(records, self._limit):
            place, part, parts = subject.part
            if piece.parts > 1 and (place, parts) == (piece.begin, piece.parts) and piece.part <= part:
                continue  # the previous process has written this part
            await self._append(subject, piece)

    async def _append(self, subject: Subject, piece: Piece) -> None:
        """One append. It is repeated only if the message isn't in the stream."""
        assert self._position is not None
        headers = headers_of(piece, self._position, self._writer)
        for _ in range(_ATTEMPTS):
            headers[EXPECTED_SEQUENCE] = str(subject.sequence)
            try:
                said = await self._jetstream.publish(subject.name, piece.body, timeout=_PATIENCE, headers=headers)
            except nats.js.errors.NoStreamResponseError:
                raise TargetUnavailable(f"NATS {self._shown}: no stream has the subject {subject.name}") from None
            except nats.js.errors.APIError as error:
                if error.err_code == IN_PROGRESS:  # the server still works on the previous append: try again
                    await asyncio.sleep(0.1)
                    continue
                if error.err_code not in WRONG_SEQUENCE:
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
        another message is."""
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
    """Ignored: an error of the connection ends each call that waits for it."""
