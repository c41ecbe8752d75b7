"""The demonstration of a cluster: `sh ops/demo --cluster`.

Three hosts on this machine, on three real NATS servers, share six endpoints. A consumer is attached to the cluster's stream.
The host with the most endpoints is killed, all of it. The summary counts: each endpoint in one stream without a hole, each
message once, and exactly one `Gap` for each endpoint of the host that died. Exit codes: 0 all was well, 1 something was not.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time_ns
from typing import Final, Self

sys.path.insert(0, str(Path(__file__).resolve().parent / "examples" / "cluster"))

from start import Hosts, Servers

from wsadapter import AttachedFeed, Batch, Gap, JournalError, Up, attach
from wsadapter.testing import Exchange

CONFIGURATION: Final = Path(__file__).with_name("demo_cluster.toml")
ENDPOINTS: Final = ("one", "two", "three", "four", "five", "six")
RATE: Final = 100.0
WITHIN: Final = 60.0
"""Seconds for what must happen."""
_LOOK: Final = 0.05


@dataclass
class Seen:
    """What the consumer has seen of one endpoint."""

    messages: int = 0
    holes: int = 0
    repeated: int = 0
    gaps: list[Gap] = field(default_factory=list)
    ups: int = 0
    sent: int | None = None
    """Of the exchange's own number, in the last message."""
    lost: int = 0
    """Messages that the exchange sent while nobody was connected."""
    unsaid: int = 0
    """Of these, not behind a `Gap`."""
    fresh: bool = True
    """Nothing came since the last `Gap`."""

    def take(self, batch: Batch) -> None:
        expected = self.messages + 1
        self.holes += max(0, batch.first_number - expected)
        self.repeated += max(0, expected - batch.first_number)
        self.messages = batch.first_number + len(batch) - 1
        for payload in batch:
            number = int(payload)
            missing = 0 if self.sent is None else number - self.sent - 1
            self.lost += max(0, missing)
            self.repeated += missing < 0
            self.unsaid += 0 if self.fresh else max(0, missing)
            self.sent, self.fresh = number, False


class Consumer:
    """Attached to the stream, in a thread."""

    def __init__(self, feed: AttachedFeed) -> None:
        self.seen = {name: Seen() for name in ENDPOINTS}
        self.problem = ""
        self._feed = feed
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._feed.close()
        self._thread.join()

    def _read(self) -> None:
        try:
            for item in self._feed.batches():
                seen = self.seen[item.endpoint]
                match item:
                    case Batch():
                        seen.take(item)
                    case Gap():
                        seen.gaps.append(item)
                        seen.fresh = True
                    case Up():
                        seen.ups += 1
        except JournalError as error:
            self.problem = str(error)


def until(done: Callable[[], object], what: str) -> None:
    """Wait for it. Raises `SystemExit` if it does not come."""
    deadline = monotonic() + WITHIN
    while not done():
        if monotonic() > deadline:
            raise SystemExit(f"PROBLEM: {what} within {WITHIN:g} s")
        threading.Event().wait(_LOOK)


def say(text: str) -> None:
    """A line that is seen at once."""
    print(text, flush=True)


def numbered() -> Iterator[str]:
    """The messages of the exchange."""
    return map(str, itertools.count(1))


def demonstrate(calm: float) -> int:
    """From the first process to the last; the exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="wsadapter-demo-") as temporary,
        Exchange(messages=numbered, rate=RATE, resume="continue") as exchange,
        Servers(Path(temporary)) as servers,
        Hosts(Path(temporary), servers.urls, CONFIGURATION, {"EXCHANGE": exchange.url}) as hosts,
    ):
        say(f"three NATS servers, three hosts, {len(ENDPOINTS)} endpoints with {RATE:g} messages a second each")
        until(lambda: len(hosts.holders()) == len(ENDPOINTS), "the endpoints did not come up")
        before = hosts.holders()
        with Consumer(attach(f"{servers.urls}/prices", "demonstration", start="earliest")) as consumer:
            for name in hosts.all:
                say(f"host {name} has: {', '.join(sorted(e for e, host in before.items() if host == name)) or 'nothing'}")
            until(lambda: all(seen.messages for seen in consumer.seen.values()), "the consumer did not see every endpoint")
            threading.Event().wait(calm)
            victim = max(hosts.all, key=lambda name: list(before.values()).count(name))
            lost = {endpoint for endpoint, host in before.items() if host == victim}
            say(f">>> kill -9 of host {victim}, all of its processes: it had {len(lost)} endpoints")
            killed_at = time_ns()
            hosts.all[victim].kill()
            until(lambda: all(consumer.seen[endpoint].gaps for endpoint in lost), "no Gap came for each lost endpoint")
            until(lambda: len(hosts.holders()) == len(ENDPOINTS), "the endpoints did not come up elsewhere")
            after = hosts.holders()
            threading.Event().wait(calm)
    return summarise(consumer, before, after, killed_at)


def summarise(consumer: Consumer, before: dict[str, str], after: dict[str, str], killed_at: int) -> int:
    """What it came to, endpoint by endpoint."""
    print(f"\n{'ENDPOINT':10}{'HOST':>10}{'MESSAGES':>10}{'HOLES':>7}{'TWICE':>7}{'GAPS':>6}{'LOST':>6}{'OUT FOR':>10}")
    problems = [consumer.problem] if consumer.problem else []
    for name, seen in consumer.seen.items():
        moved = before[name] != after[name]
        host = f"{before[name]} > {after[name]}" if moved else before[name]
        out = f"{((seen.gaps[-1].resumed_at or 0) - killed_at) / 1e9:.1f} s" if seen.gaps else "-"
        counts = f"{seen.messages:>10,}{seen.holes:>7}{seen.repeated:>7}{len(seen.gaps):>6}{seen.lost:>6}"
        print(f"{name:10}{host:>10}{counts}{out:>10}")
        if len(seen.gaps) != moved:
            problems.append(f"{name} has {len(seen.gaps)} Gaps")
        if seen.holes or seen.repeated or seen.unsaid:
            problems.append(f"{name}: {seen.holes} holes, {seen.repeated} twice, {seen.unsaid} lost without a Gap")
    print("\nLOST: what the exchange sent until another host was connected; the Gap says so")
    verdict = "one stream for each endpoint, no hole, nothing twice, and one Gap for each endpoint of the host that died"
    print("\n".join([f"PROBLEM: {problem}" for problem in problems] or [verdict]))
    return 1 if problems else 0


def main() -> int:
    """Runs the command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="sh ops/demo --cluster", description="Watch a host die, and others go on.")
    parser.add_argument("--calm", type=float, default=5.0, metavar="SECONDS", help="before and after the kill (default: 5)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and its hosts and servers end with it
    try:
        return demonstrate(parser.parse_args().calm)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
