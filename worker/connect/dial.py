"""Connects, step by step: names and TCP (tcp.py), proxy, TLS, the WebSocket handshake. Blocking; called in the connector's
thread.

This is the only file that imports websocket-client, which builds the request of the opening handshake and detects python-socks.
Everything else is done here: limits, strict checks, TLS (see websocket/byte_stream.py), and errors that name the remedy.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from websocket import _handshake, _http

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.reasons import Reason
from wsadapter.worker.connect.handshake import ResponseReader, read_response
from wsadapter.worker.connect.proxies import BadProxy, Proxy, proxy_for
from wsadapter.worker.connect.response import BadResponse
from wsadapter.worker.connect.tcp import NoConnection, UnknownHost, ascii_host, describe_failures, open_tcp, resolve
from wsadapter.worker.connect.tls import BadTlsSettings, check_pin, describe_tls_error, make_context, name_in_certificates
from wsadapter.worker.websocket.byte_stream import ByteStream, EndOfStream, PlainByteStream, TlsByteStream
from wsadapter.worker.websocket.connection import Established
from wsadapter.worker.websocket.deflate import OFFER, OFFER_WITHOUT_TAKEOVER

Progress = Callable[[str], None]
"""Called with the name of each step that begins: resolving, connecting, tls, handshake."""

_SOCKS: Final = ("socks5", "socks5h")
_SHARE_OF_ATTEMPTS: Final = 0.95
"""The share of `timeouts.connect` for the attempts: the error that names the addresses then comes before the owner's loop
gives up, which can't name them."""
_LONGEST_WORDS: Final = 300
_OURS: Final = frozenset({"upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"})


class _Refused(Exception):
    """A proxy refused or failed to connect to the target."""


class ConnectError(Exception):
    """There is no connection; `reason` is to be reported."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.describe())
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Target:
    """The parts of a URL."""

    host: str
    """In ASCII; an international name as its A-labels (RFC 5890 §2.3.2.1)."""
    port: int
    resource: str
    secure: bool
    authorization: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def connect(assignment: Assignment, progress: Progress) -> Established:
    """Opens the connection. Raises only `ConnectError`. The steps have no deadlines here, because the owner's loop has them."""
    _request_headers(assignment.endpoint, _parse(assignment.url))
    byte_stream, peer = open_byte_stream(assignment, progress)
    return shake_hands(assignment, byte_stream, peer, progress)


def open_byte_stream(assignment: Assignment, progress: Progress) -> tuple[ByteStream, str]:
    """The byte stream below the WebSocket, and the peer's address. Raises `ConnectError`."""
    endpoint, target = assignment.endpoint, _parse(assignment.url)
    sock = _tcp(endpoint, target, progress)
    try:
        peer = _address(sock.getpeername())
        return _secured(sock, endpoint, target, progress), peer
    except OSError as error:  # the peer has reset the connection
        sock.close()
        raise _failed(f"connecting to {target.host}:{target.port}: {_words(error)}") from error
    except BaseException:
        sock.close()
        raise


def shake_hands(assignment: Assignment, byte_stream: ByteStream, peer: str, progress: Progress) -> Established:
    """Does the WebSocket handshake over a byte stream. Raises `ConnectError` and then closes the byte stream."""
    target = _parse(assignment.url)
    try:
        progress("handshake")
        return _handshaken(byte_stream, assignment.endpoint, target, _request_headers(assignment.endpoint, target), peer)
    except BaseException:
        byte_stream.sock.close()
        raise


