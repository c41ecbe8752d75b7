"""ops/docs/GUARANTEES.md: every promise of README stands there, with tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
GUARANTEES = (ROOT / "ops/docs/GUARANTEES.md").read_text()


def rows(text: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without its head."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def promised(text: str) -> list[str]:
    """What stands in bold in the first column of README's table of promises."""
    table = text.split("\n## What it promises\n")[1].split("| promise | how |")[1].split("\n\n")[0]
    return re.findall(r"^\| \*\*(.+?)\*\*", table, re.MULTILINE)


ALL = [
    row
    for heading in ("What it promises", "What is lossless, what is not", "What README says elsewhere")
    for row in rows(GUARANTEES, heading)
]


@cache
def functions_of(path: str) -> frozenset[str]:
    """The functions of a test file that pytest would run."""
    tree = ast.parse((ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_"))


def test_the_promises_are_those_of_readme() -> None:
    assert len(promised(README)) >= 13
    assert [row[0] for row in rows(GUARANTEES, "What it promises") if row[0]] == promised(README)


@pytest.mark.parametrize("row", ALL, ids=lambda row: re.sub(r"\W+", "_", row[0] or row[1])[:60])
def test_each_is_proved_by_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 3
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[2])
    assert named
    assert re.sub(r"`tests/[\w/]+\.py::\w+`|[, ]", "", row[2]) == "", "only tests stand here"
    assert [f"{path}::{name}" for path, name in named if name not in functions_of(path)] == []


def test_a_test_that_does_not_exist_is_found() -> None:
    assert "test_no_such_thing" not in functions_of("tests/unit/test_guarantees.py")
    assert "test_a_test_that_does_not_exist_is_found" in functions_of("tests/unit/test_guarantees.py")


def test_readme_leads_there() -> None:
    assert "](ops/docs/GUARANTEES.md)" in README.split("\n## What it promises\n")[1].split("\n## ")[0]
