"""What pyproject.toml can't say: the documents are part of the package, and their links lead to each other there.

The repository keeps the documents in README.md, ops/CHANGELOG.md, ops/docs/ and worker/dialects/README.md, with relative
links. The wheel has them in `wsadapter/documents/`, and `wsadapter docs` prints them. README.md is also the description at the
package index. The other files of the repository are in neither place, so a link to a document is replaced by the command that
prints the document, and any other link by its text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from setuptools import setup
from setuptools.command.build_py import build_py

_ROOT: Final = Path(__file__).resolve().parent.parent
_EXAMPLES: Final = (".toml", ".py", ".yaml", ".json", ".service")
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def documents() -> dict[str, str]:
    """Path in the repository: path in the package's folder of documents."""
    pages = {"README.md": "README.md", "worker/dialects/README.md": "DIALECTS.md"}
    for folder in ("ops", "ops/docs"):
        pages |= {f"{folder}/{page.name}": page.name for page in sorted((_ROOT / folder).glob("*.md"))}
    examples = [
        path for path in sorted((_ROOT / "ops/examples").iterdir()) if path.suffix in _EXAMPLES or path.name == "Containerfile"
    ]
    return {**pages, **{f"ops/examples/{path.name}": f"examples/{path.name}" for path in examples}}


def command(document: str) -> str:
    """What prints a document of the package."""
    name = document.removesuffix(".md").lower().replace("_", "-") if document.endswith(".md") else document
    return f"`wsadapter docs {name}`"


def unlinked(page: str) -> str:
    """The text of a document of the repository, without links that lead to nothing elsewhere."""
    known = documents()

    def replace(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target.partition("#")[0]))
        if "://" in target or target.startswith("#") or not (_ROOT / path).exists():
            return found[0]
        if path in known:
            shown = command(known[path])
            return shown if text.strip("`").endswith((".md", ".py", ".toml")) else f"{text} ({shown})"
        return "`wsadapter docs`" if any(name.startswith(f"{path}/") for name in known) else text

    return _LINK.sub(replace, (_ROOT / page).read_text("utf-8"))


class BuildWithDocuments(build_py):
    """Puts the documents into the package. An editable installation has them in the repository alone."""

    def run(self) -> None:
        """As of any package, and the documents."""
        super().run()
        if not self.editable_mode:
            for page, path in self._documents():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(unlinked(page) if page.endswith(".md") else (_ROOT / page).read_text("utf-8"), "utf-8")

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """With the documents."""
        own = [] if self.editable_mode else [str(path) for _, path in self._documents()]
        return [*super().get_outputs(include_bytecode), *own]

    def get_source_files(self) -> list[str]:
        """With the documents: a source distribution can be built."""
        return [*super().get_source_files(), *documents(), "ops/build_backend.py", "ops/package.py"]

    def _documents(self) -> Iterator[tuple[str, Path]]:
        folder = Path(self.build_lib, "wsadapter", "documents")
        return ((page, folder / path) for page, path in documents().items())


setup(
    cmdclass={"build_py": BuildWithDocuments},
    long_description=unlinked("README.md"),
    long_description_content_type="text/markdown",
)
