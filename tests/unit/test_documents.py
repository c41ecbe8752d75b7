"""The documents that are part of the package: complete, with links that lead somewhere, and printed by `wsadapter docs`."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

from wsadapter.cli import documents

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "wsadapter", "docs"]
NAMED = re.compile(r"wsadapter docs ([\w./@-]+)")
RELATIVE = re.compile(r"\[[^\]]+\]\((?!https?://|#)[^)]*\)")


def docs(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=30, check=False)


def expected() -> set[str]:
    return set(sources())


def sources() -> dict[str, Path]:
    """The files of the repository by the names of their documents."""
    pages = [*(ROOT / "ops").glob("*.md"), *(ROOT / "ops/docs").glob("*.md")]
    examples = [path for path in (ROOT / "ops/examples").iterdir() if path.is_file()]
    return {
        "readme": ROOT / "README.md",
        "dialects": ROOT / "worker/dialects/README.md",
        **{page.stem.lower().replace("_", "-"): page for page in pages},
        **{f"examples/{path.name}": path for path in examples},
    }


def test_every_document_of_the_repository_is_installed_and_nothing_else_is() -> None:
    assert set(documents.names()) == expected()
    assert next(iter(documents.names())) == "readme"
    kept = {path.name for path in documents.FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert len(kept) == len(expected())


@pytest.mark.parametrize("name", sorted(expected()))
def test_a_document_is_the_one_of_the_repository_without_links_to_files_that_are_not_there(name: str) -> None:
    text = documents.find(name)
    source = sources()[name].read_text("utf-8")
    assert text.splitlines()[0] == source.splitlines()[0]
    assert len(text.splitlines()) == len(source.splitlines())
    if name.startswith("examples/"):
        assert text == source
    else:
        assert RELATIVE.findall(text) == []


def test_the_description_at_the_package_index_has_no_relative_link() -> None:
    about = metadata("wsadapter")
    description = about.get_payload() or about["Description"]
    assert about["Description-Content-Type"] == "text/markdown"
    assert description.startswith("# wsadapter")
    assert RELATIVE.findall(description) == []
    assert {"reference", "runbook", "dialects"} <= set(NAMED.findall(description))


def test_every_document_that_a_document_names_is_there() -> None:
    named = {name for document in documents.names() for name in NAMED.findall(documents.find(document))}
    assert named - {"NAME"} <= expected()


def test_they_are_listed_and_printed(tmp_path: Path) -> None:
    listed = docs()
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[2:]] == list(documents.names())
    assert max(map(len, listed.stdout.splitlines())) <= 80
    printed = docs("examples/minimal.toml")
    assert (printed.returncode, printed.stdout) == (0, (ROOT / "ops/examples/minimal.toml").read_text("utf-8"))


@pytest.mark.parametrize("name", ["order-book", "ORDER_BOOK", "Order_Book.md", "order-book.md"])
def test_capitals_and_the_ending_make_no_difference(name: str) -> None:
    assert documents.find(name).startswith("# An order book")


@pytest.mark.parametrize(("name", "hint"), [("refrence", "did you mean 'reference'?"), ("zzz", "`wsadapter docs` lists them")])
def test_an_unknown_one_is_2_with_a_hint(name: str, hint: str) -> None:
    ended = docs(name)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"there is no document {name!r}; {hint}" in ended.stderr


def test_an_installation_without_documents_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(documents.NoDocument, match="An editable installation has them in its repository"):
        documents.listing(tmp_path / "documents")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({"PAGER": "sh -c cat"}, ["sh", "-c", "cat"]), ({"PAGER": ""}, []), ({"PAGER": "no-such-pager"}, [])],
)
def test_the_pager_is_the_one_of_the_environment(environ: dict[str, str], expected: list[str]) -> None:
    assert documents._pager(environ) == expected


def on_a_terminal(command: list[str], environ: dict[str, str]) -> str:
    """What a program shows whose standard output is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env={**os.environ, **environ}) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # EIO: the last one has closed it (Linux)
                break
            if not chunk:
                break
            shown += chunk
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode().replace("\r\n", "\n")


def test_on_a_terminal_a_document_goes_through_the_pager() -> None:
    text = (ROOT / "ops/examples/minimal.toml").read_text("utf-8")
    paged = on_a_terminal([*COMMAND, "examples/minimal.toml"], {"PAGER": "sed s/^/paged:/"})
    assert paged == "".join(f"paged:{line}\n" for line in text.splitlines())
    assert on_a_terminal([*COMMAND, "examples/minimal.toml"], {"PAGER": "true"}) == ""  # it was left before it had read all


def test_the_demo_copies_all_that_a_wheel_is_made_from() -> None:
    (copied,) = re.findall(r'cp -R (.+) "\$copy"', (ROOT / "ops/demo").read_text("utf-8"))
    tracked = {"pyproject.toml", "LICENSE", "README.md", "ops", "supervisor", "worker"}
    assert set(copied.split()) == tracked
    assert all((ROOT / name).exists() for name in copied.split())


@pytest.mark.slow
def test_a_wheel_made_from_the_source_distribution_is_the_same(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, copy)
    for name in ("ops", "supervisor", "worker"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    build(copy, "sdist", tmp_path)
    (archive,) = tmp_path.glob("wsadapter-*.tar.gz")
    safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since CPython 3.11.4
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked", **safely)
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    build(unpacked, "wheel", tmp_path)
    (wheel,) = tmp_path.glob("wsadapter-*.whl")
    made = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = documents.FOLDER.parent
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    installed = {str(path.relative_to(package.parent)) for path in files}
    assert made == installed


def build(folder: Path, what: str, into: Path) -> None:
    """By the build backend, as a front end does it."""
    program = f"import sys; sys.path.insert(0, 'ops'); import build_backend as backend; backend.build_{what}({str(into)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
