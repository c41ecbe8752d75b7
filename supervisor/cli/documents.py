"""The documents that are part of the package: `wsadapter docs`.

They are files in `wsadapter/documents`, put there when the package is built (ops/package.py). An editable installation has
none: they are in its repository.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from wsadapter.cli.standard_streams import write
from wsadapter.contract.errors import UsageError

FOLDER: Final = Path(__file__).parents[1] / "documents"
_SUFFIXES: Final = (".md", ".toml", ".py", ".yaml", ".json", ".service")
_WIDEST: Final = 44
"""Columns of a title: a line of the list fits 80 then."""
_END: Final = re.compile(r"[.:;] ")


class NoDocument(UsageError):
    """No document has that name, or the installation has no documents."""


def names(folder: Path = FOLDER) -> dict[str, Path]:
    """The files by the names of their documents: "readme" first, "order-book", "examples/minimal.toml" last.

    Raises `NoDocument` if the installation has none.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in _SUFFIXES or path.name == "Containerfile"]
    if not files:
        raise NoDocument(
            f"this installation has no documents: there is no {folder}. An editable installation has them in its repository: "
            "README.md, ops/CHANGELOG.md, ops/docs/, worker/dialects/README.md"
        )
    found = {_name(path.relative_to(folder)): path for path in files}
    return dict(sorted(found.items(), key=lambda item: ("/" in item[0], item[0] != "readme", item[0])))


def _name(path: Path) -> str:
    return _plain(str(path.with_suffix(""))) if path.suffix == ".md" else str(path)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def find(name: str, folder: Path = FOLDER) -> str:
    """The text of a document; capitals, "_" and ".md" make no difference. Raises `NoDocument` with the nearest name."""
    known = names(folder)
    path = {_plain(document): path for document, path in known.items()}.get(_plain(name.removesuffix(".md")))
    if path is None:
        from wsadapter.config.schema import nearest  # much is imported for it

        near = nearest(name.lower(), known)
        hint = f"did you mean {near!r}?" if near else "`wsadapter docs` lists them"
        raise NoDocument(f"there is no document {name!r}; {hint}")
    return path.read_text("utf-8")


def listing(folder: Path = FOLDER) -> str:
    """A line for each document: its name and its title."""
    known = names(folder)
    width = max(map(len, known))
    lines = [f"  {name.ljust(width)}  {_title(path.read_text('utf-8'))}".rstrip() for name, path in known.items()]
    return "\n".join(["wsadapter docs NAME prints one of these:", "", *lines])


def _title(text: str) -> str:
    """The first sentence, without what makes it a heading, a comment or a docstring; of JSON, its description."""
    first = str(json.loads(text)["description"]) if text.startswith("{") else text.partition("\n")[0].strip('#" ')
    return textwrap.shorten(_END.split(first, maxsplit=1)[0], _WIDEST, placeholder=" ...")


def show(text: str, environ: Mapping[str, str] = os.environ) -> None:
    """On standard output; on a terminal through a pager: $PAGER, else `less`, else `more`. Raises `CannotPrint`."""
    pager = _pager(environ) if sys.stdout.isatty() else []
    if not pager:
        write(text)
        return
    # less: end by itself if all of it fits (F), show colours (R), leave the screen as it is (X).
    with subprocess.Popen(pager, stdin=subprocess.PIPE, env={"LESS": "FRX", **environ}) as process:  # noqa: S603 - the user's own
        with suppress(BrokenPipeError, KeyboardInterrupt):  # the pager was left before it had all
            process.communicate(text.encode())
        while process.poll() is None:
            with suppress(KeyboardInterrupt):  # Ctrl-C is the pager's
                process.wait()


def _pager(environ: Mapping[str, str]) -> list[str]:
    """The command; empty if there is none, or $PAGER is empty."""
    chosen = environ.get("PAGER")
    candidates = ["less", "more"] if chosen is None else [chosen]
    for candidate in candidates:
        words = shlex.split(candidate)
        if words and shutil.which(words[0]):
            return words
    return []
