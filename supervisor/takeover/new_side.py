"""The new supervisor's end of a takeover. Blocking; nothing of ours runs yet."""

from __future__ import annotations

import logging
import os
import socket
from time import monotonic
from typing import Final

from wsadapter.contract.errors import TakeoverError
from wsadapter.control.instance import connect, credentials_of
from wsadapter.process.fork_server import is_alive
from wsadapter.takeover import CONTRACT
from wsadapter.takeover.transfer import receive_line, receive_state, send_line
from wsadapter.version import VERSION

logger = logging.getLogger("wsadapter.takeover")

_TO_BE_OFFERED: Final = 75.0
"""Seconds: more than the other side takes to give up."""
_TO_TAKE: Final = 10.0
_TO_BE_GIVEN: Final = 15.0


class OtherContract(TakeoverError):
    """The running supervisor and this one don't mean the same by what travels."""


class Takeover:
    """What a running supervisor offers; nothing of it may be read before `seal` has returned."""

    def __init__(self, peer: socket.socket, pid: int, state: bytes, fds: list[int]) -> None:
        self.state = state
        """A `SupervisorSnapshot`, encoded."""
        self.fds = fds
        """Its descriptors, ours from here on."""
        self.pid = pid
        """Of the supervisor that is taken over."""
        self._peer = peer

    def seal(self) -> None:
        """Say that all is ready; when it returns, all is ours. Raises `TakeoverError` where the other one goes on instead."""
        try:
            send_line(self._peer, {"ready": True}, monotonic() + _TO_TAKE)
            said = receive_line(self._peer, monotonic() + _TO_BE_GIVEN)
        except OSError as error:  # TimeoutError is one
            said = None
            logger.warning("the other supervisor said nothing more: %s", error)
        finally:
            self._peer.close()
        if said is not None and said.get("gone"):
            return
        if said is not None:
            raise TakeoverError(f"the running supervisor goes on: {said.get('error')}")
        if is_alive(self.pid):
            raise TakeoverError("the running supervisor goes on: it did not hear in time that this one was ready")
        logger.warning("the supervisor that was taken over died over it; its owners did not")


def take(name: str, runtime_dir: str) -> Takeover | None:
    """Ask the running supervisor of that name for all it has; None where there is none.

    Raises `TakeoverError` where it can't be had, `OtherContract` where it never can.
    """
    try:
        peer = connect(name, runtime_dir)
    except TimeoutError as error:
        raise TakeoverError(str(error)) from None
    if peer is None:
        return None
    try:
        return _ask(peer)
    except OSError as error:  # TimeoutError is one
        peer.close()
        raise TakeoverError(f"the running supervisor could not be taken over: {error}") from error
    except TakeoverError:
        peer.close()
        raise


def _ask(peer: socket.socket) -> Takeover:
    credentials = credentials_of(peer)
    if credentials is None:
        raise TakeoverError("this platform does not say whose process is at the other end of a socket")
    pid, uid = credentials
    if uid not in (os.getuid(), 0):
        raise TakeoverError(f"the supervisor of that name is user {uid}'s")
    wanted = {"command": "takeover", "contract": CONTRACT, "version": VERSION, "pid": os.getpid()}
    send_line(peer, wanted, monotonic() + _TO_TAKE)
    said = receive_line(peer, monotonic() + _TO_BE_OFFERED)
    if said is None:
        raise TakeoverError("the running supervisor closed the connection; its log says why")
    if not said.get("ok"):
        error = OtherContract if said.get("contract", CONTRACT) != CONTRACT or "known" in said else TakeoverError
        raise error(str(said.get("error")))
    state, fds = receive_state(peer, monotonic() + _TO_TAKE)
    # The kernel knows who called listen(): after a takeover that is the supervisor before the running one.
    return Takeover(peer, said["pid"] if isinstance(said.get("pid"), int) else pid, state, fds)
