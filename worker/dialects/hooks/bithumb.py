"""Bithumb: a token in a header of the handshake, https://apidocs.bithumb.com/docs/인증-헤더-만들기."""

from __future__ import annotations

import time

from wsadapter.worker.dialects.hooks.tokens import with_bearer
from wsadapter.worker.hooks import Attempt


def before_connect(attempt: Attempt) -> Attempt:
    """A token for this handshake alone, with the time in milliseconds. Public streams need none."""
    return with_bearer(attempt, timestamp=int(time.time() * 1000))
