"""A decode hook that performs the command in a message, in the owner, where user code runs."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import re
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable

from wsadapter.contract.ipc.record import HEADER_SIZE, REPORT, encode, encode_head

_LEAKED: list[bytes] = []


def obey(data: bytes, *, binary: bool, stream: str | None) -> bytes | None:
    """Carries out "!command argument" and delivers everything else."""
    if not data.startswith(b"!"):
        return data
    command, _, argument = data[1:].decode().partition(" ")
    _COMMANDS[command](argument)
    return None


def fatal(payload: bytes) -> bytes:
    """A dialect's `decode`, which runs where messages are parsed: a process that parses "!segfault" dies of it."""
    if payload == b"!segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    return payload


def upper(data: bytes, *, binary: bool, stream: str | None) -> bytes:
    """Capitals: so decoded messages can be distinguished from others."""
    return data.upper()


def _exit(code: str) -> None:
    os._exit(int(code))


def _segfault(_: str) -> None:
    ctypes.string_at(0)


def _abort(_: str) -> None:
    ctypes.CDLL(None).abort()


def _bus_error(_: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        area = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        area[0]  # behind the end of the file


def _fork(path: str) -> None:
    """A grandchild that keeps all descriptors of the owner, and prints its pid."""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with open(f"{path}.part", "w") as file:
            file.write(str(os.getpid()))
        os.rename(f"{path}.part", path)
        time.sleep(600)
        os._exit(0)


def _spin_in_c(_: str) -> None:
    """A regular expression that never ends and never lets another thread run."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def _spin(_: str) -> None:
    """A loop that never ends, and lets other threads run."""
    while True:
        pass


def _leak(size: str) -> None:
    """Memory that is never given back, a megabyte after the other, and that is really used."""
    for _ in range(int(size)):
        _LEAKED.append(b"x" * (1 << 20))


def _fail(text: str) -> None:
    raise ValueError(text)


def _garble(kind: str) -> None:
    """Something in the data pipe that no owner writes."""
    body = b"{}"
    good = encode(body, kind=REPORT, sequence=1 << 40, received_at=0)
    garbage = {
        "garbage": bytes(range(256)) * 4,
        "checksum": good[: HEADER_SIZE - 1] + bytes([good[HEADER_SIZE - 1] ^ 1]) + body,
        "length": encode_head(kind=REPORT, sequence=1 << 40, received_at=0, size=(1 << 32) - 1 - HEADER_SIZE),
    }[kind]
    for fd in _own_pipes():
        os.write(fd, garbage)


def _own_pipes() -> list[int]:
    """The write ends of pipes that the owner made non-blocking: the data pipe, and one to itself that it only drains."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            mode, flags = os.fstat(int(name)).st_mode, fcntl.fcntl(int(name), fcntl.F_GETFL)
        except OSError:  # the descriptor of the listing itself
            continue
        if stat.S_ISFIFO(mode) and flags & os.O_ACCMODE == os.O_WRONLY and flags & os.O_NONBLOCK:
            found.append(int(name))
    return found


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_COMMANDS: dict[str, Callable[[str], None]] = {
    "exit": _exit,
    "segfault": _segfault,
    "abort": _abort,
    "bus_error": _bus_error,
    "fork": _fork,
    "spin": _spin,
    "spin_in_c": _spin_in_c,
    "garble": _garble,
    "leak": _leak,
    "raise": _fail,
    "print": _print,
}
