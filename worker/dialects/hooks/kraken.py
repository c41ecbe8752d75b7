"""Kraken spot: a token from REST, which each frame that subscribes carries,
https://docs.kraken.com/api/docs/guides/spot-ws-auth and, for the signature, https://docs.kraken.com/api/docs/guides/spot-rest-auth.
"""

from __future__ import annotations

import hashlib
import time
from typing import Final
from urllib.parse import urlencode

from wsadapter.worker.dialects.hooks.hmacs import base64_hmac, decoded
from wsadapter.worker.hooks import Attempt, HookFailure, LoginRefused, Signing

_REST: Final = "https://api.kraken.com"
_PATH: Final = "/0/private/GetWebSocketsToken"


def before_connect(attempt: Attempt) -> Attempt:
    """The token is to be used within 15 minutes, and then holds as long as the connection."""
    if not attempt.login:
        return attempt
    nonce = str(int(time.time() * 1000))
    body = urlencode({"nonce": nonce})
    headers = {
        "API-Key": attempt.login["key"], "API-Sign": signature(attempt.login["secret"], _PATH, nonce, body),
        "Content-Type": "application/x-www-form-urlencoded",
    }  # fmt: skip
    answer = attempt.fetch_json(_REST + _PATH, method="POST", headers=headers, body=body.encode())
    errors = answer.get("error") or []
    if errors:
        kind = LoginRefused if any(str(error).startswith("EAPI:Invalid") for error in errors) else HookFailure
        raise kind(f"no token: {', '.join(map(str, errors))}")
    return attempt.changed(token=answer["result"]["token"])


def signature(secret: str, path: str, nonce: str, body: str) -> str:
    """As for any of its private requests."""
    digest = hashlib.sha256((nonce + body).encode()).digest()
    return base64_hmac(decoded(secret), path.encode() + digest, "sha512")


def sign(signing: Signing) -> object:
    """The token."""
    return signing.token
