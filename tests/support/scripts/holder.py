"""Holds a supervisor and ends in the way that is asked for. Arguments: url, start method, way.

Prints its own pid and, once it is there, the owner's.
"""

import os
import sys
import threading
import time

from wsadapter import Endpoint, Supervisor

url, method, way = sys.argv[1:]
decode = "tests.support.hooks:obey" if way == "obey" else ""
feed = Supervisor([Endpoint("a", url=url), Endpoint("b", url=url, decode=decode)], start_method=method, spares=2)  # type: ignore[arg-type]
if way == "while_spawning":
    feed.start()
    print("starting", flush=True)
    threading.Event().wait()
for name in "ab":
    monitor = feed.start().monitor(name)
    monitor.wait_up(20)
while feed.status()["spares"] < 2:  # a process that is stopped before it has begun is not ours to end
    time.sleep(0.02)
print("up", flush=True)
for _ in feed:
    if way in ("wait", "obey"):
        threading.Event().wait()
    elif way == "raise":
        raise LookupError("of the user's own")
    elif way == "sys.exit":
        sys.exit(3)
    elif way == "os._exit":
        os._exit(4)
    elif way == "end":
        break
