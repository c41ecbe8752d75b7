"""How many examples Hypothesis tries."""

from __future__ import annotations

from hypothesis import settings


def examples(full: int) -> int:
    """So many in `ops/test`, and a fifth of them in `ops/check`: the profiles of tests/conftest.py have 100 and 20."""
    return max(1, full * settings.default.max_examples // 100)
