"""The pump of a TLS holder: it passes the bytes of a connection on, from the peer to the owner and the other way round.

owner ──plain──> [seal] ──> peer      each side has a bounded queue; a side is not read while the other side's queue is full
owner <──plain── [TLS] <─── peer      the end of a side is passed on after everything that the side has sent
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from wsadapter.worker.loop.poller import READ, WRITE
from wsadapter.worker.websocket.byte_stream import ByteStream, EndOfStream

_CHUNK: Final = 64 * 1024
_MOST_WAITING: Final = 1 << 20
"""Bytes that may wait to be sent to one side. Above that, the other side is not read."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class _Side:
    """One of the two streams: the bytes that wait to be sent to it, and whether it has ended."""

    def __init__(self) -> None:
        self.ended = False
        """Nothing more is received from it."""
        self.end_sent = False
        """The end of the other side was passed on to it."""
        self._waiting: deque[memoryview] = deque()
        self._size = 0

    @property
    def is_empty(self) -> bool:
        """Whether no bytes wait."""
        return not self._waiting

    @property
    def is_full(self) -> bool:
        """Whether too many bytes wait, so that the other side must not be read."""
        return self._size > _MOST_WAITING

    def put(self, data: bytes | memoryview) -> None:
        """Queue bytes for it."""
        if data:
            self._waiting.append(memoryview(data))
            self._size += len(data)

    def clear(self) -> None:
        """Discard the bytes that wait, because it accepts none any more."""
        self._waiting.clear()
        self._size = 0

    def send(self, sock: socket.socket) -> bool:
        """Send as many bytes as the socket accepts. Returns false if it accepts none any more."""
        try:
            while self._waiting:
                self._remove(sock.send(self._waiting[0]))
        except BlockingIOError:
            pass
        except OSError:
            self.clear()
            return False
        return True

    def _remove(self, size: int) -> None:
        self._size -= size
        if size < len(self._waiting[0]):
            self._waiting[0] = self._waiting[0][size:]
        else:
            self._waiting.popleft()

    def events(self, other: _Side) -> int:
        """What to poll its socket for."""
        return (READ if not self.ended and not other.is_full else 0) | (0 if self.is_empty else WRITE)


class Pump:
    """The pump of one connection, from the end of the TLS handshake on."""

    def __init__(self, channel: ByteStream, owner: socket.socket, report_left: Callable[[], None]) -> None:
        """`report_left` reports that the connection is over. It is called before the owner can see the end of its stream: an
        end without this report means that the holder's process has ended."""
        channel.sock.setblocking(False)
        owner.setblocking(False)
        self._channel, self._owner_socket = channel, owner
        self._report_left = report_left
        self._peer, self._owner = _Side(), _Side()
        self._broken = False
        """The peer's side broke: the owner is to see an RST, not an orderly end."""

    @property
    def owner_ended(self) -> bool:
        """Whether nothing more comes from the owner."""
        return self._owner.ended

    @property
    def is_done(self) -> bool:
        """Whether both sides have ended, and everything was passed on."""
        return self._owner.ended and self._peer.ended and (self._peer.end_sent or self._broken)

    def watch(self, watch: Callable[[int, int], object]) -> None:
        """Call `watch(fd, events)` with what each socket is to be polled for."""
        watch(self._owner_socket.fileno(), self._owner.events(self._peer))
        watch(self._channel.sock.fileno(), 0 if self._broken else self._peer.events(self._owner))

    def serve(self, fd: int, mask: int) -> None:
        """A socket is ready."""
        if fd != self._owner_socket.fileno():
            if mask & READ and not self._peer.ended and not self._owner.is_full:
                self._read_peer()
        elif mask & READ and not self._owner.ended and not self._peer.is_full:
            self._read_owner()
        self._pass_on()

    def end_owner(self) -> None:
        """Nothing more is read from the owner."""
        self._owner.ended = True

    def _read_peer(self) -> None:
        try:
            self._owner.put(self._channel.receive())
            if not self._peer.end_sent:
                self._peer.put(self._channel.seal(b""))  # what TLS itself has to send
        except EndOfStream:
            self._peer.ended = True
        except OSError:
            self._break_peer()

    def _read_owner(self) -> None:
        try:
            chunk = self._owner_socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
            self._owner.clear()
        if not chunk:
            self._owner.ended = True
            return
        try:
            self._peer.put(self._channel.seal(chunk))
        except OSError:
            self._break_peer()

    def _break_peer(self) -> None:
        self._peer.ended = self._broken = True

    def _pass_on(self) -> None:
        # TLS may have read the peer's end together with its last bytes. The socket then reports nothing more, so read here.
        if self._channel.ended and not self._peer.ended and not self._owner.is_full:
            self._read_peer()
        if not self._owner.send(self._owner_socket):
            self._owner.ended = True
        if not self._broken and not self._peer.send(self._channel.sock):
            self._break_peer()
        if self._peer.ended and self._owner.is_empty and not self._owner.end_sent:
            self._send_end_to_owner()
        if self._owner.ended and self._peer.is_empty and not self._peer.end_sent:
            self._send_end_to_peer()

    def _send_end_to_owner(self) -> None:
        self._owner.end_sent = True
        self._report_left()
        with suppress(OSError):  # the owner has ended already
            if self._broken:
                self._owner_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                self._owner.ended = True  # the socket is closed next, which sends the RST
            else:
                self._owner_socket.shutdown(socket.SHUT_WR)

    def _send_end_to_peer(self) -> None:
        self._peer.end_sent = True
        with suppress(OSError):  # the peer has closed already
            self._channel.sock.send(self._channel.goodbye())
            self._channel.sock.shutdown(socket.SHUT_WR)
