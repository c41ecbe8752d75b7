"""The consumer of the demonstration: attaches to the journal, and prints a line for each message and each loss.

    python consumer.py JOURNAL RUNTIME_DIR

It is killed again and again. What it has printed is committed when it takes the next item, so a kill repeats one message at
most.
"""

from __future__ import annotations

import os
import sys

from wsadapter import Dropped, Message, attach


def main() -> None:
    """Until it is killed."""
    path, runtime_dir = sys.argv[1:]
    with attach(path, "demo", start="earliest", runtime_dir=runtime_dir) as feed:
        for item in feed:
            if isinstance(item, Message):
                line = f"{item.endpoint} {item.number} {item.number}\n"
            elif isinstance(item, Dropped) and item.last is not None:
                line = f"{item.endpoint} {item.first} {item.last}\n"
            else:
                continue
            os.write(1, line.encode())  # whole, or not at all


if __name__ == "__main__":
    main()
