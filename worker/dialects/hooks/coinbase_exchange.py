"""Coinbase Exchange: fields of each frame that subscribes, https://docs.cdp.coinbase.com/exchange/websocket-feed/authentication."""

from __future__ import annotations

from typing import Any

from wsadapter.worker.dialects.hooks.hmacs import base64_hmac, decoded
from wsadapter.worker.hooks import Signing


def sign(signing: Signing) -> dict[str, Any]:
    """The secret is base64, the time in seconds."""
    login, time = signing.login, str(int(signing.now))
    signature = base64_hmac(decoded(login["secret"]), f"{time}GET/users/self/verify")
    return {"signature": signature, "key": login["key"], "passphrase": login["passphrase"], "timestamp": time}
