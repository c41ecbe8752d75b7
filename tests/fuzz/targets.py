"""The parsers that are fuzzed: for each one its corpus, what it may raise, and what must hold of what it makes."""

from __future__ import annotations

import re
import socket
import tempfile
import time
import tomllib
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final, cast

import orjson

from tests.fuzz.run import Target
from tests.support.conversation import DIALECTS
from tests.support.conversations.script import cases_of, dialects
from tests.support.fakes import FakeSupervisor, connected, die, up
from tests.support.rawserver import server_frame
from tests.support.reference_reader import decode
from wsadapter.config import load, parse, show
from wsadapter.config.dialect import apply_dialect, bundled, check_dialect
from wsadapter.config.files import parse_toml
from wsadapter.config.schema import ENDPOINT, OUTPUT, SUPERVISOR
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import ConfigError, ControlError, UnknownEndpoint, WsAdapterError
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import Command, CommandReader, encode_command
from wsadapter.contract.ipc.record import BATCH, HEADER_SIZE, REPORT, CorruptRecord, Record, RecordReader, encode, field
from wsadapter.contract.ipc.reports import ConnectionDown, ConnectionUp, parse_report
from wsadapter.contract.reasons import Reason
from wsadapter.control.instance import Instance
from wsadapter.control.server import ControlServer, _converse
from wsadapter.endpoint.link_status import status_of
from wsadapter.loop.reactor import Reactor
from wsadapter.status import Status
from wsadapter.testing.recording import bundled as recordings
from wsadapter.testing.recording import load_recording
from wsadapter.worker.connect.handshake import ResponseReader, accept_key, read_response
from wsadapter.worker.connect.response import retry_after
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.byte_stream import ByteStream, EndOfStream
from wsadapter.worker.websocket.deflate import Agreement, Inflater
from wsadapter.worker.websocket.frames import BINARY, CLOSE, PING, PONG, RSV1, TEXT
from wsadapter.worker.websocket.payload_codec import Unpacker
from wsadapter.worker.websocket.reader import Reader

_EXAMPLES: Final = Path(__file__).parent.parent.parent / "ops" / "examples"
_DIGITS: Final = re.compile(r"[0-9]+|'[^']*'|\"[^\"]*\"")


def shape(text: str) -> str:
    """A message without what stands in the input: how a parser behaved, not on what."""
    return _DIGITS.sub("#", text)[:80]


def pieces(data: bytes, cuts: bytes) -> list[bytes]:
    """`data` in pieces; `cuts` says where."""
    at, places = 0, [0]
    for cut in cuts:
        at += cut if cut < 128 else (cut - 127) * 64
        places.append(min(at, len(data)))
    return [data[begin:end] for begin, end in pairwise([*places, len(data)])]


@cache
def recorded() -> list[tuple[bytes, bool]]:
    """A few messages of each bundled recording, and whether they are binary."""
    return [
        (message.payload, message.binary)
        for name in recordings()
        for message in islice((found for found in load_recording(name) if len(found.payload) < 2000), 4)
    ]


# -- frames from the server ------------------------------------------------------------------------------------------------


