"""Receives descriptors through a Unix socket (SCM_RIGHTS, unix(7)) that are closed on exec: a program that user code runs must
not keep a connection open."""

from __future__ import annotations

import array
import os
import socket
from typing import Final

_CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def receive_descriptors(sock: socket.socket, size: int, most: int) -> tuple[bytes, list[int], int]:
    """Up to `size` bytes, up to `most` descriptors that came with them, and the flags of recvmsg(2): MSG_CTRUNC is set if not
    all descriptors arrived. Raises `OSError`.

    `socket.recv_fds` ignores its flags (CPython 3.11 to 3.13), so its descriptors would be inherited.
    """
    found = array.array("i")
    data, ancillary, flags, _ = sock.recvmsg(size, socket.CMSG_LEN(most * found.itemsize), _CLOSE_ON_EXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    descriptors = found.tolist()
    if not _CLOSE_ON_EXEC:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
    return data, descriptors, flags
