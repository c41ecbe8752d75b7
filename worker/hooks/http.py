"""HTTP for hooks: one request, one answer, as the endpoint's settings want it. Blocking; loaded where a hook asks for it."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from typing import Any, Final
from urllib.parse import urlsplit

from wsadapter.contract.endpoint import Endpoint
from wsadapter.worker.connect.proxies import BadProxy, proxy_for
from wsadapter.worker.connect.response import retry_after
from wsadapter.worker.connect.tcp import NoConnection, UnknownHost, open_tcp, resolve
from wsadapter.worker.connect.tls import BadTlsSettings, make_context
from wsadapter.worker.hooks import HookFailure

_MOST: Final = 1024 * 1024
_MOST_OF_A_REFUSAL: Final = 4096


def _open_socket(address: tuple[str, int], timeout: float, source: tuple[str, int] | None) -> socket.socket:
    """As `socket.create_connection`, which gives the whole timeout to each address of the host in turn. Raises `OSError`."""
    try:
        sock = open_tcp(resolve(*address), within=timeout, bind=source[0] if source else "")
    except (UnknownHost, NoConnection) as error:
        raise OSError(str(error)) from error
    sock.settimeout(timeout)
    return sock


class _Http(HTTPConnection):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._create_connection = _open_socket


class _Https(HTTPSConnection):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._create_connection = _open_socket


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """From the source address and with the TLS settings of an endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises `BadTlsSettings`."""
        super().__init__()
        self._tls = make_context(endpoint.tls)
        self._source = (endpoint.bind, 0) if endpoint.bind else None

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Http, req, source_address=self._source)

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Https, req, source_address=self._source, context=self._tls)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token must not travel to another host because one host says so."""

    def redirect_request(self, *_: object) -> None:
        """None: the redirect is an error like any other status."""


def transfer(endpoint: Endpoint, method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """As `Attempt.fetch`."""
    place = _place(url)
    if not url.startswith(("http://", "https://")):
        raise HookFailure(f"{place} is not http:// or https://")
    try:
        request = urllib.request.Request(url, data=body or None, headers=dict(headers), method=method)  # noqa: S310 - see above
        _go_through_proxy(request, endpoint)
        with _opener(endpoint).open(request, timeout=endpoint.timeouts.handshake) as answer:
            content: bytes = answer.read(_MOST + 1)
            half = len(content) <= _MOST and bool(answer.length)  # `read` of so many bytes does not mind an early end
    except (BadTlsSettings, BadProxy) as error:
        raise HookFailure(f"{place}: {error}") from error
    except urllib.error.HTTPError as error:
        raise _refused(place, error) from error
    except urllib.error.URLError as error:
        raise HookFailure(f"{place}: {_words(error.reason)}") from error
    except (InvalidURL, ValueError):  # their texts hold all of it
        raise HookFailure(f"{place}: the URL or a header holds what may not stand there") from None
    except (OSError, HTTPException) as error:
        raise HookFailure(f"{place}: {_words(error)}") from error
    if len(content) > _MOST:
        raise HookFailure(f"{place} answered with more than {_MOST} bytes")
    if half:
        raise HookFailure(f"{place}: the answer ended before its length")
    return content


def _opener(endpoint: Endpoint) -> urllib.request.OpenerDirector:
    """It knows no proxy: urllib would look at `no_proxy` even where the endpoint says which proxy to use."""
    return urllib.request.build_opener(_NoRedirects, _Handler(endpoint), urllib.request.ProxyHandler({}))


def _go_through_proxy(request: urllib.request.Request, endpoint: Endpoint) -> None:
    """The one that the connection itself would take. A SOCKS proxy is not for HTTP here. Raises `BadProxy`."""
    parts = urlsplit(request.full_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    proxy = proxy_for(endpoint, os.environ, parts.scheme, parts.hostname or "", port)
    if proxy is None:
        return
    if proxy.protocol != "http":
        raise HookFailure("a hook's HTTP requests can't take a SOCKS proxy; use an http:// one")
    if proxy.auth is not None:
        credentials = base64.b64encode(":".join(proxy.auth).encode()).decode()
        request.add_header("Proxy-Authorization", f"Basic {credentials}")
    request.set_proxy(proxy.address, "http")


def _refused(place: str, error: urllib.error.HTTPError) -> HookFailure:
    with contextlib.closing(error):
        body = ""
        with contextlib.suppress(OSError, HTTPException):  # it may never come, and says less than the status
            body = error.read(_MOST_OF_A_REFUSAL).decode(errors="replace")
        wait = retry_after(error.headers.get("Retry-After", ""), time.time())
        text = f"{place} answered with HTTP {error.code} {error.reason}"
        return HookFailure(text, status=error.code, body=body, retry_after=wait)


def _words(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _place(url: str) -> str:
    """What of a URL is nobody's secret."""
    scheme, mark, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"
