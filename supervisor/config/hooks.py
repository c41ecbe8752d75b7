"""Whether the functions that a configuration names can be imported and called.

For `--check` alone: to import is to run the user's modules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache

from wsadapter.config.dialect import is_path, load_dialect
from wsadapter.config.settings import Settings
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import Problem
from wsadapter.contract.hooks import HookError, load_function


def hook_problems(settings: Settings) -> list[Problem]:
    """What is wrong with the hooks of the endpoints, and of dialects of the user's own. Each function is imported, from
    `sys.path` as it is; what that prints goes to standard error."""

    @cache
    def wrong(key: str, name: str) -> str:
        try:
            load_function(name, (), key)
        except HookError as error:
            return str(error)
        except SystemExit as error:
            return f"{key} = {name!r} can't be imported: its module calls sys.exit({error.code!r})"
        return ""

    with redirect_stdout(sys.stderr):
        return [
            Problem(f"endpoints.{endpoint.name}.{key}", text)
            for endpoint in settings.endpoints
            for key, name in _named(endpoint)
            if name and (text := wrong(key, name))
        ]


def _named(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """The functions by their keys. Those of a bundled dialect are no user's, and belong to the owner."""
    yield "decode", endpoint.decode
    own = load_dialect(endpoint.dialect).get("hooks", {}) if is_path(endpoint.dialect) else {}
    for name, function in {**own, **endpoint.hooks}.items():
        yield f"hooks.{name}", function
