"""The new supervisor's end of a takeover. Blocking: nothing else of the new supervisor runs yet."""

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
"""Seconds until the running supervisor sends its state: more than that side takes to give up."""
_TO_TAKE: Final = 10.0
_TO_BE_GIVEN: Final = 15.0


class OtherContract(TakeoverError):
    """The running supervisor and this one have different contracts."""


class Takeover:
    """What a running supervisor passes; nothing may be read from its descriptors before `seal` has returned."""

    def __init__(self, peer: socket.socket, pid: int, state: bytes, fds: list[int]) -> None:
        self.state = state
        """A `SupervisorSnapshot`, encoded."""
        self.fds = fds
        """Its descriptors; the new supervisor has to close them."""
        self.pid = pid
        """Of the running supervisor."""
        self._peer = peer

    def seal(self) -> None:
        """Report that all is ready. When this returns, the new supervisor owns everything. Raises `TakeoverError` if the
        running one continues instead."""
        try:
            send_line(self._peer, {"ready": True}, monotonic() + _TO_TAKE)
            answer = receive_line(self._peer, monotonic() + _TO_BE_GIVEN)
        except OSError as error:  # TimeoutError is one
            answer = None
            logger.warning("no answer from the running supervisor after this one was ready: %s", error)
        finally:
            self._peer.close()
        if answer is not None and answer.get("gone"):
            return
        if answer is not None:
            raise TakeoverError(f"the running supervisor continues: {answer.get('error')}")
        if is_alive(self.pid):
            raise TakeoverError("the running supervisor continues: it was not notified in time that this one was ready")
        logger.warning("the running supervisor died during the takeover; its owners continue here")


def take(name: str, runtime_dir: str) -> Takeover | None:
    """Ask the running supervisor of this name for its state and its descriptors; None if there is none.

    Raises `TakeoverError` if it does not pass them, `OtherContract` if it never can.
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
        raise TakeoverError("this platform does not report whose process is at the other end of a socket")
    pid, uid = credentials
    if uid not in (os.getuid(), 0):
        raise TakeoverError(f"the supervisor of that name belongs to user {uid}")
    wanted = {"command": "takeover", "contract": CONTRACT, "version": VERSION, "pid": os.getpid()}
    send_line(peer, wanted, monotonic() + _TO_TAKE)
    answer = receive_line(peer, monotonic() + _TO_BE_OFFERED)
    if answer is None:
        raise TakeoverError("the running supervisor closed the connection; see its log")
    if not answer.get("ok"):
        error = OtherContract if answer.get("contract", CONTRACT) != CONTRACT or "known" in answer else TakeoverError
        raise error(str(answer.get("error")))
    state, fds = receive_state(peer, monotonic() + _TO_TAKE)
    # The kernel reports who called listen(): after an earlier takeover that is the supervisor before the running one.
    return Takeover(peer, answer["pid"] if isinstance(answer.get("pid"), int) else pid, state, fds)
