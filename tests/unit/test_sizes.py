"""The tool that measures classes, files and functions, and the bounds that it compares them with."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tools.sizes import exceeded, measure

CODE = """
class A:
    def __init__(self, other):
        self.one = self.two = 1
        self._three: int = other._private

    def method(self):
        self.one += 1
        return other.__dict__
"""


def bounds(**classes: list[int]) -> dict[str, Any]:
    return {
        "private_reaches": 1,
        "longest_file": 10,
        "longest_function": 3,
        "classes": {f"a.py:{k}": v for k, v in classes.items()},
    }


def test_methods_attributes_lines_and_private_reaches_are_counted() -> None:
    sizes = measure(iter([("a.py", CODE)]))
    assert sizes.classes == [("a.py:A", 2, 3)]
    assert sizes.files == [(9, "a.py")]
    assert sorted(sizes.functions) == [(3, "a.py:__init__"), (3, "a.py:method")]
    assert sizes.reaches == 1


@pytest.mark.parametrize(
    ("line", "reaches"),
    [
        ("other._x", 1),
        ("other._x  # noqa: SLF001 - a reason", 0),
        ("pair._replace(a=1)", 0),
        ("x: zlib._Compress", 0),
        ("other.__dict__", 0),
    ],
)
def test_private_names_that_are_documented_or_types_or_have_a_reason_are_not_counted(line: str, reaches: int) -> None:
    assert measure(iter([("a.py", f"def f() -> None:\n    {line}\n\n\nclass A:\n    pass\n")])).reaches == reaches


def test_what_is_within_its_bounds_is_not_reported() -> None:
    assert exceeded(measure(iter([("a.py", CODE)])), bounds()) == []


def test_what_exceeds_its_bound_is_reported_with_the_bound() -> None:
    sizes = measure(iter([("a.py", CODE)]))
    assert exceeded(sizes, bounds(A=[1, 3])) == ["a.py:A has 2 methods and 3 attributes; the bound is 1 and 3"]
    tight = {"private_reaches": 0, "longest_file": 8, "longest_function": 2, "classes": {}}
    assert [line.split(":")[0] for line in exceeded(sizes, tight)] == ["private_reaches", "longest_file", "longest_function"]


def test_a_bound_of_a_class_that_is_gone_is_reported() -> None:
    [line] = exceeded(measure(iter([("a.py", CODE)])), bounds(Gone=[30, 20]))
    assert line == "sizes.toml names a.py:Gone, which does not exist: remove the line"
