"""Where the exporter listens: "HOST:PORT". Pure."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

_EXPECTED = 'expected "HOST:PORT", such as "127.0.0.1:9464" or "[::1]:9464"'
_LARGEST_PORT = 65535


class ListenAddress(NamedTuple):
    """An address to bind."""

    host: str
    """A name or an address; "" is every address of the machine."""
    port: int
    """0: one that is free."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen_address(text: str) -> ListenAddress:
    """The address in `text`. Raises `ValueError` with the problem."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal():
        raise ValueError(_EXPECTED)
    if int(port) > _LARGEST_PORT:
        raise ValueError(f"{port} is no port: the largest is {_LARGEST_PORT}")
    if host.startswith("[") and host.endswith("]"):
        return ListenAddress(host[1:-1], int(port))
    if ":" in host:
        raise ValueError(f"an IPv6 address is written in brackets: [{host}]:{port}")
    return ListenAddress(host, int(port))


def check_listen(text: str) -> str:
    """The problem of the text, or ""."""
    if not text:
        return ""
    try:
        listen_address(text)
    except ValueError as error:
        return str(error)
    return ""
