"""What the pictures of the benchmarks are made of."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

_FONT = 'font-family="system-ui, sans-serif" font-size="12"'
GREY = "#52606d"


def page(width: float, height: float, parts: Iterable[str]) -> str:
    """A picture of these parts, on white."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" {_FONT}>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def text(
    x: float, y: float, said: str, *, anchor: str = "start", weight: str = "normal", colour: str = "#1f2933", size: int = 12
) -> str:
    """A line of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}" font-size="{size}">'
        f"{escape(said)}</text>"
    )
