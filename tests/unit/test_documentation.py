"""The documentation can't drift: what is generated is compared, what is written by hand is looked up."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from wsadapter.cli.runner import EXIT_CODES
from wsadapter.config import parse
from wsadapter.contract import items, reasons
from wsadapter.endpoint.link_state import STATES
from wsadapter.exporter.metrics import METRICS
from wsadapter.exporter.server import PATHS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "ops/docs/REFERENCE.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")


def test_the_reference_is_what_the_code_says() -> None:
    made = subprocess.run([sys.executable, ROOT / "ops/reference.py"], capture_output=True, encoding="utf-8", check=True)
    assert made.stdout == REFERENCE, "run: python ops/reference.py > ops/docs/REFERENCE.md"


def test_every_entry_has_a_meaning() -> None:
    assert not [line for line in REFERENCE.splitlines() if re.search(r"\|\s*\|$", line)]


@pytest.mark.parametrize(
    "name",
    [
        *items.EVENT_NAMES.values(),
        *items.GAP_CAUSES,
        *items.DROP_CAUSES,
        *reasons.KINDS,
        *STATES,
        *METRICS,
        *PATHS,
        *(f"| {code} |" for code in EXIT_CODES),
    ],
)
def test_the_reference_names(name: str) -> None:
    assert (name if name.startswith("|") else f"`{name}`") in REFERENCE


def test_the_configuration_in_readme_is_one() -> None:
    section = README.split("`feeds.toml`:")[1].split("Run it:")[0]
    block = "\n".join(line[4:] for line in section.splitlines())
    assert set(tomllib.loads(block)["endpoints"]) == {"binance", "kraken", "coinbase"}
    assert len(parse(block, source="README.md", base_dir=ROOT).endpoints) == 3


PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "ops").glob("*.md")),
    *sorted((ROOT / "ops/docs").glob("*.md")),
    ROOT / "worker/dialects/README.md",
]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", page.read_text("utf-8")):
        if "://" not in target:
            file = page.parent / target if target else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


INTERNALS = (ROOT / "ops/docs/INTERNALS.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "ops/docs/CONTRIBUTING.md").read_text("utf-8")
GLOSSARY = (ROOT / "ops/docs/GLOSSARY.md").read_text("utf-8")
FUNCTIONS = re.findall(r"`([\w/]+\.py): (\w+)`((?:, `\w+`)*)", INTERNALS + CONTRIBUTING)
"""What INTERNALS and CONTRIBUTING name: a file, a function in it, and further ones of the same file."""


def file_of(name: str) -> Path:
    """A file as INTERNALS writes it: from the top if it begins so, else within the package."""
    return ROOT / name if name.split("/")[0] in ("worker", "supervisor", "tests", "ops") else ROOT / "supervisor" / name


@pytest.mark.parametrize(("file", "first", "more"), FUNCTIONS)
def test_each_function_that_the_documents_name_is_there(file: str, first: str, more: str) -> None:
    tree = ast.parse(file_of(file).read_text("utf-8"))
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert {first, *re.findall(r"`(\w+)`", more)} <= there, (
        f"{file} has changed: put INTERNALS.md and CONTRIBUTING.md in ops/docs right"
    )


def test_internals_names_functions_of_each_way() -> None:
    ways = INTERNALS.split("\n### The way of ")[1:]
    assert len(ways) == 4
    assert all(len(re.findall(r"`[\w/]+\.py: \w+`", way)) >= 8 for way in ways)


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`([a-z]\w*/[a-z_/0-9]+\.py)", INTERNALS + CONTRIBUTING + GLOSSARY))))
def test_each_file_that_the_documents_name_is_there(file: str) -> None:
    assert file_of(file).is_file()


TERMS = re.findall(r"\*\*([\w -]+)\*\*", GLOSSARY)
"""The words that GLOSSARY defines."""


@pytest.fixture(scope="module")
def tree() -> str:
    """All code, and all documents but GLOSSARY, as words with one space between them."""
    files = [*ROOT.glob("supervisor/**/*.py"), *ROOT.glob("worker/**/*.py"), *ROOT.glob("ops/docs/*.md"), ROOT / "README.md"]
    texts = (file.read_text("utf-8") for file in files if file.name != "GLOSSARY.md")
    return " ".join(re.sub(r"[\W_]+", " ", text) for text in texts).lower()


@pytest.mark.parametrize("term", TERMS)
def test_each_term_of_the_glossary_is_used(tree: str, term: str) -> None:
    assert f" {term.replace('-', ' ').lower()}" in tree, f"nothing uses {term!r}: remove it from ops/docs/GLOSSARY.md"


def test_no_term_of_the_glossary_is_defined_twice() -> None:
    assert sorted(set(TERMS)) == sorted(TERMS)
