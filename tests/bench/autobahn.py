"""Row 15: the Autobahn test suite against a real owner, started, driven and watched by a `Supervisor`.

    python -m tests.bench.autobahn [--fast] [--wstest PATH] [--cases 6.* ...]

Each case is an endpoint of its own: an owner connects, the program sends every message back, the peer judges what it sees.
`--fast` leaves out compression (12.*, 13.*), which takes a quarter of an hour of the peer's time. Verdicts are kept in
results/autobahn.json, unless only some cases were asked for. The suite needs Python 2.7:

    virtualenv -p python2.7 suite && suite/bin/pip install autobahntestsuite==0.8.2
    WSTEST=suite/bin/wstest python -m tests.bench.autobahn
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from wsadapter import Down, Endpoint, Message, Supervisor, WsAdapterError

AGENT = "wsadapter"
RESULTS = Path(__file__).with_name("results") / "autobahn.json"
_PATIENCE = 120.0
"""Seconds without anything after which a case is given up; the peer's own limit for the largest is 100."""
_START = 20.0
_COMPRESSION = ["12.*", "13.*"]
_GOOD = ("OK", "NON-STRICT", "INFORMATIONAL")


@dataclass(frozen=True)
class Verdict:
    """What the peer says about one case."""

    case: str
    behavior: str
    close: str
    seconds: float
    reason: str


def endpoint(name: str, url: str) -> Endpoint:
    """One that lives for one connection, accepts all the suite sends, and says nothing of its own."""
    return Endpoint(name, url=url, compression=True, heartbeat={"kind": "none"}, restart={"type": "temporary"})


def converse(feed: Supervisor, name: str, url: str, *, echo: bool) -> list[bytes]:
    """One connection to its end; what was received on it, unless it was echoed."""
    received: list[bytes] = []
    feed.add(endpoint(name, url))
    while True:
        item = feed.get(_PATIENCE)
        if item.endpoint != name:
            continue
        if isinstance(item, Down):
            break
        if isinstance(item, Message) and not echo:
            received.append(item.data)
        elif isinstance(item, Message):
            with contextlib.suppress(WsAdapterError):  # the peer is gone: its `Down` comes
                feed.send(name, item.data if item.binary else item.text)
    feed.remove(name)
    return received


@contextlib.contextmanager
def suite(wstest: str, folder: Path, cases: list[str], excluded: list[str]) -> Iterator[str]:
    """The suite as a server that judges its clients; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"ws://127.0.0.1:{probe.getsockname()[1]}"
    spec = {"url": url, "outdir": str(folder), "cases": cases, "exclude-cases": excluded, "exclude-agent-cases": {}}
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [wstest, "-m", "fuzzingserver", "-u", "0", "-s", str(folder / "spec.json")]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as server:
        try:
            _await_listener(url, server)
            yield url
        finally:
            server.terminate()


def _await_listener(url: str, server: subprocess.Popen[bytes]) -> None:
    host, _, port = url.removeprefix("ws://").partition(":")
    deadline = time.monotonic() + _START
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port))):
            return
        time.sleep(0.05)
    raise SystemExit(f"{server.args!r} does not listen")


def run(url: str) -> None:
    """All cases, one after the other; the peer writes its reports."""
    with Supervisor([]) as feed:
        (count,) = converse(feed, "count", f"{url}/getCaseCount", echo=False)
        begun = time.monotonic()
        for case in range(1, int(count) + 1):
            converse(feed, f"case{case}", f"{url}/runCase?case={case}&agent={AGENT}", echo=True)
            if case % 20 == 0:
                print(f"{case} of {int(count)} cases, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        converse(feed, "reports", f"{url}/updateReports?agent={AGENT}", echo=False)


def verdicts(folder: Path) -> list[Verdict]:
    """What the peer reports, in the suite's order."""
    index = json.loads((folder / "index.json").read_text("utf-8"))[AGENT]
    found = []
    for case, entry in sorted(index.items(), key=lambda pair: _numbers(pair[0])):
        detail = json.loads((folder / entry["reportfile"]).read_text("utf-8"))
        reason = detail["result"] if entry["behavior"] != "OK" else detail["resultClose"]
        found.append(Verdict(case, entry["behavior"], entry["behaviorClose"], entry["duration"] / 1000, reason))
    return found


def show(found: list[Verdict]) -> None:
    """A table by behavior, then each case that is not plainly OK."""
    for title, counts in (
        ("behavior", Counter(verdict.behavior for verdict in found)),
        ("close", Counter(verdict.close for verdict in found)),
    ):
        print(f"{title:10}" + "  ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    for verdict in found:
        if verdict.behavior != "OK" or verdict.close not in ("OK", "INFORMATIONAL"):
            print(f"{verdict.case:10}{verdict.behavior} / {verdict.close}: {verdict.reason}")


def save(found: list[Verdict]) -> None:
    """Replaces the verdicts of these cases; those of others stay."""
    known = {verdict["case"]: verdict for verdict in json.loads(RESULTS.read_text("utf-8"))} if RESULTS.exists() else {}
    known |= {verdict.case: asdict(verdict) for verdict in found}
    RESULTS.write_text(json.dumps([known[case] for case in sorted(known, key=_numbers)], indent=1) + "\n")


def _numbers(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def main() -> int:
    """0 where no case failed and none is unimplemented."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="leave out compression")
    parser.add_argument("--wstest", default=os.environ.get("WSTEST", "wstest"), help="the suite's program; default: $WSTEST")
    parser.add_argument("--cases", nargs="+", default=["*"], help="only these")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        with suite(options.wstest, Path(folder), options.cases, _COMPRESSION if options.fast else []) as url:
            run(url)
        found = verdicts(Path(folder))
    show(found)
    print(f"{len(found)} cases in {time.monotonic() - begun:.0f} s")
    if options.cases == ["*"]:
        save(found)
    return 0 if all(verdict.behavior in _GOOD and verdict.close in _GOOD for verdict in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
