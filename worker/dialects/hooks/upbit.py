"""Upbit: a token in a header of the handshake, https://docs.upbit.com/kr/reference/auth."""

from __future__ import annotations

from wsadapter.worker.dialects.hooks.tokens import with_bearer
from wsadapter.worker.hooks import Attempt


def before_connect(attempt: Attempt) -> Attempt:
    """A token for this handshake alone. Public streams need none."""
    return with_bearer(attempt)
