"""Starts owners while descriptors run out, at every number of free ones. Argument: the start method."""

import os
import resource
import sys
import threading

from wsadapter.process.launcher import Launcher, StartedOwner


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def start(launcher: Launcher) -> StartedOwner | OSError:
    done = threading.Event()
    found: list[StartedOwner | OSError] = []

    def take(result: StartedOwner | OSError) -> None:
        found.append(result)
        done.set()

    launcher.start("one", take)
    assert done.wait(20), "no answer"
    return found[0]


def end(started: StartedOwner) -> None:
    started.close()
    started.process.join(20)
    started.process.close()


launcher = Launcher(sys.argv[1])
first = start(launcher)
assert isinstance(first, StartedOwner), first
end(first)
before = descriptors()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
refused = 0
for free in range(26):
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + free, hard))
    result = start(launcher)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if isinstance(result, StartedOwner):
        end(result)
    else:
        refused += 1
    del result
    assert descriptors() <= before, (free, before, os.listdir("/proc/self/fd"))
assert 3 < refused < 26, refused
launcher.close()
print("alive")
