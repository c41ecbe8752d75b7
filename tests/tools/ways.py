"""The ways of ops/docs/INTERNALS.md, as they are in running processes: which functions of wsadapter are called, in which order.

    python -m tests.tools.ways            # a message, a death, a subscribe and a reload
    python -m tests.tools.ways message    # only this one

A hop is a call of a Python function of wsadapter. For a message every call is counted. For the other ways each function is
counted once, at its first call, and functions that a turn of the loop calls anyway are left out. Two numbers are given: all
functions, and those on the path. On the path are the functions that are entered and not yet left when the matter is handed on
(`HANDED_ON`: an item to the consumer, a command, a record, bytes to the peer, a connect to its thread); they are marked with
">". The others answer a question of one of these, or tidy up behind it. Comprehensions are loops, and not counted.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

import wsadapter
from wsadapter import Message, Subscribed, Supervisor, Up
from wsadapter.config import load
from wsadapter.testing import Exchange

PACKAGE: Final = f"{Path(wsadapter.__file__).parent}/"
POLLED: Final = "poll returned"
HANDED_ON: Final = (
    "delivery/inbox.py:Inbox.put_event", "contract/ipc/command_socket.py:CommandSocket.send",
    "contract/ipc/command_socket.py:CommandSocket.send_descriptor", "worker/outbox.py:Outbox._write",
    "worker/websocket/byte_stream.py:PlainByteStream.send", "worker/owner/connect_thread.py:Connector.start",
)  # fmt: skip
LOOPS: Final = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
_MESSAGES: Final = 40
_BETWEEN: Final = 0.05
_IN_OWNERS: Final = """
import os, sys, time
_file = os.open(f"{{os.environ['WAYS']}}/{{os.getpid()}}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
def _note(frame, event, argument):
    if event == "call" and frame.f_code.co_filename.startswith({package!r}):
        name = f"{{frame.f_code.co_filename}}:{{frame.f_code.co_qualname}}"
    elif event == "c_return" and getattr(argument, "__name__", "") == "poll":
        name = {polled!r}
    else:
        return
    now = time.monotonic_ns()
    os.write(_file, f"{{now}} {{name}}\\n".encode())
    if name in {handed_on!r}:
        while frame is not None:
            if frame.f_code.co_filename.startswith({package!r}):
                os.write(_file, f"{{now}} >{{frame.f_code.co_filename}}:{{frame.f_code.co_qualname}}\\n".encode())
            frame = frame.f_back
sys.setprofile(_note)
"""
_HANDED_ON: Final = {f"{PACKAGE}{name}" for name in HANDED_ON}


class Call(NamedTuple):
    """One call, or the return of a poll."""

    at: int
    name: str


class Trace:
    """The calls of this thread, and those of the owners."""

    def __init__(self, folder: Path) -> None:
        """Owners are traced by a sitecustomize.py in `folder`, so they must be started by spawn."""
        (folder / "sitecustomize.py").write_text(_IN_OWNERS.format(package=PACKAGE, polled=POLLED, handed_on=_HANDED_ON))
        os.environ |= {"PYTHONPATH": str(folder), "WAYS": str(folder)}
        self._folder = folder
        self.calls: list[Call] = []

    def start(self) -> None:
        """From now on the calls of this thread are noted."""
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            now = time.monotonic_ns()
            self.calls.append(Call(now, name := _name(frame)))
            if name in _HANDED_ON:
                self.calls += [Call(now, f">{name}") for name in stack(frame)]
        elif event == "c_return" and getattr(argument, "__name__", "") == "poll":
            self.calls.append(Call(time.monotonic_ns(), POLLED))

    def of_owner(self, pid: int) -> list[Call]:
        """What an owner has called so far."""
        lines = (self._folder / str(pid)).read_text("utf-8").splitlines()
        return [Call(int(at), name) for at, _, name in (line.partition(" ") for line in lines)]


def _name(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"


def stack(frame: FrameType | None) -> Iterator[str]:
    """The functions of wsadapter that are entered and not yet left, the innermost first."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            yield _name(frame)
        frame = frame.f_back


def between(calls: list[Call], begin: int, end: int) -> list[str]:
    """The names of the calls in that time."""
    return [call.name for call in calls if begin <= call.at <= end]


def without_paths(calls: list[str]) -> list[str]:
    """The calls alone, for a way of which every call is counted."""
    return [name for name in calls if not name.startswith(">")]


def short(name: str) -> str:
    """As INTERNALS writes it: "endpoint/link_owner.py: LinkOwner.on_dead"."""
    path, _, function = name.removeprefix(PACKAGE).rpartition(":")
    return f"{path}: {function.replace('<locals>.', '')}"


def turns(calls: list[str]) -> Iterator[list[str]]:
    """The calls from one poll to the next."""
    turn: list[str] = []
    for name in calls:
        if name == POLLED:
            yield turn
            turn = []
        else:
            turn.append(name)
    yield turn


def usual(found: list[list[str]]) -> list[str]:
    """The one that was seen most often."""
    return list(Counter(map(tuple, found)).most_common(1)[0][0])


def once(calls: list[str], *, besides: set[str]) -> list[str]:
    """Each function at its first call, without those of `besides`; what is on the path is marked with ">"."""
    path = {name[1:] for name in calls if name.startswith(">")}
    leave_out = {POLLED, *besides}
    found = [name for name in dict.fromkeys(calls) if not (name.startswith(">") or name.endswith(LOOPS) or name in leave_out)]
    return [f">{name}" if name in path else name for name in found]


def show(title: str, names: list[str]) -> None:
    path = sum(name.startswith(">") for name in names)
    print(f"\n{title}: {len(names)} functions" + (f", {path} on the path" if path else ""))
    for name in names:
        print(f"  > {short(name[1:])}" if name.startswith(">") else f"    {short(name)}")


@contextmanager
def traced(**exchange: object) -> Iterator[tuple[Trace, Exchange, Supervisor]]:
    """A supervisor with one endpoint "a", whose owners and whose consumer are traced."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Trace(Path(folder))
        with Exchange(**exchange) as ex:  # type: ignore[arg-type]
            settings = {"heartbeat": {"kind": "none"}, "watchdog": {"progress": 60}} if not exchange else {}
            endpoint = ex.endpoint("a", **settings, **({"subscribe": ["btcusdt@trade"]} if exchange else {}))
            with Supervisor([endpoint], start_method="spawn") as feed:
                for item in feed:
                    if isinstance(item, Up):
                        break
                time.sleep(1)  # the spare starts
                trace.start()
                try:
                    yield trace, ex, feed
                finally:
                    sys.setprofile(None)


def idle(trace: Trace, feed: Supervisor) -> set[str]:
    """The functions that the consumer calls though nothing comes."""
    begin = time.monotonic_ns()
    for _ in range(3):
        try:
            feed.get(0.2)
        except TimeoutError:
            continue
    return set(between(trace.calls, begin, time.monotonic_ns()))


def until(feed: Supervisor, wanted: Callable[[object], bool]) -> int:
    """Takes items up to the first that is wanted; the time at which it came."""
    for item in feed:
        if wanted(item):
            break
    return time.monotonic_ns()


def message() -> None:
    """One message at a time, ws://, without a dialect."""
    with traced() as (trace, ex, feed):
        pid = feed.status()["endpoints"]["a"]["pid"]
        assert pid is not None

        def send() -> None:
            for _ in range(_MESSAGES):
                time.sleep(_BETWEEN)
                ex.send("x" * 200)

        sender = threading.Thread(target=send)
        sender.start()
        ends = []
        for item in feed:
            if isinstance(item, Message):
                ends.append(time.monotonic_ns())
                if len(ends) == _MESSAGES:
                    break
        sender.join()
        ways = [list(turns(without_paths(between(trace.calls, begin, end)))) for begin, end in pairwise(ends)]
        show("a message, supervisor, from one item to the wait for the next", usual([way[0] for way in ways]))
        show("a message, supervisor, from the poll to `for item in feed`", usual([way[-1] for way in ways]))
        owner = list(turns(without_paths(between(trace.of_owner(pid), ends[0], ends[-1]))))
        show(
            "a message, owner, from one poll to the next",
            usual([turn for turn in owner if any("single" in n for n in turn)]),
        )


def death() -> None:
    """kill -9 of an owner, ws://, to the next owner's `Up`."""
    with traced() as (trace, _, feed):
        besides = idle(trace, feed)
        pid = feed.status()["endpoints"]["a"]["pid"]
        assert pid is not None
        begin = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        end = until(feed, lambda item: isinstance(item, Up))
        show("kill -9, supervisor, to `Up`", once(between(trace.calls, begin, end), besides=besides))
        after = feed.status()["endpoints"]["a"]["pid"]
        assert after is not None
        show("kill -9, the next owner, to `Up`", once(between(trace.of_owner(after), begin, end), besides=set()))


def subscribe() -> None:
    """`feed.subscribe`, to `Subscribed`."""
    with traced(dialect="binance") as (trace, _, feed):
        time.sleep(0.5)
        besides = idle(trace, feed)
        pid = feed.status()["endpoints"]["a"]["pid"]
        assert pid is not None
        begin = time.monotonic_ns()
        feed.subscribe("a", ["ethusdt@trade"])
        end = until(feed, lambda item: isinstance(item, Subscribed) and item.stream == "ethusdt@trade")
        show("subscribe, supervisor, to `Subscribed`", once(between(trace.calls, begin, end), besides=besides))
        owner = trace.of_owner(pid)
        show(
            "subscribe, owner, to `Subscribed`",
            once(between(owner, begin, end), besides=set(between(owner, begin - 10**9, begin))),
        )


def reload() -> None:
    """A changed configuration, from the file to the `Up` of the changed endpoint."""
    with tempfile.TemporaryDirectory() as folder, traced() as (trace, ex, feed):
        besides = idle(trace, feed)
        file = Path(folder, "feeds.toml")
        file.write_text(f'[endpoints.a]\nurl = "{ex.url}"\nheaders = {{ x-new = "1" }}\nheartbeat = {{ kind = "none" }}\n')
        begin = time.monotonic_ns()
        settings = load(file)
        loaded = time.monotonic_ns()
        feed.reload(settings)
        end = until(feed, lambda item: isinstance(item, Up))
        show("reload, the file read and checked", once(between(trace.calls, begin, loaded), besides=besides))
        show("reload, supervisor, to `Up`", once(between(trace.calls, loaded, end), besides=besides))


WAYS: Final[dict[str, Callable[[], None]]] = {"message": message, "death": death, "subscribe": subscribe, "reload": reload}


def main() -> None:
    """The command line."""
    for name in sys.argv[1:] or WAYS:
        WAYS[name]()


if __name__ == "__main__":
    main()