class ReaderTarget:
    """`Reader`: frames of a server. The first byte chooses the settings, eight more where the stream is cut.

    Cut anywhere, a stream gives the same messages, control frames and violation; and where it is short, those that the
    reference decoder finds, which was written from the RFCs alone.
    """

    name = "reader"
    longest = 20_000
    words = (
        b"\x81", b"\x01", b"\x80", b"\x00", b"\x82", b"\x02", b"\xc1", b"\x41", b"\x88\x02\x03\xe8", b"\x89\x00",
        b"\x8a\x04ping", b"\x7e\x00\x7e", b"\x7e\x01\x00", b"\x7f\x00\x00\x00\x00\x00\x01\x00\x00", b"\xc3\xa4",
        b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xff", b"\x00\x00\xff\xff", b"\x1f\x8b\x08",
    )  # fmt: skip
    _SHORT = 300

    def seeds(self) -> list[bytes]:
        """Messages of the recordings: whole, in fragments, compressed, with control frames between."""
        head = bytes(9)
        found: list[bytes] = []
        deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
        for payload, binary in recorded():
            opcode = BINARY if binary else TEXT
            half = len(payload) // 2
            deflated = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
            found += [
                head + server_frame(opcode, payload),
                head + server_frame(opcode, payload[:half], fin=False) + server_frame(0, payload[half:]),
                head + server_frame(opcode, b"a", fin=False) + server_frame(PING, b"p") + server_frame(0, b""),
                bytes([1]) + head[1:] + server_frame(opcode | RSV1, deflated),
                bytes([3, *b"\x01\x02\x03\x7f\x80\x01\x05\x00"]) + server_frame(opcode, payload) + server_frame(PONG, b""),
            ]  # fmt: skip
        many = b"".join(server_frame(TEXT, payload[:100]) for payload, _ in recorded())
        found.append(head + many + server_frame(CLOSE, b"\x03\xe8"))
        zipped = [zlib.compress(payload, wbits=31) for payload, _ in recorded()[:4]]
        found += [bytes([1 << 4]) + head[1:] + server_frame(BINARY, payload) for payload in zipped]
        return found

    def check(self, data: bytes) -> Hashable:
        """See the class."""
        kind, cuts, stream = (data[:1] or b"\0")[0], data[1:9], data[9:]
        whole = self._read(kind, [stream])
        for split in (pieces(stream, cuts), [stream[at : at + 1] for at in range(len(stream[:2000]))] + [stream[2000:]]):
            parted = self._read(kind, split)
            assert parted == whole, f"in pieces: {parted!r:.500}; in one: {whole!r:.500}"
        if len(stream) <= self._SHORT and not kind >> 4 & 1:
            expected = decode(stream, max_message=self._limit(kind), deflate=bool(kind & 1), takeover=not kind & 2)
            assert whole[:2] == (expected.messages, expected.controls), f"{whole!r:.500}; expected {expected!r:.500}"
            # What is too long is not inflated to where it is wrong: either code is right.
            codes = {1007, 1009} if expected.failure in (1007, 1009) and kind & 1 else {expected.failure}
            assert whole[2] in codes, f"{whole[2]}; expected {expected!r:.500}"
        messages, controls, failure = whole
        return kind & 0x17, min(len(messages), 3), min(len(controls), 2), failure, any(op == BINARY for op, _ in messages)

    def _limit(self, kind: int) -> int:
        return (300, 1 << 20)[kind >> 2 & 1]

    def _read(self, kind: int, chunks: Iterable[bytes]) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]], int | None]:
        inflater = Inflater(Agreement(server_no_context_takeover=bool(kind & 2))) if kind & 1 else None
        reader = Reader(self._limit(kind), inflater, Unpacker("gzip") if kind >> 4 & 1 else None)
        messages: list[tuple[int, bytes]] = []
        controls: list[tuple[int, bytes]] = []
        for chunk in chunks:
            batch = reader.feed(chunk)
            binary = set(batch.binary)
            messages += [(BINARY if at in binary else TEXT, batch.payload(at)) for at in range(batch.count)]
            controls += batch.controls
            if batch.violation is not None:
                return messages, controls, batch.violation.code
        return messages, controls, None


# -- the handshake ---------------------------------------------------------------------------------------------------------


