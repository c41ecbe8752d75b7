"""The opening handshake of a server (RFC 6455 §4.2), correct or, if a test asks for that, with faults. No I/O."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Literal, NamedTuple

from wsadapter.testing.deflate import negotiate

MAX_REQUEST: Final = 64 * 1024
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HUGE = 256 * 1024

HalfHandshake = Literal["http", "tls"]
"""Where a half handshake stops: in the HTTP response, or in the TLS handshake before it."""


class Request(NamedTuple):
    """A client's handshake request."""

    path: str
    """With the query."""
    headers: Mapping[str, str]
    """Names in lower case."""


@dataclass
class Refusal:
    """A handshake answered with something other than 101."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    times: int | None = None
    """How many more handshakes are refused; None for all."""


@dataclass
class Misbehaviour:
    """What the exchange does wrong from now on. Used in the exchange's event loop only."""

    refusal: Refusal | None = None
    accept_and_drop: bool = False
    ignore_pings: bool = False
    half_handshake: HalfHandshake | None = None
    wrong_accept: bool = False
    missing_upgrade: bool = False
    huge_headers: bool = False
    http10: bool = False
    hold_answers: bool = False
    bytes_per_second: float | None = None
    deflate: str | bool = False
    """The Sec-WebSocket-Extensions for clients that offer permessage-deflate; True: all that they ask for; False: none."""

    def next_refusal(self) -> Refusal | None:
        """How the next handshake is refused; None: it is not. Counts down `Refusal.times`."""
        refusal = self.refusal
        if refusal is not None and refusal.times is not None:
            refusal.times -= 1
            if refusal.times <= 0:
                self.refusal = None
        return refusal


class BadRequest(Exception):
    """The request is not a WebSocket handshake; the text gives the reason."""


def parse_request(head: bytes) -> Request:
    """The request up to its empty line. Raises `BadRequest`."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[0] != "GET":
        raise BadRequest(f"not a GET: {first[:100]!r}")
    fields = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in headers.get("connection", "").lower():
        raise BadRequest("no Upgrade: websocket")
    if headers.get("sec-websocket-version") != "13" or not headers.get("sec-websocket-key"):
        raise BadRequest("Sec-WebSocket-Version must be 13, with a Sec-WebSocket-Key")
    return Request(parts[1], headers)


def accept_response(request: Request, misbehaviour: Misbehaviour, subprotocol: str | None) -> bytes:
    """The 101 response, with the faults that a test asked for."""
    digest = hashlib.sha1((request.headers["sec-websocket-key"] + _GUID).encode(), usedforsecurity=False).digest()
    accept = base64.b64encode(digest[::-1] if misbehaviour.wrong_accept else digest).decode()
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept}
    if misbehaviour.missing_upgrade:
        del headers["Upgrade"]
    if agreed := agreed_deflate(request, misbehaviour):
        headers["Sec-WebSocket-Extensions"] = agreed
    if subprotocol and subprotocol in _offered(request):
        headers["Sec-WebSocket-Protocol"] = subprotocol
    if misbehaviour.huge_headers:
        headers["X-Huge"] = "x" * _HUGE
    return _response("HTTP/1.0" if misbehaviour.http10 else "HTTP/1.1", 101, headers, b"")


def agreed_deflate(request: Request, misbehaviour: Misbehaviour) -> str | None:
    """The Sec-WebSocket-Extensions of the answer; None: none."""
    agreed = negotiate(request.headers.get("sec-websocket-extensions", ""))
    return agreed if agreed is None or misbehaviour.deflate is True else misbehaviour.deflate or None


def refusal_response(refusal: Refusal) -> bytes:
    """The answer of a refusal; the connection is closed after it."""
    headers = {"Content-Length": str(len(refusal.body)), "Connection": "close", **refusal.headers}
    return _response("HTTP/1.1", refusal.status, headers, refusal.body)


def _response(version: str, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"{version} {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _offered(request: Request) -> list[str]:
    return [name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",")]
