"""A recorder: appends every message to a file, one per line, and commits its position when the file has them.

    python recorder.py prices messages.txt      # the name of the supervisor, or the path of its journal

Kill it, start it again: lines since its last commit are written once more, nothing is missing. To have them exactly once, see
exactly_once.py.
"""

from __future__ import annotations

import os
import sys

from wsadapter import Batch, attach


def main(journal: str, path: str) -> None:
    """Until it is killed."""
    with attach(journal, "recorder", start="earliest", commit="manual") as feed, open(path, "ab") as file:
        waiting = 0
        for item in feed.batches():
            if isinstance(item, Batch):
                file.writelines(
                    b"%s %d %s\n" % (item.endpoint.encode(), number, data.replace(b"\n", b" "))
                    for number, data in enumerate(item, item.first_number)
                )
                waiting += len(item)
            if waiting >= 1000 or not feed.pending:
                file.flush()
                os.fsync(file.fileno())
                feed.commit()
                waiting = 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} NAME|JOURNAL FILE")
    main(*sys.argv[1:])
