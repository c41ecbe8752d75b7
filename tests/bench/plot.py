"""The figures of the last run as one picture for README.

python -m tests.bench.plot        writes ops/bench.svg
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.svg import GREY, page, text
from tests.bench.table import RESULTS

_PICTURE = Path(__file__).parents[2] / "ops" / "bench.svg"
_OURS, _OTHERS, _RANGE, _SHORT = "#0b6e4f", "#9aa5b1", "#1f2933", "#b44d12"
_WIDTH, _PANEL, _NAME, _BAR, _STEP, _TOP = 960, 480, 150, 15, 21, 60
_MEASURE, _LIMIT, _MOST_SHARE = 440, 170, 1.6
"""Of the rows: where their bars begin, how long one is that just reaches its goal, and the longest one."""
_CONTESTANTS = ("wsadapter", "wsadapter batches()", "picows", "aiohttp", "websockets", "by hand")


@dataclass(frozen=True)
class Panel:
    """A group of bars. `key` has a place for the contestant's name."""

    title: str
    key: str
    contestants: tuple[str, ...]
    scale: float
    """What a figure is divided by before it is shown."""


_COST = "µs CPU of the consumer per message"
_LATENCY = ("wsadapter", "relay", "picows", "websockets")
_PANELS = (
    Panel("wss://, thousand messages a second (more is better)", "wss:// {}, messages/s", _CONTESTANTS, 1000),
    Panel("wss://, consumer's CPU, µs a message (less is better)", f"wss:// {{}}, {_COST}", _CONTESTANTS, 1),
    Panel("ws://, thousand messages a second (more is better)", "ws:// {}, messages/s", _CONTESTANTS, 1000),
    Panel("ws://, consumer's CPU, µs a message (less is better)", f"ws:// {{}}, {_COST}", _CONTESTANTS, 1),
    Panel("ws://, latency p50 at 2,000 a second, µs", "ws:// {}, latency p50, µs", _LATENCY, 1),
    Panel("ws://, latency p99 at 2,000 a second, µs", "ws:// {}, latency p99, µs", _LATENCY, 1),
)  # fmt: skip


def draw(found: dict[str, Any]) -> str:
    """The picture: bars for the medians, whiskers from the least run to the greatest; then all rows and their goals."""
    body: list[str] = []
    y = _TOP
    for row in range(0, len(_PANELS), 2):
        pair = _PANELS[row : row + 2]
        for column, panel in enumerate(pair):
            body += _panel(panel, found["figures"], 12 + column * _PANEL, y)
        y += 40 + _STEP * len(pair[0].contestants)
    rows = [row for row in found["rows"] if row["value"] is not None]
    body += _goals(rows, 12, y)
    y += 40 + _STEP * len(rows)
    note = f"{found['machine']}, {found['at']}. Medians; lines span all runs. 200-byte messages, a TLS record each."
    head = [
        text(12, 24, "wsadapter beside its peers, on the same load in the same run", size=16, weight="bold"),
        text(12, 42, note, colour=GREY, size=11),
    ]
    return page(_WIDTH, y, [*head, *body])


def _panel(panel: Panel, figures: dict[str, Any], x: int, y: int) -> list[str]:
    shown = {name: figures[panel.key.format(name)] for name in panel.contestants if panel.key.format(name) in figures}
    lines = [text(x, y + 12, panel.title, weight="bold")]
    room = _PANEL - _NAME - 70
    most = max((figure["median"] for figure in shown.values()), default=1)
    for n, (name, figure) in enumerate(shown.items()):
        top = y + 22 + n * _STEP
        width = room * figure["median"] / most
        colour = _OURS if name.startswith("wsadapter") else _OTHERS
        lines.append(text(x + _NAME - 8, top + 12, name, anchor="end"))
        lines.append(f'<rect x="{x + _NAME}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>')
        low, high = (x + _NAME + min(room * 1.08, room * figure[end] / most) for end in ("least", "most"))
        middle = top + _BAR / 2
        lines.append(f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="{_RANGE}" stroke-width="1.5"/>')
        lines.append(text(max(x + _NAME + width, high) + 6, top + 12, _value(figure["median"] / panel.scale)))
    return lines


def _goals(rows: list[dict[str, Any]], x: int, y: int) -> list[str]:
    """Each row of the goals: how much of what it may be it is."""
    title = "All goals, each on a scale of its own: up to the line is reached; the dot is what is aimed for"
    lines = [text(x, y + 12, title, weight="bold")]
    for n, row in enumerate(rows):
        lines += _goal(row, x, y + 22 + n * _STEP)
    limit, bottom = x + _MEASURE + _LIMIT, y + 20 + len(rows) * _STEP
    return [*lines, f'<path d="M{limit} {y + 18}V{bottom}" stroke="{_RANGE}" stroke-width="1.5"/>']


def _goal(row: dict[str, Any], x: int, top: int) -> list[str]:
    median, must = row["value"]["median"], row["must"]
    share = min(_MOST_SHARE, _share(row, median))
    reached = median >= must if row["more_is_better"] else median <= must
    begin, middle = x + _MEASURE, top + _BAR / 2
    sign = "≥" if row["more_is_better"] else "≤"
    says = f"{_value(median)} {row['unit']} ({sign} {must:g})"
    aim = begin + _LIMIT * min(_MOST_SHARE, _share(row, row["aim"]))
    return [
        text(begin - 8, top + 12, f"{row['row']}: {row['measure']}", anchor="end", size=11),
        f'<rect x="{begin}" y="{top}" width="{_LIMIT * share:.1f}" height="{_BAR}" fill="{_OURS if reached else _SHORT}"/>',
        f'<circle cx="{aim:.1f}" cy="{middle}" r="3" fill="#ffffff" stroke="{_RANGE}"/>',
        text(begin + _LIMIT * _MOST_SHARE + 10, top + 12, says),
    ]


def _share(row: dict[str, Any], value: float) -> float:
    """1 where `value` is just what the row must reach, less where it is better."""
    if row["more_is_better"]:
        return float(row["must"] / value) if value else _MOST_SHARE
    if not row["must"]:  # nothing at all is allowed
        return _MOST_SHARE if value else 0.0
    return float(value / row["must"])


def _value(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 or not value else f"{value:.2f}"


if __name__ == "__main__":
    _PICTURE.write_text(draw(json.loads(RESULTS.read_text("utf-8"))), encoding="utf-8")
    print(_PICTURE)
