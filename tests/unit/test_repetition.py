"""How often one kind of log line is written."""

from __future__ import annotations

import logging
from typing import Any

from wsadapter.cli.repetition import OF_ALL_THINGS, OF_ONE_THING, WINDOW, Repetition


def line(template: str, *values: Any, level: int = logging.INFO, logger: str = "wsadapter.supervisor") -> logging.LogRecord:
    return logging.LogRecord(logger, level, "", 0, template, values, None)


def texts(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records]


def test_the_last_line_that_was_held_back_is_written_at_the_end_of_its_window_with_the_number_of_the_others() -> None:
    repetition = Repetition()
    passed = [repetition.passes(line("%s/%d rejected: %s", "a", 1, f"s{n}"), n / 100) for n in range(OF_ONE_THING + 5)]
    assert passed == [True] * OF_ONE_THING + [False] * 5
    assert repetition.due(WINDOW - 0.01) == []
    assert texts(repetition.due(WINDOW)) == [f"a/1 rejected: s{OF_ONE_THING + 4} (and 4 more of this kind in 10 s)"]
    assert repetition.due(WINDOW * 9) == []
    assert repetition.passes(line("%s/%d rejected: %s", "a", 1, "s"), WINDOW)


def test_one_line_that_was_held_back_is_written_as_it_is() -> None:
    repetition = Repetition()
    for _ in range(OF_ONE_THING + 1):
        repetition.passes(line("%s is 100 %% full", "disk"), 0.0)
    assert texts(repetition.due(WINDOW)) == ["disk is 100 % full"]


def test_other_things_levels_loggers_and_kinds_have_windows_of_their_own() -> None:
    repetition = Repetition()
    while repetition.passes(line("%s down", "a"), 0.0):
        pass
    assert repetition.passes(line("%s down", "b"), 0.0)
    assert repetition.passes(line("%s down", "a", level=logging.ERROR), 0.0)
    assert repetition.passes(line("%s down", "a", logger="wsadapter.runner"), 0.0)
    assert repetition.passes(line("%s up", "a"), 0.0)


def test_a_thousand_things_have_their_line_and_what_is_kept_for_them_is_bounded() -> None:
    repetition = Repetition()
    passed = [repetition.passes(line("quarantine: %s is removed", f"file{n}"), 0.0) for n in range(3)]
    assert passed == [True] * 3
    passed = [repetition.passes(line("%s: down", f"endpoint{n}"), 0.0) for n in range(OF_ALL_THINGS + 5000)]
    assert sum(passed) == OF_ALL_THINGS
    assert len(repetition._windows) < OF_ALL_THINGS + 10
    assert texts(repetition.due(WINDOW)) == [f"endpoint{OF_ALL_THINGS + 4999}: down (and 4999 more of this kind in 10 s)"]
    assert not repetition._windows


def test_a_line_without_values_is_counted_too_whatever_is_in_it() -> None:
    repetition = Repetition()
    for _ in range(OF_ONE_THING + 3):
        repetition.passes(line("100 % of nothing"), 0.0)
    assert texts(repetition.due(WINDOW)) == ["100 % of nothing (and 2 more of this kind in 10 s)"]


def test_a_value_that_changes_afterwards_or_a_table_of_values_does_no_harm() -> None:
    repetition = Repetition()
    for number in range(OF_ONE_THING + 3):
        record = line("%(what)s happened", {"what": f"thing{number}"})
        repetition.passes(record, 0.0)
    assert texts(repetition.due(WINDOW)) == [f"thing{OF_ONE_THING + 2} happened (and 2 more of this kind in 10 s)"]
