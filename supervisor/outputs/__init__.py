"""The outputs to which the runner writes items."""

from __future__ import annotations

from wsadapter.config.settings import OutputSettings
from wsadapter.outputs.base import NullOutput, Output, OutputFailed
from wsadapter.outputs.jsonl import JsonLines

__all__ = ["Output", "OutputFailed", "open_output"]


def open_output(settings: OutputSettings) -> Output:
    """The output that `settings` ask for. Raises `OutputFailed` where its file can't be opened."""
    return NullOutput() if settings.kind == "none" else JsonLines(settings.path)
