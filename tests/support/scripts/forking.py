"""Forks while it holds a supervisor. Arguments: url, start method, way ("os" or "multiprocessing").

Standard output: what the child found, then what became of the parent's feed.
"""

import gc
import json
import multiprocessing
import os
import signal
import sys

from wsadapter import Endpoint, Gap, Message, Supervisor
from wsadapter.contract.errors import WrongProcess

url, method, way = sys.argv[1:]
feed = Supervisor([Endpoint("a", url=url)], start_method=method).start()  # type: ignore[arg-type]
monitor = feed.monitor("a")
monitor.wait_up(20)


def channels() -> list[str]:
    """The sockets, pipes and pidfds this process holds, standard streams aside."""
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2:
            try:
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
            except FileNotFoundError:
                continue
    return sorted(name.split(":")[0] for name in found if not name.startswith("/"))


def raises(call) -> bool:
    try:
        call()
    except WrongProcess:
        return True
    return False


def in_child(answer: int) -> None:
    global feed
    signal.alarm(20)  # a child that hangs must not look like one that waits
    calls = [
        lambda: next(iter(feed)), lambda: feed.get(1), lambda: feed.send("a", "x"), feed.status, feed.stop,
        lambda: monitor.wait_down(1), lambda: feed.add(Endpoint("b", url=url)),
    ]  # fmt: skip
    told = [raises(call) for call in calls]
    held = channels()
    files = [open(os.devnull) for _ in range(200)]  # noqa: SIM115 - their descriptors must stay theirs
    feed = None
    gc.collect()
    for file in files:
        os.fstat(file.fileno())
        file.close()
    os.write(answer, json.dumps({"told": told, "held": held}).encode())
    os.close(answer)


before = len(channels())
read, write = os.pipe()
if way == "os":
    pid = os.fork()
    if pid == 0:
        os.close(read)
        in_child(write)
        sys.exit(0)  # with all that runs at an interpreter's end
    os.close(write)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
else:
    child = multiprocessing.get_context("fork").Process(target=in_child, args=(write,))
    child.start()
    os.close(write)
    child.join(30)
    status = child.exitcode
with open(read, "rb") as pipe:
    found = json.loads(pipe.read())
numbers: list[int] = []
gaps = 0
while len(numbers) < 500:
    item = feed.get(20)
    if isinstance(item, Message):
        numbers.append(item.number)
    gaps += isinstance(item, Gap)
epoch = feed.status()["endpoints"]["a"]["epoch"]
feed.stop()
print(json.dumps({**found, "status": status, "epoch": epoch, "gaps": gaps, "whole": numbers == list(range(1, 501))}))
