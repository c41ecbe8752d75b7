"""The dialects' gap rules over recordings: no false alarm, and nothing missed.

    python -m tests.bench.gaps PATH [PATH ...] [--every N]

A PATH is a recording of one connection (`.jsonl.gz`, see `wsadapter.testing.recording`), or a folder of feeds, each with
`received.jsonl.gz` (a payload per line), `received.meta.tsv.gz` (which of its columns `conn` tells the connection) and
`connections.tsv`. The dialect is the one whose host it came from, else the one of the longest name that the feed's begins with.

Of each rule it prints how many messages it was for, how many of them were compared with the one before, and how many did not
follow. Then, of each count, every N-th compared message is taken out, repeated, or exchanged with the next one, each by itself,
and it prints how many of these the rule found.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from wsadapter.config.dialect import bundled, load_dialect
from wsadapter.contract.dialect.text import Text
from wsadapter.testing.recording import load_recording
from wsadapter.worker.session.sequence import SequenceChecker

OLDER_HOSTS = {
    "ws-feed.pro.coinbase.com": "coinbase_exchange", "ws.okex.com": "okx", "ws.kraken.com": "kraken_v1",
    "push-private.kucoin.com": "kucoin", "www.bitmex.com": "bitmex",
}  # fmt: skip
"""Hosts of the time of the recordings, and one that two versions share."""
RECORDED = {"coinbase": "coinbase_exchange", "kraken": "kraken_v1", "okex_v3": "okx"}
"""Bundled recordings that are of another dialect than their name says."""


class Feed(NamedTuple):
    """What one exchange sent."""

    name: str
    dialect: str
    connections: list[list[bytes]]


@dataclass
class Tally:
    """What one rule did over one feed."""

    messages: int = 0
    compared: int = 0
    breaks: int = 0
    injected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("removed", "repeated", "swapped"), 0))
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("removed", "repeated", "swapped"), 0))


class Row(NamedTuple):
    """A message that a rule counts."""

    text: Text
    compared: bool


def feeds(paths: Sequence[Path]) -> Iterator[Feed]:
    """Every feed at or below the paths."""
    for path in paths:
        if path.is_file():
            name = path.name.removesuffix(".jsonl.gz")
            yield Feed(name, dialect_of(name, ()), [load_recording(path).payloads])
        for received in sorted(path.rglob("received.jsonl.gz") if path.is_dir() else ()):
            folder = received.parent
            yield Feed(folder.name, dialect_of(folder.name, hosts(folder)), connections(folder))


def hosts(folder: Path) -> tuple[str, ...]:
    """The hosts that a feed came from."""
    file = folder / "connections.tsv"
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    urls = [word for line in lines for word in line.replace("|", "\t").split("\t") if word.startswith(("ws://", "wss://"))]
    return tuple(dict.fromkeys(urlsplit(url).hostname or "" for url in urls))


def dialect_of(name: str, at: Sequence[str]) -> str:
    """The name of the feed's dialect; "" where there is none."""
    by_host = dict(OLDER_HOSTS)
    for dialect in bundled():
        for urls in load_dialect(dialect)["urls"].values():
            for url in [urls] if isinstance(urls, str) else urls:
                by_host.setdefault(urlsplit(url).hostname or "", dialect)
    found = next((by_host[host] for host in at if host in by_host), "")
    by_name = max((dialect for dialect in bundled() if name.startswith(dialect)), key=len, default="")
    return found or RECORDED.get(name, by_name)


def connections(folder: Path) -> list[list[bytes]]:
    """The payloads of each connection of a feed."""
    with gzip.open(folder / "received.jsonl.gz", "rb") as file:
        payloads = file.read().splitlines()
    with gzip.open(folder / "received.meta.tsv.gz", "rt") as file:
        head, *rows = [line.rstrip("\n").lstrip("#").split("\t") for line in file]
    by_connection: dict[str, list[bytes]] = defaultdict(list)
    for payload, row in zip(payloads, rows, strict=True):
        by_connection[row[head.index("conn")] if "conn" in head else ""].append(payload)
    return list(by_connection.values())


