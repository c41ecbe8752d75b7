"""The consumer that `tests.bench.chaos_any` kills: attached, each item once in its file.

    python -m tests.bench.chaos_consumer JOURNAL FILE

A kill repeats what was not committed. What the file has is left out by its number, and half a line at its end is cut off.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from wsadapter import Dropped, Gap, Message, attach


def _resume(file: Path) -> dict[str, int]:
    """The last number of each endpoint in the file."""
    text = file.read_bytes() if file.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    file.write_bytes(whole) if whole != text else None
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
