"""The load generator: a WebSocket server in a process of its own that does nothing but send frames made beforehand.

    python -m tests.bench.load [--tls]

It is told what to do by lines of JSON on standard input and answers in the same way (see `generator`). What a flood sends is
framed, and with TLS encrypted, one record per message, before the clock starts: within the measured time it only calls
`send`. So it takes next to nothing of the machine from those that are measured, and can't be the limit for them.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import Any

from wsadapter.testing import frames as ws
from wsadapter.testing.certificates import ca_file, process_authority, server_context
from wsadapter.testing.handshake import Manners, accept_response, parse_request
from wsadapter.testing.tls import ServerTls

STAMP = 19
"""Digits at the beginning of a paced message: the monotonic clock, ns, right before it was given to the kernel."""
_CHUNK = 4096
"""Frames that are encrypted, or sent, in one piece."""
_LOOK_EVERY = 0.05
"""Seconds between looks at what clients say while a paced load runs."""


class Peer:
    """One client."""

    def __init__(self, sock: socket.socket, tls: ServerTls | None) -> None:
        self.sock = sock
        self.path = ""
        """Of its handshake; empty before."""
        self.refill = b""
        """Frames to send again and again."""
        self.prepared: list[bytes] = []
        self._tls = tls
        self._out: deque[memoryview] = deque()
        self._head = b""
        self._frames = ws.ClientFrames()

    @property
    def waits(self) -> bool:
        """Whether something waits for the kernel to take it."""
        return bool(self._out)

    def receive(self) -> bool:
        """Reads and answers what a client may say. False: it is gone."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        if self._tls is not None:
            try:
                data = self._tls.receive(data)
            except ssl.SSLError:
                return False
            self._append(self._tls.take_output())
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        if not self.path:
            self._head += data
            if b"\r\n\r\n" not in self._head:
                return
            request = parse_request(self._head.partition(b"\r\n\r\n")[0])
            self.put([accept_response(request, Manners(), None)])
            self.path, data = request.path, b""
        for frame in self._frames.feed(data):
            if frame.opcode == ws.PING:
                self.put([ws.encode_frame(ws.PONG, frame.payload)])
            elif frame.opcode == ws.TEXT:
                self.put([ws.encode_frame(ws.TEXT, frame.payload)])
            elif frame.opcode == ws.CLOSE:
                self.refill = b""
                self.put([ws.encode_frame(ws.CLOSE, frame.payload)])

    def prepare(self, frames: bytes, count: int, size: int) -> None:
        """Make ready `count` frames of `size` bytes each; `frames` holds a chunk of them."""
        whole, rest = divmod(count, _CHUNK)
        if self._tls is None:
            self.prepared = [*repeat(frames, whole), frames[: rest * size]]
        else:
            single = [frames[at : at + size] for at in range(0, len(frames), size)]
            self.prepared = [self._tls.encrypt(part) for part in (*repeat(single, whole), single[:rest])]

    def go(self) -> None:
        """Send what was made ready."""
        for piece in self.prepared:
            self._append(piece)
        self.prepared = []

    def put(self, frames: list[bytes]) -> None:
        """Send these behind all that waits."""
        self._append(b"".join(frames) if self._tls is None else self._tls.encrypt(frames))

    def flush(self) -> None:
        """Give the kernel what it takes."""
        while self._out or self.refill:
            if not self._out:
                self._append(self.refill)
            piece = self._out[0]
            try:
                sent = self.sock.send(piece)
            except BlockingIOError:
                return
            except OSError:
                self._out.clear()
                self.refill = b""
                return  # it is gone; the next read says so
            if sent < len(piece):
                self._out[0] = piece[sent:]
            else:
                self._out.popleft()

    def _append(self, data: bytes) -> None:
        if data:
            self._out.append(memoryview(data))


