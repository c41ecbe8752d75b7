"""A program whose standard descriptors were closed. Arguments: url, start method, a file for the messages that it received."""

import sys
from pathlib import Path

from wsadapter import Endpoint, Message, Supervisor

url, method, result = sys.argv[1:]
received = []
with Supervisor([Endpoint("a", url=url)], start_method=method) as feed:  # type: ignore[arg-type]
    while len(received) < 3:
        item = feed.get(timeout=20)
        if isinstance(item, Message):
            received.append(item.data.decode())
Path(result).write_text(" ".join(received))
