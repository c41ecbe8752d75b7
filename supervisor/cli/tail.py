"""`wsadapter tail NAME`: a bounded look at what an endpoint delivers.

Data go to standard output, as lines of the output; notes go to standard error. What it costs is the asker's: of an interval at
most `--limit` items are kept for it, and the others are counted. It waits for a supervisor that is restarted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any, Final

from wsadapter.cli.which import DONE, ask, name_of, say
from wsadapter.contract.errors import NoAnswer, NotRunning

_NOTE_EVERY: Final = 5.0
"""Seconds between two notes about items that were left out."""


class Tail:
    """The items to show and the notes, from answer to answer. The clock is passed in."""

    def __init__(self, show: Callable[[str], None], note: Callable[[str], None], most: int | None) -> None:
        """`most`: lines after which it has ended."""
        self._show, self._note = show, note
        self._left = most
        self._run = ""
        self._is_away = False
        self._skipped = 0
        self._noted_at = float("-inf")

    @property
    def has_ended(self) -> bool:
        """Whether all that was wanted is shown."""
        return self._left == 0

    def take(self, answer: dict[str, Any], now: float) -> None:
        """The next answer."""
        if self._is_away or (self._run and answer["run"] != self._run):
            self._note(
                "the supervisor is there again" if answer["run"] == self._run else "another run of the supervisor continues"
            )
        self._run, self._is_away = answer["run"], False
        for line in answer["lines"]:
            if self.has_ended:
                return
            self._show(line)
            if self._left is not None:
                self._left -= 1
        self._skipped += answer["skipped"]
        if self._skipped and now - self._noted_at >= _NOTE_EVERY:
            self._note(f"{self._skipped:,} more items are not shown: raise --limit, or lower --interval")
            self._skipped, self._noted_at = 0, now

    def away(self, why: str) -> None:
        """There is no answer."""
        if not self._is_away:
            self._note(f"{why}; waiting for it")
        self._is_away = True


def tail(options: argparse.Namespace) -> int:
    """Until it is interrupted, or has shown the requested number of items."""
    options.name = name_of(options)  # the same one, also after a restart
    shown = Tail(say, _note, options.count)
    request = {"endpoint": options.endpoint, "limit": options.limit}
    ask(options, "sample", **request)  # begins it; raises if nothing runs, or has no such endpoint
    deadline = float("inf") if options.duration is None else monotonic() + options.duration
    try:
        while not shown.has_ended and monotonic() < deadline:
            sleep(max(0.0, min(options.interval, deadline - monotonic())))
            try:
                answer = ask(options, "sample", **request)
            except (NotRunning, NoAnswer) as error:
                shown.away(str(error))
            else:
                shown.take(answer, monotonic())
    except KeyboardInterrupt:
        return DONE
    return DONE


def _note(text: str) -> None:
    print(f"wsadapter: {text}", file=sys.stderr, flush=True)  # noqa: T201
