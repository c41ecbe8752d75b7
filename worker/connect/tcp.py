"""Opens TCP connections: resolves names, and connects to the first address that answers (see attempts.py). Blocking."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from wsadapter.worker.connect.attempts import Attempts, delay_for, interleaved

_MOST_NAMED: Final = 4
"""The most addresses that the text of an error names."""


class Address(NamedTuple):
    """One result of `socket.getaddrinfo`."""

    family: int
    kind: int
    protocol: int
    sockaddr: tuple[Any, ...]

    @property
    def host(self) -> str:
        """The IP address as text."""
        return str(self.sockaddr[0])


class UnknownHost(Exception):
    """The name has no address. The text gives the reason, but not the name, which may contain a secret."""

    def __init__(self, host: str, why: str) -> None:
        super().__init__(why)
        self.host = host


class NoConnection(Exception):
    """None of the addresses accepts a connection; the text gives the reason."""


def ascii_host(host: str) -> str:
    """A host name as it is sent: an international name as its A-labels (IDNA 2003, as `getaddrinfo` uses). Raises
    `UnicodeError`."""
    return host if host.isascii() else host.encode("idna").decode()


def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host, in the order to try them. Raises `UnknownHost`. There is no timeout."""
    try:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else None
        raise UnknownHost(host, why or "not a host name") from error
    addresses = list(dict.fromkeys(Address(family, kind, protocol, where) for family, kind, protocol, _, where in found))
    return [addresses[index] for index in interleaved([address.family for address in addresses])]


def open_tcp(addresses: Sequence[Address], *, within: float, bind: str = "") -> socket.socket:
    """A connection to the first of these addresses that answers; the other attempts are closed. The socket is blocking.

    `within`: seconds for all attempts together. `bind`: the source address; only addresses of its family are tried. Raises
    `NoConnection`.
    """
    with selectors.DefaultSelector() as selector:
        race = _Race(_of_the_family_of(bind, addresses), within, bind, selector)
        try:
            return race.run()
        finally:
            race.close()


class _Race:
    """Parallel attempts, until one connection is open."""

    def __init__(self, addresses: Sequence[Address], within: float, bind: str, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        self._addresses = addresses
        self._deadline = now + within
        self._bind = bind
        self._selector = selector
        self._attempts = Attempts(len(addresses), delay_for(len(addresses), within), now)
        self._running: dict[socket.socket, Address] = {}
        self._failures: dict[str, str] = {}

    def run(self) -> socket.socket:
        """The first open connection, which `close` does not close. Raises `NoConnection`."""
        while (now := time.monotonic()) < self._deadline:
            number = self._attempts.due(now)
            if number is not None:
                self._begin(self._addresses[number], now)
            wait = self._attempts.wait(now)
            if wait is None and not self._running:
                break
            left = self._deadline - now
            if (winner := self._judge(left if wait is None else min(left, wait))) is not None:
                return winner
        self._failures.update((address.host, "no answer") for address in self._running.values())
        raise NoConnection(describe_failures(self._failures))

    def close(self) -> None:
        """End the attempts that are still running."""
        for sock in self._running:
            sock.close()

    def _begin(self, address: Address, now: float) -> None:
        try:
            sock = _connecting(address, self._bind)
        except OSError as error:
            self._failed(address, _words(error), now)
        else:
            self._running[sock] = address
            self._selector.register(sock, selectors.EVENT_WRITE, sock)

    def _judge(self, wait: float) -> socket.socket | None:
        """Waits at most `wait` seconds; returns an attempt whose connection is open, or None, and notes failures."""
        for key, _ in self._selector.select(wait):
            sock: socket.socket = key.data
            address = self._running.pop(sock)
            self._selector.unregister(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not error:
                sock.settimeout(None)
                return sock
            sock.close()
            self._failed(address, os.strerror(error), time.monotonic())
        return None

    def _failed(self, address: Address, why: str, now: float) -> None:
        self._failures[address.host] = why
        self._attempts.failed(now)


def _of_the_family_of(bind: str, addresses: Sequence[Address]) -> Sequence[Address]:
    if not bind:
        return addresses
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    usable = [address for address in addresses if address.family == family]
    if not usable:
        version = 6 if family == socket.AF_INET6 else 4
        raise NoConnection(f"the host has no IPv{version} address to reach from `bind` {bind}")
    return usable


def _connecting(address: Address, bind: str) -> socket.socket:
    """A socket whose connect has begun. Raises `OSError`."""
    sock = socket.socket(address.family, address.kind, address.protocol)
    try:
        if bind:
            sock.bind((bind, 0))
        sock.setblocking(False)
        with suppress(BlockingIOError):  # the connect has begun; without the error the connection is open already
            sock.connect(address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def describe_failures(failures: Mapping[str, str]) -> str:
    """One phrase: why each host failed; the cause once if it is the same for all."""
    if len(set(failures.values())) == 1:
        why = next(iter(failures.values()))
        return why if len(failures) == 1 else f"{why} ({_some(failures)})"
    return _some([f"{host}: {why}" for host, why in failures.items()])


def _some(texts: Collection[str]) -> str:
    more = len(texts) - _MOST_NAMED
    return ", ".join(list(texts)[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _words(error: OSError) -> str:
    return error.strerror or str(error)
