"""Bithumb: a token in a header of the handshake, https://apidocs.bithumb.com/docs/인증-헤더-만들기."""

from __future__ import annotations

import time
import uuid

from wsadapter.worker.dialects.hooks.tokens import hs256_token
from wsadapter.worker.hooks import Attempt


def before_connect(attempt: Attempt) -> Attempt:
    """A token for this handshake alone, with the time in milliseconds. Public streams need none."""
    if not attempt.login:
        return attempt
    claims = {"access_key": attempt.login["key"], "nonce": str(uuid.uuid4()), "timestamp": int(time.time() * 1000)}
    token = hs256_token(claims, attempt.login["secret"])
    return attempt.changed(headers={**attempt.headers, "Authorization": f"Bearer {token}"})
