"""The load generator and the contestants as the benchmarks hold them: processes that speak lines of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any, NamedTuple, Self

from wsadapter.testing.frames import TEXT, encode_frame

SIZE = 200
"""Bytes of a message in all measures."""
FRAME = len(encode_frame(TEXT, b"x" * SIZE))
"""Bytes of its frame."""
TLS_RECORD = FRAME + 5 + 1 + 16
"""Bytes of its TLS 1.3 record: header, content type, tag (RFC 8446 §5.2)."""


class ProcessFailed(RuntimeError):
    """A process of a benchmark ended, or did not answer in time."""


class Reached(NamedTuple):
    """What became of a load at a rate: whether the generator was the limit."""

    rate: float
    """Messages per second."""
    cpu: float
    """µs of the generator's CPU per message: where that leaves it time, it was others who had none."""


class Speaker:
    """A child process that is told things on its standard input and answers on its standard output."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._name, self._arguments = module, arguments
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def tell(self, order: dict[str, Any]) -> None:
        """Say something without waiting for an answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")

    def hear(self, timeout: float = 120.0) -> dict[str, Any]:
        """Its next answer. Raises `ProcessFailed`."""
        assert self.process.stdout is not None
        watch = threading.Timer(timeout, self.process.kill)
        watch.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise ProcessFailed(f"{self._name} {' '.join(self._arguments)[:80]} ended, or gave no answer in {timeout:.0f} s")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        if error is not None:
            self.process.kill()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Generator(Speaker):
    """The load generator. `paths` choose its clients; none means all."""

    def __init__(self, *, tls: bool) -> None:
        super().__init__("tests.bench.load", *(["--tls"] if tls else []))
        hello = self.hear()
        self.ca_file: str = hello["ca_file"]
        self._base = f"{'wss' if tls else 'ws'}://localhost:{hello['port']}"

    def urls(self, count: int) -> list[str]:
        """Addresses of so many connections: the paths are /0, /1 ..."""
        return [f"{self._base}/{n}" for n in range(count)]

    def prepare(self, count: int, *paths: str) -> None:
        """Make `count` messages ready for each client; returns when they are."""
        self.tell({"do": "prepare", "paths": paths, "count": count, "size": SIZE})
        self.hear()

    def go(self, *paths: str) -> None:
        """Send what was prepared, as fast as it is taken."""
        self.tell({"do": "go", "paths": paths})

    def flood(self, *paths: str) -> None:
        """Send without end, until `calm`."""
        self.tell({"do": "flood", "paths": paths, "size": SIZE})

    def calm(self, *paths: str) -> None:
        """End a flood."""
        self.tell({"do": "calm", "paths": paths})

    def pace(self, rate: float, count: int, *paths: str) -> None:
        """Begin to send `count` stamped messages at `rate` per second in all; `paced` waits for the end of it."""
        self.tell({"do": "pace", "paths": paths, "rate": rate, "count": count, "size": SIZE})

    def drip(self, rate: float, count: int, *paths: str) -> None:
        """The same without stamps, made ready first, so that it can be many times faster; returns when it begins."""
        self.tell({"do": "drip", "paths": paths, "rate": rate, "count": count, "size": SIZE})
        self.hear()

    def paced(self) -> Reached:
        """Wait for the end of a paced load."""
        answer = self.hear(600)
        count = max(1, answer["paced"])
        return Reached(answer["paced"] / answer["seconds"], answer["cpu"] / count * 1e6)

    def number(self, rate: float, path: str) -> None:
        """Begin to send numbered messages (`load.NUMBER`) to one client, without end."""
        self.tell({"do": "number", "paths": [path], "rate": rate, "size": SIZE})

    def numbered(self) -> Reached:
        """End that."""
        self.tell({"do": "numbered"})
        return self.paced()
