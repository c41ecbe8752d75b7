"""wsadapter against servers and proxies that other people wrote.

    python -m tests.bench.peers [--only websockets,nginx] [--kills 10] [--cache FOLDER] [--write]

Each peer comes from a package registry, into a folder of its own (default: ~/.cache/wsadapter-peers); nothing is installed on
the machine. A peer that can't be had is left out, with the reason. `--write` puts the table into ops/docs/GUARANTEES.md.

Per peer: data of all lengths both ways, text and binary; the same with compression; pings both ways; close codes both ways;
`kill -9` of the owner under 1,000 messages a second: on ws:// nothing is lost and nothing comes twice, on wss:// (whose keys
die with the owner) what is lost is told by a `Gap`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.peers.cache import DEFAULT, Cache, Unavailable
from tests.bench.peers.catalogue import PEERS, Peer, workshop
from tests.bench.peers.ordeal import Findings, ordeal
from tests.bench.table import machine, print_columns

_DOCUMENT: Final = Path(__file__).parents[3] / "ops" / "docs" / "GUARANTEES.md"
_BEGIN: Final = "## Peers that others wrote\n"
_HEAD: Final = ("peer", "version", "data", "compression", "pings (round trip)", "close codes", "kill -9")
_EXPLAINED: Final = """Each came from a package registry and ran beside real owners: 18 messages of all frame lengths, text and
binary, sent and received back; the same with permessage-deflate offered; pings both ways; the peer's close code and reason, and
the code that the peer saw when we closed; `kill -9` of the owner under 1,000 numbered messages a second. On ws:// every
connection outlived its owner and nothing was lost; if TLS ends in the owner, each kill costs a connection and a `Gap`.
Nothing was lost silently, nothing came twice. Tornado agrees to compression only with takeover, so that a kill costs a
connection. Hypercorn reports 1006 to its application whatever code it receives. Daphne sends neither empty messages nor close
reasons."""


def run(peers: Sequence[Peer], cache: Cache, kills: int) -> tuple[dict[str, Findings], dict[str, str]]:
    """What was found, and why the others were left out; both by name."""
    found: dict[str, Findings] = {}
    missing: dict[str, str] = {}
    for number, peer in enumerate(peers):
        print(f"{peer.name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="wsadapter-peer-") as folder, workshop(cache, Path(folder)) as shop:
            try:
                reached = peer.start(shop)
            except Unavailable as error:
                missing[peer.name] = str(error)
                print(f"  left out: {error}", file=sys.stderr, flush=True)
                continue
            found[peer.name] = ordeal(reached, kills, number)
            for text in found[peer.name].wrong:
                print(f"  WRONG: {text}", file=sys.stderr, flush=True)
    return found, missing


def rows_of(found: dict[str, Findings]) -> list[tuple[str, ...]]:
    """The table, head first."""
    return [
        _HEAD,
        *((name, f.version, f.data, f.compression, f.pings, f.closes, f.kills) for name, f in found.items()),
    ]


def section(found: dict[str, Findings], missing: dict[str, str], at: str) -> str:
    """For the document."""
    head, *rows = rows_of(found)
    table = ["| " + " | ".join(row) + " |" for row in (head, tuple("---" for _ in head), *rows)]
    left_out = [f"- {name}: {reason}" for name, reason in missing.items()]
    said = ["\nNot to be had:\n", *left_out] if left_out else []
    text = [_BEGIN, f"`python -m tests.bench.peers`, {at}, {machine()}.\n\n{_EXPLAINED}\n", *table, *said, ""]
    return "\n".join(text)


def put_into(document: str, fresh: str) -> str:
    """The document with the section, in the place of the one that it has, else at the end."""
    begin = document.find(_BEGIN)
    if begin < 0:
        return document.rstrip("\n") + "\n\n" + fresh
    end = document.find("\n## ", begin + len(_BEGIN))
    return document[:begin] + fresh + ("" if end < 0 else document[end:])


def main() -> int:
    """The command line; 1 where a peer and we did not get on."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers")
    parser.add_argument("--only", default="", help="names of peers, or the beginnings of names, with commas")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=DEFAULT)
    parser.add_argument("--write", action="store_true", help="put the table into ops/docs/GUARANTEES.md")
    asked = parser.parse_args()
    logging.getLogger("wsadapter").setLevel(logging.CRITICAL)  # each kill is a warning
    wanted = [name.strip().lower() for name in asked.only.split(",") if name.strip()]
    peers = [peer for peer in PEERS if not wanted or any(peer.name.lower().startswith(name) for name in wanted)]
    found, missing = run(peers, Cache(asked.cache), asked.kills)
    print(machine())
    print_columns(rows_of(found))
    for name, reason in missing.items():
        print(f"left out: {name}: {reason}")
    if asked.write:
        at = time.strftime("%Y-%m-%d", time.gmtime())
        _DOCUMENT.write_text(put_into(_DOCUMENT.read_text("utf-8"), section(found, missing, at)))
    return int(any(findings.wrong for findings in found.values()))


if __name__ == "__main__":
    sys.exit(main())