def _parse(url: str) -> _Target:
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise _config("the URL holds a blank or a control character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _config("the URL is malformed") from error
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise _config("the URL must be ws://host... or wss://host...")
    try:
        host = ascii_host(parts.hostname)
    except UnicodeError as error:
        raise _config("the URL's host is not a host name") from error
    secure = parts.scheme == "wss"
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(host, port or (443 if secure else 80), resource, secure, _basic(parts))


def _basic(parts: SplitResult) -> str:
    if parts.username is None and parts.password is None:
        return ""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _request_headers(endpoint: Endpoint, target: _Target) -> dict[str, str]:
    headers = dict(endpoint.headers)
    for name, value in headers.items():
        if not _is_token(name) or any(c in value for c in "\r\n\0"):
            raise _config(f"the header {name!r} holds a line break or a character that may not stand there")
        if name.lower() in _OURS:
            raise _config(f"the header {name!r} belongs to the WebSocket handshake and can't be set")
    names = {name.lower() for name in headers}
    if target.authorization and "authorization" not in names:
        headers["Authorization"] = target.authorization
    if endpoint.subprotocols:
        if not all(_is_token(name) for name in endpoint.subprotocols):
            raise _config("a subprotocol holds a character that may not stand there")
        headers["Sec-WebSocket-Protocol"] = ", ".join(endpoint.subprotocols)
    if endpoint.compression:
        headers["Sec-WebSocket-Extensions"] = OFFER if endpoint.compression is True else OFFER_WITHOUT_TAKEOVER
    headers["Sec-WebSocket-Key"] = base64.b64encode(os.urandom(16)).decode()
    return headers


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in text)


def _tcp(endpoint: Endpoint, target: _Target, progress: Progress) -> socket.socket:
    proxy = _proxy(endpoint, target)
    if proxy is not None and endpoint.bind:
        raise _config('`bind` and a proxy can\'t be used together: set proxy = "none" or leave `bind` out')
    progress("resolving")
    try:
        if proxy is not None:
            return _prepared(_tunnel(proxy, endpoint, target, progress), endpoint)
        addresses = resolve(target.host, target.port)
        progress("connecting")
        within = endpoint.timeouts.connect * _SHARE_OF_ATTEMPTS
        return _prepared(open_tcp(addresses, within=within, bind=endpoint.bind), endpoint)
    except UnknownHost as error:
        raise _failed(f"resolving {error.host}: {error}") from error
    except NoConnection as error:
        raise _failed(f"connecting to {target.host}:{target.port}: {error}") from error


def _proxy(endpoint: Endpoint, target: _Target) -> Proxy | None:
    try:
        proxy = proxy_for(endpoint, os.environ, "wss" if target.secure else "ws", target.host, target.port)
    except BadProxy as error:
        raise _config(str(error)) from error
    if proxy is not None and proxy.protocol in _SOCKS and not _http.HAVE_PYTHON_SOCKS:
        raise _config("a SOCKS proxy needs python-socks: pip install wsadapter[socks]")
    return proxy


def _tunnel(proxy: Proxy, endpoint: Endpoint, target: _Target, progress: Progress) -> socket.socket:
    """A connection to the target through the proxy. All addresses of the proxy are tried, and with socks5 all addresses of the
    target, which we resolve. Raises `ConnectError`, `UnknownHost`."""
    ways = resolve(proxy.host, proxy.port)
    hosts = [address.host for address in resolve(target.host, target.port)] if proxy.protocol == "socks5" else [target.host]
    progress("connecting")
    deadline = time.monotonic() + endpoint.timeouts.connect * _SHARE_OF_ATTEMPTS
    failures: dict[str, str] = {}
    for host in hosts:
        try:
            return _through(proxy, open_tcp(ways, within=deadline - time.monotonic()), host, target.port)
        except _Refused as refused:
            failures[host] = str(refused)
        except NoConnection as error:
            failures = failures or {host: str(error)}
            break
    raise _failed(f"proxy {proxy.host}:{proxy.port}: {describe_failures(failures)}")