class _Chunks:
    """A channel that brings these pieces, and then ends."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = iter([chunk for chunk in chunks if chunk])
        self.sock = self

    def receive(self) -> bytes:
        """The next piece."""
        for chunk in self._chunks:
            return chunk
        raise EndOfStream

    def settimeout(self, _seconds: float) -> None:
        """Nothing blocks here."""


class ResponseTarget:
    """`read_response`: a server's answer to the handshake. It is judged; nothing is raised but `EndOfStream`, the end of the
    connection. The text "can't be read" stands for an error that nobody foresaw, and is a finding."""

    name = "response"
    longest = 80_000
    words = (
        b"\r\n", b"\r\n\r\n", b"HTTP/1.1 ", b"HTTP/1.0 ", b"101", b"100", b"103", b"429", b"301", b"Retry-After: ",
        b"Set-Cookie: ", b"Location: ", b"Transfer-Encoding: chunked", b"Content-Length: ", b"Sec-WebSocket-Extensions: ",
        b"permessage-deflate", b"; server_no_context_takeover", b"; client_max_window_bits=",
        b'; server_max_window_bits="10"', b"Connection: upgrade", b"Sec-WebSocket-Protocol: a", b"GMT",
        b"Wed, 21 Oct 2026 07:28:00 GMT", b"1e400", b"\xff", b"\x00", b"0\r\n\r\n", b"ffffffff", b",",
    )  # fmt: skip
    _KEY = "dGhlIHNhbXBsZSBub25jZQ=="

    def seeds(self) -> list[bytes]:
        """Yes, no, later, elsewhere, in chunks, after interim responses."""
        yes = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(self._KEY)}\r\n"
        )
        deflate = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12; client_no_context_takeover\r\n"
        answers = [
            yes + "\r\n", yes + deflate + "\r\n", yes + "Sec-WebSocket-Protocol: a\r\nSet-Cookie: foo@bar=1\r\n\r\n\x81\x01a",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + yes + "\r\n",
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\nContent-Length: 5\r\n\r\nlater",
            "HTTP/1.0 503 No\r\nRetry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n\r\nlater",
            "HTTP/1.1 503 No\r\nRetry-After: 1790000000123\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nlater\r\n0\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: wss://user:pass@example.com/a?token=1#b\r\n\r\n",
        ]  # fmt: skip
        return [bytes(9) + answer.encode("latin-1") for answer in answers]

    def check(self, data: bytes) -> Hashable:
        """See the class."""
        kind, cuts, answer = (data[:1] or b"\0")[0], data[1:9], data[9:]
        whole = self._judged(kind, [answer])
        parted = self._judged(kind, pieces(answer, cuts))
        assert _timeless(parted) == _timeless(whole), f"in pieces: {parted!r:.500}; in one: {whole!r:.500}"
        wait = retry_after(answer.decode("latin-1")[:200], 1.79e9)
        assert wait is None or wait >= 0
        if isinstance(whole, Reason):
            assert "can't be read" not in whole.text, whole.text
            assert whole.retry_after is None or 0 <= whole.retry_after <= 366 * 86400
            assert len(whole.text) + len(whole.body) < 10_000
            orjson.dumps([whole.text, whole.body, whole.status, whole.retry_after])
            return shape(whole.text), whole.retry_after is None, bool(whole.body)
        return type(whole).__name__

    def _judged(self, kind: int, chunks: Sequence[bytes]) -> object:
        reader = ResponseReader(cast("ByteStream", _Chunks(chunks)))
        try:
            return read_response(reader, key=self._KEY, offered=("a", "b"), deflate=not kind & 1)
        except EndOfStream:
            return "ended"


def _timeless(answer: object) -> object:
    """`Retry-After` may be a date, and time passes."""
    return (answer.text, answer.status, answer.body, answer.retry_after is None) if isinstance(answer, Reason) else answer


# -- the data pipe ---------------------------------------------------------------------------------------------------------


class RecordTarget:
    """`RecordReader`: records of an owner. `CorruptRecord` alone may be raised. Cut anywhere, a stream gives the same records,
    and the short way for single messages gives what the long one gives. A stream whose first byte is odd gets right checksums,
    so that what stands behind them is reached."""

    name = "record"
    longest = 20_000
    words = (
        b"wsR1", b"2x5s", b"0x0s", b"0x", b"s", b"x", b"999999999x", b"4294967295s", b"18446744073709551616x",
        b"\x01\x00", b"\x1f\x00", b"\x01\x00\x00\x00", b"\xff\xff\xff\xff", b"\xff\xff", b'{"event":"up","fields":{}}',
        b'{"event":"down","fields":{"reason":{}}}', b"null",
    )  # fmt: skip
    _LIMIT = 1 << 20

    def seeds(self) -> list[bytes]:
        """Batches with each table, single messages, tails that go on, reports."""
        head, found = bytes([1]) + bytes(8), []
        for number, (payload, binary) in enumerate(recorded()):
            frame = server_frame(BINARY if binary else TEXT, payload)
            layout = field(len(frame) - len(payload), len(payload))
            lone = {"kind": BATCH, "received_at": 1, "position": len(frame), "layout": layout, "count": 1, "binary": binary}
            found.append(head + encode(frame, sequence=1, **lone) + encode(frame, sequence=2, **lone))
            tables: dict[str, Any] = {"streams": [number, 0xFFFF], "identities": [1, 1 << 63], "binary": [binary, not binary]}
            pair = {**lone, **tables, "layout": layout + "0x3s", "count": 2, "filtered": 3}
            part = encode(frame[:9], kind=BATCH, sequence=1, received_at=1, position=9, tail=9)
            found += [
                head + encode(frame + b"abc", sequence=1, **pair),
                head + part + encode(frame[9:], sequence=2, **{**lone, "continues": True}),
            ]
        said = [ConnectionUp({"a": "b"}, None, "x"), ConnectionDown(Reason(kind="crashed"))]
        found += [head + encode(report.encode(), kind=REPORT, sequence=1, received_at=1) for report in said]
        return found

    def check(self, data: bytes) -> Hashable:
        """See the class."""
        kind, cuts, stream = (data[:1] or b"\0")[0], data[1:9], data[9:]
        stream = sealed(stream) if kind & 1 else stream
        whole = self._read([stream])
        for split in (pieces(stream, cuts), _at_records(stream)):
            parted = self._read(split)
            assert parted == whole, f"in pieces: {parted!r:.500}; in one: {whole!r:.500}"
        records, error, torn = whole
        for record in records:
            if record[0] == REPORT:
                with_value_error(parse_report, record[9])
        return min(len(records), 4), shape(error), bool(torn), tuple(sorted({record[0] for record in records}))

    def _read(self, chunks: Iterable[bytes]) -> tuple[list[tuple[Any, ...]], str, int]:
        reader = RecordReader(limit=self._LIMIT)
        found: list[tuple[Any, ...]] = []
        try:
            for chunk in chunks:
                found += map(_fields, _taken(reader, chunk))
        except CorruptRecord as error:
            return found, str(error), 0
        return found, "", reader.torn


def _taken(reader: RecordReader, chunk: bytes) -> Iterator[Record]:
    """As the supervisor reads a pipe: straight into the reader's buffer, and the short way is tried first."""
    while chunk:
        size = min(len(chunk), len(reader.room))
        reader.room[:size] = chunk[:size]
        chunk = chunk[size:]
        lone = reader.single(size)
        if lone is not None:
            yield Record.of_single(lone)
        else:
            yield from reader.advance(size)


