"""Phemex: `user.auth`, https://phemex-docs.github.io/#api-user-authentication."""

from __future__ import annotations

from typing import Any, Final

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import Signing

_VALID: Final = 60
"""Seconds; the exchange takes up to 120."""


def sign(signing: Signing) -> list[Any]:
    """The time is in seconds."""
    key, expires = signing.login["key"], int(signing.now) + _VALID
    return ["API", key, hex_hmac(signing.login["secret"], f"{key}{expires}"), expires]
