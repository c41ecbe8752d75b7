"""The meanings of a class's fields: the string below each field, read from the source when it is needed.

So `help()`, the reference and the configuration have the same texts, and they cost nothing at import.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any


def meanings_of(cls: type[Any]) -> dict[str, str]:
    """The meaning of each field, on one line. Raises `OSError` if the source file is missing."""
    found: dict[str, str] = {}
    for above, below in pairwise(_body(cls)):
        if not isinstance(above, ast.AnnAssign) or not isinstance(above.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[above.target.id] = " ".join(below.value.value.split())
    return found


def types_of(cls: type[Any]) -> dict[str, str]:
    """The type of each field, as it is written. Raises as `meanings_of`."""
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in _body(cls)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _body(cls: type[Any]) -> list[ast.stmt]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    return next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
