"""Kills the processes it is told to, each at a random moment, and says when.

The consumer's own thread would choose moments that suit it.

    python -m tests.bench.killer
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

from tests.bench.generator import Speaker


class Killer(Speaker):
    """Such a process."""

    def __init__(self) -> None:
        super().__init__("tests.bench.killer")

    def kill(self, pid: int, within: float) -> None:
        """Kill -9 at some moment of the next `within` seconds."""
        self.tell({"pid": pid, "within": within})

    def killed(self) -> float:
        """When the last one was killed: `time.monotonic()`, which all processes of a machine share."""
        return float(self.hear()["at"])


def _main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        time.sleep(random.uniform(0.0, order["within"]))
        at = time.monotonic()
        os.kill(order["pid"], signal.SIGKILL)
        print(json.dumps({"at": at}), flush=True)


if __name__ == "__main__":
    _main()
