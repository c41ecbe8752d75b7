"""A link between two TUN devices: what it does to each IPv4 packet is decided here, without netem. Linux, in namespaces.

    tun of the client ── Link: loss, delay, order, copies, errors, holes, NAT ── tun of the host

`Weather`, `fate` and `Nat` decide and are pure; `Link` carries packets from one descriptor to the other in a thread.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import threading
import time
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Self

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001
_TCP: Final = 6
_SYN, _RST, _ACK = 2, 4, 16
_LARGEST: Final = 65536
_LATER: Final = 0.008
"""Seconds that a packet waits which others are to overtake."""

Way = Literal["to_host", "to_client"]


@dataclass(frozen=True)
class Weather:
    """What happens to packets, each with its probability."""

    loss: float = 0.0
    delay: float = 0.0
    """Seconds, each way."""
    jitter: float = 0.0
    """Seconds more, at random; the order stays."""
    reorder: float = 0.0
    copies: float = 0.0
    errors: float = 0.0
    """A bit is wrong."""
    largest: int = _LARGEST
    """Bytes; larger packets vanish, and no ICMP says so."""
    to_host: bool = True
    to_client: bool = True
    """False: a black hole, that way."""


FAIR: Final = Weather()


class Sent(NamedTuple):
    """A copy of a packet that is to arrive."""

    after: float
    """Seconds."""
    overtaken: bool
    packet: bytes


def fate(packet: bytes, way: Way, weather: Weather, dice: random.Random) -> list[Sent]:
    """What arrives of a packet. Pure, but for the dice."""
    if len(packet) > weather.largest or not getattr(weather, way) or dice.random() < weather.loss:
        return []
    if dice.random() < weather.errors:
        packet = _spoilt(packet, dice)
    overtaken = dice.random() < weather.reorder
    after = weather.delay + weather.jitter * dice.random() + (_LATER if overtaken else 0.0)
    return [Sent(after, overtaken, packet)] * (2 if dice.random() < weather.copies else 1)


def _spoilt(packet: bytes, dice: random.Random) -> bytes:
    """With one bit changed, behind the IP header: its own checksum would be found wrong at once."""
    place = dice.randrange(_header_length(packet), len(packet))
    changed = bytearray(packet)
    changed[place] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _header_length(packet: bytes) -> int:
    return (packet[0] & 15) * 4


class Flow(NamedTuple):
    """A TCP connection, seen from the client."""

    client: bytes
    host: bytes
    client_port: int
    host_port: int


def flow_of(packet: bytes, way: Way) -> Flow | None:
    """None: no TCP over IPv4."""
    if packet[0] >> 4 != 4 or packet[9] != _TCP:
        return None
    at = _header_length(packet)
    source, target = struct.unpack_from("!HH", packet, at)
    if way == "to_host":
        return Flow(packet[12:16], packet[16:20], source, target)
    return Flow(packet[16:20], packet[12:16], target, source)


class Nat:
    """A table of mappings, as a router keeps it: a packet of an unknown connection does not pass. Pure."""

    def __init__(self) -> None:
        self.idle: float | None = None
        """Seconds after which an unused mapping is forgotten; None: it is kept."""
        self.resets = False
        """Whether a packet from the client without a mapping is answered with a RST, or dropped."""
        self._seen: dict[Flow, float] = {}

    def forget(self) -> None:
        """All mappings: the router was restarted."""
        self._seen.clear()

    def passes(self, packet: bytes, way: Way, now: float) -> bool:
        """Whether it goes on its way."""
        flow = flow_of(packet, way)
        if flow is None:
            return True
        flags = packet[_header_length(packet) + 13]
        begins = way == "to_host" and flags & _SYN and not flags & _ACK
        last = self._seen.get(flow)
        if begins or (last is not None and (self.idle is None or now - last < self.idle)):
            self._seen[flow] = now
            return True
        self._seen.pop(flow, None)
        return False

    def answer(self, packet: bytes, way: Way) -> bytes | None:
        """The RST to a packet that did not pass."""
        if not self.resets or way != "to_host" or flow_of(packet, way) is None:
            return None
        return reset_for(packet)


def reset_for(packet: bytes) -> bytes | None:
    """The RST with which a router answers a TCP packet (RFC 9293 §3.5.2); None to a RST, and to one without an ACK."""
    at = _header_length(packet)
    source, target, _, acknowledged = struct.unpack_from("!HHII", packet, at)
    flags = packet[at + 13]
    if flags & _RST or not flags & _ACK:
        return None
    tcp = struct.pack("!HHIIBBHHH", target, source, acknowledged, 0, 5 << 4, _RST, 0, 0, 0)
    addresses = packet[16:20] + packet[12:16]
    tcp_sum = checksum(addresses + struct.pack("!BBH", 0, _TCP, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", tcp_sum) + tcp[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, _TCP, 0) + addresses
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + tcp


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def open_tun(name: str) -> int:
    """A new TUN device of the namespace that the caller is in. Raises `OSError`."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_PI))
    return fd


class Link:
    """Carries packets while it is entered. `weather` may be replaced, and `plug` called, at any time."""

    def __init__(self, client: int, *, seed: int = 1) -> None:
        """`client`: descriptor of the client's device; it stays the caller's."""
        self.weather = FAIR
        self.nat = Nat()
        self.carried = 0
        self._dice = random.Random(seed)
        self._client = client
        self._host: int | None = None
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, Way, bytes]] = []
        self._order = itertools.count()
        self._last_due: dict[Way, float] = {"to_host": 0.0, "to_client": 0.0}
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._woken)
        self._thread.join()
        os.close(self._wake)

    def plug(self, host: int | None) -> None:
        """The descriptor of the host's device; None: the host is gone. It stays the caller's."""
        with self._lock:
            self._host = host
        os.write(self._woken, b"x")

    def _run(self) -> None:
        while True:
            with self._lock:
                host = self._host
            ready = self._ready([self._wake, self._client] + ([] if host is None else [host]))
            if self._wake in ready and not os.read(self._wake, 4096):
                return
            now = time.monotonic()
            for fd, way in ((self._client, "to_host"), (host, "to_client")):
                if fd in ready:
                    self._take(fd, way, now)  # type: ignore[arg-type]
            self._deliver(time.monotonic())

    def _ready(self, descriptors: list[int]) -> list[int]:
        wait = None if not self._waiting else max(0.0, self._waiting[0][0] - time.monotonic())
        return select.select(descriptors, [], [], wait)[0]

    def _take(self, fd: int, way: Way, now: float) -> None:
        for _ in range(64):
            try:
                packet = os.read(fd, _LARGEST)
            except OSError:  # nothing more, or the device is gone
                return
            if not self.nat.passes(packet, way, now):
                answer = self.nat.answer(packet, way)
                if answer is not None:
                    self._put(now, "to_client", answer)
                continue
            for sent in fate(packet, way, self.weather, self._dice):
                due = now + sent.after
                if not sent.overtaken:
                    due = self._last_due[way] = max(due, self._last_due[way])
                self._put(due, way, sent.packet)

    def _put(self, due: float, way: Way, packet: bytes) -> None:
        heapq.heappush(self._waiting, (due, next(self._order), way, packet))

    def _deliver(self, now: float) -> None:
        with self._lock:
            targets = {"to_host": self._host, "to_client": self._client}
        while self._waiting and self._waiting[0][0] <= now:
            _, _, way, packet = heapq.heappop(self._waiting)
            target = targets[way]
            if target is None:
                continue
            try:
                os.write(target, packet)
            except OSError:  # its queue is full, or the device is gone: packets may be lost
                continue
            self.carried += 1