def _fields(record: Record) -> tuple[Any, ...]:
    streams, identities = record.streams, record.identities
    return (
        record.kind, record.sequence, record.received_at, record.position, record.tail, record.count,
        record.payloads, record.binary, None if streams is None else list(streams), record.report,
        None if identities is None else list(identities),
    )  # fmt: skip


def _lengths(stream: bytes) -> Iterator[tuple[int, int]]:
    """Where the records seem to be."""
    at = 0
    while at + HEADER_SIZE <= len(stream):
        length = int.from_bytes(stream[at + 4 : at + 8], "little")
        if length < HEADER_SIZE:
            return
        yield at, length
        at += length


def _at_records(stream: bytes) -> list[bytes]:
    places = [at for at, _ in _lengths(stream)]
    return [stream[begin:end] for begin, end in pairwise([0, *places, len(stream)])]


def sealed(stream: bytes) -> bytes:
    """With both checksums of each record made right."""
    made = bytearray(stream)
    per_message = {1 << 1: 1, 1 << 2: 2, 1 << 4: 8}
    for at, length in _lengths(stream):
        count = int.from_bytes(stream[at + 32 : at + 36], "little")
        layout = int.from_bytes(stream[at + 36 : at + 40], "little")
        flags = int.from_bytes(stream[at + 50 : at + 52], "little")
        tables = layout + count * sum(size for flag, size in per_message.items() if flags & flag)
        begin = at + HEADER_SIZE
        made[at + 56 : at + 60] = zlib.crc32(stream[begin : min(begin + tables, at + length)]).to_bytes(4, "little")
        made[at + 60 : at + 64] = zlib.crc32(made[at : at + 60]).to_bytes(4, "little")
    return bytes(made)


