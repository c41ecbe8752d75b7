"""HTTP for hooks: one request and its answer, with the settings of the endpoint. Blocking; imported at the first request."""

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
    """Replaces `socket.create_connection`, which applies the whole timeout to each address of the host in turn. Raises
    `OSError`."""
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
    """Opens URLs from the source address and with the TLS settings of an endpoint."""

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
    """Follows no redirect: otherwise a host could have our token sent to another host."""

    def redirect_request(self, *_: object) -> None:
        """Returns None: a redirect is an error like any other status."""


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
            half = len(content) <= _MOST and bool(answer.length)  # `read` with a size does not raise at an early end
    except (BadTlsSettings, BadProxy) as error:
        raise HookFailure(f"{place}: {error}") from error
    except urllib.error.HTTPError as error:
        raise _refused(place, error) from error
    except urllib.error.URLError as error:
        raise HookFailure(f"{place}: {_words(error.reason)}") from error
    except (InvalidURL, ValueError):  # their texts contain the whole URL, which may contain a token
        raise HookFailure(f"{place}: the URL or a header contains an invalid character") from None
    except (OSError, HTTPException) as error:
        raise HookFailure(f"{place}: {_words(error)}") from error
    if len(content) > _MOST:
        raise HookFailure(f"{place} answered with more than {_MOST} bytes")
    if half:
        raise HookFailure(f"{place}: the answer ended before its length")
    return content


def _opener(endpoint: Endpoint) -> urllib.request.OpenerDirector:
    """An opener without proxies: urllib would apply `no_proxy` even if the endpoint sets the proxy."""
    return urllib.request.build_opener(_NoRedirects, _Handler(endpoint), urllib.request.ProxyHandler({}))


def _go_through_proxy(request: urllib.request.Request, endpoint: Endpoint) -> None:
    """Sets the proxy that the connection itself would use. A SOCKS proxy is not supported here. Raises `BadProxy`,
    `HookFailure`."""
    parts = urlsplit(request.full_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    proxy = proxy_for(endpoint, os.environ, parts.scheme, parts.hostname or "", port)
    if proxy is None:
        return
    if proxy.protocol != "http":
        raise HookFailure("a hook's HTTP requests can't use a SOCKS proxy; set an http:// proxy")
    if proxy.auth is not None:
        credentials = base64.b64encode(":".join(proxy.auth).encode()).decode()
        request.add_header("Proxy-Authorization", f"Basic {credentials}")
    request.set_proxy(proxy.address, "http")


def _refused(place: str, error: urllib.error.HTTPError) -> HookFailure:
    with contextlib.closing(error):
        body = ""
        with contextlib.suppress(OSError, HTTPException):  # the body may never come, and the status is more specific
            body = error.read(_MOST_OF_A_REFUSAL).decode(errors="replace")
        wait = retry_after(error.headers.get("Retry-After", ""), time.time())
        text = f"{place} answered with HTTP {error.code} {error.reason}"
        return HookFailure(text, status=error.code, body=body, retry_after=wait)


def _words(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _place(url: str) -> str:
    """The URL without user info and query, which may contain secrets."""
    scheme, mark, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"
