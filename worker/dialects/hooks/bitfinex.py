"""Bitfinex: `auth`, https://docs.bitfinex.com/docs/ws-auth."""

from __future__ import annotations

from typing import Any

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import Signing


def sign(signing: Signing) -> dict[str, Any]:
    """The nonce has to grow from login to login of one key."""
    nonce = str(int(signing.now * 1e6))
    payload = f"AUTH{nonce}"
    signature = hex_hmac(signing.login["secret"], payload, "sha384")
    return {"apiKey": signing.login["key"], "authSig": signature, "authNonce": nonce, "authPayload": payload}
