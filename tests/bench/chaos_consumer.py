"""The consumer that `tests.bench.chaos_any` kills: attached, each item once in its file.

    python -m tests.bench.chaos_consumer JOURNAL FILE

A kill repeats what was not committed. What the file has is left out by its number, and half a line at its end is cut off.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from wsadapter import Dropped, Gap, Message, attach

_TAIL = 1 << 20
"""Bytes at the end of the file that are read at a start: what was written since the last commit is a few lines. Reading all of
it would take half a minute after an hour."""


def _resume(file: Path) -> dict[str, int]:
    """The last number of each endpoint near the end of the file."""
    file.touch()
    size = file.stat().st_size
    with file.open("r+b") as lines:
        begin = max(0, size - _TAIL)
        lines.seek(begin)
        text = lines.read()
        end = text.rfind(b"\n") + 1
        lines.truncate(begin + end)
    whole = text[text.find(b"\n") + 1 if begin else 0 : end]
    return {line["endpoint"]: line["number"] for line in map(json.loads, whole.splitlines()) if "number" in line}


def main(journal: str, path: str) -> None:
    """Until it is killed."""
    written = _resume(Path(path))
    with open(path, "ab", buffering=0) as file, attach(journal, "chaos", start="earliest") as feed:
        for item in feed:
            if isinstance(item, Gap | Dropped):
                line = {"endpoint": item.endpoint, "event": "gap"}
            elif isinstance(item, Message) and item.number > written.get(item.endpoint, 0):
                line = {"endpoint": item.endpoint, "number": item.number, "data": item.json()}
            else:
                continue
            file.write(json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
