"""Rows 7 and 8: kill -9 of an owner, to the next message (ws://, under load) or to the next `Up` (wss://, idle).

    python -m tests.bench.kill [--quick]
    python -m tests.bench.kill --kills 1000             ws:// under load alone
    python -m tests.bench.kill --holder --kills 200     the same on wss:// with `tls.holder`

There is a warm spare each time, and no backoff.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from typing import Any

from tests.bench.consumers import Task, await_ups, supervisor
from tests.bench.generator import Generator
from tests.bench.killer import Killer
from tests.bench.load import NUMBER
from tests.bench.table import Figure, Outcome, Row, load_now, percentile, show, write
from wsadapter import Batch, Down, Dropped, Gap, Up

_NO_WAIT = {"backoff_initial": 0.0, "backoff_max": 0.0, "intensity": 1_000_000}
"""What is measured is the machinery, not the dice of the backoff."""
_RATE = 100_000
_HELD_RATE = 20_000
"""With a third process on the way, two cores have no more to give."""
_WITHIN = 0.02
"""Seconds within which an owner is killed, at random."""
_LOOK_EVERY = 0.005


def measure(*, quick: bool = False) -> Outcome:
    """Many kills of one endpoint's owners, on either scheme."""
    outcome = Outcome(load={"kill": load_now()})
    logging.getLogger("wsadapter").setLevel(logging.ERROR)  # each kill is a warning
    kills = 20 if quick else 100
    _under_load(outcome, kills)
    _idle(outcome, kills)
    return outcome


def measure_many(kills: int, *, holder: bool) -> Outcome:
    """So many kills under load."""
    outcome = Outcome(load={"kill": load_now()})
    logging.getLogger("wsadapter").setLevel(logging.ERROR)
    _under_load(outcome, kills, holder=holder)
    return outcome


def _idle(outcome: Outcome, kills: int) -> None:
    with Generator(tls=True) as generator, supervisor(Task(generator.urls(1), generator.ca_file, 0), restart=_NO_WAIT) as feed:
        await_ups(feed, 1)
        times = [_kill(feed) * 1000 for _ in range(kills)]
    outcome.figures["wss:// kill -9 of an owner to Up, ms"] = Figure.of(times)
    outcome.figures["wss:// kill -9 of an owner to Up, p99, ms"] = Figure.of([percentile(times, 0.99)])
    outcome.rows.append(Row("8", "kill -9, wss:// on loopback: kill to Up, p50", Figure.of(times), "ms", 25, 10))


def _kill(feed: Any) -> float:
    while not (status := feed.status())["spares"]:
        time.sleep(_LOOK_EVERY)
    killed = time.monotonic()
    os.kill(status["endpoints"]["e0"]["pid"], signal.SIGKILL)
    while not isinstance(feed.get(30), Up):
        pass
    return time.monotonic() - killed


def _under_load(outcome: Outcome, kills: int, *, holder: bool = False) -> None:
    with (
        Generator(tls=holder) as generator,
        Killer() as killer,
        supervisor(Task(generator.urls(1), generator.ca_file if holder else "", 0), holder=holder, restart=_NO_WAIT) as feed,
    ):
        await_ups(feed, 1)
        ordeal = Ordeal(feed, generator, killer, _HELD_RATE if holder else _RATE)
        ordeal.run(kills)
        reached = generator.numbered()
    times = Figure.of(ordeal.times)
    scheme = "wss:// with tls.holder:" if holder else "ws://"
    outcome.figures[f"{scheme} kill -9 of an owner to next message, ms"] = times
    outcome.figures[f"{scheme} kill -9 of an owner to next message, p99, ms"] = Figure.of([percentile(ordeal.times, 0.99)])
    outcome.figures[f"{scheme} kill -9 of an owner: load reached, messages/s"] = Figure.of([reached.rate])
    outcome.figures[f"{scheme} kill -9 of an owner: messages received"] = Figure.of([ordeal.received])
    outcome.figures[f"{scheme} {kills} kills: messages lost, or connections"] = Figure.of([ordeal.lost])
    outcome.figures[f"{scheme} {kills} kills: messages twice"] = Figure.of([ordeal.twice])
    if holder:
        return
    outcome.rows += [
        Row("7", "kill -9 under 100,000/s, ws://: kill to next message, p50", times, "ms", 8, 3),
        Row("7b", "the same, p99", Figure.of([percentile(ordeal.times, 0.99)]), "ms", 25, 9),
        Row("7c", f"the same, {kills} kills: messages lost, or connections", Figure.of([ordeal.lost]), "", 0, 0),
        Row("7d", f"the same, {kills} kills: messages twice", Figure.of([ordeal.twice]), "", 0, 0),
    ]


class Ordeal:
    """An endpoint under a numbered load whose owners are killed."""

    def __init__(self, feed: Any, generator: Generator, killer: Killer, rate: int) -> None:
        """`rate`: messages per second."""
        self._rate = rate
        self.times: list[float] = []
        """ms from each kill to the first message of the next owner."""
        self.received = self.twice = 0
        self.lost = 0
        """A connection that did not outlive its owner counts as one: what was lost with it can't be counted."""
        self._feed = feed
        self._generator = generator
        self._killer = killer
        self._epoch = 1
        self._expected = 0
        self._ordered = False
        self._look_at = 0.0

    def run(self, kills: int) -> None:
        """Until there were so many. Raises `RuntimeError` where something else than a kill ends an owner."""
        self._generator.number(self._rate, "/0")
        for item in self._feed.batches():
            if isinstance(item, Batch):
                self._take(item, time.monotonic())
                if len(self.times) == kills:
                    return
            else:
                self._note(item)

    def _take(self, batch: Batch, now: float) -> None:
        self._count([int(data[NUMBER]) for data in batch])
        if batch.epoch > self._epoch:
            self._epoch = batch.epoch
            self._ordered = False
            self.times.append((now - self._killer.killed()) * 1000)
        elif not self._ordered and now >= self._look_at:
            self._look_at = now + _LOOK_EVERY
            self._order()

    def _order(self) -> None:
        """The next kill, where a warm spare is there."""
        status = self._feed.status()
        endpoint = status["endpoints"]["e0"]
        if status["spares"] and endpoint["epoch"] == self._epoch:
            self._killer.kill(endpoint["pid"], _WITHIN)
            self._ordered = True

    def _count(self, numbers: list[int]) -> None:
        self.received += len(numbers)
        for number in numbers:
            if number == self._expected:
                self._expected += 1
            elif number > self._expected:
                self.lost += number - self._expected
                self._expected = number + 1
            else:
                self.twice += 1

    def _note(self, event: Any) -> None:
        if isinstance(event, Down) and not self._ordered:
            raise RuntimeError(f"{event}")
        if isinstance(event, Dropped):
            raise RuntimeError(f"the consumer is too slow: {event}")  # noqa: TRY004
        if isinstance(event, Gap):
            self.lost += 1
            self._expected = 0
            self._generator.number(self._rate, "/0")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kill")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--holder", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    asked = parser.parse_args()
    if asked.kills or asked.holder:
        show(measure_many(asked.kills or 100, holder=asked.holder))
    else:
        found = measure(quick=asked.quick)
        show(found)
        write(found)
