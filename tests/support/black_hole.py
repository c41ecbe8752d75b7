"""A network that drops every packet and says nothing: what a pulled cable looks like to who is still talking."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

_SO_ATTACH_FILTER: Final = 26
"""asm-generic/socket.h; Python has no name for it."""
_DROP: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""BPF_RET | BPF_K, 0: of each packet not one byte."""


def swallow(sock: socket.socket) -> None:
    """From now on this end of a TCP connection gets no packet any more: nothing is acknowledged, nothing refused."""
    program = ctypes.create_string_buffer(_DROP)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))
