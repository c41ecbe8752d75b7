"""The server's answer to the opening handshake: read within limits, judged strictly (RFC 6455 §4.1)."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from wsadapter.contract.reasons import Reason
from wsadapter.worker.channel import Channel, EndOfStream
from wsadapter.worker.deflate import Agreement, BadAnswer, parse_answer

_MAX_HEADERS: Final = 64 * 1024
_MAX_BODY: Final = 4 * 1024
_BODY_PATIENCE: Final = 1.0
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_END: Final = b"\r\n\r\n"


class ResponseEnd(Exception):
    """The response's headers are over, or too long: whoever reads on gets this."""


@dataclass(frozen=True, slots=True)
class Response:
    """A valid 101."""

    headers: dict[str, str]
    subprotocol: str | None
    deflate: Agreement | None
    """What was agreed about permessage-deflate; None: messages are not compressed."""


class Transcript:
    """A socket-like view of a channel for websocket-client. It keeps all that came and gives only the headers."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._received = bytearray()
        self._given = 0
        self.headers_end = -1
        """Where the headers end in what was received; -1: not yet."""

    @property
    def complete(self) -> bool:
        """Whether all headers were received."""
        return self.headers_end >= 0

    @property
    def too_long(self) -> bool:
        """Whether the headers were longer than they may be."""
        return not self.complete and len(self._received) > _MAX_HEADERS

    def gettimeout(self) -> float:
        """0 makes websocket-client call `recv` and `send` directly."""
        return 0.0

    def send(self, data: bytes) -> int:
        """All of it."""
        self._channel.sock.sendall(self._channel.seal(data))
        return len(data)

    def recv(self, size: int) -> bytes:
        """As of a socket. Raises `ResponseEnd`, `EndOfStream`, `OSError`."""
        while self._given >= len(self._received) and not self.complete and not self.too_long:
            self._read()
        end = self.headers_end if self.complete else len(self._received)
        if self._given >= end or self.too_long:
            raise ResponseEnd
        chunk = bytes(self._received[self._given : min(end, self._given + size)])
        self._given += len(chunk)
        return chunk

    def _read(self) -> None:
        searched = max(0, len(self._received) - len(_END) + 1)
        self._received += self._channel.receive()
        at = self._received.find(_END, searched)
        if 0 <= at <= _MAX_HEADERS:
            self.headers_end = at + len(_END)

    def head(self) -> list[str]:
        """Status line and header lines, as far as they were received."""
        end = self.headers_end - len(_END) if self.complete else len(self._received)
        return bytes(self._received[:end]).decode("latin-1").split("\r\n")

    def rest(self) -> bytes:
        """What came behind the headers."""
        return bytes(self._received[self.headers_end :])

    def body(self, length: int | None) -> str:
        """The beginning of a refusal's body: at most 4 KiB, `length` where it is known, what comes within a second."""
        wanted = _MAX_BODY if length is None else min(length, _MAX_BODY)
        deadline = time.monotonic() + _BODY_PATIENCE
        try:
            while len(self._received) - self.headers_end < wanted and (left := deadline - time.monotonic()) > 0:
                self._channel.sock.settimeout(left)
                self._received += self._channel.receive()
        except (EndOfStream, OSError):
            pass  # whatever has come is the body
        return self.rest()[:wanted].decode("utf-8", "replace")


def judge(transcript: Transcript, *, key: str, offered: Sequence[str], deflate: bool) -> Response | Reason:
    """The response if it is valid, else why not. Blocks up to a second to read a refusal's body.

    `offered`: the subprotocols; `deflate`: whether permessage-deflate was offered.
    """
    if transcript.too_long:
        return _rejected(f"more than {_MAX_HEADERS // 1024} KiB of response headers")
    lines = transcript.head()
    status = _status(lines[0])
    if status is None:
        return _rejected(f"not an HTTP/1.1 response: {lines[0][:100]!r}")
    if not transcript.complete:
        return _rejected("the response's headers are not complete", status)
    headers = _headers(lines[1:])
    if headers is None:
        return _rejected("a malformed header line", status)
    if status != 101:
        return _refusal(transcript, status, headers)
    fault = _fault(headers, key, offered)
    if fault:
        return _rejected(fault, status)
    try:
        agreement = _agreement(headers.get("sec-websocket-extensions"), offered=deflate)
    except BadAnswer as bad:
        return _rejected(str(bad), status)
    return Response(headers, headers.get("sec-websocket-protocol"), agreement)


def _agreement(answer: str | None, *, offered: bool) -> Agreement | None:
    if answer is None:
        return None
    if not offered:
        raise BadAnswer("an extension that was not offered: " + answer[:100])
    return parse_answer(answer)


def _status(line: str) -> int | None:
    version, _, rest = line.partition(" ")
    code = rest[:3]
    return int(code) if version == "HTTP/1.1" and len(code) == 3 and code.isdecimal() else None


def _headers(lines: Sequence[str]) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            return None
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _fault(headers: dict[str, str], key: str, offered: Sequence[str]) -> str:
    if headers.get("upgrade", "").lower() != "websocket":
        return "no `Upgrade: websocket` in the response"
    if "upgrade" not in {token.strip().lower() for token in headers.get("connection", "").split(",")}:
        return "no `Connection: Upgrade` in the response"
    if headers.get("sec-websocket-accept") != accept_key(key):
        return "a wrong Sec-WebSocket-Accept in the response" if "sec-websocket-accept" in headers else (
            "no Sec-WebSocket-Accept in the response"
        )
    chosen = headers.get("sec-websocket-protocol")
    if chosen is not None and chosen not in offered:
        return f"a subprotocol that was not offered: {chosen[:100]}"
    return ""


def accept_key(key: str) -> str:
    """The Sec-WebSocket-Accept that belongs to a Sec-WebSocket-Key (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def _refusal(transcript: Transcript, status: int, headers: dict[str, str]) -> Reason:
    length = headers.get("content-length", "")
    body = transcript.body(int(length) if length.isdecimal() else None)
    text = f"the server answered {status}"
    if 300 <= status < 400:
        text = f"a redirect is not followed; it points to {_without_secrets(headers.get('location', 'nowhere'))}"
    wait = retry_after(headers.get("retry-after", ""), time.time())
    return Reason(kind="handshake_rejected", status=status, text=text, body=body, retry_after=wait)


def _without_secrets(url: str) -> str:
    """A URL without user info and query."""
    url = url.partition("?")[0].partition("#")[0][:200]
    scheme, slashes, rest = url.partition("//")
    authority, slash, path = rest.partition("/")
    return scheme + slashes + authority.rpartition("@")[2] + slash + path


def retry_after(value: str, now: float) -> float | None:
    """Seconds to wait: the header `Retry-After` holds seconds or a date (RFC 9110 §10.2.3); None where it holds neither."""
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _rejected(text: str, status: int | None = None) -> Reason:
    return Reason(kind="handshake_rejected", text=text, status=status)