def with_value_error(parser: Callable[[bytes], object], data: bytes) -> bool:
    """Whether it could be parsed; nothing but `ValueError` may be raised."""
    try:
        parser(data)
    except ValueError:
        return False
    return True


# -- the owner's control socket --------------------------------------------------------------------------------------------


class CommandTarget:
    """`CommandReader`: frames of the socket between supervisor and owner. `ValueError` alone may be raised. Cut anywhere, a
    stream gives the same commands. Each of them is then given to an endpoint, as the answer of its owner."""

    name = "command"
    longest = 5_000
    words = (
        *(bytes([kind]) for kind in (2, 65, 66, 67, 68, 69, 70, 71, 72, 73)), b'{"rtt":', b'{"fate":', b'"not_sent"',
        b'"text":', b"[]", b"{}", b"null", b"1e999", b"\xff\xff\xff\xff", b"\x09\x00\x00\x00", bytes(8), b"[" * 200,
    )  # fmt: skip

    def __init__(self) -> None:
        self._supervisor = FakeSupervisor()

    def seeds(self) -> list[bytes]:
        """An answer of each kind, and several in a row."""
        answers = [
            (commands.READY, b""), (commands.TAKEN, b""), (commands.REFUSED, b'{"fate":"not_sent","text":"full"}'),
            (commands.PROBED, b'{"rtt":0.01}'), (commands.CUSTODY, b'{"received":1,"sent":2}'),
            (commands.ANNOUNCE, bytes(8) + b"\x88\x00"),
            (commands.BEGUN, b""), (commands.LEFT, b'{"reason":{"kind":"stopped"}}'), (commands.READING, bytes(8)),
            (commands.SEND_TEXT, b"text"), (commands.REQUEST, commands.RequestCommand(1.0, "7", b"{}").encode()),
        ]  # fmt: skip
        framed = [encode_command(kind, 1, body) for kind, body in answers]
        return [bytes(8) + frame for frame in framed] + [bytes(8) + b"".join(framed)]

    def check(self, data: bytes) -> Hashable:
        """See the class."""
        cuts, stream = data[:8], data[8:]
        whole = self._read([stream])
        for split in (pieces(stream, cuts), [stream[at : at + 1] for at in range(len(stream))]):
            parted = self._read(split)
            assert parted == whole, f"in pieces: {parted!r:.500}; in one: {whole!r:.500}"
        heard, error = whole
        for command in heard:
            with_value_error(lambda _, command=command: command.json(), b"")
        aborted = self._hear(heard)
        return tuple(sorted({command.kind for command in heard if 64 < command.kind < 74})), shape(error), aborted

    def _read(self, chunks: Iterable[bytes]) -> tuple[list[Command], str]:
        reader, found = CommandReader(), list[Command]()
        try:
            for chunk in chunks:
                found += reader.feed(chunk)
        except ValueError as error:
            return found, str(error)
        return found, ""

    def _hear(self, heard: Iterable[Command]) -> tuple[str, ...]:
        link = connected(self._supervisor)
        process = self._supervisor.process
        up(process)
        sent: Future[None] = link.connection.requests.send(b"x", binary=False)
        for command in heard:
            process.listener.on_command(process, command)
        die(process)
        assert sent.done()
        orjson.dumps(status_of(link))
        link.stop()
        return tuple({reason.kind for reason in process.aborted})


