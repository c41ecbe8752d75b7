"""What a soak's samples show: a verdict in words, and a picture. Pure, but for `read_samples`."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from math import log10
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.bench.svg import GREY, page, text

Rows = Sequence[Mapping[str, float]]

SETTLED: Final = 600.0
"""Seconds; memory that grows after them is a leak."""
_WINDOW: Final = 300.0
MOST_GROWTH: Final = 0.02
_POINTS: Final = 240
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 900, 150, 60, 50, 40
_COLOURS: Final = ("#0b6e4f", "#b44d12", "#3b5b92")


class Growth(NamedTuple):
    """Of one column: the median of the 5 minutes after the first ten, and of the last 5 minutes."""

    before: float
    after: float

    @property
    def share(self) -> float:
        """0.02: two percent more."""
        return self.after / self.before - 1 if self.before else 0.0


class Panel(NamedTuple):
    title: str
    columns: tuple[str, ...]


PANELS: Final = (
    Panel("supervisor's memory, MB", ("rss", "pss", "private")),
    Panel("memory of all owners, spares and TLS holders, MB", ("owners_pss", "owners_private")),
    Panel("descriptors and threads: supervisor; most of an owner", ("fds", "threads", "owners_fds")),
    Panel("latency, ms (log): due to read by the consumer", ("p50", "p99", "worst")),
    Panel("faults so far; messages missing and reported, thousands", ("faults", "covered_k")),
)
JUDGED: Final = ("rss", "pss", "private", "template_private", "owners_private", "fds", "threads", "owners_fds", "files")
"""Columns that must not grow."""


def read_samples(path: Path) -> list[dict[str, float]]:
    """The rows; one that is half written is left out."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    found = [{name: float(value) for name, value in row.items()} for row in rows]
    for row in found:
        row["covered_k"] = row["covered"] / 1000
    return found


def growth(rows: Rows, column: str, *, settled: float = SETTLED) -> Growth | None:
    """None where the soak was too short: the two windows would overlap."""
    end = rows[-1]["seconds"]
    early = [row[column] for row in rows if settled <= row["seconds"] < settled + _WINDOW]
    late = [row[column] for row in rows if row["seconds"] >= end - _WINDOW]
    if not early or end < settled + 2 * _WINDOW:
        return None
    return Growth(statistics.median(early), statistics.median(late))


def judge(rows: Rows, result: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The verdict, line by line, and whether it is good. `result`: what the soak left at its end; empty while it runs."""
    last = rows[-1]
    wrong = list(result.get("wrong", ()))
    counts = result.get("total", last)
    state = "ended" if result else "still running"
    named = {"missing and reported": "covered", "missing in silence": "silent", "twice or late": "doubled",
             "again behind a gap": "repeated", "misnumbered": "misnumbered"}  # fmt: skip
    p50, p99 = (statistics.median(row[name] for row in rows) for name in ("p50", "p99"))
    lines = [
        f"{last['seconds'] / 60:.0f} minutes, {last['faults']:.0f} faults, {last['received']:,.0f} messages, {state}",
        ", ".join(f"{text} {counts.get(name, 0):,.0f}" for text, name in named.items()),
        f"latency p50 {p50:.2f} ms, p99 {p99:.1f} ms (medians of the samples)",
    ]
    good = not wrong and not (counts["silent"] or counts["doubled"] or counts["misnumbered"])
    for column in JUDGED:
        found = growth(rows, column)
        if found is None:
            lines.append(f"{column}: too short for a verdict, {rows[0][column]:.1f} to {last[column]:.1f}")
            continue
        flat = found.share <= MOST_GROWTH
        good = good and flat
        lines.append(f"{column}: {found.before:.1f} to {found.after:.1f}, {found.share:+.1%}: {'flat' if flat else 'GROWS'}")
    return [*lines, *(f"WRONG: {text}" for text in wrong)], good


def draw(rows: Rows, machine: str) -> str:
    """The picture, as SVG."""
    thinned = _thinned(rows)
    height = _TOP + len(PANELS) * (_HEIGHT + _GAP)
    last = rows[-1]
    head = f"Soak: {last['seconds'] / 3600:.1f} hours, {last['faults']:.0f} faults, {last['received'] / 1e6:.2f} M messages"
    parts = [text(12, 20, head, size=16, weight="bold"), text(12, 38, machine, colour=GREY, size=11)]
    for number, panel in enumerate(PANELS):
        parts += _panel(panel, thinned, _TOP + number * (_HEIGHT + _GAP))
    return page(_WIDTH, height, parts)


def _thinned(rows: Rows) -> Rows:
    """At most so many points: of each group of rows the greatest value, so that no peak is lost."""
    step = max(1, -(-len(rows) // _POINTS))
    groups = [rows[begin : begin + step] for begin in range(0, len(rows), step)]
    return [{name: max(row[name] for row in group) for name in group[0]} for group in groups]


def _panel(panel: Panel, rows: Rows, y: float) -> list[str]:
    logarithmic = "(log)" in panel.title

    def scale(value: float) -> float:
        return log10(max(value, 0.1)) + 1 if logarithmic else value

    most = max(scale(row[column]) for row in rows for column in panel.columns) or 1.0
    end = rows[-1]["seconds"] or 1.0
    width, floor = _WIDTH - _LEFT - 20, y + 22 + _HEIGHT - 30
    room = _HEIGHT - 30
    parts = [text(12, y + 12, panel.title, weight="bold")]
    for share in (0.0, 0.5, 1.0):
        level = floor - room * share
        value = 10 ** (most * share - 1) if logarithmic else most * share
        parts.append(f'<path d="M{_LEFT} {level:.1f}H{_LEFT + width}" stroke="#d9dee3"/>')
        parts.append(text(_LEFT - 6, level + 4, f"{value:.3g}", anchor="end", colour=GREY, size=10))
    for number, column in enumerate(panel.columns):
        points = " ".join(
            f"{_LEFT + width * row['seconds'] / end:.1f},{floor - room * scale(row[column]) / most:.1f}" for row in rows
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{_COLOURS[number]}" stroke-width="1.2"/>')
        parts.append(text(_LEFT + 420 + number * 120, y + 12, column, colour=_COLOURS[number]))
    return [*parts, text(_LEFT + width, floor + 14, f"{end / 60:.0f} min", anchor="end", colour=GREY, size=10)]
