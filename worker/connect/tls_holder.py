"""TLS in a separate process: it connects, keeps the keys, and pumps plain bytes to and from the owner over loopback.

    CONNECTING ──TLS is up──> PUMPING ──one side has ended, and all its bytes are passed on──> DONE
        └── failed, owner gone, STOP, deadline ───────────────────────────────────────────────^

The owner's connection is then plain TCP, which outlives the owner (supervisor/handoff/held_connection.py). This process runs no
user code and doesn't parse WebSocket frames, so little in it can fail; if it ends nevertheless, the connection is lost.
"""

from __future__ import annotations

import socket
import threading
import time
import traceback
from contextlib import suppress
from typing import Final, NamedTuple

from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.command_socket import CommandSocket
from wsadapter.contract.ipc.commands import LEFT, STOP
from wsadapter.contract.reasons import Reason
from wsadapter.worker.connect.dial import ConnectError, open_byte_stream
from wsadapter.worker.connect.holder_events import send_event
from wsadapter.worker.connect.pump import Pump
from wsadapter.worker.loop.alarm import Alarm
from wsadapter.worker.loop.poller import READ, make_poller
from wsadapter.worker.loop.rejoin import RejoinSocket
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.websocket.byte_stream import ByteStream

_WITHOUT_SUPERVISOR: Final = 2.0
"""Seconds that the holder continues after the end of the supervisor: its owner closes within one second."""


class Hold(NamedTuple):
    """The connection that a process is to hold, and the parts of the process that it continues with."""

    assignment: Assignment
    owner: socket.socket
    """The loopback connection to the owner."""
    control: CommandSocket
    backstop: Alarm
    rejoin: RejoinSocket | None = None


class _Connecting:
    """The connect, in a thread, because name resolution has no deadline."""

    def __init__(self, hold: Hold, wakeup: Wakeup) -> None:
        """`wakeup` is woken when the thread has connected or failed."""
        self._assignment, self._owner = hold.assignment, hold.owner
        self._wakeup = wakeup
        self._thread = threading.Thread(target=self._run, name="connect", daemon=True)
        self.channel: ByteStream | None = None
        """The connection, once TLS is up."""
        self.failed = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        owner = self._owner
        try:
            channel, peer = open_byte_stream(self._assignment, lambda step: send_event(owner, {"step": step}))
        except ConnectError as error:
            self._fail(error.reason)
        except OSError:  # the owner is gone
            self.failed = True
        except Exception as error:  # noqa: BLE001  our own fault; it must not look like a hang
            traceback.print_exc()
            self._fail(Reason(kind="connect_failed", text=f"TLS holder: internal error: {error!r}"))
        else:
            with suppress(OSError):  # the owner has ended; the loop notices that
                send_event(owner, {"opened": {"peer": peer}})
            self.channel = channel
        self._wakeup.wake()

    def _fail(self, reason: Reason) -> None:
        with suppress(OSError):
            send_event(self._owner, {"failed": reason.to_json()})
        self.failed = True


class Holder:
    """The process, from its HOLD command on. Main thread only."""

    def __init__(self, hold: Hold, wakeup: Wakeup) -> None:
        self._hold = hold
        self._wakeup = wakeup
        self._poller = make_poller()
        self._connecting = _Connecting(hold, wakeup)
        self._pump: Pump | None = None
        self._until = float("inf")
        """When the process ends at the latest."""
        self._left = False
        """The supervisor was notified that the connection is over."""

    def ask_to_terminate(self) -> None:
        """For the handler of SIGTERM."""
        self._until = 0.0
        self._wakeup.wake()

    def run(self) -> int:
        """Run until the connection is over. Returns the exit code."""
        self._connecting.start()
        self._poller.watch(self._wakeup.fd, READ)
        backstop = self._hold.backstop
        while not self._is_over(now := time.monotonic()):
            backstop.postpone(now)
            self._watch()
            for fd, mask in self._poller.wait(max(0.0, min(backstop.due, self._until) - now)):
                self._serve(fd, mask)
        self._take_down()
        return 0

    def _is_over(self, now: float) -> bool:
        return now >= self._until or self._connecting.failed or (self._pump is not None and self._pump.is_done)

    def _watch(self) -> None:
        control, rejoin = self._hold.control, self._hold.rejoin
        self._poller.watch(control.fileno(), 0 if control.at_end else READ)
        if rejoin is not None:
            self._poller.watch(rejoin.fileno(), 0 if rejoin.at_end else READ)
        if self._pump is not None:
            self._pump.watch(self._poller.watch)

    def _serve(self, fd: int, mask: int) -> None:
        if fd == self._wakeup.fd:
            self._wakeup.drain()
            if self._connecting.channel is not None and self._pump is None:
                self._pump = Pump(self._connecting.channel, self._hold.owner, self._report_left)
        elif fd == self._hold.control.fileno():
            self._read_commands()
        elif self._hold.rejoin is not None and fd == self._hold.rejoin.fileno():
            self._rejoin(self._hold.rejoin)
        elif self._pump is not None:
            self._pump.serve(fd, mask)
            if self._pump.owner_ended:
                self._end_within(self._hold.assignment.endpoint.timeouts.close)

    def _read_commands(self) -> None:
        for command in self._hold.control.receive():
            if command.kind == STOP:  # the owner has ended or is about to
                if self._pump is not None:
                    self._pump.end_owner()
                self._end_within(0.0 if self._pump is None else self._hold.assignment.endpoint.timeouts.close)
        self._end_if_abandoned()

    def _end_if_abandoned(self) -> None:
        rejoin = self._hold.rejoin
        if self._hold.control.peer_closed and (rejoin is None or rejoin.at_end):
            self._end_within(_WITHOUT_SUPERVISOR)

    def _rejoin(self, rejoin: RejoinSocket) -> None:
        """Another supervisor follows, or none can any more."""
        call, control = rejoin.receive(), self._hold.control
        if call is not None:
            self._read_commands()
            while not control.drained:
                self._read_commands()
            self._poller.watch(control.fileno(), 0)  # before it is closed, as the owner does
            control.replace(call.control)
            if self._left:  # the supervisor before may have died before it had read this
                control.send(LEFT)
        self._end_if_abandoned()

    def _end_within(self, seconds: float) -> None:
        self._until = min(self._until, time.monotonic() + seconds)

    def _report_left(self) -> None:
        """Before the owner can see the end of its stream: an end without this report means that this process has died."""
        if not self._left:
            self._left = True
            self._hold.control.send(LEFT)

    def _take_down(self) -> None:
        self._report_left()
        if self._connecting.channel is not None:
            self._connecting.channel.sock.close()
        self._hold.owner.close()