# -- the supervisor's control socket ---------------------------------------------------------------------------------------


class _NoListener:
    """An instance that nobody connects to: the clients are given to the server."""

    listener = beacon = None

    def restore(self) -> None:
        """Nothing is removed."""


class _Supervisor:
    """What the server asks it for; it refuses every other command."""

    state = "stopped"
    journaling: None = None

    def __init__(self) -> None:
        self._asked = 0

    def status(self) -> Status:
        return cast("Status", {"endpoints": {"a": {"epoch": 1, "pid": 7}}})

    def restart(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        if request.get("endpoint") != "a":
            raise UnknownEndpoint(str(request.get("endpoint")), ["a"])
        self._asked += 1
        done: Future[dict[str, Any]] = Future()
        if self._asked % 2:
            done.set_result({"endpoint": "a"})
        else:
            done.set_exception(WsAdapterError("it did not come up"))
        return done

    def ask_to_stop(self) -> bool:
        return True

    @property
    def takeover(self) -> _Supervisor:
        return self

    def accept(self, peer: socket.socket, asked: dict[str, Any]) -> None:
        raise WsAdapterError("no takeover here")


class ControlTarget:
    """The control socket, both ends. What a client sends never raises in the supervisor's loop, and each complete line gets
    one line of JSON in answer, until the connection ends. What a supervisor answers raises `ControlError` alone."""

    name = "control"
    longest = 2_000
    words = (
        b"\n", b'{"command":"status"}\n', b'{"command":"restart","endpoint":"a"}\n', b'{"command":"stop"}\n',
        b'{"command":"takeover"}\n', b'"ok":', b"true", b"false", b"null", b'"error":', b'"known":', b'"status":', b"{}",
        b"[]", b"\xff", b"1e999", b"\\ud800",
    )  # fmt: skip

    def __init__(self) -> None:
        self._reactor = Reactor()
        self._reactor.start()
        supervisor = _Supervisor()
        more = {"restart": supervisor.restart}
        self._server = ControlServer(self._reactor, cast("Instance", _NoListener()), supervisor, more)

    def seeds(self) -> list[bytes]:
        """Each command, and each kind of answer."""
        requests = [{"command": "status"}, {"command": "restart", "endpoint": "a"}, {"command": "restart", "endpoint": "b"},
                    {"command": "stop"}, {"command": "takeover", "contract": 3}, {"command": "reboot"}]  # fmt: skip
        answers = [{"ok": True, "status": {"endpoints": {}}}, {"ok": False, "error": "no", "known": ["a"]}, {"ok": True}]
        lines = [orjson.dumps(request) + b"\n" for request in requests]
        said = [orjson.dumps(answer) + b"\n" for answer in answers]
        return [b"\0" + line for line in [*lines, b"".join(lines)]] + [b"\1" + line for line in said]

    def check(self, data: bytes) -> Hashable:
        """See the class."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(data[1:])
            theirs.shutdown(socket.SHUT_WR)
            if data[:1] == b"\1":
                return self._ask(ours)
            return self._serve(ours, theirs, data[1:])

    def _ask(self, supervisor: socket.socket) -> Hashable:
        try:
            answer = _converse("fuzzed", supervisor, {"command": "status"}, time.monotonic() + 30)
        except ControlError as error:
            return type(error).__name__, shape(str(error))
        assert isinstance(answer, dict)
        return tuple(answer)[:3]

    def _serve(self, ours: socket.socket, theirs: socket.socket, sent: bytes) -> Hashable:
        theirs.settimeout(30)
        self._server._welcome(socket.socket(fileno=ours.detach()))
        assert self._reactor.run_until(lambda: not self._server._clients, 30), "the client's end is not noticed"
        received = bytearray()
        while chunk := theirs.recv(1 << 16):
            received += chunk
        answers = [orjson.loads(line) for line in bytes(received).splitlines()]
        assert all(isinstance(answer.get("ok"), bool) for answer in answers)
        lines = [line for line in sent.split(b"\n")[:-1] if line.strip()]
        assert len(answers) <= len(lines) + 1
        return tuple(answer["ok"] for answer in answers[:4]), shape(str(answers[0].get("error", ""))) if answers else ""


# -- files -----------------------------------------------------------------------------------------------------------------

_TOML_WORDS: Final = (
    b"\n", b"[[", b"]]", b"{ ", b" }", b" = ", b"true", b"false", b'""', b"'''", b'"""', b"[]", b"{}", b"-1", b"0",
    b"1e999", b"nan", b"inf", b"1979-05-27T07:32:00Z", b"0x7fffffffffffffff", b"9223372036854775808", b"\xef\xbb\xbf",
    b"\xff", b"\\u0000", b"\\ud800", b'"1h"', b'"64 MiB"', b'"${TOKEN}"', b'"${file:x}"', b'"${}"', b"${", b'"$stream"',
    b'"$id"', b'"$"', b'"$.a"', b'"wss://example.com/"', b'"ws://[::1"',
)  # fmt: skip


