"""ops/docs/GUARANTEES.md: README links to every guarantee, and each names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
GUARANTEES = (ROOT / "ops/docs/GUARANTEES.md").read_text("utf-8")
TESTS = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def sections(text: str) -> dict[str, str]:
    """The sections by their headings."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def proved_rows(section: str) -> list[list[str]]:
    """The rows of the section's table whose last column is "proved by"; none if it has no such table."""
    found = re.search(r"^\|[^\n]*\| proved by \|\n\|[-|]+\|\n((?:\|.*\n)+)", section, flags=re.MULTILINE)
    return [] if found is None else [[cell.strip() for cell in line.split("|")[1:-1]] for line in found[1].splitlines()]


GUARANTEE_SECTIONS = {heading: text for heading, text in sections(GUARANTEES).items() if "\n| what | proved by |\n" in text}
ROWS = [row for text in sections(GUARANTEES).values() for row in proved_rows(text)]


@cache
def functions_of(path: str) -> frozenset[str]:
    """The functions of a test file that pytest would run."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_"))


def test_readme_links_to_every_guarantee_and_to_no_other_section() -> None:
    table = sections(README)["What it guarantees"].strip().partition("\n\n")[0]
    linked = re.findall(r"\]\(ops/docs/GUARANTEES\.md#([\w-]+)\)", table)
    assert len(GUARANTEE_SECTIONS) >= 13
    assert linked == [anchor(heading) for heading in GUARANTEE_SECTIONS]


def test_readme_has_at_most_150_lines() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "_", row[-2])[:60])
def test_each_is_proved_by_tests_that_exist(row: list[str]) -> None:
    named = TESTS.findall(row[-1])
    assert named
    assert re.sub(r"`tests/[\w/]+\.py::\w+`|[, ]", "", row[-1]) == "", "only tests stand here"
    assert [f"{path}::{name}" for path, name in named if name not in functions_of(path)] == []


def test_every_test_that_is_named_is_in_a_row_that_is_checked() -> None:
    assert sum(len(TESTS.findall(row[-1])) for row in ROWS) == len(TESTS.findall(GUARANTEES))


def test_a_test_that_does_not_exist_is_found() -> None:
    assert "test_no_such_thing" not in functions_of("tests/unit/test_guarantees.py")
    assert "test_a_test_that_does_not_exist_is_found" in functions_of("tests/unit/test_guarantees.py")
