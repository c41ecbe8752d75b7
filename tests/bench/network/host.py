"""The host at the other end of the link: a network namespace of its own, and exchanges in it. Started by `tests.bench.network`.

    unshare --net python -m tests.bench.network.host SOCKET FOLDER FIRST_NUMBER

It sends its TUN device's descriptor over SOCKET (an inherited descriptor), says "ready" with the ports, and does what lines on
its standard input say: "pause" and "resume".
"""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.bench.accounts import KEY
from tests.bench.network.link import open_tun
from wsadapter.testing import Exchange
from wsadapter.testing.certificates import Authority

ADDRESS: Final = "198.51.100.2"
PORTS: Final = {"ws": 4701, "wss": 4702}
RATE: Final = 100.0
_LONG_EVERY: Final = 20
"""Messages; one in so many is longer than a packet."""


def ip(*words: str) -> None:
    """Raises `CalledProcessError`."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def configure(name: str, address: str) -> None:
    """An address for a device of this namespace, and the loopback device up. Raises `CalledProcessError`."""
    ip("addr", "add", f"{address}/24", "dev", name)
    ip("link", "set", name, "up", "mtu", "1500")
    ip("link", "set", "lo", "up")


def messages(first: int) -> Iterator[str]:
    """Numbered, most of them short."""
    began = time.time_ns()
    for number in itertools.count():
        pad = "x" * (4000 if number % _LONG_EVERY == 0 else 150)
        due = began + int(number / RATE * 1e9)
        yield f'{{"{KEY}":["x",{first + number},{due}],"pad":"{pad}"}}'


def main() -> None:
    """Until standard input ends."""
    channel, folder, first = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    tun = open_tun("host0")
    configure("host0", ADDRESS)
    with socket.socket(fileno=channel) as parent:
        socket.send_fds(parent, [b"t"], [tun])
    authority = Authority.shared(folder)
    with ExitStack() as stack:
        exchanges = [
            stack.enter_context(
                Exchange(
                    messages=lambda: messages(first), rate=RATE, resume="continue", host=ADDRESS, port=port,
                    tls=scheme == "wss", authority=authority,
                )
            )
            for scheme, port in PORTS.items()
        ]  # fmt: skip
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            for exchange in exchanges:
                getattr(exchange, line.strip())()
            print(json.dumps({"done": line.strip()}), flush=True)


if __name__ == "__main__":
    main()
