"""BitMEX: `authKeyExpires`, https://www.bitmex.com/app/wsAPI and, for the signature, https://www.bitmex.com/app/apiKeysUsage."""

from __future__ import annotations

from typing import Any, Final

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import Signing

_VALID: Final = 30
"""Seconds."""


def sign(signing: Signing) -> list[Any]:
    """It holds from now on for a while."""
    expires = int(signing.now) + _VALID
    return [signing.login["key"], expires, signature(signing.login["secret"], "GET", "/realtime", expires)]


def signature(secret: str, verb: str, path: str, expires: int, data: str = "") -> str:
    """As for any of its requests."""
    return hex_hmac(secret, f"{verb}{path}{expires}{data}")
