"""Hosts of a cluster die, and are frozen, again and again: the bars of a cluster.

    python -m tests.bench.cluster [--kills 100] [--thaws 20]

Three hosts on three NATS servers share six endpoints of an exchange that numbers its messages, 100 a second each. A consumer is
attached to the stream all the time. Each time the host with the most endpoints is killed, all of it, and started again when the
others have its endpoints; or it is stopped for twice the lease, and goes on. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time_ns
from typing import Any, Final, Self

import nats

from tests.bench.table import percentile
from wsadapter import Gap, attach
from wsadapter.testing import Exchange

OPS: Final = Path(__file__).parents[2] / "ops"
sys.path[:0] = [str(OPS), str(OPS / "examples" / "cluster")]

from demo_cluster import CONFIGURATION, ENDPOINTS, RATE, Consumer, numbered  # noqa: E402 - of the demonstration
from start import Host, Hosts, Servers  # noqa: E402

LEASE: Final = 3.0
MOST_SECONDS: Final = 5.0
WITHIN: Final = 60.0
REFUSED_WITHIN: Final = 10.0
_LOOK: Final = 0.02


def wait_for(done: Callable[[], object], what: str, seconds: float = WITHIN) -> None:
    """Raises `TimeoutError`."""
    deadline = monotonic() + seconds
    while not done():
        if monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        threading.Event().wait(_LOOK)


@dataclass
class Found:
    """What was measured."""

    kills: list[float] = field(default_factory=list)
    """Seconds from the kill to the `Up` elsewhere, of each endpoint that was lost."""
    freezes: list[float] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    """Appends of a host that was frozen, which the server refused."""
    wrong: list[str] = field(default_factory=list)


class Bench:
    """The course of it."""

    def __init__(self, folder: Path) -> None:
        self.found = Found()
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        exchange = enter(Exchange(messages=numbered, rate=RATE, resume="continue"))
        self.servers = enter(Servers(self._folder))
        self.hosts = enter(Hosts(self._folder, self.servers.urls, CONFIGURATION, {"EXCHANGE": exchange.url}))
        wait_for(lambda: len(self.hosts.holders()) == len(ENDPOINTS), "all endpoints up")
        self.consumer = enter(Consumer(attach(f"{self.servers.urls}/prices", "bench", start="earliest")))
        wait_for(lambda: all(seen.messages for seen in self.consumer.seen.values()), "a message of each endpoint")
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def _victim(self) -> tuple[Host, set[str]]:
        holders = self.hosts.holders()
        name = max(self.hosts.all, key=lambda name: list(holders.values()).count(name))
        return self.hosts.all[name], {endpoint for endpoint, host in holders.items() if host == name}

    def _gaps(self) -> dict[str, list[Gap]]:
        return {name: list(seen.gaps) for name, seen in self.consumer.seen.items()}

    def _judge(self, lost: set[str], before: dict[str, list[Gap]], at: int, seconds: list[float]) -> None:
        """The others have the lost endpoints: how long it took, and whether each has one `Gap`, and no other has."""
        wait_for(lambda: len(self.hosts.holders()) == len(ENDPOINTS), "all endpoints up elsewhere")
        for endpoint, gaps in self._gaps().items():
            new = gaps[len(before[endpoint]) :]
            if len(new) != (endpoint in lost):
                self.found.wrong.append(f"{endpoint}: {len(new)} Gaps, {[gap.cause for gap in new]}")
            seconds += [((gap.resumed_at or 0) - at) / 1e9 for gap in new[:1]]

    def _all_have_a_gap(self, lost: set[str], before: dict[str, list[Gap]]) -> bool:
        return all(len(self._gaps()[endpoint]) > len(before[endpoint]) for endpoint in lost)

    def kill(self) -> None:
        """A host, all of it; then it is started again."""
        victim, lost = self._victim()
        before, at = self._gaps(), time_ns()
        victim.kill()
        wait_for(lambda: self._all_have_a_gap(lost, before), "a Gap of each lost endpoint")
        self._judge(lost, before, at, self.found.kills)
        victim.start()
        wait_for(lambda: victim.status().get("cluster", {}).get("state") == "member", "the host back")

    def thaw(self) -> None:
        """A host is stopped for twice the lease, all of it, and goes on as if nothing had happened."""
        victim, lost = self._victim()
        before, at, frozen_at = self._gaps(), time_ns(), monotonic()
        victim.signal_all(signal.SIGSTOP)
        try:
            wait_for(lambda: self._all_have_a_gap(lost, before), "a Gap of each lost endpoint")
            wait_for(lambda: monotonic() - frozen_at > 2 * LEASE, "twice the lease")
        finally:
            victim.signal_all(signal.SIGCONT)
        refused = [0]

        def was_refused() -> bool:
            cluster = victim.status().get("cluster", {})
            refused[0] = max(refused[0], cluster.get("refused", 0))
            return refused[0] > 0

        try:
            wait_for(was_refused, "a refused append", REFUSED_WITHIN)
        except TimeoutError as error:
            self.found.wrong.append(str(error))
        self.found.refused.append(refused[0])
        wait_for(lambda: victim.status().get("cluster", {}).get("state") == "member", "the host back")
        wait_for(lambda: not victim.up(), "the host without endpoints")
        self._judge(lost, before, at, self.found.freezes)

    def check_stream(self) -> int:
        """Every message of the stream: terms in order, and each of one host and one lease. How many there are."""
        headers = asyncio.run(_headers(self.servers.urls.split(",")))
        owners: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
        last: dict[str, int] = defaultdict(int)
        for each in headers:
            endpoint, term = each["Wsadapter-Endpoint"], each["Wsadapter-Term"]
            owner = (each["Wsadapter-Host"], each["Wsadapter-Lease"])
            if owners[endpoint].setdefault(term, owner) != owner or int(term) < last[endpoint]:
                self.found.wrong.append(f"{endpoint}: a message of term {term} by {owner[0]} behind term {last[endpoint]}")
            last[endpoint] = int(term)
        return len(headers)


async def _headers(servers: list[str]) -> list[dict[str, Any]]:
    connection = await nats.connect(servers)
    try:
        reading = await connection.jetstream().subscribe(
            ">", stream="WSA_prices", ordered_consumer=True, config=nats.js.api.ConsumerConfig(headers_only=True)
        )
        found: list[dict[str, Any]] = []
        left = 1
        while left:
            message = await reading.next_msg(timeout=10)
            found.append(message.headers or {})
            left = message.metadata.num_pending
        return found
    finally:
        await connection.close()


def show(times: list[float], what: str) -> bool:
    """A line with the percentiles; whether the bar is met."""
    if not times:
        return True
    p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
    print(f"{what}: n {len(times)}, p50 {p50:.2f} s, p99 {p99:.2f} s, most {max(times):.2f} s; bar: p99 {MOST_SECONDS:g} s")
    return p99 <= MOST_SECONDS


def main() -> int:
    """Runs the command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cluster")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--thaws", type=int, default=20)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and its hosts and servers end with it
    print(f"load average at the start {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory(prefix="wsadapter-bench-") as folder:
        with Bench(Path(folder)) as bench:
            for done in range(arguments.kills + arguments.thaws):
                try:
                    bench.kill() if done < arguments.kills else bench.thaw()
                except (TimeoutError, KeyboardInterrupt) as error:  # what was measured so far is shown
                    bench.found.wrong.append(f"fault {done + 1}: {error or 'Ctrl-C'}; the bench ends here")
                    break
                if (done + 1) % 10 == 0:
                    print(f"-- {done + 1} of {arguments.kills + arguments.thaws}", file=sys.stderr, flush=True)
            messages = bench.check_stream()
        seen = bench.consumer.seen.values()
    found = bench.found
    met = show(found.kills, f"{arguments.kills} kills of a host, each endpoint up elsewhere")
    met &= show(found.freezes, f"{arguments.thaws} freezes of a host, each endpoint up elsewhere")
    print(f"thaws with a refused append: {sum(map(bool, found.refused))} of {arguments.thaws}; refused {sum(found.refused)}")
    holes, twice, unsaid = (sum(getattr(each, name) for each in seen) for name in ("holes", "repeated", "unsaid"))
    print(
        f"{sum(each.messages for each in seen):,} messages in {messages:,} appends: {holes} holes, {twice} twice, {unsaid} lost"
        f" without a Gap; lost with one {sum(each.lost for each in seen):,}"
    )
    for wrong in [*found.wrong, *filter(None, [bench.consumer.problem])]:
        print(f"WRONG: {wrong}")
    return 0 if met and not (found.wrong or bench.consumer.problem or holes or twice or unsaid) else 1


if __name__ == "__main__":
    sys.exit(main())
