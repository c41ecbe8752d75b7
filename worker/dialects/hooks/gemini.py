"""Gemini: a login in the headers of the handshake, https://developer.gemini.com/websocket/authentication."""

from __future__ import annotations

import base64
import time

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import Attempt


def before_connect(attempt: Attempt) -> Attempt:
    """Signed is the time, in seconds, in base64. Public streams need none."""
    if not attempt.login:
        return attempt
    nonce = str(int(time.time()))
    payload = base64.b64encode(nonce.encode()).decode()
    own = {
        "X-GEMINI-APIKEY": attempt.login["key"], "X-GEMINI-NONCE": nonce, "X-GEMINI-PAYLOAD": payload,
        "X-GEMINI-SIGNATURE": hex_hmac(attempt.login["secret"], payload, "sha384"),
    }  # fmt: skip
    return attempt.changed(headers={**attempt.headers, **own})
