"""Rows 25 and 26: many connections with little on each, ws:// and wss://, as most feeds are.

    python -m tests.bench.quiet [--quick]

Every message is sent on its own, to one connection after the other, and stamped. CPU is that of all processes of a contestant;
an age is from the moment before the message was given to the kernel to the moment when the consumer has it as `bytes`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from tests.bench.consumers import Task, await_ups, refuse_loss, say, supervisor
from tests.bench.generator import Generator, Speaker
from tests.bench.table import Figure, Outcome, Row, load_now, show, write
from tests.bench.usage import cpu_seconds, tree_of
from tests.bench.watchers import Watch

_LOADS = ((200, 50), (50, 100))
"""Connections, and messages a second on each."""
_SECONDS = 4
_CONTESTANTS = ("wsadapter", "picows", "websockets")


def measure(*, quick: bool = False) -> Outcome:
    """All contestants in turn, several rounds."""
    outcome = Outcome(load={"quiet": load_now()})
    for tls in (True, False):
        for connections, rate in _LOADS:
            _measure(outcome, connections, rate, tls=tls, rounds=1 if quick else 3)
    return outcome


def _measure(outcome: Outcome, connections: int, rate: int, *, tls: bool, rounds: int) -> None:
    load = f"{'wss' if tls else 'ws'}://, {connections} × {rate}/s"
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in _CONTESTANTS}
    with Generator(tls=tls) as generator:
        for _ in range(rounds):
            for name in _CONTESTANTS:
                runs[name].append(run(generator, name, connections, rate))
                print(load, name, runs[name][-1], file=sys.stderr)
    found = {name: {key: [each[key] for each in said] for key in said[0]} for name, said in runs.items()}
    for name, values in found.items():
        outcome.figures[f"{load}: {name}, CPU of all processes per message, µs"] = Figure.of(values["cpu"])
        outcome.figures[f"{load}: {name}, p50, µs"] = Figure.of(values["p50"])
        outcome.figures[f"{load}: {name}, p99, µs"] = Figure.of(values["p99"])
        outcome.figures[f"{load}: {name}, load reached, messages/s"] = Figure.of(values["reached"])
    mine, peer = found["wsadapter"], found["picows"]
    row = ("a" if tls else "b") + ("" if connections == _LOADS[0][0] else "'")
    outcome.rows += [
        Row(f"25{row}", f"CPU of all processes per message, {load}, over picows'", Figure.ratio(mine["cpu"], peer["cpu"]),
            "×", 6, 3),
        Row(f"26{row}", f"p99, {load}, over picows'", Figure.ratio(mine["p99"], peer["p99"]), "×", 3, 1.5),
    ]  # fmt: skip


def run(generator: Generator, name: str, connections: int, rate: int) -> dict[str, float]:
    """One contestant: µs of CPU per message, percentiles in µs, and the rate that was reached."""
    count = connections * rate * _SECONDS
    task = {"urls": generator.urls(connections), "ca_file": generator.ca_file, "count": count}
    with Speaker("tests.bench.quiet", name, json.dumps(task)) as contestant:
        contestant.hear()
        processes = tree_of(contestant.process.pid)
        used = cpu_seconds(processes)
        generator.pace(connections * rate, count)
        reached = generator.paced()
        said = contestant.hear()
        used = cpu_seconds(processes) - used
    return {**said, "cpu": used / count * 1e6, "reached": reached.rate}


# -- the contestants -----------------------------------------------------------------------------------------------------


def items(task: Task) -> None:
    """wsadapter, `for item in feed`."""
    from wsadapter import Message

    watch = Watch(task.count)
    with supervisor(task) as feed:
        await_ups(feed, len(task.urls))
        say(ready=True)
        for item in feed:
            if not isinstance(item, Message):
                refuse_loss(item)
            elif watch.take(item.data, monotonic_ns()):
                break
        watch.report()
        sys.stdin.read()  # its processes are there until they have been looked at


def picows(task: Task) -> None:
    """picows, all connections in one event loop."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    watch = Watch(task.count)

    class Listener(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT and watch.take(frame.get_payload_as_bytes(), monotonic_ns()):
                done.set()

    async def run() -> None:
        context = task.context()
        connected = [await ws_connect(Listener, url, ssl_context=context) for url in task.urls]
        say(ready=True)
        await done.wait()
        watch.report()
        for transport, _ in connected:
            transport.disconnect()
        sys.stdin.read()

    done = asyncio.Event()
    asyncio.run(run())


def websockets(task: Task) -> None:
    """websockets, its asyncio client, all connections in one event loop."""
    from websockets.asyncio.client import connect

    watch, done = Watch(task.count), asyncio.Event()

    async def consume(connection: Any) -> None:
        while not watch.take(await connection.recv(decode=False), monotonic_ns()):
            pass
        done.set()

    async def run() -> None:
        context = task.context()
        connections = [await connect(url, ssl=context, compression=None) for url in task.urls]
        tasks = [asyncio.create_task(consume(connection)) for connection in connections]
        say(ready=True)
        await done.wait()
        watch.report()
        for task_ in tasks:
            task_.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sys.stdin.read()

    asyncio.run(run())


CONTESTANTS: dict[str, Callable[[Task], None]] = {"wsadapter": items, "picows": picows, "websockets": websockets}


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in CONTESTANTS:
        CONTESTANTS[sys.argv[1]](Task(**json.loads(sys.argv[2])))
    else:
        outcome = measure(quick="--quick" in sys.argv[1:])
        show(outcome)
        write(outcome)
