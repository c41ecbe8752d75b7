"""When and how often a client's frames are answered, as a test has ordered (`Answering`). Pure; the clock is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from wsadapter.testing.dialect.overrides import Overrides
from wsadapter.testing.dialect.steps import Data, SendFrame, Step, Violation

Judge = Callable[[], Iterable[Step]]
"""What a frame leads to, at the time when it is answered."""


class Delivery:
    """The answers of one connection. Times are monotonic seconds. Not thread-safe.

    A late exchange looks late at a frame: its data come late as well, unless they are ordered to come before the answer.
    """

    def __init__(self, overrides: Overrides) -> None:
        self._overrides = overrides
        self._waiting: list[tuple[float, Judge]] = []
        """Frames and answers, and when their time has come."""
        self._gathered: list[Judge] = []
        """Frames that are answered together."""

    def frame(self, judge: Judge, now: float) -> Iterator[Step]:
        """A client's frame came."""
        answering = self._overrides.answering
        if answering.reverse > 1 or self._gathered:
            self._gathered.append(judge)
            if len(self._gathered) >= answering.reverse:
                yield from self._all_gathered(now)
        elif answering.after and not answering.data_first:
            self._waiting.append((now + answering.after, partial(self._repeated, judge)))
        else:
            yield from self._timed(judge(), now)

    def deadline(self) -> float | None:
        """When to call `tick`; None: not before something happens."""
        return min((at for at, _ in self._waiting), default=None)

    def tick(self, now: float) -> Iterator[Step]:
        """Time has passed."""
        due = [judge for at, judge in self._waiting if at <= now]
        self._waiting = [(at, judge) for at, judge in self._waiting if at > now]
        for judge in due:
            yield from judge()

    def _all_gathered(self, now: float) -> Iterator[Step]:
        """The answers in reverse order, and then the data."""
        frames, self._gathered = self._gathered, []
        steps = [step for judge in frames for step in judge()]
        yield from (step for step in steps if isinstance(step, Data | Violation))
        yield from self._timed([step for step in reversed(steps) if isinstance(step, SendFrame)], now)
        yield from (step for step in steps if not isinstance(step, Data | Violation | SendFrame))

    def _timed(self, steps: Iterable[Step], now: float) -> Iterator[Step]:
        after = self._overrides.answering.after
        for step in self._repeated(lambda: steps):
            if after and isinstance(step, SendFrame):
                self._waiting.append((now + after, partial(iter, [step])))
            else:
                yield step

    def _repeated(self, judge: Judge) -> Iterator[Step]:
        for step in judge():
            yield from [step] * (self._overrides.answering.times if isinstance(step, SendFrame) else 1)
