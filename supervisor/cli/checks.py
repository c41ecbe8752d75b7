"""What `check` finds besides the configuration itself, because it depends on this machine."""

from __future__ import annotations

from wsadapter.config.hooks import hook_problems
from wsadapter.config.settings import Settings
from wsadapter.contract.errors import Problem
from wsadapter.journal import folder as folders


def problems_here(settings: Settings) -> list[Problem]:
    """Hooks and classes of sinks that cannot be imported, and a path that cannot be the journal."""
    found = hook_problems(settings)
    if settings.journal is not None and (problem := folders.problem_of(settings.journal.path)):
        found.append(Problem("journal.path", problem))
    return found
