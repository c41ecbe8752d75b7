"""What `wsadapter tail` shows and notes."""

from __future__ import annotations

from typing import Any

from wsadapter.cli.tail import Tail


def answer(*lines: str, run: str = "r", skipped: int = 0) -> dict[str, Any]:
    return {"run": run, "lines": list(lines), "skipped": skipped}


class Seen:
    """A tail, what it showed and what it noted."""

    def __init__(self, most: int | None = None) -> None:
        self.shown: list[str] = []
        self.noted: list[str] = []
        self.tail = Tail(self.shown.append, self.noted.append, most)


def test_lines_are_shown_until_there_are_enough() -> None:
    seen = Seen(3)
    seen.tail.take(answer("1", "2"), 0.0)
    assert not seen.tail.has_ended
    seen.tail.take(answer("3", "4"), 1.0)
    assert seen.shown == ["1", "2", "3"]
    assert seen.tail.has_ended


def test_what_was_left_out_is_noted_at_most_every_five_seconds() -> None:
    seen = Seen()
    for second in range(12):
        seen.tail.take(answer(skipped=10), float(second))
    assert [note.split()[0] for note in seen.noted] == ["10", "50", "50"]


def test_a_restart_of_the_supervisor_is_noted_once_and_survived() -> None:
    seen = Seen()
    seen.tail.take(answer("1"), 0.0)
    seen.tail.away("nothing runs")
    seen.tail.away("nothing runs")
    seen.tail.take(answer("2", run="other"), 3.0)
    seen.tail.take(answer("3", run="other"), 4.0)
    assert seen.shown == ["1", "2", "3"]
    assert seen.noted == ["nothing runs; waiting for it", "another run of the supervisor continues"]


def test_a_supervisor_that_was_only_slow_is_the_same_run() -> None:
    seen = Seen()
    seen.tail.take(answer(), 0.0)
    seen.tail.away("no answer")
    seen.tail.take(answer(), 1.0)
    assert seen.noted[-1] == "the supervisor is there again"
