"""The owner process: from its start to its exit. `main` is what the supervisor starts, by spawn or from a forkserver."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import socket
import sys
from functools import cache
from multiprocessing.connection import Connection
from typing import NoReturn

from wsadapter.contract.endpoint import Endpoint, endpoint_from_plain, to_plain
from wsadapter.worker.connect.tls import default_context
from wsadapter.worker.connect.tls_holder import Holder
from wsadapter.worker.loop.children import continue_without_parent
from wsadapter.worker.loop.rejoin import RejoinSocket
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.owner.loop import Owner


@cache
def warm_up() -> None:
    """Does everything that is slow and the same for all owners. The fork server does it once; owners forked from it skip it,
    and share its memory."""
    default_context()
    "localhost".encode("idna")  # name resolution needs the codec, whose tables are loaded at the first use
    endpoint_from_plain(to_plain(Endpoint("")))
    gc.freeze()  # these objects live as long as the process: a collection would write to their pages, and so unshare them


def main(data: Connection, control: Connection, log: Connection, rejoin: Connection | None = None) -> NoReturn:
    """Lives one owner's life and ends the process.

    `data`: the write end of a pipe, for records. `control`: one end of a socket pair, for commands. `log`: the write end of a
    pipe for what user code prints. `rejoin`: one end of a socket pair, through which another supervisor can send a control
    socket of its own after the death of the present one; None: the process ends with its supervisor. The exit code is 0 if the
    reason of the end was written to `data`.
    """
    continue_without_parent()
    rejoin_socket = None if rejoin is None else RejoinSocket(_own_socket(rejoin))
    pipe_fd, control_socket = _take_over(data, control, log)
    warm_up()
    wakeup = Wakeup()
    owner = Owner(pipe_fd, control_socket, wakeup, rejoin_socket)
    _set_signals(owner, wakeup)
    code = owner.run()
    if owner.hold is not None:
        holder = Holder(owner.hold, wakeup)
        signal.signal(signal.SIGTERM, lambda _number, _frame: holder.ask_to_terminate())
        code = holder.run()
    sys.stdout.flush()
    sys.stderr.flush()
    # `sys.exit` would wait for threads, and these may be stuck in name resolution or in user code.
    os._exit(code)


def _take_over(data: Connection, control: Connection, log: Connection) -> tuple[int, socket.socket]:
    """Duplicates of the descriptors that belong to no `Connection`, because its reads and writes block."""
    pipe_fd = os.dup(data.fileno())
    os.set_blocking(pipe_fd, False)
    control_socket = _own_socket(control)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for connection in (data, log):
        connection.close()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    return pipe_fd, control_socket


def _own_socket(connection: Connection) -> socket.socket:
    """A non-blocking duplicate, which no program that user code runs inherits. Closes `connection`."""
    sock = socket.socket(fileno=os.dup(connection.fileno()))
    sock.setblocking(False)
    connection.close()
    return sock


def _set_signals(owner: Owner, wakeup: Wakeup) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group, but only the supervisor handles it
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: owner.ask_to_terminate())
    wakeup.also_on_signals()
    faulthandler.register(signal.SIGUSR2, file=2, all_threads=True)