def check(feed: Feed, every: int) -> dict[str, Tally]:
    """What each rule of its dialect does over a feed; rules that are for none of its messages are left out."""
    rules = load_dialect(feed.dialect).get("gap", []) if feed.dialect else []
    tallies = {label(rule): tally_of(rules, place, feed, every) for place, rule in enumerate(rules)}
    return {name: tally for name, tally in tallies.items() if tally.messages}


def label(rule: dict[str, Any]) -> str:
    """How a rule is called: what its messages hold, and where its number stands."""
    return f"{rule.get('contains', 'all').strip(chr(34))} ({rule.get('value') or rule['first'] + ' ' + rule['last']})"


def tally_of(rules: list[dict[str, Any]], place: int, feed: Feed, every: int) -> Tally:
    """What the rule at `place` does over the messages that are its own, each count by itself."""
    tally = Tally()
    for payloads in feed.connections:
        for rows in counts(SequenceChecker(rules), place, payloads).values():
            tally.messages += len(rows)
            tally.compared += sum(row.compared for row in rows)
            tally.breaks += len(breaks(rules[place], [row.text for row in rows]))
            inject(rules[place], rows, every, tally)
    return tally


def counts(gaps: SequenceChecker, place: int, payloads: Sequence[bytes]) -> dict[Hashable, list[Row]]:
    """The messages of each count of the rule at `place`, in order."""
    rule = gaps.rules[place]
    found: dict[Hashable, list[Row]] = defaultdict(list)
    for payload in payloads:
        text = Text(payload)
        scope = rule.scope_of(text, no_stream) if gaps.rule_of(text) is rule else None
        if scope is not None:
            before = rule.last(scope)
            begins, numbered = rule.begins(text.value), None not in rule.numbers(text.value)
            rule.check(text, no_stream)
            if begins or numbered:
                found[scope].append(Row(text, before is not None and numbered and not begins))
    return found


def breaks(rule: dict[str, Any], texts: Sequence[Text]) -> list[int]:
    """The positions of the messages that do not follow."""
    gaps = SequenceChecker([rule])
    return [at for at, text in enumerate(texts) if gaps.check(text, no_stream) is not None]


def no_stream(_text: Text) -> str | None:
    """No bundled rule has streams for its scope."""
    return None


def inject(rule: dict[str, Any], rows: Sequence[Row], every: int, tally: Tally) -> None:
    """Damage every N-th message, each by itself, within its neighbours."""
    texts = [row.text for row in rows]
    for at in range(1, len(rows) - 1, every):
        if not (rows[at].compared and rows[at + 1].compared):
            continue
        before, here, after = texts[max(0, at - 3) : at], texts[at], texts[at + 1 : at + 4]
        damaged = {
            "removed": [*before, *after],
            "repeated": [*before, here, here, *after],
            "swapped": [*before, after[0], here, *after[1:]],
        }
        for kind, sequence in damaged.items():
            tally.injected[kind] += 1
            tally.found[kind] += bool(breaks(rule, sequence))


def main() -> int:
    """Print the table; 1 where a rule gave a false alarm or missed something."""
    parser = argparse.ArgumentParser(description="The dialects' gap rules over recordings.")
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=7, help="damage every N-th message (default: %(default)s)")
    wanted = parser.parse_args()
    print("| feed | dialect | rule | messages | compared | did not follow | removed | repeated | swapped |")
    print("|---|---|---|---|---|---|---|---|---|")
    failed = False
    for feed in feeds(wanted.paths):
        total = sum(map(len, feed.connections))
        tallies = check(feed, wanted.every)
        for rule, tally in tallies.items():
            shares = [f"{tally.found[kind]:,} of {tally.injected[kind]:,}" for kind in tally.injected]
            print(f"| {feed.name} | {feed.dialect} | {rule} | {tally.messages:,} | {tally.compared:,} | {tally.breaks:,} | "
                  f"{' | '.join(shares)} |")  # fmt: skip
            failed |= tally.breaks > 0 or tally.found != tally.injected
        if not tallies:
            print(f"| {feed.name} | {feed.dialect or '-'} | none | {total:,} | 0 | 0 | - | - | - |")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
