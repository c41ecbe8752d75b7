"""Dotted paths into JSON values."""

from __future__ import annotations

from typing import Any

import pytest

from wsadapter.contract.dialect.paths import MISSING, look_up, matches


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.b", 1), ("l.0", "x"), ("l.-1", "z"), ("l.-3", "x"), ("l.3", MISSING), ("l.-4", MISSING), ("l.-", MISSING),
        ("n", None), ("n.x", MISSING), ("", MISSING), ("d.o.t", 2), ("l.a", MISSING),
    ],
)  # fmt: skip
def test_what_stands_at_a_path(path: str, expected: Any) -> None:
    assert look_up({"a": {"b": 1}, "l": ["x", "y", "z"], "n": None, "d.o.t": 2}, path) is expected


def test_the_last_of_an_array_that_is_the_message() -> None:
    assert look_up([117757, "hb", 2911], "-1") == 2911
    assert matches([117757, "hb", 2911], {"1": "hb", "-1": "*"})


@pytest.mark.parametrize("digits", ["9" * 10, "9" * 5000, "-" + "9" * 5000])
def test_more_digits_than_an_array_has_places_lead_nowhere(digits: str) -> None:
    assert look_up({"l": [1]}, f"l.{digits}") is MISSING
    assert look_up({digits: 1}, digits) == 1