class ConfigTarget:
    """A configuration's file. `ConfigError` alone may be raised; what is accepted can be shown and sent to an owner."""

    name = "config"
    longest = 8_000
    words = (
        *_TOML_WORDS, b"[endpoints.a]\n", b"[defaults]\n", b"[supervisor]\n", b"[output]\n", b'dialect = "binance"\n',
        b"subscribe = ", *(f"{key} = ".encode() for key in (*ENDPOINT, *SUPERVISOR, *OUTPUT)),
    )  # fmt: skip

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="wsadapter-fuzz-"))
        self._file = self._folder / "fuzzed.toml"

    def seeds(self) -> list[bytes]:
        """The examples, the reference with every setting, and small ones."""
        small = """[endpoints.a]
url = "ws://x/"
subscribe = ["a", { b = 1 }]
headers = { a = "${TOKEN}" }
[defaults]
buffer = { overflow = "block" }
"""
        return [small.encode(), *(file.read_bytes() for file in sorted(_EXAMPLES.glob("*.toml")))]

    def check(self, data: bytes) -> Hashable:
        """See the class."""
        try:
            settings = self._settings(data)
        except ConfigError as error:
            return tuple(shape(problem.message) for problem in error.problems[:2])
        show(settings)
        for endpoint in settings.endpoints:
            body = Assignment(endpoint=endpoint, epoch=1, url="ws://x/").to_body()
            Assignment.from_body(orjson.loads(orjson.dumps(body)))
        return len(settings.endpoints), tuple(sorted({key for keys in settings.given.values() for key in keys}))[:8]

    def _settings(self, data: bytes) -> Any:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = None
        if text is None or text.startswith("\ufeff"):
            self._file.write_bytes(data)
            return load(self._file)
        return parse(text, source="fuzzed.toml", base_dir=self._folder, environ={"TOKEN": "s3cret"})


class DialectTarget:
    """A dialect's file. Problems are returned, and nothing is raised but that it is not TOML. With a dialect that has no
    problem an owner can begin a connection, and no message makes it raise."""

    name = "dialect"
    longest = 20_000
    words = (
        *_TOML_WORDS, b"[dialect]\n", b"[urls]\n", b"[subscribe]\n", b"[[gap]]\n", b"[[stream]]\n", b"[[ack]]\n",
        b"[[error]]\n", b"[heartbeat]\n", b"[login]\n", b"[[identity]]\n", b"[[answer]]\n", b"[payload]\n", b"[limits]\n",
        b"path = ", b"value = ", b"match = ", b"contains = ", b"frame = ", b"template = ", b"scope = ", b"message = ",
        b"kind = ", b"interval = ",
    )  # fmt: skip

    def seeds(self) -> list[bytes]:
        """The bundled ones, and a small one."""
        small = """[dialect]
name = "mine"
title = "Mine"
docs = "none"
[urls]
live = "wss://example.com"
[subscribe]
frame = { op = "$streams" }
"""
        return [small.encode(), *(file.read_bytes() for _, file in sorted(bundled().items()))]

    def check(self, data: bytes) -> Hashable:
        """See the class."""
        try:
            dialect = parse_toml(data.decode("utf-8", "replace"))
        except tomllib.TOMLDecodeError as error:
            return shape(str(error))[:30]
        about = dialect.get("dialect")
        stem = about.get("name") if isinstance(about, dict) else None
        problems = list(check_dialect(dialect, stem=stem if isinstance(stem, str) else "mine"))
        if problems:
            return tuple(shape(message)[:40] for _, message in problems[:2])
        said = [b"{}", b"[]", b"1", b"x", *(payload for payload, binary in recorded() if not binary)]
        return converse(dialect, [], said[:40])


