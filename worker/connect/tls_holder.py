"""TLS in a process of its own: it connects, keeps the keys, and pumps plain bytes to and from the owner over loopback.

    CONNECTING ──TLS is up──> PUMPING ──one side has ended, and all it said is passed on──> DONE
        └── failed, owner gone, STOP ──────────────────────────────────────────────────────^

The owner's connection is then plain TCP, which outlives it (supervisor/handoff/held_connection.py). This process runs no user
code and parses nothing of the WebSocket, so there is little in it to die of; if it dies all the same, the connection is gone.

Until TLS is up it says on the loopback stream what it is doing, in frames of a length and JSON (`say`, `hear`): the owner
keeps the deadlines. Behind the last of these, `opened`, the stream is the connection's.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
import traceback
from collections import deque
from contextlib import suppress
from typing import Any, Final, NamedTuple

import orjson

from wsadapter.contract.ipc.command_socket import CommandSocket
from wsadapter.contract.ipc.commands import LEFT, STOP, Assignment
from wsadapter.contract.reasons import Reason
from wsadapter.worker.connect.dial import ConnectError, open_channel
from wsadapter.worker.loop.alarm import Backstop
from wsadapter.worker.loop.poller import READ, WRITE, make_poller
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.websocket.byte_stream import Channel, EndOfStream

_CHUNK: Final = 64 * 1024
_MOST_WAITING: Final = 1 << 20
"""Bytes that may wait on their way to one side; beyond, the other side is not read."""
_WITHOUT_SUPERVISOR: Final = 2.0
"""Seconds that are left once the supervisor is gone: its owner closes within one."""
_LENGTH: Final = struct.Struct("<I")
_MOST_SAID: Final = 64 * 1024
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Hold(NamedTuple):
    """What to hold, and with what."""

    assignment: Assignment
    owner: socket.socket
    """It leads to the owner."""
    control: CommandSocket
    backstop: Backstop


def say(sock: socket.socket, word: dict[str, Any]) -> None:
    """One frame of the preamble, blocking. Raises `OSError`."""
    body = orjson.dumps(word)
    sock.sendall(_LENGTH.pack(len(body)) + body)


def hear(sock: socket.socket) -> dict[str, Any]:
    """The next frame of the preamble, blocking, and not a byte more. Raises `EndOfStream`; `OSError`, for a bad frame too."""
    (size,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size))
    if size > _MOST_SAID:
        raise ConnectionError(f"the TLS holder announced {size} bytes")
    body = _exactly(sock, size)
    try:
        word = orjson.loads(body)
    except ValueError as error:
        raise ConnectionError(f"the TLS holder wrote no JSON: {error}") from None
    if not isinstance(word, dict):
        raise ConnectionError("the TLS holder wrote no object")
    return word


def _exactly(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        chunk = sock.recv(size - len(found))
        if not chunk:
            raise EndOfStream
        found += chunk
    return found


class _Side:
    """One of the two streams: what waits to be given to it, and how far it has ended."""

    def __init__(self) -> None:
        self.waiting: deque[memoryview] = deque()
        self.size = 0
        self.ended = False
        """Nothing comes from it any more."""
        self.told = False
        """It was told that nothing more comes."""

    def put(self, data: bytes | memoryview) -> None:
        if data:
            self.waiting.append(memoryview(data))
            self.size += len(data)

    @property
    def is_full(self) -> bool:
        return self.size > _MOST_WAITING

    def took(self, size: int) -> None:
        self.size -= size
        if size < len(self.waiting[0]):
            self.waiting[0] = self.waiting[0][size:]
        else:
            self.waiting.popleft()


class Holder:
    """The process from its HOLD on. Main thread only, but for the connecting."""

    def __init__(self, hold: Hold, wakeup: Wakeup) -> None:
        self._hold = hold
        self._owner, self._control, self._backstop = hold.owner, hold.control, hold.backstop
        self._wakeup = wakeup
        self._poller = make_poller()
        self._channel: Channel | None = None
        self._connecting = threading.Thread(target=self._connect, name="connect", daemon=True)
        self._found: Channel | None = None
        self._failed = False
        self._peer, self._own = _Side(), _Side()
        self._until = float("inf")
        self._broken = False
        """The peer's side broke: the owner is to see an RST, not an end in good order."""
        self._terminate = False
        self._left = False
        """The supervisor was told that the connection is over."""

    def ask_to_terminate(self) -> None:
        """SIGTERM."""
        self._terminate = True
        self._wakeup.wake()

    def run(self) -> int:
        """The whole life; the exit code."""
        self._connecting.start()
        self._poller.watch(self._wakeup.fd, READ)
        while not self._is_over(now := time.monotonic()):
            self._backstop.put_off(now)
            self._watch()
            for fd, mask in self._poller.wait(max(0.0, min(self._backstop.due, self._until) - now)):
                self._serve(fd, mask)
        self._take_down()
        return 0

    # -- connecting, in a thread: name resolution knows no deadline -------------------------------------------------------

    def _connect(self) -> None:
        owner = self._owner
        try:
            channel, peer = open_channel(self._hold.assignment, lambda step: say(owner, {"step": step}))
        except ConnectError as error:
            self._fail(error.reason)
        except OSError:  # the owner is gone
            self._failed = True
        except Exception as error:  # noqa: BLE001  our own fault; it must not look like a hang
            traceback.print_exc()
            self._fail(Reason(kind="connect_failed", text=f"TLS holder: internal error: {error!r}"))
        else:
            with suppress(OSError):  # the owner is gone: the loop sees it
                say(owner, {"opened": {"peer": peer}})
            self._found = channel
        self._wakeup.wake()

    def _fail(self, reason: Reason) -> None:
        with suppress(OSError):
            say(self._owner, {"failed": reason.to_json()})
        self._failed = True

    def _begin(self, channel: Channel) -> None:
        channel.sock.setblocking(False)
        self._owner.setblocking(False)
        self._channel = channel

    # -- pumping ---------------------------------------------------------------------------------------------------------

    def _is_over(self, now: float) -> bool:
        if self._failed or self._terminate or now >= self._until:
            return True
        if self._channel is None:
            return self._own.ended
        return self._own.ended and self._peer.ended and (self._peer.told or self._broken)

    def _watch(self) -> None:
        watch = self._poller.watch
        watch(self._control.fileno(), 0 if self._control.peer_closed else READ)
        if self._channel is None:
            return
        watch(self._owner.fileno(), _mask(self._own, self._peer))
        watch(self._channel.sock.fileno(), 0 if self._broken else _mask(self._peer, self._own))

    def _serve(self, fd: int, mask: int) -> None:
        if fd == self._wakeup.fd:
            self._wakeup.drain()
            if self._found is not None and self._channel is None:
                self._begin(self._found)
        elif fd == self._control.fileno():
            self._hear_supervisor()
        elif self._channel is not None:
            if fd == self._owner.fileno():
                self._serve_owner(mask)
            else:
                self._serve_peer(self._channel, mask)
            self._pass_on(self._channel)

    def _hear_supervisor(self) -> None:
        for command in self._control.receive():
            if command.kind == STOP:  # the owner's side is gone, or will be at once
                self._end_own()
        if self._control.peer_closed:
            self._limit(_WITHOUT_SUPERVISOR)

    def _serve_peer(self, channel: Channel, mask: int) -> None:
        if mask & READ and not self._peer.ended and not self._own.is_full:
            self._receive(channel)

    def _receive(self, channel: Channel) -> None:
        try:
            self._own.put(channel.receive())
            if not self._peer.told:
                self._peer.put(channel.seal(b""))  # what TLS itself has to say
        except EndOfStream:
            self._peer.ended = True
        except OSError:
            self._peer.ended = self._broken = True

    def _serve_owner(self, mask: int) -> None:
        if not mask & READ or self._own.ended or self._peer.is_full:
            return
        assert self._channel is not None
        try:
            chunk = self._owner.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
            self._own.waiting.clear()
        if chunk:
            self._seal(self._channel, chunk)
        else:
            self._end_own()

    def _seal(self, channel: Channel, chunk: bytes) -> None:
        try:
            self._peer.put(channel.seal(chunk))
        except OSError:
            self._peer.ended = self._broken = True

    def _end_own(self) -> None:
        """Nothing comes of the owner any more."""
        self._own.ended = True
        self._limit(self._hold.assignment.endpoint.timeouts.close)

    def _limit(self, seconds: float) -> None:
        self._until = min(self._until, time.monotonic() + seconds)

    def _pass_on(self, channel: Channel) -> None:
        if channel.ended and not self._peer.ended and not self._own.is_full:
            self._receive(channel)
        if not _give(self._own, self._owner):
            self._end_own()
        if not self._broken and not _give(self._peer, channel.sock):
            self._peer.ended = self._broken = True
        if self._peer.ended and not self._own.waiting and not self._own.told:
            self._tell_owner()
        if self._own.ended and not self._peer.waiting and not self._peer.told:
            self._tell_peer(channel)

    def _tell_owner(self) -> None:
        """Nothing comes of the peer any more."""
        self._own.told = True
        self._say_left()
        with suppress(OSError):  # the owner is gone already
            if self._broken:
                self._owner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                self._own.ended = True  # closing it, which is next, resets it
            else:
                self._owner.shutdown(socket.SHUT_WR)

    def _tell_peer(self, channel: Channel) -> None:
        """Nothing comes of the owner any more."""
        self._peer.told = True
        with suppress(OSError):  # the peer was faster
            channel.sock.send(channel.goodbye())
            channel.sock.shutdown(socket.SHUT_WR)

    def _say_left(self) -> None:
        """Before the owner can see the end: an end without this word is that of this process."""
        if not self._left:
            self._left = True
            self._control.send(LEFT)

    def _take_down(self) -> None:
        self._say_left()
        if self._channel is not None or self._found is not None:
            channel = self._channel or self._found
            assert channel is not None
            channel.sock.close()
        self._owner.close()


def _give(side: _Side, sock: socket.socket) -> bool:
    """As much as it takes; false where it takes nothing any more."""
    try:
        while side.waiting:
            side.took(sock.send(side.waiting[0]))
    except BlockingIOError:
        pass
    except OSError:
        side.waiting.clear()
        side.size = 0
        return False
    return True


def _mask(side: _Side, other: _Side) -> int:
    """What to watch a side for: it is read while the other one takes what it says."""
    return (READ if not side.ended and not other.is_full else 0) | (WRITE if side.waiting else 0)
