"""Crypto.com: `public/auth`, https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#digital-signature."""

from __future__ import annotations

from typing import Any

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import Signing


def sign(signing: Signing) -> dict[str, Any]:
    """Over the frame's own id and nonce; it has no parameters."""
    frame, key = signing.frame, signing.login["key"]
    signature = hex_hmac(signing.login["secret"], f"{frame['method']}{frame['id']}{key}{frame['nonce']}")
    return {"api_key": key, "sig": signature}
