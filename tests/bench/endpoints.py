"""A supervisor with many endpoints that takes whatever comes, for the benchmarks to look at from outside.

    python -m tests.bench.endpoints '{"urls": [...], "ca_file": "..."}'

Says how long it took from `start()` to the last `Up` and the owners' pids; ends when its standard input does.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from typing import Any

from tests.bench.consumers import Task, await_ups, refuse_loss, say, supervisor
from tests.bench.generator import Generator, Speaker
from wsadapter import Message


class Cluster(Speaker):
    """Such a process, all of whose endpoints are up."""

    def __init__(self, generator: Generator, endpoints: int) -> None:
        super().__init__(
            "tests.bench.endpoints", json.dumps({"urls": generator.urls(endpoints), "ca_file": generator.ca_file, "count": 0})
        )
        said = self.hear()
        self.seconds: float = said["seconds"]
        """From `start()` to the last `Up`."""
        self.owners: list[int] = said["owners"]

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self.process.pid

    def received(self) -> int:
        """Messages so far."""
        self.tell({})
        return int(self.hear()["received"])


def _main(task: Task) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    begun = time.monotonic()
    with supervisor(task) as feed:
        await_ups(feed, len(task.urls))
        seconds = time.monotonic() - begun
        say(seconds=seconds, owners=[endpoint["pid"] for endpoint in feed.status()["endpoints"].values()])
        received = [0]
        threading.Thread(target=_answer, args=(feed, received), daemon=True).start()
        for item in feed:
            if isinstance(item, Message):
                received[0] += 1
            elif feed.state == "running":
                refuse_loss(item)


def _answer(feed: Any, received: list[int]) -> None:
    for _ in sys.stdin:
        say(received=received[0])
    feed.ask_to_stop()


if __name__ == "__main__":
    _main(Task(**json.loads(sys.argv[1])))
