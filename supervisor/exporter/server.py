"""Serves the last reading to every client. Each client has its own task and its own limits, so none can delay another."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import Callable
from functools import cache, partial
from http import HTTPStatus
from importlib.resources import files
from time import monotonic
from typing import Final

import orjson

from wsadapter.config.listen_address import ListenAddress
from wsadapter.exporter import health
from wsadapter.exporter.http1 import LARGEST_HEAD, BadRequest, Request, Response, head, is_expected_host, parse_request
from wsadapter.exporter.metrics import Exposition, NoMetrics
from wsadapter.exporter.view import start_event, tick_event
from wsadapter.exporter.watch import Watch

logger = logging.getLogger("wsadapter.exporter")

_MOST_CLIENTS: Final = 128
_REQUEST_WITHIN: Final = 10.0
"""Seconds in which a client must have sent its request, and taken the answer."""
_EVENTS: Final = "/events"
PATHS: Final = {
    "/": "the status page",
    "/metrics": "the metrics, for Prometheus (extra `metrics`)",
    "/live": "200 while the supervisor's loop answers, else 503",
    "/ready": "200 if all endpoints are up (`?endpoint=NAME`: that one), else 503 with each that is not, and why",
    "/status.json": "the status, as `wsadapter status --json`",
    _EVENTS: "what the page reads: server-sent events",
}
"""What can be asked for."""


class ExporterServer:
    """All that is served."""

    def __init__(self, watch: Watch, address: ListenAddress) -> None:
        self._watch = watch
        self._address = address
        self._clients = 0
        self._server: asyncio.Server | None = None
        try:
            self._exposition: Exposition | None = Exposition()
        except NoMetrics as error:
            logger.warning("/metrics is not available: %s", error)
            self._exposition = None
        self._routes: dict[str, Callable[[Request], Response]] = {
            "/": lambda _request: page(),
            "/metrics": self._metrics,
            "/live": lambda _request: _as_response(health.live(watch.reading, monotonic())),
            "/ready": self._ready,
            "/status.json": lambda _request: self._status(),
        }

    async def open(self) -> ListenAddress:
        """Listen. Returns the address, with the port that was chosen if that is 0. Raises `OSError`."""
        self._server = await asyncio.start_server(
            self._serve, self._address.host or None, self._address.port, limit=LARGEST_HEAD
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return ListenAddress(self._address.host, port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients > _MOST_CLIENTS:
                text = f"more than {_MOST_CLIENTS} clients at once"
                await _send(writer, Response(text, status=HTTPStatus.SERVICE_UNAVAILABLE).encode())
            else:
                await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client has closed the connection, or sends no request: there is no one to answer
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_WITHIN):
                received = await reader.readuntil(b"\r\n\r\n")
            request = self._checked(parse_request(received))
        except asyncio.LimitOverrunError:
            text = f"the head of a request has {LARGEST_HEAD} bytes at most"
            await _send(writer, Response(text, status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE).encode())
            return
        except BadRequest as error:
            await _send(writer, error.response.encode())
            return
        if request.path == _EVENTS and request.method == "GET":
            await self._stream(writer)
            return
        response = self._routes.get(request.path, _not_found)(request)
        await _send(writer, response.encode(with_body=request.method != "HEAD"))

    def _checked(self, request: Request) -> Request:
        """Raises `BadRequest` for what only somebody else's page would ask."""
        if self._address.is_loopback and not is_expected_host(request.headers.get("host", "")):
            text = "this address is this machine's alone; ask by 127.0.0.1, [::1] or localhost"
            raise BadRequest(HTTPStatus.FORBIDDEN, text)
        return request

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        """Send events until the client closes the connection. A slow client gets the newest event when it has read the previous
        one."""
        watch = self._watch
        first = head(HTTPStatus.OK, "text/event-stream", {})
        seen = _last_mark(watch)
        await _send(writer, first + b"retry: 2000\n\n" + start_event(watch.reading, watch.history, monotonic()))
        while not writer.is_closing():
            await watch.next()
            tick = tick_event(watch.reading, watch.history, monotonic(), seen)
            seen = _last_mark(watch)
            await _send(writer, tick)

    def _metrics(self, request: Request) -> Response:
        if self._exposition is None:
            return Response("pip install 'wsadapter[metrics]'", status=HTTPStatus.NOT_IMPLEMENTED)
        text, kind = self._exposition.text(self._watch.reading, monotonic(), request.headers.get("accept", ""))
        return Response(text, content_type=kind)

    def _ready(self, request: Request) -> Response:
        return _as_response(health.ready(self._watch.reading, monotonic(), request.query.get("endpoint", ())))

    def _status(self) -> Response:
        reading = self._watch.reading
        status = reading.current(monotonic())
        if status is None:
            return _as_response(health.live(reading, monotonic()))
        endpoints = {name: {**endpoint, **self._memory(endpoint["pid"])} for name, endpoint in status["endpoints"].items()}
        return Response(orjson.dumps({**status, "endpoints": endpoints}), content_type="application/json")

    def _memory(self, pid: int | None) -> dict[str, int | None]:
        usage = self._watch.reading.usage.get(pid or 0)
        return {"memory": None if usage is None else usage.memory}


def _last_mark(watch: Watch) -> int:
    marks = watch.history.marks()
    return marks[-1].number if marks else 0


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    async with asyncio.timeout(_REQUEST_WITHIN):
        writer.write(data)
        await writer.drain()


def _as_response(answer: health.Health) -> Response:
    return Response(answer.text + "\n", status=HTTPStatus.OK if answer.ok else HTTPStatus.SERVICE_UNAVAILABLE)


def _not_found(request: Request) -> Response:
    known = "".join(f"  {path:14}{meaning}\n" for path, meaning in PATHS.items())
    return Response(f"there is no {request.path[:100]!r}; there are:\n{known}", status=HTTPStatus.NOT_FOUND)


@cache
def page() -> Response:
    """The status page. Nothing but its own script and styles may run in it, and it reaches nothing but this server."""
    text = files("wsadapter.exporter").joinpath("page.html").read_bytes()
    allow = partial(_digests, text)
    policy = (
        f"default-src 'none'; script-src {allow('script')}; style-src {allow('style')}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Response(text, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


def _digests(text: bytes, tag: str) -> str:
    """CSP level 3: the digests of the inline scripts or styles."""
    inline = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), text, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(part).digest()).decode()}'" for part in inline)
