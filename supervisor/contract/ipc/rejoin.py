"""How an owner gets another supervisor while its connection stays open: through its rejoin socket.

    supervisor dies ──> the control socket ends; the owner goes on, with the pipe that the keeper holds open
    next supervisor ──REJOIN, its control socket (SCM_RIGHTS)──> rejoin socket ──> owner
    owner ──report Rejoined, at its place between the messages──> pipe ──> next supervisor

The rejoin socket is one more socket pair, made when the owner is started. The process that may have to start another supervisor
holds the other end. When that end is closed too, no supervisor can follow, and an owner without a supervisor ends.
"""

from __future__ import annotations

import socket

from wsadapter.contract.ipc.command_socket import CommandSocket
from wsadapter.contract.ipc.commands import REJOIN


def call_owner(rejoin: socket.socket, number: int) -> socket.socket:
    """Calls the owner at the other end of `rejoin`; returns the control socket for it. `number` comes back in `Rejoined`, so
    that it differs from the answer to a supervisor before that died too. Raises `OSError`.

    The owner reads the returned socket after it has read the one before to its end.
    """
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            CommandSocket(rejoin).send_descriptor(REJOIN, {"number": number}, theirs.fileno())
    except OSError:
        ours.close()
        raise
    return ours
