"""Upbit: a token in a header of the handshake, https://docs.upbit.com/kr/reference/auth."""

from __future__ import annotations

import uuid

from wsadapter.worker.dialects.hooks.tokens import hs256_token
from wsadapter.worker.hooks import Attempt


def before_connect(attempt: Attempt) -> Attempt:
    """A token for this handshake alone. Public streams need none."""
    if not attempt.login:
        return attempt
    claims = {"access_key": attempt.login["key"], "nonce": str(uuid.uuid4())}
    token = hs256_token(claims, attempt.login["secret"])
    return attempt.changed(headers={**attempt.headers, "Authorization": f"Bearer {token}"})
