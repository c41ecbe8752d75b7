"""The NATS sink while its server is killed again and again: `python -m tests.bench.sinks`.

A journal grows, a sink carries it, and the server gets SIGKILL and is started again, `--kills` times. At the end the stream is
compared with what was written: every message once, in order. The exit code is 1 if that is not so.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.support.brokers import NatsServer, killed_under_load
from tests.support.journals import add, started, up, writing
from tests.support.sinks import line_numbers
from wsadapter.config.settings import SinkSettings
from wsadapter.contract.endpoint import Restart
from wsadapter.sinks.supervision import SinkProcess
from wsadapter.sinks.task import Task


def main() -> int:
    """Run it, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    kills = parser.parse_args().kills
    logging.disable(logging.CRITICAL)  # each kill is a warning
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder) / "nats") as server:
        journal = Path(folder) / "journal"
        with writing(journal) as writer:
            add(writer, started(), up("a"), up("b"))
        # Each kill ends the sink; so many in a minute would mean long waits, and a cool-down, in production.
        restart = Restart(intensity=10 * kills, backoff_max=0.5)
        settings = SinkSettings(name="bench", kind="nats", servers=server.url, stream="prices", restart=restart)
        process = SinkProcess(Task(str(journal), settings, []))
        total = killed_under_load(journal, server, process, kills)
        restarts = process.restarts
        found = server.lines("prices")
    lost = twice = disordered = 0
    for name in "ab":
        numbers = line_numbers(found[f"prices.{name}"], name)
        lost += total - len(set(numbers))
        twice += len(numbers) - len(set(numbers))
        disordered += sum(after <= before for before, after in zip(numbers, numbers[1:], strict=False))
    print(
        f"{kills} kills of the server, {restarts} restarts of the sink, {2 * total:,} messages in "
        f"{time.monotonic() - began:.0f} s: {lost} lost, {twice} twice, {disordered} out of order"
    )
    return 1 if lost or twice or disordered else 0


if __name__ == "__main__":
    sys.exit(main())
