"""Figures, rows and the table they are printed in."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

RESULTS = Path(__file__).parent / "results" / "latest.json"


@dataclass(frozen=True)
class Figure:
    """A measured value: the median of the runs, their least and their greatest."""

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, runs: Iterable[float]) -> Self:
        values = sorted(runs)
        return cls(statistics.median(values), values[0], values[-1], len(values))

    @classmethod
    def ratio(cls, over: Sequence[float], under: Sequence[float]) -> Self:
        """Of two contestants that took turns: run by run, as far as both went."""
        return cls.of(a / b for a, b in zip(over, under, strict=False))

    def show(self) -> str:
        return f"{_short(self.median)} ({_short(self.least)}..{_short(self.most)})"


@dataclass(frozen=True)
class Row:
    """A row of the table: one measure, what came out, what must come out."""

    row: str
    measure: str
    value: Figure | None
    """None: not measured."""
    unit: str
    must: float
    aim: float
    more_is_better: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return self.note or "not measured"
        if self.reaches(self.aim):
            return "aim reached"
        return "reached" if self.reaches(self.must) else "FALLS SHORT"

    def reaches(self, limit: float) -> bool:
        assert self.value is not None
        return self.value.median >= limit if self.more_is_better else self.value.median <= limit


@dataclass
class Outcome:
    """What a benchmark found: its rows, and the figures behind them."""

    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    """"wss:// picows messages/s" and such."""
    load: dict[str, float] = field(default_factory=dict)
    """Per benchmark: the machine's load average (1 minute) when it began."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(outcome: Outcome) -> None:
    """Print the rows, and the figures behind them."""
    print(machine())
    print("load average when it began:", ", ".join(f"{name} {load:.2f}" for name, load in outcome.load.items()))
    print()
    print_columns(
        [("row", "measure", "median (min..max)", "must reach", "aim", "verdict")]
        + [
            (row.row, row.measure, f"{row.value.show()} {row.unit}" if row.value else "-", _limit(row, row.must),
             _limit(row, row.aim), row.verdict)
            for row in outcome.rows
        ]
    )  # fmt: skip
    print()
    print_columns([("figure", "median (min..max)", "runs")] + [(n, f.show(), str(f.runs)) for n, f in outcome.figures.items()])


def write(outcome: Outcome) -> None:
    """Keep it as JSON; rows of other benchmarks of an earlier run stay."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    rows = {row["row"]: row for row in kept.get("rows", [])}
    rows |= {row.row: {**asdict(row), "verdict": row.verdict} for row in outcome.rows}
    said = {
        "machine": machine(),
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load": {**kept.get("load", {}), **outcome.load},
        "rows": [rows[name] for name in sorted(rows, key=_order)],
        "figures": {**kept.get("figures", {}), **{name: asdict(f) for name, f in outcome.figures.items()}},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(_rounded(said), indent=1) + "\n")


def machine() -> str:
    """Cores, processor, system, Python."""
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{len(os.sched_getaffinity(0))} cores, {_processor()}, {system}, Python {platform.python_version()}"


def load_now() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _order(name: str) -> tuple[int, str]:
    digits = "".join(c for c in name if c.isdigit())
    return int(digits or 0), name


def _limit(row: Row, limit: float) -> str:
    return f"{'≥' if row.more_is_better else '≤'} {_short(limit)}"


def _short(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:.2f} M"
    if abs(value) >= 10000:
        return f"{value / 1e3:.0f} k"
    return f"{value:.3g}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def print_columns(lines: Sequence[tuple[str, ...]]) -> None:
    """Each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
