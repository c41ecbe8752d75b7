"""Binance spot: the signed request for the user's own events,
https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-api.md#user-data-stream-requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.dialects.hooks.keys import base64_signature, is_pem
from wsadapter.worker.hooks import Signing


def sign(signing: Signing) -> dict[str, Any]:
    """The time is in milliseconds."""
    params = {"apiKey": signing.login["key"], "timestamp": int(signing.now * 1000)}
    return {**params, "signature": signature(signing.login["secret"], params)}


def signature(secret: str, params: Mapping[str, Any]) -> str:
    """As for any of its requests: over the parameters in the order of their names, by a key in PEM (Ed25519 or RSA), or else by
    HMAC."""
    text = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
    return base64_signature(secret, text.encode(), extra="binance") if is_pem(secret) else hex_hmac(secret, text)