def _through(proxy: Proxy, sock: socket.socket, host: str, port: int) -> socket.socket:
    """The same socket, connected to host and port by the proxy. Raises `_Refused`, whatever the proxy answers and whatever a
    parser raises for it, and then closes the socket."""
    try:
        if proxy.protocol == "http":
            _speak_connect(sock, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", proxy.auth)
        else:
            _speak_socks5(sock, host, port, proxy.auth or (None, None))
    except Exception as error:
        sock.close()
        raise _Refused("it ended the connection" if isinstance(error, EndOfStream) else _words(error)) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _speak_connect(sock: socket.socket, target: str, auth: tuple[str, str] | None) -> None:
    """RFC 9110 §9.3.6. Raises `BadResponse`, `EndOfStream`, `OSError`."""
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if auth is not None:
        lines.append("Proxy-Authorization: Basic " + base64.b64encode(":".join(auth).encode()).decode())
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    reader = ResponseReader(PlainByteStream(sock))
    head = reader.read_head()
    if not 200 <= head.status < 300:
        raise BadResponse(f"it answered {head.status} {head.phrase}".rstrip())
    if reader.rest():
        raise BadResponse("it sent data after its answer, before the handshake")


def _speak_socks5(sock: socket.socket, host: str, port: int, auth: tuple[str, str] | tuple[None, None]) -> None:
    """Negotiates with python-socks (RFC 1928, RFC 1929). Its own connect is not used, because it tries one address only."""
    from python_socks import ProxyType
    from python_socks._connectors.factory_sync import create_connector
    from python_socks.sync._resolver import SyncResolver
    from python_socks.sync._stream import SyncSocketStream

    connector = create_connector(ProxyType.SOCKS5, auth[0], auth[1], rdns=True, resolver=SyncResolver())
    connector.connect(SyncSocketStream(sock), host, port)


def _prepared(sock: socket.socket, endpoint: Endpoint) -> socket.socket:
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Without the option the kernel would detect a half-open peer only after fifteen minutes of unacknowledged bytes.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(endpoint.timeouts.send * 1000)))
    return sock


def _secured(sock: socket.socket, endpoint: Endpoint, target: _Target, progress: Progress) -> ByteStream:
    if not target.secure:
        return PlainByteStream(sock)
    progress("tls")
    try:
        context = make_context(endpoint.tls)
        byte_stream = TlsByteStream(sock, context, name_in_certificates(endpoint.tls.server_name or target.host))
    except BadTlsSettings as error:
        raise _config(str(error)) from error
    except (ValueError, TypeError) as error:
        raise _config(f"tls.server_name, or the URL's host, can't be the name in a certificate: {error}") from error
    try:
        byte_stream.start_tls()
        check_pin(byte_stream.tls, endpoint.tls)
    except EndOfStream as error:
        raise _failed(f"TLS: the server ended the connection (endpoint {endpoint.name})") from error
    except ssl.SSLError as error:
        raise _failed(f"TLS: {describe_tls_error(error)} (endpoint {endpoint.name})") from error
    except OSError as error:
        raise _failed(f"TLS: {_words(error)} (endpoint {endpoint.name})") from error
    return byte_stream


def _handshaken(
    byte_stream: ByteStream, endpoint: Endpoint, target: _Target, headers: dict[str, str], peer: str
) -> Established:
    reader = ResponseReader(byte_stream)
    key, deflate = headers["Sec-WebSocket-Key"], bool(endpoint.compression)
    try:
        byte_stream.sock.sendall(byte_stream.seal(_request(target, headers)))
        response = read_response(reader, key=key, offered=endpoint.subprotocols, deflate=deflate)
    except ssl.SSLError as error:  # with TLS 1.3 the server refuses our certificate only now
        raise _failed(f"TLS: {describe_tls_error(error)} (endpoint {endpoint.name})") from error
    except (OSError, EndOfStream) as error:
        raise _failed(f"WebSocket handshake: {_words(error)}") from error
    if isinstance(response, Reason):
        raise ConnectError(response)
    byte_stream.sock.setblocking(False)
    return Established(byte_stream, response.subprotocol, response.headers, peer, reader.rest(), response.deflate)


def _request(target: _Target, headers: dict[str, str]) -> bytes:
    """The request of the opening handshake, built by websocket-client."""
    host = next((value for name, value in headers.items() if name.lower() == "host"), target.host_header)
    sent = {name: value for name, value in headers.items() if name.lower() != "host"}
    options = {"header": sent, "host": host, "suppress_origin": True}
    headers_of = _handshake._get_handshake_headers  # noqa: SLF001 - websocket-client has no public way
    lines, _ = headers_of(target.resource, "ws:", target.host, target.port, options)
    return "\r\n".join(lines).encode()


def _address(peer: tuple[Any, ...]) -> str:
    """Host and port as in a URL, with brackets around an IPv6 address."""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


def _failed(text: str) -> ConnectError:
    return ConnectError(Reason(kind="connect_failed", text=text))


def _config(text: str) -> ConnectError:
    return ConnectError(Reason(kind="config", text=text))


def _words(error: BaseException | None) -> str:
    if isinstance(error, EndOfStream):
        return "the server ended the connection"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)[:_LONGEST_WORDS] or type(error).__name__
