"""The server's response to the opening handshake: read within limits, checked strictly (RFC 6455 §4.1)."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wsadapter.contract.reasons import Reason
from wsadapter.worker.connect.response import BadResponse, Head, not_http_1_1, parse_body, parse_head, retry_after
from wsadapter.worker.websocket.byte_stream import ByteStream, EndOfStream
from wsadapter.worker.websocket.deflate import Agreement, BadAnswer, parse_answer

_MAX_HEADERS: Final = 64 * 1024
"""Bytes of all heads together, interim responses included."""
_MAX_INTERIM: Final = 16
_MAX_BODY: Final = 4 * 1024
_MAX_RAW_BODY: Final = 64 * 1024
"""Bytes of a chunked body that are read at most, to get `_MAX_BODY` bytes of content."""
_BODY_PATIENCE: Final = 1.0
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Response:
    """A valid response with status 101."""

    headers: dict[str, str]
    subprotocol: str | None
    deflate: Agreement | None
    """The agreed parameters of permessage-deflate; None: messages are not compressed."""


class ResponseReader:
    """Reads an HTTP response from a blocking byte stream, and keeps the bytes after it."""

    def __init__(self, byte_stream: ByteStream) -> None:
        self._byte_stream = byte_stream
        self._received = bytearray()
        self._read_to = 0

    def read_head(self) -> Head:
        """The head of the final response; interim responses before it are skipped. Raises `BadResponse`, `EndOfStream`,
        `OSError`."""
        for _ in range(_MAX_INTERIM + 1):
            head = parse_head(self._next_head())
            if not head.is_interim:
                return head
        raise BadResponse(f"more than {_MAX_INTERIM} interim responses", head.status)

    def _next_head(self) -> bytes:
        start = searched = self._read_to
        while (end := self._received.find(_END, searched, _MAX_HEADERS)) < 0:
            if len(self._received) >= _MAX_HEADERS:
                raise BadResponse(f"more than {_MAX_HEADERS // 1024} KiB of response headers")
            searched = max(start, len(self._received) - len(_END) + 1)
            self._received += self._byte_stream.receive()
        self._read_to = end + len(_END)
        return bytes(self._received[start:end])

    def read_body(self, head: Head) -> str:
        """The beginning of a refusal's body, decoded: at most 4 KiB, and only bytes that come within a second."""
        deadline = time.monotonic() + _BODY_PATIENCE
        content, over = parse_body(head, self.rest(), _MAX_BODY)
        try:
            while not over and len(self.rest()) < _MAX_RAW_BODY and (left := deadline - time.monotonic()) > 0:
                self._byte_stream.sock.settimeout(left)
                self._received += self._byte_stream.receive()
                content, over = parse_body(head, self.rest(), _MAX_BODY)
        except (EndOfStream, OSError):
            pass  # the bytes that have come are the body
        return content.decode("utf-8", "replace")

    def rest(self) -> bytes:
        """The bytes that have come after the head."""
        return bytes(self._received[self._read_to :])


def read_response(reader: ResponseReader, *, key: str, offered: Sequence[str], deflate: bool) -> Response | Reason:
    """The response if it is valid, otherwise the reason. Blocks, up to a second longer for the body of a refusal.

    `offered`: the offered subprotocols; `deflate`: permessage-deflate was offered. Raises `EndOfStream` or `OSError` if the
    connection ends before the head is complete.
    """
    try:
        head = reader.read_head()
        if head.status != 101:
            return _refusal(reader, head)
        return _accepted(head, key, offered, deflate=deflate)
    except BadResponse as bad:
        return Reason(kind="handshake_rejected", text=str(bad), status=bad.status)
    except (EndOfStream, OSError):
        raise
    except Exception as error:  # noqa: BLE001  whatever a server sends, it is reported as a refusal, with the backoff of refusals
        text = f"the response can't be read: {type(error).__name__}: {error}"
        return Reason(kind="handshake_rejected", text=text[:300])


def _accepted(head: Head, key: str, offered: Sequence[str], *, deflate: bool) -> Response:
    if not head.minor:
        raise not_http_1_1(f"HTTP/1.0 {head.status} {head.phrase}")
    if fault := _fault(head.headers, key, offered):
        raise BadResponse(fault, head.status)
    try:
        agreement = _agreement(head.headers.get("sec-websocket-extensions"), offered=deflate)
    except BadAnswer as bad:
        raise BadResponse(str(bad), head.status) from bad
    return Response(head.headers, head.headers.get("sec-websocket-protocol"), agreement)


def _agreement(answer: str | None, *, offered: bool) -> Agreement | None:
    if answer is None:
        return None
    if not offered:
        raise BadAnswer("an extension that was not offered: " + answer[:100])
    return parse_answer(answer)


def _fault(headers: dict[str, str], key: str, offered: Sequence[str]) -> str:
    if headers.get("upgrade", "").lower() != "websocket":
        return "no `Upgrade: websocket` in the response"
    if "upgrade" not in {token.strip().lower() for token in headers.get("connection", "").split(",")}:
        return "no `Connection: Upgrade` in the response"
    if headers.get("sec-websocket-accept") != accept_key(key):
        return (
            "a wrong Sec-WebSocket-Accept in the response"
            if "sec-websocket-accept" in headers
            else ("no Sec-WebSocket-Accept in the response")
        )
    chosen = headers.get("sec-websocket-protocol")
    if chosen is not None and chosen not in offered:
        return f"a subprotocol that was not offered: {chosen[:100]}"
    return ""


def accept_key(key: str) -> str:
    """The Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def _refusal(reader: ResponseReader, head: Head) -> Reason:
    text = f"the server answered {head.status}"
    if 300 <= head.status < 400:
        text = f"a redirect is not followed; it points to {_without_secrets(head.headers.get('location', 'nowhere'))}"
    wait = retry_after(head.headers.get("retry-after", ""), time.time())
    body = reader.read_body(head)
    return Reason(kind="handshake_rejected", status=head.status, text=text, body=body, retry_after=wait)


def _without_secrets(url: str) -> str:
    """A URL without user info and query."""
    url = url.partition("?")[0].partition("#")[0][:200]
    scheme, slashes, rest = url.partition("//")
    authority, slash, path = rest.partition("/")
    return scheme + slashes + authority.rpartition("@")[2] + slash + path
