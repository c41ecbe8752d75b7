"""Prepares a connection for the next owner, in case this process dies (supervisor/handoff/held_connection.py).

Every byte that is read is in the pipe before it leaves the kernel. The supervisor gets a duplicate of the socket (custody).
From then on each frame is announced to the supervisor before the first byte of the frame is sent.
"""

from __future__ import annotations

from dataclasses import asdict

from wsadapter.contract.ipc.assignment import Resume
from wsadapter.contract.ipc.command_socket import CommandSocket
from wsadapter.contract.ipc.commands import ANNOUNCE, BEGUN, CUSTODY, AnnounceCommand
from wsadapter.worker.outbox import Outbox
from wsadapter.worker.owner.receipts import is_ours
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.connection import Connection
from wsadapter.worker.websocket.sender import Frame

_NOTHING: tuple[int, Frame] = (-1, b"")


class Handoff:
    """The handoff of one connection. Until `enable` is called, the connection ends with its owner. Not thread-safe."""

    def __init__(self, control: CommandSocket, connection: Connection, session: Session) -> None:
        self._control = control
        self._connection = connection
        self._session = session
        self.every_byte = False
        """The connection can outlive this process: every byte is in the pipe before it leaves the kernel."""
        self.due = False
        """The socket is still to be given to the supervisor."""
        self._in_custody = False
        """The supervisor has a duplicate of the socket."""
        self._announced = _NOTHING
        """Position and bytes of the frame that was announced last."""

    def enable(self, outbox: Outbox, resume: Resume | None, first: int) -> None:
        """From now on the connection can outlive this process. `first`: with `resume`, the bytes of the unfinished message that
        the supervisor has already."""
        self.every_byte = True
        self._connection.leave_in_kernel()
        if resume is None:
            outbox.report_every_byte(0, 0)
            self.due = True
        else:
            outbox.report_every_byte(resume.position, first)
            self._in_custody = True

    def announce(self, ref: int, position: int, frame: Frame, allowed_at: float) -> bool:
        """True if the supervisor will be notified of the frame even if this process dies now. False: call again when the
        announcement is written to the control socket. Without custody only frames that a request waits for are announced."""
        if not self._in_custody and (not ref or is_ours(ref)):
            return True
        if self._announced[0] != position or self._announced[1] is not frame:  # otherwise it is announced already
            self._announced = position, frame
            if self._in_custody:
                self._control.send_large(ANNOUNCE, ref, AnnounceCommand(position, allowed_at).head(), frame)
            else:
                self._control.send(BEGUN, ref)
        return not self._control.backlog

    def forget_announced(self) -> None:
        """Nothing waits to be sent: drops the last announced frame, which may be large."""
        self._announced = _NOTHING

    def offer_again(self) -> None:
        """The supervisor is another one, which has no duplicate of the socket, and knows of no frame."""
        self.due, self._in_custody = self.every_byte, False
        self._announced = _NOTHING

    def offer_if_due(self) -> None:
        """Sends a duplicate of the socket to the supervisor as soon as all frames are out that only this owner would send.
        Frames that subscribe may still wait for their pace: the next owner sends them."""
        if not self.due or self._session.ending.ended:
            return
        if not (self._session.subscribing.can_hand_off and self._connection.sender.can_hand_off):
            return
        custody = self._connection.custody()
        if custody is None:
            self.due = False
            return
        try:
            self._control.send_descriptor(CUSTODY, asdict(custody), self._connection.fileno())
        except (
            OSError
        ):  # the socket is full, or too many descriptors are in flight (unix(7)): the next turn of the loop tries again
            return
        self.due, self._in_custody = False, True