class Load:
    """The process: one thread, one selector."""

    def __init__(self, *, tls: bool) -> None:
        self._context = server_context(process_authority()) if tls else None
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._command)
        os.set_blocking(sys.stdin.fileno(), False)
        self._peers: list[Peer] = []
        self._line = b""
        self._ended = False

    def run(self) -> None:
        """Until standard input ends."""
        ca = ca_file(process_authority()) if self._context else ""
        self._say(port=self._listener.getsockname()[1], ca_file=ca)
        while not self._ended:
            self._turn(None)

    def _turn(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Peer):
                self._serve(key.data)
            else:
                key.data()

    def _serve(self, peer: Peer) -> None:
        if not peer.receive():
            self._selector.unregister(peer.sock)
            self._peers.remove(peer)
            peer.sock.close()
            return
        self._flush(peer)

    def _flush(self, peer: Peer) -> None:
        peer.flush()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.waits or peer.refill else 0)
        if self._selector.get_key(peer.sock).events != wanted:
            self._selector.modify(peer.sock, wanted, peer)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(sock, ServerTls(self._context) if self._context else None)
        self._peers.append(peer)
        self._selector.register(sock, selectors.EVENT_READ, peer)

    def _say(self, **answer: Any) -> None:
        print(json.dumps(answer), flush=True)

    # -- orders ----------------------------------------------------------------------------------------------------------

    def _command(self) -> None:
        chunk = os.read(sys.stdin.fileno(), 65536)
        self._ended = not chunk
        *lines, self._line = (self._line + chunk).split(b"\n")
        for line in lines:
            order = json.loads(line)
            _ORDERS[order.pop("do")](self, **order)

    def _chosen(self, paths: list[str]) -> list[Peer]:
        """The clients of these paths in this order, or all."""
        if not paths:
            return [peer for peer in self._peers if peer.path]
        return [peer for path in paths for peer in self._peers if peer.path == path]

    def prepare(self, paths: list[str], count: int, size: int) -> None:
        """Make `count` messages of `size` bytes ready for each client."""
        frames = _frames(size)
        for peer in self._chosen(paths):
            peer.prepare(frames, count, len(frames) // _CHUNK)
        self._say(prepared=count)

    def go(self, paths: list[str]) -> None:
        """Send what was prepared."""
        for peer in self._chosen(paths):
            peer.go()
            self._flush(peer)

    def flood(self, paths: list[str], size: int) -> None:
        """Send without end (ws:// only: nothing can be encrypted beforehand without an end)."""
        for peer in self._chosen(paths):
            peer.refill = _frames(size)
            self._flush(peer)

    def calm(self, paths: list[str]) -> None:
        """End a flood."""
        for peer in self._chosen(paths):
            peer.refill = b""
            self._flush(peer)

    def pace(self, paths: list[str], rate: float, count: int, size: int) -> None:
        """Send `count` stamped messages, one `send` each, evenly spaced, to these clients in turn."""
        peers = self._chosen(paths)
        head = ws.encode_frame(ws.TEXT, b"x" * size)[:-size]
        filler = b"x" * (size - STAMP)
        looked = begun = time.monotonic()
        for i in range(count):
            while (left := begun + i / rate - time.monotonic()) > 0:
                time.sleep(left)
            peer = peers[i % len(peers)]
            peer.put([head + b"%019d" % time.monotonic_ns() + filler])
            peer.flush()
            if (now := time.monotonic()) - looked > _LOOK_EVERY:
                looked = now
                self._turn(0)
        self._say(paced=count, seconds=time.monotonic() - begun)

    def usage(self) -> None:
        """CPU seconds that this process has used."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._say(cpu=used.ru_utime + used.ru_stime, clients=len(self._peers))


_ORDERS: dict[str, Callable[..., None]] = {
    "prepare": Load.prepare,
    "go": Load.go,
    "flood": Load.flood,
    "calm": Load.calm,
    "pace": Load.pace,
    "usage": Load.usage,
}


def _frames(size: int) -> bytes:
    """A chunk of text frames, each a little different, as JSON would be."""
    return b"".join(
        ws.encode_frame(ws.TEXT, (b'{"stream":"trade","n":%06d,"data":"' % n).ljust(size - 2, b"x") + b'"}')
        for n in range(_CHUNK)
    )


if __name__ == "__main__":
    Load(tls="--tls" in sys.argv[1:]).run()
