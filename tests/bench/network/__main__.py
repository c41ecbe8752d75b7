"""Faults of the network, in namespaces of its own: a link between two TUN devices that loses, delays and swaps packets.

    python -m tests.bench.network [--only loss,nat] [--seed 1]

Linux with unshare(1), ip(8) and /dev/net/tun; root, or user namespaces. Nothing leaves the namespaces. Two endpoints, ws:// and
wss://, get numbered messages over the link; every message is accounted for (`tests.bench.accounts`). Per fault: whether
the connections were lost or not, as they must be, and what was missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.network.namespaces import command, why_not
from tests.bench.table import machine


def main() -> int:
    """The command line; 1 where something is not as it must be, 77 where there are no namespaces."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.network")
    parser.add_argument("--only", default="", help="names of faults, with commas")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    reason = why_not()
    if reason:
        print(f"left out: {reason}")
        return 77
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="wsadapter-network-") as folder:
        words = ["-m", "tests.bench.network.trials", folder, asked.only, str(asked.seed)]
        root = Path(__file__).parents[3]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        return subprocess.run([*command(), sys.executable, *words], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
