"""The documentation can't drift: what is generated is compared, what is written by hand is looked up."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from functools import cache
from pathlib import Path

import pytest

from wsadapter.__main__ import main
from wsadapter.cli.command_line import COMMANDS
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


COMMAND_LINES = re.compile(r"(?:`|^ {4}|-- )wsadapter +([a-z]+)", re.MULTILINE)
"""Commands as a page or an example shows them: in backticks, indented, or behind `--`."""


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "ops/examples").glob("*.*"))], ids=lambda page: page.name)
def test_each_command_that_a_page_shows_exists(page: Path) -> None:
    assert set(COMMAND_LINES.findall(page.read_text("utf-8"))) <= COMMANDS.keys()


COMMAND_TABLE = REFERENCE.split("\n## Commands\n")[1].split("\n## ")[0]


def test_the_reference_has_each_command_and_each_of_their_lines_once() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", COMMAND_TABLE, re.MULTILINE)
    assert len(rows) == len(set(rows))
    documented = {row.split()[1] for row in rows if row.startswith("wsadapter ")}
    assert documented == COMMANDS.keys() - {"run"}  # `python -m wsadapter.supervise`, above them


def test_each_option_in_the_table_of_commands_exists() -> None:
    known = set(re.findall(r"--[a-z][a-z-]*", "".join(help_of(name) for name in COMMANDS)))
    documented = set(re.findall(r"--[a-z][a-z-]*", COMMAND_TABLE))
    assert len(documented) >= 15
    assert documented <= known


def help_of(name: str) -> str:
    """What `wsadapter NAME --help` prints."""
    made = io.StringIO()
    with contextlib.redirect_stdout(made), contextlib.suppress(SystemExit):
        main([name, "--help"])
    return made.getvalue()


@pytest.mark.parametrize(
    ("names", "section", "entry"),
    [
        (METRICS, "Metrics", r"^\| `([^`]+)`"),
        (PATHS, "Exporter", r"^\| `([^`]+)`"),
        (items.EVENT_NAMES.values(), "Events", r"^### `([^`]+)`"),
        (items.GAP_CAUSES, "Causes of a `gap`", r"^\| `([^`]+)`"),
        (items.DROP_CAUSES, "Causes of a `dropped`", r"^\| `([^`]+)`"),
    ],
    ids=["metrics", "paths", "events", "causes of a gap", "causes of a drop"],
)
def test_each_name_is_documented_once_and_nothing_else_is(names: Collection[str], section: str, entry: str) -> None:
    own = re.split(r"\n##+ (?!`)", REFERENCE.split(f"# {section}\n")[1])[0]
    assert sorted(re.findall(entry, own, re.MULTILINE)) == sorted(names)


INTERNALS = (ROOT / "ops/docs/INTERNALS.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "ops/docs/CONTRIBUTING.md").read_text("utf-8")
GLOSSARY = (ROOT / "ops/docs/GLOSSARY.md").read_text("utf-8")
FUNCTIONS = re.findall(r"`([\w/]+\.py): (\w+)`((?:, `\w+`)*)", INTERNALS + CONTRIBUTING)
"""What INTERNALS and CONTRIBUTING name: a file, a function in it, and further ones of the same file."""


def file_of(name: str) -> Path:
    """A file as INTERNALS writes it: from the top if it begins so, else within the package."""
    return ROOT / name if name.split("/")[0] in ("worker", "supervisor", "tests", "ops") else ROOT / "supervisor" / name


@cache
def functions_of(file: str) -> frozenset[str]:
    """The functions and methods of a file."""
    tree = ast.parse(file_of(file).read_text("utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize(("file", "first", "more"), FUNCTIONS)
def test_each_function_that_the_documents_name_is_there(file: str, first: str, more: str) -> None:
    assert {first, *re.findall(r"`(\w+)`", more)} <= functions_of(file), (
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
