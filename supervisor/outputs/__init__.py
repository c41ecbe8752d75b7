"""The outputs to which the runner writes items."""

from __future__ import annotations

from typing import assert_never

from wsadapter.config.settings import OutputSettings
from wsadapter.outputs.base import NullOutput, Output, OutputFailed
from wsadapter.outputs.jsonl import JsonLines

__all__ = ["Output", "OutputFailed", "open_output"]


def open_output(settings: OutputSettings) -> Output:
    """Open the output that `settings` ask for. Raises `OutputFailed` if its file can't be opened."""
    match settings.kind:
        case "jsonl":
            return JsonLines(settings.path)
        case "none":
            return NullOutput()
        case _:  # a kind was added to the settings, and has no output here: mypy reports this line
            assert_never(settings.kind)
