"""A network that drops every packet without an error, as a pulled cable does for the end that still sends."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from tests.support.waiting import wait_until

_SO_ATTACH_FILTER: Final = 26
"""asm-generic/socket.h; Python has no name for it."""
_DROP: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""BPF_RET | BPF_K, 0: of each packet not one byte."""
_MORE_THAN_QUEUE_TAKES: Final = 4


def swallow(sock: socket.socket) -> None:
    """From now on this end of a TCP connection gets no packet any more: nothing is acknowledged, nothing refused."""
    program = ctypes.create_string_buffer(_DROP)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))


@contextmanager
def deaf_listener(host: str, port: int) -> Iterator[None]:
    """While it is open, `port` of a loopback address answers no SYN: it listens, its queue is full, and nobody accepts."""
    with ExitStack() as held:
        listener = held.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(_MORE_THAN_QUEUE_TAKES):
            caller = held.enter_context(socket.socket(listener.family))
            caller.setblocking(False)
            with suppress(BlockingIOError):
                caller.connect((host, port))
        wait_until(lambda: not _answers(host, port), 10.0)
        yield


def _answers(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect((host, port))
        except TimeoutError:
            return False
    return True
