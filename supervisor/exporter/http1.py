"""The little of HTTP/1.1 (RFC 9112) that a read-only server needs. Pure: bytes in, values out.

A request is GET or HEAD without a body, and each connection carries one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

LARGEST_HEAD: Final = 16 * 1024
_TEXT: Final = "text/plain; charset=utf-8"


class BadRequest(Exception):
    """The request is refused; `response` is the answer."""

    def __init__(self, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.response = Response(text, status=status, headers=headers or {})


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """Names in lower case."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to the client."""

    body: str | bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = _TEXT
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, with_body: bool = True) -> bytes:
        """As bytes of the connection."""
        body = self.body.encode() if isinstance(self.body, str) else self.body
        return head(self.status, self.content_type, {"Content-Length": str(len(body)), **self.headers}) + (
            body if with_body else b""
        )


def head(status: HTTPStatus, content_type: str, headers: Mapping[str, str]) -> bytes:
    """A status line and headers. Nothing may be kept, guessed or framed by whoever gets it."""
    lines = {
        "Content-Type": content_type,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
        **headers,
    }
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{text}\r\n".encode("latin-1")


def parse_request(received: bytes) -> Request:
    """The request of a head that ends with an empty line. Raises `BadRequest`."""
    first, *lines = received.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "this is no HTTP/1 request")
    method, target, _version = words
    if method not in ("GET", "HEAD"):
        raise BadRequest(
            HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD: nothing can be changed here", {"Allow": "GET, HEAD"}
        )
    headers = {name.lower(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
    try:
        parts = urlsplit(target)
    except ValueError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the target of the request is not valid") from error
    return Request(method, unquote(parts.path), parse_qs(parts.query), headers)


def is_expected_host(host: str) -> bool:
    """Whether the header `Host` names this machine by an address of its loopback, or as localhost.

    If the exporter listens only there, another name means that a page of somebody else reads through a visitor's browser (DNS
    rebinding).
    """
    before, colon, port = host.rpartition(":")
    name = before if colon and port.isdecimal() else host
    if name.lower().rstrip(".") in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
