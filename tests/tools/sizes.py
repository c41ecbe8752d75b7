"""Sizes of the code, and whether one has outgrown its bound: `python -m tests.tools.sizes`.

The bounds stand in sizes.toml beside this file. They are what the code had when they were last lowered: a number may only fall.
Exit code 1 if one is exceeded.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = {"_exit", "_replace", "_asdict", "_fields", "_make"}
"""Public names with an underscore, of the standard library."""
WAIVED = "noqa: SLF001"
"""In a line whose private access has a reason, which stands behind it; ruff reports every other one."""
MOST_METHODS, MOST_ATTRIBUTES = 25, 15
"""Of a class without a bound of its own."""


class ClassSize(NamedTuple):
    """A class of ours."""

    place: str
    methods: int
    attributes: int


class Sizes(NamedTuple):
    """Of some files."""

    classes: list[ClassSize]
    files: list[tuple[int, str]]
    functions: list[tuple[int, str]]
    reaches: int
    """Accesses to a private attribute of something that is neither `self` nor `cls`."""


def attributes_of(tree: ast.ClassDef) -> set[str]:
    """Names that the class's methods assign to `self`."""
    stores = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    return {node.attr for node in stores if isinstance(node.value, ast.Name) and node.value.id == "self"}


def is_reach(node: ast.AST) -> bool:
    """Whether this is an access to a private attribute of another object."""
    if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.endswith("__"):
        return False
    return node.attr not in DOCUMENTED and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))


def annotations_of(tree: ast.AST) -> set[ast.AST]:
    """The nodes of all annotations: a type may have a private name."""
    parts = [getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns")]
    return {node for part in parts if isinstance(part, ast.AST) for node in ast.walk(part)}


def measure(files: Iterator[tuple[str, str]]) -> Sizes:
    """Of (path, text) pairs."""
    sizes = Sizes([], [], [], 0)
    reaches = 0
    for path, text in files:
        sizes.files.append((text.count("\n"), path))
        tree, lines = ast.parse(text), text.splitlines()
        types = annotations_of(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(part, FUNCTIONS) for part in node.body)
                sizes.classes.append(ClassSize(f"{path}:{node.name}", methods, len(attributes_of(node))))
            elif isinstance(node, FUNCTIONS):
                sizes.functions.append(((node.end_lineno or 0) - node.lineno + 1, f"{path}:{node.name}"))
            if is_reach(node) and node not in types:
                reaches += WAIVED not in lines[node.lineno - 1]
    return sizes._replace(reaches=reaches)


def exceeded(sizes: Sizes, bounds: dict[str, object]) -> list[str]:
    """What is larger than its bound, as lines for a person."""
    own = bounds.get("classes", {})
    assert isinstance(own, dict)
    lines = []
    for place, methods, attributes in sizes.classes:
        most_methods, most_attributes = own.get(place, (MOST_METHODS, MOST_ATTRIBUTES))
        if methods > most_methods or attributes > most_attributes:
            bound = f"the bound is {most_methods} and {most_attributes}"
            lines.append(f"{place} has {methods} methods and {attributes} attributes; {bound}")
    places = {size.place for size in sizes.classes}
    lines += [f"sizes.toml names {place}, which does not exist: remove the line" for place in own if place not in places]
    file, function = max(sizes.files), max(sizes.functions)
    for name, (value, place) in {
        "private_reaches": (sizes.reaches, "all files"),
        "longest_file": file,
        "longest_function": function,
    }.items():
        if value > int(str(bounds[name])):
            lines.append(f"{name}: {value} ({place}); the bound is {bounds[name]}")
    return lines


def sources() -> Iterator[tuple[str, str]]:
    """The package's own files."""
    for folder in ("supervisor", "worker"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def main() -> int:
    """Print the largest, then what exceeds its bound."""
    sizes = measure(sources())
    for place, methods, attributes in sorted(sizes.classes, key=lambda size: size.methods, reverse=True)[:10]:
        print(f"{methods:4} methods {attributes:4} attributes  {place}")
    for lines, path in sorted(sizes.files, reverse=True)[:5]:
        print(f"{lines:4} lines  {path}")
    for lines, name in sorted(sizes.functions, reverse=True)[:5]:
        print(f"{lines:4} lines  {name}")
    lengths = [lines for lines, _ in sizes.functions]
    print(f"functions: {len(lengths)}, median {quantiles(lengths, n=10)[4]:.0f} lines, p90 {quantiles(lengths, n=10)[8]:.0f}")
    print(f"accesses to private attributes of other objects: {sizes.reaches}")
    wrong = exceeded(sizes, tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")))
    for line in wrong:
        print(f"too large: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
