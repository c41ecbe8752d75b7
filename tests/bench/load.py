"""The load generator: a WebSocket server in a process of its own that does nothing but send frames made beforehand.

    python -m tests.bench.load [--tls]

It is told what to do by lines of JSON on standard input and answers in the same way (see `generator`). What a flood sends is
framed, and with TLS encrypted, one record per message, before the clock starts: within the measured time it only calls
`send`. So it takes next to nothing of the machine from those that are measured, and can't be the limit for them. At the end of
a load at a rate it says which rate was reached.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

from wsadapter.testing import frames as ws
from wsadapter.testing.certificates import ca_file, process_authority, server_context
from wsadapter.testing.handshake import Misbehaviour, accept_response, parse_request
from wsadapter.testing.tls import ServerTls

STAMP = 19
"""Digits at the beginning of a paced message: the monotonic clock, ns, right before it was given to the kernel."""
NUMBER = slice(5, 17)
"""Where a numbered message has its number."""
_CHUNK = 4096
"""Frames that are encrypted, or sent, in one piece."""
_SLOT = 0.001
"""Seconds between the bursts that a steady load is made of: a process that sleeps for less wakes when it likes."""
_MOST_PER_SLOT = 2000
"""Numbered messages, where some are overdue."""
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
            self.put([accept_response(request, Misbehaviour(), None)])
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

    def singles(self, frame: bytes, count: int) -> list[bytes]:
        """`count` times this frame as it goes over the wire. All of them must be sent before anything else."""
        return [frame] * count if self._tls is None else [self._tls.encrypt([frame]) for _ in range(count)]

    def send(self, ready: bytes) -> None:
        """Give the kernel one of `singles`."""
        self._append(ready)
        self.flush()

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


class Numbers:
    """Numbered messages to one client at a steady rate, without end. What the kernel does not take in time is made up for."""

    def __init__(self, peer: Peer, rate: float, size: int) -> None:
        self.peer = peer
        self.sent = 0
        self._rate = rate
        first = ws.encode_frame(ws.TEXT, (b'{"n":%012d,"data":"' % 0).ljust(size - 2, b"x") + b'"}')
        at = len(first) - size + NUMBER.start
        self._before, self._behind = first[:at], first[at + 12 :]
        self._begun = time.monotonic()
        self._used = time.process_time()

    def send_due(self) -> None:
        """Those whose time has come."""
        if self.peer.waits:
            return
        until = min(int((time.monotonic() - self._begun) * self._rate), self.sent + _MOST_PER_SLOT)
        before, behind = self._before, self._behind
        self.peer.put([b"%b%012d%b" % (before, n, behind) for n in range(self.sent, until)])
        self.sent = until

    def spent(self) -> dict[str, float]:
        """Messages, seconds, CPU seconds since the first."""
        return {"paced": self.sent, "seconds": time.monotonic() - self._begun, "cpu": time.process_time() - self._used}


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
        self._numbers: Numbers | None = None
        self._line = b""
        self._ended = False

    def run(self) -> None:
        """Until standard input ends."""
        ca = ca_file(process_authority()) if self._context else ""
        self._say(port=self._listener.getsockname()[1], ca_file=ca)
        while not self._ended:
            if self._numbers is None:
                self._turn(None)
            else:
                self._numbers.send_due()
                self._flush(self._numbers.peer)
                self._turn(_SLOT)

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
            if self._numbers is not None and self._numbers.peer is peer:
                self._numbers = None
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
            change = json.loads(line)
            _ORDERS[change.pop("do")](self, **change)

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
        used = time.process_time()
        for i in range(count):
            while (left := begun + i / rate - time.monotonic()) > 0:
                time.sleep(left)
            peer = peers[i % len(peers)]
            peer.put([head + b"%019d" % time.monotonic_ns() + filler])
            peer.flush()
            if (now := time.monotonic()) - looked > _LOOK_EVERY:
                looked = now
                self._turn(0)
        self._say(paced=count, seconds=time.monotonic() - begun, cpu=time.process_time() - used)

    def drip(self, paths: list[str], rate: float, count: int, size: int) -> None:
        """Send `count` messages made ready beforehand, one `send` each, steadily, to these clients in turn.

        What clients say meanwhile is answered afterwards: an answer may not stand before what is encrypted already.
        """
        peers = self._chosen(paths)
        frame = ws.encode_frame(ws.TEXT, b"x" * size)
        turns = count // len(peers)
        sends = chain.from_iterable(repeat([peer.send for peer in peers], turns))
        pieces = chain.from_iterable(zip(*(peer.singles(frame, turns) for peer in peers), strict=True))
        self._say(prepared=turns * len(peers))
        used, begun, sent = time.process_time(), time.monotonic(), 0
        while sent < turns * len(peers):
            due = min(turns * len(peers), 1 + int((time.monotonic() - begun) * rate))
            for _ in range(due - sent):
                next(sends)(next(pieces))
            sent = due
            time.sleep(_SLOT)
        seconds, used = time.monotonic() - begun, time.process_time() - used
        for peer in peers:
            self._flush(peer)
        self._say(paced=sent, seconds=seconds, cpu=used)

    def number(self, paths: list[str], rate: float, size: int) -> None:
        """Send numbered messages to the newest of these clients at a steady rate, without end (ws:// only)."""
        self._numbers = Numbers(self._chosen(paths)[-1], rate, size)

    def numbered(self) -> None:
        """End that."""
        numbers, self._numbers = self._numbers, None
        self._say(**({"paced": 0, "seconds": 1.0, "cpu": 0.0} if numbers is None else numbers.spent()))  # None: its client left


_ORDERS: dict[str, Callable[..., None]] = {
    "prepare": Load.prepare,
    "go": Load.go,
    "flood": Load.flood,
    "calm": Load.calm,
    "pace": Load.pace,
    "drip": Load.drip,
    "number": Load.number,
    "numbered": Load.numbered,
}


def _frames(size: int) -> bytes:
    """A chunk of text frames, each a little different, as JSON would be."""
    return b"".join(
        ws.encode_frame(ws.TEXT, (b'{"stream":"trade","n":%06d,"data":"' % n).ljust(size - 2, b"x") + b'"}')
        for n in range(_CHUNK)
    )


if __name__ == "__main__":
    Load(tls="--tls" in sys.argv[1:]).run()
