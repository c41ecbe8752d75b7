"""Every parser of bytes that come from outside gives a value, or raises an error of its own: whatever the bytes are.

What Python's own parsers raise beside their errors: `ValueError` for a number of more than 4,300 digits, `RecursionError` for
what is nested deep, `UnicodeError`. tests/fuzz looks for more; here each parser gets the same table.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from wsadapter.config import load
from wsadapter.config.dialect import load_dialect
from wsadapter.config.files import parse_json
from wsadapter.config.values import json_object, json_reply, json_text, stream
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import ConfigError, ControlError, UsageError
from wsadapter.contract.ipc.commands import CommandReader, encode_command
from wsadapter.contract.ipc.record import CorruptRecord, RecordReader
from wsadapter.contract.ipc.reports import parse_report
from wsadapter.control.server import _judged
from wsadapter.endpoint.request_id import with_id
from wsadapter.takeover.transfer import TakeoverError, receive_line, receive_state
from wsadapter.worker.connect.dial import _Refused, _through
from wsadapter.worker.connect.holder_events import read_event
from wsadapter.worker.connect.proxies import BadProxy, Proxy, is_excepted, proxy_for
from wsadapter.worker.connect.response import BadResponse, parse_body, parse_head, retry_after
from wsadapter.worker.websocket.byte_stream import EndOfStream

ENDPOINT = Endpoint("a", url="ws://h")
DIGITS = b"1" * 5000
NASTY = {
    "digits": DIGITS,
    "digits in JSON": b'{"id":' + DIGITS + b',"a":{"b":1}}',
    "digits in TOML": b"a = " + DIGITS,
    "no UTF-8": b'{"a":"\xff\xfe\xc3"}',
    "a lone surrogate": b'{"a":"\\ud800"}',
    "NUL": b'\0{"a":\0}',
    "nothing": b"",
    "nested as deep as orjson reads": b'{"a":' + b"[" * 1015 + b"]" * 1015 + b"}",
    "nested deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested tables": b"a = " + b"{b = " * 3000 + b"1" + b"}" * 3000,
    "not an object": b'[null, 1e999, "x"]',
    "a wrong type": b'{"ok":[],"error":{},"opened":1,"kind":{}}',
}


def peer(data: bytes) -> socket.socket:
    """A socket from which just this comes."""
    near, far = socket.socketpair()
    with far:
        far.setblocking(False)
        with suppress(BlockingIOError):  # as much as fits, and then the end
            far.sendall(data)
    near.settimeout(5)
    return near


Parse = Callable[[bytes], object]


def with_peer(call: Callable[[socket.socket], object]) -> Callable[[bytes], object]:
    def parse(data: bytes) -> object:
        with peer(data) as sock:
            return call(sock)

    return parse


def with_deadline(call: Callable[[socket.socket, float], object], before: Callable[[bytes], bytes]) -> Parse:
    def parse(data: bytes) -> object:
        with peer(before(data)) as sock:
            return call(sock, time.monotonic() + 5)

    return parse


def through(protocol: str) -> Callable[[bytes], object]:
    return with_peer(lambda sock: _through(Proxy(protocol, "proxy", 1, None), sock, "host", 1))  # type: ignore[arg-type]


def headers(name: str) -> Callable[[bytes], object]:
    """The data as a header of a response, and what is made of it."""

    def parse(data: bytes) -> object:
        head = parse_head(b"HTTP/1.1 503 No\r\n" + name.encode() + b": " + data)
        return retry_after(head.headers.get("retry-after", ""), 0.0), parse_body(head, data, 100)

    return parse


def records(data: bytes) -> object:
    reader = RecordReader(limit=1 << 20)
    return [reader.advance(1) for byte in data[:200] if reader.room.__setitem__(0, byte) is None]


def file_with(suffix: str, text: bytes, call: Callable[[Path], object], folder: Path) -> object:
    path = folder / f"x{suffix}"
    path.write_bytes(text)
    return call(path)


PARSERS: dict[str, tuple[Callable[[bytes], object], tuple[type[Exception], ...]]] = {
    "status line": (lambda data: parse_head(data), (BadResponse,)),
    "header": (headers("Set-Cookie"), (BadResponse,)),
    "Retry-After": (headers("Retry-After"), (BadResponse,)),
    "Content-Length": (headers("Content-Length"), (BadResponse,)),
    "chunks": (lambda data: parse_body(parse_head(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked"), data, 100), ()),
    "HTTP proxy": (through("http"), (_Refused,)),
    "SOCKS proxy": (through("socks5"), (_Refused,)),
    "proxy variable": (lambda data: proxy_for(ENDPOINT, {"http_proxy": text(data)}, "ws", "h", 1), (BadProxy,)),
    "no_proxy": (lambda data: is_excepted(text(data), "example.test", 80), ()),
    "TLS holder": (with_peer(read_event), (EndOfStream, OSError)),
    "TLS holder, a frame": (lambda data: with_peer(read_event)(struct.pack("<I", len(data)) + data), (EndOfStream, OSError)),
    "control answer": (lambda data: _judged("x", data), (ControlError,)),
    "command pipe": (lambda data: CommandReader().feed(data), (ValueError,)),
    "command": (lambda data: [command.json() for command in CommandReader().feed(encode_command(1, 0, data))], (ValueError,)),
    "report": (parse_report, (ValueError,)),
    "record": (records, (CorruptRecord,)),
    "takeover line": (with_deadline(receive_line, lambda data: data + b"\n"), (TakeoverError, OSError)),
    "takeover state": (with_deadline(receive_state, lambda data: data), (TakeoverError, OSError)),
    "takeover state, its JSON": (
        with_deadline(receive_state, lambda data: struct.pack("<QI", len(data), 0) + data),
        (TakeoverError, OSError),
    ),
    "request": (lambda data: with_id(data, "id", lambda: 1), (UsageError,)),
    "request, its id deep": (lambda data: with_id(data, "x.id", lambda: 1), (UsageError,)),
    "JSON of a setting": (lambda data: (json_text(text(data)), json_object(text(data)), json_reply(text(data))), ()),
    "JSON of a stream": (lambda data: parse_json(data), (ValueError,)),
}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("nasty", NASTY)
def test_whatever_comes_is_a_value_or_an_error_of_the_parser(parser: str, nasty: str) -> None:
    parse, errors = PARSERS[parser]
    with suppress(*errors):
        parse(NASTY[nasty])


@pytest.mark.parametrize("nasty", NASTY)
def test_whatever_stands_in_a_file_is_a_configuration_or_a_config_error(nasty: str, tmp_path: Path) -> None:
    data = NASTY[nasty]
    endpoint = b'[endpoints.a]\nurl = "ws://x"\n'
    heartbeat = b'heartbeat = {kind="json", payload=' + quoted(data) + b"}"
    texts = (data, endpoint + data, endpoint + b"subscribe_file = 's'\n", endpoint + heartbeat)
    (tmp_path / "s").write_bytes(data)
    for whole in texts:
        with suppress(ConfigError):
            file_with(".toml", whole, load, tmp_path)
    for whole in (data, b"[subscribe]\nframe = " + quoted(data), b'name = "x"\nurls = {live="ws://x"}\n' + data):
        with suppress(ConfigError):
            file_with("d.toml", whole, lambda path: load_dialect(str(path)), tmp_path)


def test_a_stream_that_is_nested_deep_is_told() -> None:
    value: Any = {}
    for _ in range(100_000):
        value = {"a": value}
    assert stream(value) == "it is nested too deep"
    while value:  # no destructor goes that deep
        value = value["a"]


def text(data: bytes) -> str:
    """As it comes out of the environment or a file."""
    return data.decode(errors="surrogateescape")


def quoted(data: bytes) -> bytes:
    """As a literal TOML string."""
    return b"'" + data.replace(b"'", b"").replace(b"\n", b"") + b"'"
