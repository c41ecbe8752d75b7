"""Bybit: `auth`, https://bybit-exchange.github.io/docs/v5/ws/connect."""

from __future__ import annotations

from typing import Any, Final

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import Signing

_VALID: Final = 10
"""Seconds."""


def sign(signing: Signing) -> list[Any]:
    """The time is in milliseconds."""
    expires = int((signing.now + _VALID) * 1000)
    return [signing.login["key"], expires, hex_hmac(signing.login["secret"], f"GET/realtime{expires}")]