class MessageTarget:
    """What an exchange sends, through the session of an owner that speaks its dialect: the first line is the dialect's name,
    the second the number of a conversation, whose subscriptions are taken, each other line a message. No message may raise
    anything."""

    name = "message"
    longest = 20_000
    words = (
        b"\n", b'"', b":", b",", b"{", b"}", b"[", b"]", b"null", b"true", b"-1", b"1e999", b"9" * 30, b'""', b"\\u0000",
        b"\\ud800", b'"id":', b'"result":', b'"error":', b'"code":', b'"msg":', b'"channel":', b'"topic":', b'"event":',
        b'"success":', b'"data":', b'"seq":', *(name.encode() for name in sorted(bundled())),
    )  # fmt: skip

    def seeds(self) -> list[bytes]:
        """The conversations of the suite."""
        found = []
        for name, cases in conversations().items():
            for number, case in enumerate(cases):
                said = [text for answer in case.get("answers", ()) for text in answer["say"] if isinstance(text, str)]
                said += [text for text in (*case.get("welcome", ()), *case.get("sends", ())) if isinstance(text, str)]
                found.append("\n".join([name, str(number), *said]).encode())
        return found

    def check(self, data: bytes) -> Hashable:
        """See the class."""
        first, _, rest = data.partition(b"\n")
        number, _, said = rest.partition(b"\n")
        name = first.decode("latin-1")
        cases = conversations().get(name)
        if cases is None or not re.fullmatch(rb"[0-9]{1,2}", number):
            return "no dialect"
        streams = cases[int(number) % len(cases)].get("subscribe", [])
        return name, converse(DIALECTS[name], streams, said.split(b"\n"))


@cache
def conversations() -> dict[str, list[dict[str, Any]]]:
    """Those of the suite, by dialect."""
    return {name: cases_of(name) for name in dialects()}


def converse(dialect: dict[str, Any], wanted: Sequence[Any], said: Iterable[bytes]) -> Hashable:
    """What kinds of actions a session of that dialect takes where the peer says that."""
    endpoint = apply_dialect(Endpoint("fuzzed", dialect="fuzzed", identity=(), subscribe=tuple(wanted)), dialect)
    session = Session(Assignment(endpoint=endpoint, epoch=1, url="ws://x/", dialect=dialect, wanted=tuple(wanted)), salt=1)
    now, reader = 1.0, Reader(1 << 20)
    actions = [*session.start({}, now)]
    session.inspector.identify(on=True)
    for text in said:
        now += 1.0
        batch = reader.feed(server_frame(TEXT, text))
        if batch.violation is not None:
            actions += session.received(batch, now)
            break
        if not session.inspector.needs_inspection(text) or not session.try_fast_path(batch, now):
            actions += session.received(batch, now)
        if session.ending.ended:
            break
        actions += session.tick(now)
    return tuple(sorted({shape(repr(action))[:60] for action in actions}))[:6]


TARGETS: Final[dict[str, Callable[[], Target]]] = {
    "reader": ReaderTarget, "response": ResponseTarget, "record": RecordTarget, "command": CommandTarget,
    "control": ControlTarget, "config": ConfigTarget, "dialect": DialectTarget, "message": MessageTarget,
}  # fmt: skip
