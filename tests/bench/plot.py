"""The figures of the last run as one picture for README.

    python -m tests.bench.plot        writes ops/bench.svg
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.bench.table import RESULTS

_PICTURE = Path(__file__).parents[2] / "ops" / "bench.svg"
_OURS, _OTHERS, _RANGE = "#0b6e4f", "#9aa5b1", "#1f2933"
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'
_WIDTH, _PANEL, _NAME, _BAR, _STEP, _TOP = 960, 480, 150, 15, 21, 60
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
    """The picture: bars for the medians, whiskers from the least run to the greatest."""
    body: list[str] = []
    y = _TOP
    for row in range(0, len(_PANELS), 2):
        pair = _PANELS[row : row + 2]
        for column, panel in enumerate(pair):
            body += _panel(panel, found["figures"], 12 + column * _PANEL, y)
        y += 40 + _STEP * len(pair[0].contestants)
    note = f"{found['machine']}, {found['at']}. Medians; lines span all runs. 200-byte messages, a TLS record each."
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{y}" fill="#ffffff"/>',
        _text(12, 24, "wsadapter beside its peers, on the same load in the same run", size=16, weight="bold"),
        _text(12, 42, note, colour="#52606d", size=11),
    ]
    return "\n".join([*head, *body, "</svg>", ""])


def _panel(panel: Panel, figures: dict[str, Any], x: int, y: int) -> list[str]:
    shown = {name: figures[panel.key.format(name)] for name in panel.contestants if panel.key.format(name) in figures}
    lines = [_text(x, y + 12, panel.title, weight="bold")]
    room = _PANEL - _NAME - 70
    most = max((figure["median"] for figure in shown.values()), default=1)
    for n, (name, figure) in enumerate(shown.items()):
        top = y + 22 + n * _STEP
        width = room * figure["median"] / most
        colour = _OURS if name.startswith("wsadapter") else _OTHERS
        lines.append(_text(x + _NAME - 8, top + 12, name, anchor="end"))
        lines.append(f'<rect x="{x + _NAME}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>')
        low, high = (x + _NAME + min(room * 1.08, room * figure[end] / most) for end in ("least", "most"))
        middle = top + _BAR / 2
        lines.append(f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="{_RANGE}" stroke-width="1.5"/>')
        lines.append(_text(max(x + _NAME + width, high) + 6, top + 12, _value(figure["median"] / panel.scale)))
    return lines


def _value(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = "#1f2933", size: int = 12
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}" font-size="{size}">'
        f"{escape(text)}</text>"
    )


if __name__ == "__main__":
    _PICTURE.write_text(draw(json.loads(RESULTS.read_text())), encoding="utf-8")
    print(_PICTURE)
