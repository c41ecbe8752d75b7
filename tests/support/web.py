"""A client of the exporter, byte by byte."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


def connect(port: int) -> socket.socket:
    """A connection that fails rather than waits for ever."""
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def get(port: int, path: str, *, method: str = "GET", host: str = "127.0.0.1", **headers: str) -> Answer:
    """One request, and the whole answer."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with connect(port) as client:
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{lines}\r\n".encode())
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    found = dict(line.split(": ", 1) for line in rest)
    assert "Content-Length" not in found or method == "HEAD" or int(found["Content-Length"]) == len(body)
    return Answer(int(first.split()[1]), found, body)


def events(client: socket.socket) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events, as a browser parses them."""
    with client.makefile("rb") as lines:
        name = ""
        for line in lines:
            if line.startswith(b"event: "):
                name = line.removeprefix(b"event: ").decode().strip()
            elif line.startswith(b"data: "):
                yield name, json.loads(line.removeprefix(b"data: "))
