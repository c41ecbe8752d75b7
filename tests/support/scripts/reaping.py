"""Row 42: another part of the program reaps every child there is. Arguments: url, start method. Prints one JSON line."""

import contextlib
import json
import os
import signal
import sys
import threading

from wsadapter import Down, Endpoint, Supervisor

url, method = sys.argv[1:]
ended = threading.Event()


def reap() -> None:
    while not ended.wait(0.001):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


threading.Thread(target=reap, daemon=True).start()
restart = {"backoff_initial": 0.02, "backoff_max": 0.05, "intensity": 100}
epochs, kinds = [], []
with Supervisor([Endpoint("a", url=url, restart=restart)], start_method=method) as feed:  # type: ignore[arg-type]
    monitor = feed.monitor("a")
    for _ in range(4):
        epochs.append(monitor.wait_up(20).epoch)
        os.kill(feed.status()["endpoints"]["a"]["pid"], signal.SIGKILL)
        kinds.append(monitor.wait_down(20).reason.kind)
    epochs.append(monitor.wait_up(20).epoch)
kinds.append(next(item for item in reversed(list(feed)) if isinstance(item, Down)).reason.kind)
ended.set()
print(json.dumps({"epochs": epochs, "kinds": kinds}))
