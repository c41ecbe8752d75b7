"""Deribit: `public/auth` by client_signature, https://docs.deribit.com/#public-auth."""

from __future__ import annotations

import secrets
from typing import Any

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import Signing


def sign(signing: Signing) -> dict[str, Any]:
    """The time is in milliseconds, the nonce anything."""
    time, nonce = int(signing.now * 1000), secrets.token_hex(8)
    return {
        "grant_type": "client_signature", "client_id": signing.login["key"], "timestamp": time, "nonce": nonce, "data": "",
        "signature": signature(signing.login["secret"], time, nonce),
    }  # fmt: skip


def signature(secret: str, time: int, nonce: str, data: str = "") -> str:
    """Three lines."""
    return hex_hmac(secret, f"{time}\n{nonce}\n{data}")
