"""Tiny proxies: HTTP CONNECT and SOCKS5 (RFC 1928, RFC 1929), and ones that misbehave.

Each serves one connection after another.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

DEADLINE = 10.0


class Proxy:
    """Listens on a random loopback port. Whatever host is asked for, it connects to `target` on the loopback."""

    def __init__(self, serve: Callable[[Proxy, socket.socket], None], target: int = 0) -> None:
        """`serve` speaks to one client; `tunnel` is what it does once that is served."""
        self._serve = serve
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)
        self.port = self._listener.getsockname()[1]
        self.seen: list[str] = []
        """The requests of the clients: request lines and headers, or host and credentials."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._open):
            with suppress(OSError):  # it has ended already
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            try:
                self._serve(self, client)
            except (OSError, EOFError):
                continue
            finally:
                client.close()

    def tunnel(self, client: socket.socket) -> None:
        """Bytes both ways, until both sides have ended."""
        with socket.create_connection(("127.0.0.1", self._target)) as server:
            self._open.append(server)
            back = threading.Thread(target=_pump, args=(server, client))
            back.start()
            _pump(client, server)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one side has closed; the pump of the other side closes that one


def exactly(sock: socket.socket, size: int) -> bytes:
    """That many bytes; `EOFError` if the peer ends before."""
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def _request(proxy: Proxy, client: socket.socket) -> None:
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += exactly(client, 1)
    proxy.seen += request.decode().split("\r\n")


def http_connect(proxy: Proxy, client: socket.socket) -> None:
    """RFC 9110 §9.3.6."""
    _request(proxy, client)
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    proxy.tunnel(client)


def http_answer(answer: bytes) -> Callable[[Proxy, socket.socket], None]:
    """Answers the request so, and ends the connection."""

    def serve(proxy: Proxy, client: socket.socket) -> None:
        _request(proxy, client)
        client.sendall(answer)

    return serve


def hanging(proxy: Proxy, client: socket.socket) -> None:
    """Reads the request and answers nothing, until the client goes."""
    _request(proxy, client)
    client.recv(1)


def socks5(proxy: Proxy, client: socket.socket) -> None:
    """With user name and password if the client offers them."""
    _, count = exactly(client, 2)
    methods = exactly(client, count)
    method = 2 if 2 in methods else 0
    client.sendall(bytes((5, method)))
    if method == 2:
        user = exactly(client, exactly(client, 2)[1])
        password = exactly(client, exactly(client, 1)[0])
        proxy.seen.append(f"{user.decode()}:{password.decode()}")
        client.sendall(b"\x01\x00")
    kind = exactly(client, 4)[3]
    if kind == 3:
        host = exactly(client, exactly(client, 1)[0]).decode()
    else:
        host = socket.inet_ntop(socket.AF_INET, exactly(client, 4))
    proxy.seen.append(f"{host}:{int.from_bytes(exactly(client, 2), 'big')}")
    client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01")
    proxy.tunnel(client)


def socks5_refusing(proxy: Proxy, client: socket.socket) -> None:
    """None of the offered ways to log in is good enough."""
    exactly(client, exactly(client, 2)[1])
    client.sendall(b"\x05\xff")
