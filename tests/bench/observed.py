"""What observation costs: 200 endpoints, with and without an exporter that is scraped each second and has its page open.

    python -m tests.bench.observed [--quick]

One supervisor for all runs; the exporter and its clients come and go in turn. Rows 5, 6 and 10: one endpoint at 2,000 messages
a second beside 199 idle ones. Row 14: one at 100 a second beside one that floods. The reactor's lag is how late a call of its
timer comes, 50 times a second. The rows are ratios of neighbouring runs, because the load of the machine concerns both.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from time import monotonic, monotonic_ns
from typing import Any

from tests.bench.consumers import Task, await_ups, say
from tests.bench.generator import Generator, Speaker
from tests.bench.table import Figure, Outcome, Row, load_now, percentile, show
from tests.bench.usage import cpu_seconds
from tests.bench.watchers import Watch

_ENDPOINTS = 200
_NAME = "observed"
_PROBE = 0.02
_SECONDS = 6
_RATE, _QUIET_RATE = 2000, 100
_QUIET_COUNT = _QUIET_RATE * _SECONDS
_COUNT = _RATE * _SECONDS


def measure(*, quick: bool = False) -> Outcome:
    """Without and with, in turn."""
    outcome = Outcome(load={"observed": load_now()})
    rounds = 3 if quick else 6
    found: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
    with TemporaryDirectory(prefix="wsadapter-observed-") as folder, Generator(tls=False) as generator:
        counts = [_COUNT, _QUIET_COUNT] * (2 * rounds)
        task = {"urls": generator.urls(_ENDPOINTS), "ca_file": "", "count": 0}
        with Speaker("tests.bench.observed", json.dumps({"task": task, "counts": counts, "folder": folder})) as contestant:
            pid = contestant.hear()["pid"]
            for _ in range(rounds):
                found["without"].append(_run(generator, contestant, pid))
                with _observers(folder) as answers:
                    found["with"].append(_run(generator, contestant, pid))
                found["with"][-1]["answers"] = len(answers)
                print(found["without"][-1], found["with"][-1], file=sys.stderr)
    for name, runs in found.items():
        for key in sorted(runs[0]):
            outcome.figures[f"{name}: {key}"] = Figure.of(run[key] for run in runs)
    for row, key, text, must in _ROWS:
        ratio = Figure.ratio([run[key] for run in found["with"]], [run[key] for run in found["without"]])
        outcome.rows.append(Row(row, f"looked at, over not: {text}", ratio, "×", must, 1.0))
    return outcome


_ROWS = (
    ("5o", "p50, µs", "p50 of 2,000/s beside 199 idle", 1.1),
    ("6o", "p99, µs", "p99 of the same", 1.5),
    ("10o", "supervisor's CPU per message, µs", "supervisor's CPU per message", 1.2),
    ("14o", "quiet p99, µs", "p99 of 100/s beside a flood", 1.5),
    ("lag", "reactor's lag p99, ms", "reactor's lag, p99", 1.5),
)


def _run(generator: Generator, contestant: Speaker, pid: int) -> dict[str, float]:
    used = cpu_seconds([pid])
    generator.pace(_RATE, _COUNT, "/0")
    generator.paced()
    said = contestant.hear()
    used = cpu_seconds([pid]) - used
    generator.flood("/1")
    generator.pace(_QUIET_RATE, _QUIET_COUNT, "/0")
    generator.paced()
    quiet = contestant.hear()
    generator.calm("/1")
    return {
        "p50, µs": said["p50"], "p99, µs": said["p99"], "supervisor's CPU per message, µs": used / _COUNT * 1e6,
        "reactor's lag p99, ms": said["lag99"], "reactor's lag at most, ms": said["lag"], "quiet p99, µs": quiet["p99"],
    }  # fmt: skip


# -- who looks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _observers(folder: str) -> Iterator[list[int]]:
    """The exporter, scraped once a second, and the events of its page, read as a browser does. The sizes of the answers."""
    command = [sys.executable, "-m", "wsadapter.exporter", "--name", _NAME, "--runtime-dir", folder, "--listen", "127.0.0.1:0"]
    answers: list[int] = []
    with subprocess.Popen([*command, "--until-eof"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as exporter:
        assert exporter.stderr is not None
        assert exporter.stdin is not None
        found = re.search(r"http://([\d.]+):(\d+)/", exporter.stderr.readline())
        assert found is not None
        over = threading.Event()
        clients = [
            threading.Thread(target=client, args=(found[1], int(found[2]), over, answers)) for client in (_scrape, _watch_page)
        ]
        for client in clients:
            client.start()
        try:
            yield answers
        finally:
            over.set()
            for client in clients:
                client.join()
            exporter.stdin.close()


def _scrape(host: str, port: int, over: threading.Event, answers: list[int]) -> None:
    while not over.wait(1.0):
        connection = http.client.HTTPConnection(host, port, timeout=30)
        connection.request("GET", "/metrics")
        answers.append(len(connection.getresponse().read()))
        connection.close()


def _watch_page(host: str, port: int, over: threading.Event, answers: list[int]) -> None:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", "/events")
    with connection.getresponse() as stream:
        while not over.is_set():
            answers.append(len(stream.readline()))
    connection.close()


# -- the contestant ------------------------------------------------------------------------------------------------------


def _contestant(about: dict[str, Any]) -> None:
    import os

    from wsadapter import Endpoint, Message, Supervisor

    task = Task(**about["task"])
    endpoints = [Endpoint(f"e{n}", url=url) for n, url in enumerate(task.urls)]
    with Supervisor(endpoints, name=_NAME, runtime_dir=about["folder"]) as feed:
        await_ups(feed, len(endpoints))
        late: list[float] = []
        _probe(feed.runtime.reactor, late)
        say(pid=os.getpid())
        counts = iter(about["counts"])
        watch = Watch(next(counts))
        for item in feed:
            if isinstance(item, Message) and item.endpoint == "e0" and watch.take(item.data, monotonic_ns()):
                taken = list(late)
                late.clear()
                watch.report(lag=max(taken) * 1000, lag99=percentile(taken, 0.99) * 1000)
                if (count := next(counts, None)) is None:
                    break
                watch = Watch(count)


def _probe(reactor: Any, late: list[float]) -> None:
    def look(due: float) -> None:
        late.append(max(0.0, monotonic() - due))
        again()

    def again() -> None:
        due = monotonic() + _PROBE
        reactor.call_later(_PROBE, lambda: look(due))

    reactor.call(again)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("{"):
        _contestant(json.loads(sys.argv[1]))
    else:
        outcome = measure(quick="--quick" in sys.argv[1:])
        show(outcome)
