"""Descriptors through a Unix socket: a program that user code starts does not inherit them."""

from __future__ import annotations

import os
import socket

import pytest

from wsadapter.contract.ipc import descriptors
from wsadapter.contract.ipc.descriptors import receive_descriptors


class ForeignAncillary:
    """A socket that reports ancillary data of another kind before the descriptors."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def recvmsg(self, size: int, ancillary_size: int, flags: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        data, ancillary, seen, address = self._sock.recvmsg(size, ancillary_size, flags)
        return data, [(socket.SOL_SOCKET, 29, b"\x09\0\0\0"), (6, socket.SCM_RIGHTS, b"\x09\0\0\0"), *ancillary], seen, address


@pytest.mark.parametrize("kernel_sets_it", [True, False])
def test_a_received_descriptor_is_not_inherited(kernel_sets_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kernel_sets_it`: as on Linux (MSG_CMSG_CLOEXEC); elsewhere it is set afterwards."""
    if not kernel_sets_it:
        monkeypatch.setattr(descriptors, "_CLOSE_ON_EXEC", 0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(theirs, [b"data"], [theirs.fileno()])
        data, found, flags = receive_descriptors(ours, 100, 1)
    assert (data, len(found), flags & socket.MSG_CTRUNC) == (b"data", 1, 0)
    assert os.get_inheritable(found[0]) is False
    os.close(found[0])


def test_other_ancillary_data_are_no_descriptors() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"data")
        data, found, _ = receive_descriptors(ForeignAncillary(ours), 100, 1)  # type: ignore[arg-type]
    assert (data, found) == (b"data", [])
