"""Rows 7 and 8: kill -9 of an owner, to the next message (ws://) or to the next `Up` (wss://, no backoff, a warm spare).

    python -m tests.bench.kill [--quick]
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import Any

from tests.bench.consumers import Task, await_ups, supervisor
from tests.bench.generator import Generator
from tests.bench.table import Figure, Outcome, Row, load_now, percentile, show, write
from wsadapter import Up

_NO_WAIT = {"backoff_initial": 0.0, "backoff_max": 0.0, "intensity": 1_000_000}
"""What is measured is the machinery, not the dice of the backoff."""


def measure(*, quick: bool = False) -> Outcome:
    """Many kills of one endpoint's owners."""
    outcome = Outcome(load={"kill": load_now()})
    logging.getLogger("wsadapter").setLevel(logging.ERROR)  # each kill is a warning
    with Generator(tls=True) as generator, supervisor(Task(generator.urls(1), generator.ca_file, 0), restart=_NO_WAIT) as feed:
        await_ups(feed, 1)
        times = [_kill(feed) * 1000 for _ in range(20 if quick else 100)]
    outcome.figures["wss:// kill -9 of an owner to Up, ms"] = Figure.of(times)
    outcome.figures["wss:// kill -9 of an owner to Up, p99, ms"] = Figure.of([percentile(times, 0.99)])
    outcome.rows += [
        Row("7", "kill -9 under 100,000/s, ws://: kill to next message, p50", None, "ms", 8, 3, note="not built"),
        Row("8", "kill -9, wss:// on loopback: kill to Up, p50", Figure.of(times), "ms", 60, 25),
    ]
    return outcome


def _kill(feed: Any) -> float:
    while not (status := feed.status())["spares"]:
        time.sleep(0.005)
    killed = time.monotonic()
    os.kill(status["endpoints"]["e0"]["pid"], signal.SIGKILL)
    while not isinstance(feed.get(30), Up):
        pass
    return time.monotonic() - killed


if __name__ == "__main__":
    found = measure(quick="--quick" in sys.argv[1:])
    show(found)
    write(found)
